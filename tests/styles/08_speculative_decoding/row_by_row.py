"""Plain loops over rows and tokens as the papers print them, one random number at a time."""

import math


def verify_greedy(logits, draft):
    if len(logits) != len(draft) + 1:
        raise ValueError("logits does not have a row more than the draft has tokens")
    out = []
    for row, token in zip(logits, draft, strict=False):
        out.append(max(range(len(row)), key=row.__getitem__))
        if out[-1] != token:
            return np.array(out)
    return np.array([*out, np.flatnonzero(logits[-1] == logits[-1].max())[0]])


def residual(p, q):
    out = np.empty_like(p)
    for at in np.ndindex(p.shape[:-1]):
        over = [max(0.0, float(a) - float(b)) for a, b in zip(p[at], q[at], strict=True)]
        total = math.fsum(over)
        out[at] = [x / total for x in over] if total > 0 else p[at]
    out.flags.writeable = False
    return out


def verify(rng, p, q, draft):
    B, gamma = draft.shape
    if p.shape[:2] != (B, gamma + 1):
        raise ValueError(f"p has shape {p.shape}")
    if q.shape[:2] != (B, gamma):
        raise ValueError(f"q has shape {q.shape}")
    tokens, n_accepted = np.full((B, gamma + 1), PLACEHOLDER), np.zeros(B, np.int64)
    for b in range(B):
        for i in range(gamma):
            x = draft[b, i]
            if p[b, i, x] < q[b, i, x] and rng.uniform() >= p[b, i, x] / q[b, i, x]:
                left = residual(p[b, i], q[b, i])
                break
            tokens[b, i], n_accepted[b] = x, i + 1
        else:
            left = p[b, gamma]
        tokens[b, n_accepted[b]] = _one(rng, left)
    return tokens, n_accepted


def _one(rng, p):
    """The last token of those whose probability is reached before the number is used up."""
    p = p.astype(np.float64)
    return rng.choice(len(p), p=p / p.sum())


def verify_tree(rng, p, q, tokens, parents):
    tree_mask(parents)
    if len(parents) != tokens.shape[1]:
        raise ValueError("parents has another length than tokens has nodes")
    depth = int(tree_positions(parents).max())
    out, n = np.full((len(tokens), depth + 1), PLACEHOLDER), []
    for b, row in enumerate(tokens):
        node, path = 0, []
        while node is not None:
            here, drafted, step = p[b, node], q[b, node].astype(np.float64), None
            for child in np.flatnonzero(parents == node):
                x = row[child]
                if rng.random() * drafted[x] < here[x]:
                    step = int(child)
                    break
                here = residual(here.astype(np.float64), drafted)
                drafted[x] = 0
                drafted = drafted / (drafted.sum() or 1)
            path.append(_one(rng, here) if step is None else int(row[step]))
            node = step
        out[b, : len(path)] = path
        n.append(len(path) - 1)
    return out, np.array(n)
