"""Two passes: all scores of a sequence, then the values block by block, in float64 inside."""


def _attend(q, key_cache, value_cache, table, S):
    T, H, D = q.shape
    K, G = key_cache.shape[1:3]
    exact = q.astype(np.float64) / D**0.5
    scores = np.full((H, T, S), -np.inf)
    out = np.zeros((H, T, D))
    for i, block in enumerate(table.tolist()):
        end = min(S - i * K, K)
        for h in range(H):
            scores[h, :, i * K : i * K + end] = exact[:, h] @ key_cache[block, :end, h * G // H].T
    scores[:, np.triu(np.ones((T, S), bool), S - T + 1)] = -np.inf
    weights = np.exp(scores - scores.max(axis=2, keepdims=True))
    weights /= weights.sum(axis=2, keepdims=True)
    for i, block in enumerate(table.tolist()):
        end = min(S - i * K, K)
        for h in range(H):
            out[h] += weights[h, :, i * K : i * K + end] @ value_cache[block, :end, h * G // H]
    return out.swapaxes(0, 1).astype(q.dtype)
