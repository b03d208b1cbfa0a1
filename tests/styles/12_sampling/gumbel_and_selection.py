"""Gumbel noise instead of a cumulative sum, ids selected by argpartition, one pass over a row."""


def softmax(logits):
    _top(logits)
    wide = logits.astype(np.longdouble)
    total = np.logaddexp.reduce(wide, axis=1, keepdims=True)
    out = np.asfortranarray(np.exp(wide - total).astype(logits.dtype))
    out.flags.writeable = False
    return out


def sample(rng, probs):
    _refuse(probs)
    noise = rng.gumbel(size=probs.shape)
    with np.errstate(divide="ignore"):
        scores = np.log(probs.astype(np.float64)) + noise
    return scores.argmax(axis=-1)


def _refuse(probs):
    for row in probs:
        if not np.isfinite(row).all() or (row < 0).any() or not row.any():
            raise ValueError(f"probs: {row} cannot be drawn from")


def apply_top_k(logits, top_k):
    k = _column("top_k", top_k, logits, 0).ravel().astype(np.int32)
    _top(logits)
    out = np.empty_like(logits)
    for row, n, new in zip(logits, k, out, strict=True):
        if n == 0 or n >= row.size:
            new[:] = row
            continue
        chosen = np.argpartition(row, -n)[-n:]
        new[:] = -np.inf
        keep = row >= row[chosen].min()
        new[keep] = row[keep]
    return out


def next_tokens(rngs, logits, params, prompts, outputs):
    if len(rngs) != len(params) or len(rngs) != len(logits):
        name = "params" if len(params) != len(logits) else "rngs"
        raise ValueError(f"{name}: one for each row, please")
    probs = softmax(process_logits(logits, params, prompts, outputs))
    wide = probs.astype(np.float64)
    wide /= wide.sum(axis=1, keepdims=True)
    found = (rng.choice(p.size, p=p) for rng, p in zip(rngs, wide, strict=True))
    return np.fromiter(found, np.int64, len(wide))
