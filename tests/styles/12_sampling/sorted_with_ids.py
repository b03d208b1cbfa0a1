"""As transformers does it: ascending sort with ids, scatter back; ties are put right afterwards."""


def apply_top_p(logits, top_p, *, min_tokens_to_keep=1):
    p = _column("top_p", top_p, logits, _POSITIVE, 1).astype(logits.dtype)
    if min_tokens_to_keep < 1:
        raise ValueError("min_tokens_to_keep must be 1 or more")
    order = np.argsort(logits, axis=1)
    rising = np.take_along_axis(logits, order, axis=1)
    gone = np.cumsum(softmax(rising), axis=1, dtype=np.float64) <= 1 - p
    gone[:, -min_tokens_to_keep:] = False
    gone &= p < 1
    out = np.empty_like(gone)
    np.put_along_axis(out, order, gone, axis=1)
    least = np.where(out, np.inf, logits).min(axis=1, keepdims=True)
    return np.where(logits >= least, logits, logits.dtype.type(-np.inf))


def apply_min_p(logits, min_p, *, min_tokens_to_keep=1):
    p = _column("min_p", min_p, logits, 0, 1)
    if min_tokens_to_keep < 1:
        raise ValueError("min_tokens_to_keep must be 1 or more")
    probs = softmax(logits)
    falling = np.sort(logits, axis=1)[:, ::-1]
    mth = falling[:, min(min_tokens_to_keep, logits.shape[1]) - 1]
    out = np.full(logits.shape, -np.inf, logits.dtype)
    np.copyto(
        out, logits, where=(probs >= p * probs.max(axis=1)[:, None]) | (logits >= mth[:, None])
    )
    return out


def apply_top_k(logits, top_k):
    V = logits.shape[1]
    k = _column("top_k", top_k, logits, 0).astype(int)
    _top(logits)
    k = np.where((k == 0) | (k > V), V, k)
    rising = np.partition(logits, np.unique(V - k), axis=1)
    return np.where(logits < np.take_along_axis(rising, V - k, axis=1), -np.inf, logits)
