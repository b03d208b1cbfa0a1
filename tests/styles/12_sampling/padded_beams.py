"""Beams of all prompts in padded arrays (B, n), as accelerators like them, -inf where none runs."""


def beam_search(
    step,
    logits,
    *,
    num_beams,
    max_new_tokens,
    eos_id=None,
    length_penalty=1.0,
    early_stopping=False,
):
    if num_beams < 1:
        raise ValueError("num_beams")
    if max_new_tokens < 1:
        raise ValueError("max_new_tokens")
    if early_stopping not in (True, False, "never"):
        raise ValueError("early_stopping")
    B, V = logits.shape
    n = num_beams
    sums = np.full((B, n), -np.inf)
    sums[:, 0] = 0
    text = np.zeros((B, n, max_new_tokens), np.int64)
    row = np.zeros((B, n), np.int64)
    row[:, 0] = np.arange(B)
    scores = np.full((B, n), -np.inf)
    done = np.zeros((B, n, max_new_tokens), np.int64)
    lengths = np.zeros((B, n), np.int64)
    for made in range(1, max_new_tokens + 1):
        table = _log_softmax(logits)
        grown = (sums[:, :, None] + table[row]).reshape(B, n * V)
        order = np.argsort(-grown, axis=1, kind="stable")
        best = np.take_along_axis(grown, order, axis=1)
        beam, token = order // V, order % V
        real = best > -np.inf
        ends = real & (token == eos_id if eos_id is not None else False)
        goes = real & ~ends
        near = np.arange(n * V) < n
        closes = (ends | (real if made == max_new_tokens else False)) & near
        for b in range(B):
            take = np.flatnonzero(closes[b])
            new = np.zeros((len(take), max_new_tokens), np.int64)
            new[:] = text[b, beam[b, take]]
            new[:, made - 1] = token[b, take]
            value = np.concatenate([scores[b], best[b, take] / float(made) ** length_penalty])
            keep = np.argsort(-value, kind="stable")[:n]
            scores[b] = value[keep]
            done[b] = np.concatenate([done[b], new])[keep]
            lengths[b] = np.concatenate([lengths[b], np.full(len(take), made)])[keep]
            take = np.flatnonzero(goes[b])[:n]
            old, parents = text[b].copy(), row[b].copy()
            sums[b] = -np.inf
            sums[b, : len(take)] = best[b, take]
            text[b, : len(take)] = old[beam[b, take]]
            text[b, : len(take), made - 1] = token[b, take]
            row[b, : len(take)] = parents[beam[b, take]]
        full = scores.min(axis=1) > -np.inf
        bound = max_new_tokens if early_stopping == "never" and length_penalty > 0 else made
        if early_stopping is not True:
            with np.errstate(invalid="ignore"):
                full &= sums[:, 0] / float(bound) ** length_penalty <= scores[:, -1]
        sums[full] = -np.inf
        if made == max_new_tokens:
            break
        runs = sums > -np.inf
        if not runs.any():
            break
        logits = step(text[runs][:, made - 1], row[runs])
        row[runs] = np.arange(runs.sum())
        row[~runs] = 0
    return [
        [(done[b, i, : lengths[b, i]], scores[b, i]) for i in range(n) if scores[b, i] > -np.inf]
        for b in range(B)
    ]
