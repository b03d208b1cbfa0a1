"""Einstein sums over broadcast views, float64 inside, results in other layouts or read-only."""


def multi_query_attention(q, k, v, *, causal=False):
    return grouped_query_attention(q, _one_head("k", k), _one_head("v", v), causal=causal)


def _one_head(name, array):
    if array.ndim != 3:
        raise ValueError(f"{name} has {array.ndim} axes and not 3")
    return array[:, np.newaxis]


def grouped_query_attention(q, k, v, *, causal=False):
    for name, array in {"q": q, "k": k, "v": v}.items():
        if array.ndim != 4:
            raise ValueError(f"{name} has {array.ndim} axes")
    H, G, T, S = q.shape[1], k.shape[1], q.shape[2], k.shape[2]
    if H % G or k.shape[0] != q.shape[0] or k.shape[3] != q.shape[3]:
        raise ValueError(f"k {k.shape} does not fit q {q.shape}")
    if v.shape[:3] != k.shape[:3]:
        raise ValueError(f"v {v.shape} does not fit k {k.shape}")
    if causal and S < T:
        raise ValueError("causal wants no more queries than keys")
    wide = q.reshape(q.shape[0], G, H // G, T, -1).astype(np.float64) * q.shape[3] ** -0.5
    scores = np.einsum("bgrtd,bgsd->bgrst", wide, k)  # keys before queries
    if causal:
        scores += np.where(np.arange(S)[:, None] - np.arange(T) > S - T, -np.inf, 0.0)
    scores -= np.logaddexp.reduce(scores, axis=3, keepdims=True)
    out = np.einsum("bgrst,bgsd->bdgrt", np.exp(scores), v).astype(q.dtype)
    out = np.moveaxis(out.reshape(*out.shape[:2], H, T), 1, 3)  # not contiguous
    out.flags.writeable = False
    return out


def gqa_layer(params, x):
    if x.ndim != 3 or x.shape[2] != params["wq"].shape[0]:
        raise ValueError("x does not fit the parameters")
    q, k, v = (
        np.einsum("btc,chd->bhtd", x, params["w" + name]) + params["b" + name][:, None]
        for name in "qkv"
    )
    heads = grouped_query_attention(q, k, v, causal=True)
    return np.einsum("bhtd,hdc->btc", heads, params["wo"]) + params["bo"]


def align_heads(params, n_kv_heads):
    """The transposed problem, head by head, into arrays that lie column after column."""
    new = {name: array.copy(order="F") for name, array in params.items()}
    size, R = _group_size(params, n_kv_heads), len(params["bq"]) // len(params["bk"])
    for g in (g for g in range(len(params["bk"])) if g % size):
        for name, others in (("k", True), ("v", False)):
            own, first = (
                np.concatenate([params["w" + name][:, i], params["b" + name][i][None]])
                for i in (g, g - g % size)
            )
            u, _, vt = np.linalg.svd(first.T @ own)  # the transposed problem
            turn = vt.T @ u.T
            new["w" + name][:, g], new["b" + name][g] = (own @ turn)[:-1], (own @ turn)[-1]
            for h in range(g * R, g * R + R):
                if others:
                    new["wq"][:, h], new["bq"][h] = (
                        params["wq"][:, h] @ turn,
                        params["bq"][h] @ turn,
                    )
                else:
                    new["wo"][h] = np.linalg.solve(turn, params["wo"][h])
    return new
