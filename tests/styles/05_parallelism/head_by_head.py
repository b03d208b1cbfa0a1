"""Heads are cut out by reshapes and attend one at a time, forward and backward."""


def shard_attention(params, *, n_heads, rank, size):
    _check_heads(n_heads, size)
    if not 0 <= rank < size:
        raise ValueError(f"rank is {rank}")
    C, own = params["w_qkv"].shape[0], slice(rank * n_heads // size, (rank + 1) * n_heads // size)
    return {
        "b_o": params["b_o"].copy(),
        "w_o": params["w_o"].reshape(n_heads, -1, C)[own].reshape(-1, C).copy(),
        "w_qkv": params["w_qkv"].reshape(C, 3, n_heads, -1)[:, :, own].reshape(C, -1).copy(),
        "b_qkv": params["b_qkv"].reshape(3, n_heads, -1)[:, own].flatten(),
    }


def parallel_attention(comm, x, params, *, n_heads):
    qkv = _qkv(comm, x, params, n_heads)  # (3, B, H/R, T, D)
    y, w_o = np.zeros_like(x), params["w_o"].reshape(qkv.shape[2], -1, x.shape[-1])
    for head, w in enumerate(w_o):  # (D, C)
        y = y + attention_core(*qkv[:, :, head : head + 1])[:, 0] @ w
    return comm.all_reduce(y) + params["b_o"]


def parallel_attention_backward(comm, d_y, x, params, *, n_heads):
    qkv = _qkv(comm, x, params, n_heads)
    w_o, d_qkv, d_w_o = params["w_o"].reshape(qkv.shape[2], -1, x.shape[-1]), np.empty_like(qkv), []
    for head, w in enumerate(w_o):
        own = qkv[:, :, head : head + 1]  # (3, B, 1, T, D)
        d_qkv[:, :, head : head + 1] = attention_core_backward((d_y @ w.T)[:, None], *own)
        out = attention_core(*own)[:, 0]  # (B, T, D)
        d_w_o.append(np.einsum("btd,btc->dc", out, d_y))
    flat = np.concatenate([_merged(part) for part in d_qkv], axis=-1)  # (B, T, 3·H·D/R)
    d_x, d_w_qkv, d_b_qkv = column_linear_backward(comm, flat, x, params["w_qkv"])
    d = {"w_qkv": d_w_qkv, "b_qkv": d_b_qkv, "w_o": np.concatenate(d_w_o)}
    return d_x, {**d, "b_o": d_y.sum((0, 1))}
