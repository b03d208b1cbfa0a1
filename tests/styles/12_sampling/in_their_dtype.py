"""All arithmetic of filters in the dtype of the logits, without a shift of thresholds to logits."""


def apply_temperature(logits, temperature):
    t = _column("temperature", temperature, logits, 0)
    shifted = logits - _top(logits)
    out = np.zeros_like(shifted)
    with np.errstate(over="ignore"):
        np.divide(shifted, t, out=out, where=t > 0, casting="same_kind")
    ids = greedy(logits)
    for b in np.flatnonzero(t[:, 0] == 0):
        out[b] = -np.inf
        out[b, ids[b]] = 0
    return out


def apply_top_p(logits, top_p, *, min_tokens_to_keep=1):
    p = _column("top_p", top_p, logits, _POSITIVE, 1)
    if min_tokens_to_keep < 1:
        raise ValueError("min_tokens_to_keep < 1")
    probs = softmax(logits)
    order = np.argsort(logits, axis=1)[:, ::-1]
    out = np.full_like(logits, -np.inf)
    for b, ids in enumerate(order):
        if p[b, 0] == 1:
            out[b] = logits[b]
            continue
        total, level, pending = logits.dtype.type(0), np.inf, logits.dtype.type(0)
        for rank, j in enumerate(ids):
            if logits[b, j] < level:
                level, total, first = logits[b, j], total + pending, rank
                pending = logits.dtype.type(0)
                if not (total < p[b, 0] or first < min_tokens_to_keep):
                    break
            out[b, j] = logits[b, j]
            pending += probs[b, j]
    return out


def apply_min_p(logits, min_p, *, min_tokens_to_keep=1):
    q = _column("min_p", min_p, logits, 0, 1).astype(logits.dtype)
    if min_tokens_to_keep < 1:
        raise ValueError("min_tokens_to_keep < 1")
    probs = softmax(logits)
    low = probs < q * probs.max(axis=1, keepdims=True)
    if min_tokens_to_keep > 1:
        rising = np.sort(logits, axis=1)
        m = min(min_tokens_to_keep, logits.shape[1])
        low &= logits < rising[:, -m][:, None]
    return np.where(low & (q > 0), logits.dtype.type(-np.inf), logits)


def apply_penalties(
    logits,
    prompts,
    outputs,
    *,
    repetition_penalty=1.0,
    frequency_penalty=0.0,
    presence_penalty=0.0,
):
    _top(logits)
    settings = [
        _column("repetition_penalty", repetition_penalty, logits, _POSITIVE),
        _column("frequency_penalty", frequency_penalty, logits),
        _column("presence_penalty", presence_penalty, logits),
    ]
    r, f, p = (setting.astype(logits.dtype) for setting in settings)
    counts = np.zeros(logits.shape, np.uint32)
    seen = np.zeros(logits.shape, bool)
    for name, rows in (("prompts", prompts), ("outputs", outputs)):
        if len(rows) != len(logits):
            raise ValueError(f"{name}: {len(rows)} rows")
        for b, ids in enumerate(rows):
            if len(ids) and (min(ids) < 0 or max(ids) >= logits.shape[1]):
                raise ValueError(f"{name}: an id of row {b} is out of range")
            seen[b, ids] = True
            if name == "outputs":
                np.add.at(counts[b], ids, 1)
    factor = np.where(seen, np.where(logits > 0, 1 / r, r), 1).astype(logits.dtype)
    out = logits * factor
    out -= counts.astype(logits.dtype) * f
    out[counts > 0] -= np.broadcast_to(p, logits.shape)[counts > 0]
    return out
