"""Prefill is a loop of decode steps, attention a loop over chunks with a running maximum."""


def prefill(params, ids, cache, *, lengths=None):
    lengths = _checked_lengths(ids, cache, lengths)
    last = np.zeros((len(ids), params["embed"].shape[1]), params["embed"].dtype)  # (B, C)
    for t in range(lengths.max()):
        live = t < lengths
        x = _extend(params, ids[:, t : t + 1], cache, live.astype(np.int64))  # (B, 1, C)
        last[live] = x[live, 0]
    logits = np.repeat(_logits(params, last), 2, axis=1)[:, ::2]  # strided
    logits.flags.writeable = False
    return logits


def generate(params, ids, max_new_tokens):
    cache = KVCache(params, batch=len(ids), capacity=ids.shape[1] + max_new_tokens)

    def tokens():
        logits = prefill(params, ids, cache)
        while True:
            token = logits.argmax(axis=1)
            yield token
            logits = decode(params, token, cache)

    columns = [token for _, token in zip(range(max_new_tokens), tokens(), strict=False)]
    return np.array(columns, np.int64).reshape(-1, len(ids)).T  # in Fortran order


def _attend(q, keys, values, positions):
    (B, T, H, D), G = q.shape, keys.shape[1]
    q = q.reshape(B, T, G, H // G, D) / q.dtype.type(math.sqrt(D))
    peak = np.full(q.shape[:-1], -np.inf, q.dtype)  # (B, T, G, H/G)
    total, out = np.zeros_like(peak), np.zeros_like(q)
    for start in range(0, min(positions.max() + 1, keys.shape[2]), 16):
        k, v = keys[:, :, start : start + 16], values[:, :, start : start + 16]
        scores = np.einsum("btgrd,bgsd->btgrs", q, k)
        seen = start + np.arange(k.shape[2]) <= positions[..., None]  # (B, T, 16)
        scores = np.where(seen[:, :, None, None], scores, -np.inf)
        new = np.maximum(peak, scores.max(axis=-1))
        weights, shrink = np.exp(scores - new[..., None]), np.exp(peak - new)
        total = total * shrink + weights.sum(axis=-1)
        out = out * shrink[..., None] + np.einsum("btgrs,bgsd->btgrd", weights, v)
        peak = new
    return (out / total[..., None]).reshape(B, T, H * D)
