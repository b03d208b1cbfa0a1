"""One query head after the other, keys from the last to the first; the memory read beforehand."""


def multi_query_attention(q, k, v, *, causal=False):
    _, S, _ = _fits("k", k, len(_axes(q)), None, q.shape[-1])
    _fits("v", v, len(q), S, None)
    return _by_head(q, k[:, None], v[:, None], causal)


def grouped_query_attention(q, k, v, *, causal=False):
    _, G, S, _ = _fits("k", k, len(_axes(q)), None, None, q.shape[-1])
    _fits("v", v, len(q), G, S, None)
    if q.shape[1] % G:
        raise ValueError(f"k has {G} heads, q {q.shape[1]}")
    return _by_head(q, k, v, causal)


def _axes(q):
    _fits("q", q, None, None, None, None)
    return q


def _by_head(q, k, v, causal):
    if causal and q.shape[2] > k.shape[2]:
        raise ValueError("causal: too few keys")
    out = np.zeros(q.shape[:3] + v.shape[3:], q.dtype)
    for b, h in np.ndindex(*q.shape[:2]):
        g = h // (q.shape[1] // k.shape[1])
        out[b, h] = _softmax_mean(q[b, h], k[b, g], v[b, g], causal)
    return out


def _softmax_mean(q, k, v, causal):
    T, S = len(q), len(k)
    scores = (k[::-1] @ (q / math.sqrt(q.shape[1])).T).T  # (T, S), the last key first
    if causal:
        scores[np.arange(S) < np.arange(T)[::-1, None]] = -np.inf
    weights = np.exp(scores - scores.max(axis=1)[:, None])
    return (weights @ v[::-1]) / weights.sum(axis=1)[:, None]


def cached_layer(params, x, memory):
    _fits("x", x, len(list(memory.lengths)), None, len(params["wq"]))
    q, k, v = _project(params, x)
    out = np.zeros_like(q)
    for row, held in enumerate(memory.lengths):
        past = [memory.load(row, g) for g in range(k.shape[1])] if held else []
        memory.append(row, k[row], v[row])
        for g in range(k.shape[1]):
            keys, values = (
                np.concatenate([past[g][i], new[row, g]]) if past else new[row, g]
                for i, new in enumerate((k, v))
            )
            for h in range(g * q.shape[1] // k.shape[1], (g + 1) * q.shape[1] // k.shape[1]):
                out[row, h] = _softmax_mean(q[row, h], keys, values, True)
    return sum(out[:, h] @ params["wo"][h] for h in range(q.shape[1])) + params["bo"]


def decode_cost(*, d_model, n_heads, n_kv_heads, head_dim, lengths, n_tokens=1, itemsize=2):
    cost = dict.fromkeys(("cache_bytes", "cache_flops", "weight_bytes", "weight_flops"), 0)
    for heads in (n_heads, n_kv_heads, n_kv_heads, n_heads):
        cost["weight_bytes"] += d_model * heads * head_dim * itemsize
        cost["weight_flops"] += 2 * d_model * heads * head_dim * n_tokens * len(lengths)
    for length in lengths:
        cost["cache_bytes"] += 2 * n_kv_heads * length * head_dim * itemsize
        cost["cache_flops"] += 4 * n_heads * n_tokens * length * head_dim
    return cost
