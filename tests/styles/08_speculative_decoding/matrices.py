"""Trees by powers of the matrix of parents, n-grams by an index of dicts, results are views."""


def _closure(parents):
    tree = np.asarray(parents)
    N = len(tree)
    if tree.ndim != 1 or tree[0] != -1 or any(not 0 <= tree[i] < i for i in range(1, N)):
        raise ValueError(f"parents are no tree: {tree}")
    step = np.zeros((N + 1, N + 1), np.int64)
    step[np.arange(N), tree] = 1  # -1 is the last row, which leads nowhere
    reach, power = np.eye(N + 1, dtype=np.int64), step
    while power[:N, :N].any():
        reach, power = reach + power, power @ step
    return reach[:N, :N] > 0


def tree_mask(parents, *, cached=0):
    seen = _closure(parents)
    out = np.ones((cached + len(seen), len(seen)), bool)
    out[cached:] = seen.T
    return out.T


def tree_positions(parents, *, cached=0):
    return np.einsum("ij->i", _closure(parents).astype(np.int64)) + (cached - 1)


def propose_ngram(tokens, *, gamma, max_ngram, min_ngram=1):
    if min_ngram < 1 or max_ngram < min_ngram:
        raise ValueError(f"min_ngram is {min_ngram}, max_ngram {max_ngram}")
    text = tuple(int(t) for t in tokens)
    for n in range(min(max_ngram, len(text)), min_ngram - 1, -1):
        first = {}
        for at in range(len(text) - n):
            first.setdefault(text[at : at + n], at + n)
        if text[-n:] in first:
            at = first[text[-n:]]
            return np.array(text, np.int64)[at : at + gamma]
    return np.array((), np.int64)


def build_tree(root, candidates):
    rows = [(int(root), -1)]
    below = {}
    for candidate in candidates:
        here, node = below, 0
        for token in map(int, candidate):
            if token not in here:
                here[token] = (len(rows), {})
                rows.append((token, node))
            node, here = here[token]
    both = np.array(rows, np.int64)
    return both[:, 0], both[:, 1]


def verify_tree(rng, p, q, tokens, parents):
    B, N = tokens.shape
    if np.shape(parents) != (N,):
        raise ValueError("parents has not one entry a node")
    depth = int(tree_positions(parents).max())
    kids = {i: [c for c in range(N) if parents[c] == i] for i in range(N)}
    out, n = [], []
    for b in range(B):
        path, node = [], 0
        while node is not None:
            left, law = p[b, node].astype(np.longdouble), q[b, node].astype(np.longdouble)
            here, node = node, None
            for child in kids[here]:
                x = int(tokens[b, child])
                if rng.uniform() < left[x] / law[x]:
                    node = child
                    path.append(x)
                    break
                over = np.clip(left - law, 0, None)
                left = over / over.sum() if over.any() else left
                law = np.where(np.arange(len(law)) == x, 0, law)
                law = law / law.sum() if law.any() else law
        n.append(len(path))
        path.append(int(np.searchsorted(np.cumsum(left), rng.uniform() * left.sum(), side="right")))
        out.append(path + [PLACEHOLDER] * (depth + 1 - len(path)))
    return np.array(out, np.int64), np.array(n, np.int64)
