"""Each generator gives a number, then all rows are drawn at once; greedy rows take no chance."""


def sample(rng, probs):
    _check(probs)
    return _invert(probs, rng.integers(0, 2**53, len(probs)) / 2.0**53)


def _check(probs):
    if not np.isfinite(probs).all() or probs.min() < 0 or not probs.max(axis=1).min() > 0:
        raise ValueError("these probs are no weights")


def _invert(probs, u):
    share = probs.astype(np.float64) / probs.sum(axis=1, dtype=np.float64)[:, None]
    ends = share.cumsum(axis=1)
    last = share.shape[1] - 1 - (share[:, ::-1] > 0).argmax(axis=1)
    found = [np.searchsorted(row, x, side="right") for row, x in zip(ends, u, strict=True)]
    return np.minimum(np.array(found, np.int64), last)


def next_tokens(rngs, logits, params, prompts, outputs):
    if len(rngs) != len(logits):
        raise ValueError("rngs")
    left = process_logits(logits, params, prompts, outputs)
    u = np.array(
        [
            0.5 if row.temperature == 0 else rng.random()
            for rng, row in zip(rngs, params, strict=True)
        ]
    )
    return _invert(softmax(left), u)
