"""Blocks of keys with a running maximum and sum; conversions by index lists, one head at a time."""


def multi_query_attention(q, k, v, *, causal=False):
    B, H, T, D = _fits("q", q, None, None, None, None)
    S = _fits("k", k, B, None, D)[1]
    _fits("v", v, B, S, None)
    if causal and S < T:
        raise ValueError("causal: more queries than keys")
    rows = np.swapaxes(q, 1, 2).reshape(B, T * H, D)  # heads inside positions
    position = np.repeat(np.arange(T), H) + S - T
    top = np.full((B, T * H, 1), -np.inf, q.dtype)
    total, out = np.zeros_like(top), np.zeros((B, T * H, v.shape[2]), q.dtype)
    for start in range(0, S, 3):
        block = slice(start, start + 3)
        scores = rows @ k[:, block].swapaxes(1, 2) * q.dtype.type(D**-0.5)
        if causal:
            hidden = np.arange(start, min(start + 3, S)) > position[:, None]
            scores = np.where(hidden, q.dtype.type(-np.inf), scores)
        new = np.maximum(top, scores.max(axis=2, keepdims=True))
        weights, keep = np.exp(scores - new), np.exp(top - new)
        total, out, top = total * keep + weights.sum(axis=2, keepdims=True), out * keep, new
        out = out + weights @ v[:, block]
    return (out / total).reshape(B, T, H, -1).swapaxes(1, 2)


def unpack_qkv(w_qkv, b_qkv, *, n_heads, n_kv_heads, layout):
    if n_kv_heads <= 0 or n_heads % n_kv_heads != 0:
        raise ValueError("n_kv_heads does not divide the heads")
    heads, R = n_heads + 2 * n_kv_heads, n_heads // n_kv_heads
    if w_qkv.ndim != 2 or w_qkv.shape[1] % heads:
        raise ValueError("w_qkv is not a matrix of whole heads")
    if b_qkv.shape != (w_qkv.shape[1],):
        raise ValueError("b_qkv does not fit the columns")
    if layout == "grouped":
        kinds = (["q"] * R + ["k", "v"]) * n_kv_heads
    elif layout == "concatenated":
        kinds = ["q"] * n_heads + ["k"] * n_kv_heads + ["v"] * n_kv_heads
    else:
        raise ValueError(f"{layout} is no layout")
    D = w_qkv.shape[1] // heads
    made = {}
    for kind in "vkq":
        own = [slice(i * D, (i + 1) * D) for i in range(heads) if kinds[i] == kind]
        made["w" + kind] = np.stack([w_qkv[:, columns] for columns in own], axis=1)
        made["b" + kind] = np.stack([b_qkv[columns] for columns in own])
    return made


def contiguous_groups(params):
    """Key/value heads in the other order, and the query heads of each group as well."""
    H, G = len(params["bq"]), len(params["bk"])
    users = [h for g in reversed(range(G)) for h in reversed(range(g, H, G))]
    new = {"bo": params["bo"].copy(), "wo": np.take(params["wo"], users, axis=0)}
    for name in ("wq", "bq"):
        new[name] = np.take(params[name], users, axis=-2)
    for name in ("wk", "bk", "wv", "bv"):
        new[name] = np.flip(params[name], axis=-2).copy()
    return new


def mean_pool(params, n_kv_heads):
    size = _group_size(params, n_kv_heads)
    new = _copied(params)
    for name in ("wk", "bk", "wv", "bv"):
        new[name] = sum(params[name][..., i::size, :] / size for i in range(size))
    return new


def shard_params(params, rank, n_ranks):
    H, G = params["wq"].shape[1], params["wk"].shape[1]
    if n_ranks <= 0 or H % n_ranks != 0 or not (G % n_ranks == 0 or n_ranks % G == 0):
        raise ValueError("n_ranks does not fit")
    if rank not in range(n_ranks):
        raise ValueError("rank is none of them")
    own = [h for h in range(H) if h * n_ranks // H == rank]
    used = sorted({h * G // H for h in own})
    part = {name: np.take(params[name], used, axis=-2) for name in ("wk", "bk", "wv", "bv")}
    part["bq"], part["wq"] = params["bq"][own], params["wq"][:, own]
    return part | {"wo": params["wo"][own], "bo": params["bo"] / params["bo"].dtype.type(n_ranks)}
