"""Trees by recursion over groups of rows, n-grams by joined bytes, the loop as a generator."""


def propose_ngram(tokens, *, gamma, max_ngram, min_ngram=1):
    if not 0 < min_ngram <= max_ngram:
        raise ValueError("min_ngram has to be from 1 to max_ngram")
    text = np.ascontiguousarray(tokens, dtype=">i8").tobytes()
    for n in reversed(range(min_ngram, max_ngram + 1)):
        at, end = -1, text[-8 * n :]
        while 8 * n < len(text):
            at = text.find(end, at + 1)
            if at % 8 == 0:
                break
        if 8 * n < len(text) and at + 8 * n < len(text):
            start = at // 8 + n
            return np.array(tokens[start : start + gamma], dtype=np.int64)
    return np.array([], dtype=np.int64)


def build_tree(root, candidates):
    paths = {(): 0}
    for candidate in candidates:
        for n in range(1, len(candidate) + 1):
            paths.setdefault(tuple(map(int, candidate[:n])), len(paths))
    tokens = [root if not path else path[-1] for path in paths]
    parents = [paths[path[:-1]] if path else -1 for path in paths]
    return np.array(tokens), np.array(parents)


def tree_mask(parents, *, cached=0):
    N = len(parents)
    if parents[0] != -1 or any(not 0 <= parents[i] < i for i in range(1, N)):
        raise ValueError("parents is no tree")
    up = np.zeros((N, N), np.int64)
    up[np.arange(1, N), parents[1:]] = 1
    reach = np.linalg.matrix_power(up + np.eye(N, dtype=np.int64), N) > 0
    return np.pad(reach, ((0, 0), (cached, 0)), constant_values=True)


def tree_positions(parents, *, cached=0):
    tree_mask(parents)
    depth = []
    for parent in parents:
        depth.append(cached if parent < 0 else depth[parent] + 1)
    return np.array(depth)


def verify_tree(rng, p, q, tokens, parents):
    depth = tree_positions(parents).max()
    if tokens.shape[1:] != parents.shape:
        raise ValueError("parents: one for each node")
    out = np.full((depth + 1, len(tokens)), PLACEHOLDER).T
    n = np.zeros(len(tokens), int)

    def down(rows, node, level):
        left, drafted = p[rows, node].astype(float), q[rows, node].astype(float)
        for child in [c for c in range(len(parents)) if parents[c] == node]:
            x = tokens[rows, child]
            line = np.arange(len(rows))
            took = rng.random(len(rows)) * drafted[line, x] < left[line, x]
            out[rows[took], level], n[rows[took]] = x[took], level + 1
            if took.any():
                down(rows[took], child, level + 1)
            left, drafted = residual(left[~took], drafted[~took]), drafted[~took]
            drafted[np.arange(len(drafted)), x[~took]] = 0
            total = drafted.sum(axis=1)
            drafted[total > 0] /= total[total > 0, None]
            rows = rows[~took]
        if len(rows):
            out[rows, level] = _draw(rng, left)

    down(np.arange(len(tokens)), 0, 0)
    return out, n


def _generate(target_model, propose, accept, prompt, max_new_tokens, gamma, eos_id):
    if not len(prompt) or gamma < 0:
        raise ValueError("gamma is below 0" if len(prompt) else "prompt is empty")

    def stream():
        text = prompt.astype(np.int64)
        while True:
            draft = propose(text, min(gamma, len(prompt) + max_new_tokens - len(text) - 1))
            known = len(text) - 1 if len(text) > len(prompt) else 0
            logits = target_model(np.r_[text[known:], draft], known)[len(text) - 1 - known :]
            new = accept(logits, draft)
            yield from new
            text = np.r_[text, new]

    out, tokens = [], stream()
    while len(out) < max_new_tokens and (not out or out[-1] != eos_id):
        out.append(next(tokens))
    return np.array(out, dtype=np.int64)
