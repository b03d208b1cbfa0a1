"""Rotations as complex numbers; forward keeps no cache; a short row is padded, its mask added."""


def rope(x, positions):
    half = x.shape[-1] // 2
    angle = np.multiply.outer(positions, ROPE_BASE ** (-np.arange(half) / half))
    turned = (x[..., :half] + 1j * x[..., half:]) * np.exp(1j * angle)
    return np.concatenate([turned.real, turned.imag], axis=-1).astype(x.dtype)


def forward(params, x):
    T = x.shape[1]
    k_nope, v = expand(params, compress(params, x))
    q_nope, q_rope = queries(params, x)
    scores = np.einsum("bthd,bshd->bhts", q_nope, k_nope)
    key = shared_key(params, x, np.arange(T))
    scores = scores + np.einsum("bthd,bsd->bhts", rope(q_rope, np.arange(T)[:, None]), key)
    scores = scores * x.dtype.type((k_nope.shape[-1] + key.shape[-1]) ** -0.5)
    scores[..., ~np.tri(T, dtype=bool)] = np.finfo(x.dtype).min
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights = weights / weights.sum(axis=-1, keepdims=True)
    out = np.einsum("bhts,bshd,hdc->btc", weights, v, params["w_o"])
    return np.asfortranarray(out)


def _extend(params, x, kv_cache, lengths, attend):
    _check_fit(params, x, kv_cache, lengths)
    B, T, _ = x.shape
    at = lengths.reshape(-1, 1).astype(np.int32) + np.arange(T, dtype=np.int32)
    flat = np.concatenate([compress(params, x), shared_key(params, x, at)], axis=2)
    held = np.zeros((B, at.max() + 1, flat.shape[2]), x.dtype)
    for row, slots, copy, n in zip(flat, kv_cache, held, lengths.tolist(), strict=True):
        slots[n : n + T] = row
        copy[: n + T] = slots[: n + T]
    q_nope, q_rope = queries(params, x)
    q_rope = rope(q_rope, at[..., None])
    future = np.arange(held.shape[1]) > at[:, None, :, None]
    heads = attend(params, q_nope.swapaxes(1, 2), q_rope.swapaxes(1, 2), held, future)
    return np.tensordot(heads, params["w_o"], axes=([1, 3], [0, 1]))
