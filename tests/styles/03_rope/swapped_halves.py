"""x · cos + swapped(x) · sin with every angle twice, and a softmax by log-sum-exp."""


def rope(x, positions, *, layout="half", base=BASE, rotary_dim=None, sincos=sincos):
    R, positions = _rotary_dim(x.shape[-1], rotary_dim), np.asarray(positions)
    _check_layout("layout", layout)
    _check_positions(positions, x.shape[:-1])
    turned, rest = x[..., :R], x[..., R:]
    if layout == "interleaved":
        turned = np.concatenate([turned[..., ::2], turned[..., 1::2]], axis=-1)
    angles = positions[..., None] * np.tile(frequencies(R, base=base), 2)  # (..., T, R)
    sin, cos = (part.astype(x.dtype) for part in sincos(angles))
    swapped = np.concatenate([-turned[..., R // 2 :], turned[..., : R // 2]], axis=-1)
    turned = turned * cos + swapped * sin
    if layout == "interleaved":
        pairs = [turned[..., : R // 2], turned[..., R // 2 :]]
        turned = np.stack(pairs, axis=-1).reshape(turned.shape)
    return np.concatenate([turned, rest], axis=-1)


def attend(q, k, v, q_positions, k_positions, *, layout="half", base=BASE, rotary_dim=None):
    options = {"layout": layout, "base": base, "rotary_dim": rotary_dim}
    scores = attention_scores(q, k, q_positions, k_positions, **options)
    return np.exp(scores - np.logaddexp.reduce(scores, axis=-1, keepdims=True)) @ v
