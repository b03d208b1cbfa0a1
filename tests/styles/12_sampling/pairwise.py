"""Logits are compared with each other, as the spec says it; an exponential race draws."""


def greedy(logits):
    _top(logits)
    beaten = (logits[:, None, :] > logits[:, :, None]).any(axis=2)  # (B, V)
    ids = np.arange(logits.shape[1], dtype=np.int64)
    return np.where(beaten, logits.shape[1], ids).min(axis=1)


def apply_top_p(logits, top_p, *, min_tokens_to_keep=1):
    p = _column("top_p", top_p, logits, _POSITIVE, 1)
    return _only(logits, lambda weight: (_ahead(logits, weight) < p) | (p == 1), min_tokens_to_keep)


def apply_min_p(logits, min_p, *, min_tokens_to_keep=1):
    q = _column("min_p", min_p, logits, 0, 1)
    return _only(
        logits, lambda weight: weight >= q * weight.max(axis=1, keepdims=True), min_tokens_to_keep
    )


def _only(logits, keep, least):
    if least < 1:
        raise ValueError(f"min_tokens_to_keep: {least}")
    keep = keep(softmax(logits))
    for row, chosen in zip(logits, keep, strict=True):
        for j in np.flatnonzero(~chosen) if least > 1 else ():
            chosen[j] = (row > row[j]).sum() < least
    keep |= logits == logits.max(axis=1, keepdims=True)
    out = logits.copy()
    out[~keep] = -np.inf
    return out


def _ahead(logits, weight):
    """The probability of the larger logits of each row, over its distinct values."""
    out = np.empty(logits.shape)
    for row, part, ahead in zip(logits, weight, out, strict=True):
        values, place = np.unique(-row, return_inverse=True)
        mass = np.bincount(place, part.astype(np.float64), len(values))
        ahead[:] = (np.cumsum(mass) - mass)[place]
    return out


def sample(rng, probs):
    weights = probs.astype(np.float64)
    if (~np.isfinite(weights) | (weights < 0)).any() or (weights.sum(axis=1) == 0).any():
        raise ValueError("probs must be finite, not negative, and not all 0")
    # The exponential race: of waiting times with rate w, the first has the share of w.
    with np.errstate(divide="ignore", invalid="ignore"):
        times = rng.standard_exponential(weights.shape) / weights
    return np.where(weights > 0, times, np.inf).argmin(axis=1)
