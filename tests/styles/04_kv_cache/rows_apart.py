"""Each row has a list of arrays of its own, and goes through the layers without the others."""


class KVCache:
    __slots__ = ("_cap", "_held", "_rows")

    def __init__(self, params, *, batch, capacity):
        shape, dtype = (capacity, *params["layers"][0]["wk"].shape[1:]), params["embed"].dtype
        pairs = [[[shape, shape] for _ in params["layers"]] for _ in range(batch)]
        self._rows = [[[np.zeros(s, dtype) for s in pair] for pair in row] for row in pairs]
        self._held, self._cap = [0] * batch, capacity

    @property
    def capacity(self):
        return self._cap

    @property
    def lengths(self):
        held = np.fromiter(self._held, np.int64)
        held.flags.writeable = False
        return held

    @property
    def nbytes(self):
        return sum(array.nbytes for row in self._rows for pair in row for array in pair)

    def fork(self):
        new = object.__new__(KVCache)
        new._rows = [[[array.copy() for array in pair] for pair in row] for row in self._rows]
        new._held, new._cap = list(self._held), self._cap
        return new


def _extend(params, ids, cache, lengths):
    out = np.zeros((*ids.shape, params["embed"].shape[1]), params["embed"].dtype)
    for b, n in enumerate(lengths):
        start, end = cache._held[b], cache._held[b] + int(n)
        positions, x = np.arange(start, end), params["embed"][ids[b : b + 1, :n]]  # (1, n, C)
        for layer, (keys, values) in zip(params["layers"], cache._rows[b], strict=True):
            h = rms_norm(x, layer["attn_norm"])
            q, k, v = (np.tensordot(h, layer[name], axes=1) for name in ("wq", "wk", "wv"))
            keys[start:end], values[start:end] = rope(k, positions)[0], v[0]
            heads = _mixed(rope(q, positions)[0], keys[:end], values[:end], start)
            x = x + np.tensordot(heads, layer["wo"], axes=2)
            x = x + swiglu(rms_norm(x, layer["mlp_norm"]), layer)
        out[b, :n], cache._held[b] = x[0], end
    return out


def _mixed(q, keys, values, start):
    """q (n, H, D) at the positions from start on; one product a query head, last slot first."""
    out, future = np.empty_like(q), np.tri(len(q), len(keys), start, dtype=bool)[:, ::-1] < 1
    for head in range(q.shape[1]):
        group = head * keys.shape[1] // q.shape[1]
        scores = q[:, head] @ keys[::-1, group].T / math.sqrt(q.shape[2])
        scores[future] = -np.inf
        lse = np.logaddexp.reduce(scores, axis=1, keepdims=True)
        out[:, head] = np.exp(scores - lse) @ values[::-1, group]
    return out
