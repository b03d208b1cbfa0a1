"""All heads in one stack: batched decompositions, a pooling matrix, the bias as one more row."""


def align_heads(params, n_kv_heads):
    """Block matrices for all heads at once, einsum, read-only results."""
    size = _group_size(params, n_kv_heads)
    G, H = len(params["bk"]), len(params["bq"])
    turns = {}
    for name in "kv":
        s = np.concatenate([params["w" + name], params["b" + name][None]])
        first = np.repeat(s[:, ::size], size, axis=1)
        u, _, vt = np.linalg.svd(np.einsum("cgd,cge->gde", s, first))
        turns[name] = u @ vt
        turns[name][::size] = np.eye(s.shape[2], dtype=s.dtype)
    new = {"bo": params["bo"].copy()}
    users = np.arange(H) * G // H
    for name, turn in (("q", turns["k"][users]), ("k", turns["k"]), ("v", turns["v"])):
        new["w" + name] = np.einsum("cgd,gde->cge", params["w" + name], turn)
        new["b" + name] = np.einsum("gd,gde->ge", params["b" + name], turn)
    new["wo"] = np.einsum("hde,hdc->hec", turns["v"][users], params["wo"])
    for a in new.values():
        a.flags.writeable = False
    return new


def unpack_qkv(w_qkv, b_qkv, *, n_heads, n_kv_heads, layout):
    """Biases as one more row; the grouped layout by slices."""
    H, G = n_heads, n_kv_heads
    if G < 1 or H % G:
        raise ValueError("n_kv_heads")
    if layout not in {"concatenated", "grouped"}:
        raise ValueError("layout")
    if w_qkv.ndim != 2 or w_qkv.shape[1] % (H + 2 * G):
        raise ValueError("w_qkv")
    if b_qkv.shape != w_qkv.shape[1:]:
        raise ValueError("b_qkv")
    a = np.vstack([w_qkv, b_qkv]).reshape(len(w_qkv) + 1, H + 2 * G, -1)
    if layout == "grouped":
        a = a.reshape(len(a), G, H // G + 2, -1)
        parts = [a[:, :, :-2].reshape(len(a), H, -1), a[:, :, -2], a[:, :, -1]]
    else:
        parts = np.split(a, [H, H + G], axis=1)
    return {
        f"{kind}{n}": p[:-1] if kind == "w" else p[-1]
        for n, p in zip("qkv", parts, strict=True)
        for kind in "wb"
    }


def contiguous_groups(params):
    order = sorted(range(len(params["bq"])), key=lambda h: (h % len(params["bk"]), h))
    new = {}
    for name, a in params.items():
        axis = {"wq": 1, "bq": 0, "wo": 0}.get(name)
        new[name] = a.copy() if axis is None else a.take(order, axis)
    return new


def mean_pool(params, n_kv_heads):
    size = _group_size(params, n_kv_heads)
    p = np.kron(np.eye(n_kv_heads), np.full((1, size), 1 / size)).astype(params["bk"].dtype)
    new = {n: a.copy(order="F") for n, a in params.items()}
    for n in "kv":
        new["w" + n] = np.einsum("ng,cgd->cnd", p, params["w" + n])
        new["b" + n] = p @ params["b" + n]
    return new


def shard_params(params, rank, n_ranks):
    """bo divided by the ranks, read-only arrays."""
    H, G = len(params["bq"]), len(params["bk"])
    if n_ranks < 1 or H % n_ranks or max(G, n_ranks) % min(G, n_ranks):
        raise ValueError("n_ranks")
    if rank < 0 or rank >= n_ranks:
        raise ValueError("rank")
    h = np.split(np.arange(H, dtype=np.int32), n_ranks)[rank]
    g = np.unique(h * G // H)
    new = {
        "wq": params["wq"][:, h],
        "bq": params["bq"][h],
        "wo": params["wo"][h],
        "bo": params["bo"] / n_ranks,
    }
    for n in "kv":
        new["w" + n], new["b" + n] = params["w" + n][:, g], params["b" + n][g]
    for a in new.values():
        a.setflags(write=False)
    return new
