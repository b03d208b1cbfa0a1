"""Tokens are drawn by Gumbel noise on logarithms, acceptance by exponential waiting times."""


def residual(p, q):
    over = np.where(p > q, p - q, 0).astype(np.float64)
    over = np.where((over == 0).all(axis=-1)[..., None], p, over)
    return np.einsum("...v,...->...v", over, 1 / over.sum(axis=-1)).astype(p.dtype)


def _draw(rng, p):
    with np.errstate(divide="ignore"):
        noisy = np.log(p.astype(np.float64)) + rng.gumbel(size=p.shape)
    return noisy.argmax(axis=-1).astype(np.int32)


def _softmax(logits):
    high = np.logaddexp.reduce(logits.astype(np.longdouble), axis=-1, keepdims=True)
    return np.exp(logits - high).astype(np.float64)


def verify(rng, p, q, draft):
    """All replacements and all bonus tokens are drawn, for every place, before any is needed."""
    B, gamma = draft.shape
    if p.shape[:2] != (B, gamma + 1) or q.shape[:2] != (B, gamma):
        name = "q" if p.shape[:2] == (B, gamma + 1) else "p"
        raise ValueError(f"{name}: another shape than draft {draft.shape} wants")
    rest = residual(p[:, :gamma], q) if gamma else p[:, :0]
    spare = _draw(rng, np.concatenate([rest, p[:, gamma:]], axis=1))  # (B, γ + 1)
    index = np.ogrid[:B, :gamma]
    with np.errstate(divide="ignore"):
        ratio = np.log(p[(*index, draft)]) - np.log(q[(*index, draft)])
    kept = np.cumprod(-rng.exponential(size=(B, gamma)) < ratio, axis=1)
    n = kept.sum(axis=1, dtype=np.int64)
    places = np.arange(gamma + 1)[None]
    out = np.where(places == n[:, None], spare, PLACEHOLDER).astype(np.int64)
    out[:, :gamma][kept == 1] = draft[kept == 1]
    return out, n


def acceptance_rate(p, q):
    return (1 - 0.5 * np.abs(p - q).sum(axis=-1, dtype=np.float64)).astype(p.dtype)


def expected_tokens(alpha, gamma):
    if not 0 <= alpha <= 1:
        raise ValueError("alpha is no probability")
    if gamma < 0:
        raise ValueError("gamma is negative")
    total = 1.0
    for _ in range(gamma):  # Horner
        total = 1 + alpha * total
    return total


def best_gamma(alpha, c, max_gamma):
    return int(np.argmax([speedup(alpha, gamma, c) for gamma in range(max_gamma + 1)]))
