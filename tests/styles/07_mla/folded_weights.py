"""W_UK is multiplied into W_UQ and W_UV into W_O before any token, all in float64."""


def queries(params, x):
    q = x.astype(np.float64)
    if params.get("w_dq") is not None:
        q = rms_norm(q @ params["w_dq"], params["q_norm"])
    q = np.einsum("...l,lhd->...hd", q, params["w_uq"]).astype(x.dtype)
    q_nope, q_rope = np.split(q, [params["w_uk"].shape[-1]], axis=-1)
    q_nope.flags.writeable = False
    return [q_nope, q_rope]


def extend_absorbed(params, x, kv_cache, lengths):
    _check_fit(params, x, kv_cache, lengths)
    Dn, Dr, L = params["w_uk"].shape[2], params["w_kr"].shape[1], len(params["w_uk"])
    w = {name: a.astype(np.float64) for name, a in params.items()}
    w_q = np.einsum("qhd,lhd->qhl", w["w_uq"][..., :Dn], w["w_uk"])  # (Lq, H, L)
    w_out = np.einsum("lhd,hdc->hlc", w["w_uv"], w["w_o"])  # (H, L, C)
    h = x.astype(np.float64)
    positions = np.add.outer(np.int32(lengths), np.arange(x.shape[1], dtype=np.int32))
    for b, at in enumerate(positions):
        kv_cache[b, at, :L] = rms_norm(h[b] @ w["w_dkv"], w["kv_norm"])
        kv_cache[b, at, L:] = rope(h[b] @ w["w_kr"], at)
    q = rms_norm(h @ w["w_dq"], w["q_norm"]) if "w_dq" in w else h
    q_rope = rope(np.einsum("btq,qhd->bhtd", q, w["w_uq"][..., Dn:]), positions[:, None])
    q_latent = np.einsum("btq,qhl->bhtl", q, w_q, optimize=True)
    out = np.zeros(x.shape)
    for b, n in enumerate(positions[:, -1] + 1):
        latents, keys = kv_cache[b, :n, :L].astype(float), kv_cache[b, :n, L:].astype(float)
        scores = (q_latent[b] @ latents.T + q_rope[b] @ keys.T) * (Dn + Dr) ** -0.5
        scores[:, positions[b][:, None] < np.arange(n)] = -np.inf
        weights = np.exp(scores - scores.max(axis=2, keepdims=True))
        weights /= weights.sum(axis=2, keepdims=True)
        out[b] = np.einsum("htl,hlc->tc", weights @ latents, w_out, optimize=True)
    return out.astype(x.dtype)
