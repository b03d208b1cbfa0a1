"""Everything in Python numbers and lists, one token after another; no array but at the edges."""


def softmax(logits):
    _top(logits)
    out = []
    for row in logits.tolist():
        top = max(row)
        e = [math.exp(x - top) for x in row]
        total = math.fsum(e)
        out.append([x / total for x in e])
    return np.array(out, logits.dtype)


def greedy(logits):
    _top(logits)
    rows = logits.tolist()
    return np.array([row.index(max(row)) for row in rows], np.int64)


def _log_softmax(logits):
    _top(logits)
    out = []
    for row in np.asarray(logits).tolist():
        top = max(row)
        total = top + math.log(math.fsum(math.exp(x - top) for x in row))
        out.append([x - total for x in row])
    return np.array(out, np.float64)


def _largest(values, k):
    pairs = sorted((-v, i) for i, v in enumerate(values.tolist()) if v > -math.inf)
    return np.array([i for _, i in pairs[:k]], np.intp)


def _counts(name, rows, logits):
    B, V = logits.shape
    if len(rows) != B:
        raise ValueError(f"{name}: {len(rows)} rows")
    counts = np.zeros((B, V))
    for count, ids in zip(counts, rows, strict=True):
        for i in ids:
            if not 0 <= i < V:
                raise ValueError(f"{name}: id {i}")
            count[i] += 1
    return counts


def sample(rng, probs):
    ids, rows = [], probs.tolist()
    if not all(any(row) and all(0 <= w < math.inf for w in row) for row in rows):
        raise ValueError("probs: out of range")
    for row in rows:
        left, chosen = rng.random() * math.fsum(row), None
        for i, w in enumerate(row):
            if w > 0:
                chosen = i
                if left < w:
                    break
                left -= w
        ids.append(chosen)
    return np.array(ids, np.int64)
