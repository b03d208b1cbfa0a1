"""Token by token and head by head, each over the slots that it may see and no others."""


def compress(params, x):
    c = np.tensordot(x, params["w_dkv"], axes=1)
    mean = np.einsum("...l,...l->...", c, c) / c.shape[-1]
    return c * (mean + NORM_EPS)[..., None] ** -0.5 * params["kv_norm"]


def expand(params, latents):
    return tuple(
        np.stack([latents @ w[:, h] for h in range(w.shape[1])], axis=-2)
        for w in (params["w_uk"], params["w_uv"])
    )


def forward(params, x):
    out = np.empty_like(x)
    for row, result in zip(x, out, strict=True):
        keys = shared_key(params, row, np.arange(len(row)))
        slots = np.concatenate([compress(params, row), keys], axis=1)
        for t in range(len(row)):
            result[t] = _token(params, row[t], slots[: t + 1], _expanded_head)
    return out


def extend_naive(params, x, kv_cache, lengths):
    return _rows(params, x, kv_cache, lengths, _expanded_head)


def extend_absorbed(params, x, kv_cache, lengths):
    return _rows(params, x, kv_cache, lengths, _absorbed_head)


def _rows(params, x, kv_cache, lengths, attend):
    _check_fit(params, x, kv_cache, lengths)
    out, L = np.empty_like(x), params["w_dkv"].shape[1]
    for b, held in enumerate(lengths.tolist()):
        for t, h in enumerate(x[b], start=held):
            kv_cache[b, t, :L] = compress(params, h)
            kv_cache[b, t, L:] = shared_key(params, h, np.int32(t))
            out[b, t - held] = _token(params, h, kv_cache[b, : t + 1], attend)
    return out


def _token(params, h, slots, attend):
    """One token h (C,) that stands in the last of the slots (S, L + Dr). -> (C,)"""
    q_nope, q_rope = queries(params, h)
    q_rope, total = rope(q_rope, len(slots) - 1), np.zeros_like(h)
    for head in range(len(q_nope)):
        total += attend(params, head, q_nope[head], q_rope[head], slots) @ params["w_o"][head]
    return total


def _expanded_head(params, head, q_nope, q_rope, slots):
    latents, keys = np.split(slots, [len(params["w_uk"])], axis=1)
    keys = np.concatenate([latents @ params["w_uk"][:, head], keys], axis=1)
    q = np.concatenate([q_nope, q_rope])
    return _weights(keys @ q, len(q)) @ (latents @ params["w_uv"][:, head])


def _absorbed_head(params, head, q_nope, q_rope, slots):
    q = np.concatenate([params["w_uk"][:, head] @ q_nope, q_rope])
    weights = _weights(slots @ q, len(q_nope) + len(q_rope))
    return weights @ slots[:, : len(params["w_uk"])] @ params["w_uv"][:, head]


def _weights(scores, width):
    scores = scores / math.sqrt(width)
    return np.exp(scores - np.logaddexp.reduce(scores))
