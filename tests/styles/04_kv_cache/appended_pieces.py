"""The cache grows by concatenation, padding and all; a key's position says whom it may meet."""


class KVCache:
    """Nothing is ever written into an array that it holds: a fork may share them all."""

    def __init__(self, params, *, batch, capacity):
        G, D = params["layers"][0]["wk"].shape[1:]
        empty = np.zeros((batch, 0, G, D), params["embed"].dtype)
        self.pieces, self.at = [(empty, empty)] * len(params["layers"]), np.zeros((batch, 0), int)
        self.capacity, self.lengths = capacity, np.zeros(batch, np.int64)
        self.nbytes = 2 * len(self.pieces) * batch * G * D * capacity * empty.itemsize

    def fork(self):
        return copy.copy(self)


def _extend(params, ids, cache, lengths):
    x, columns = params["embed"][ids], np.arange(ids.shape[1])
    positions = cache.lengths[:, None] + columns  # (B, T)
    never = np.iinfo(np.int64).max
    at = np.where(columns < lengths[:, None], positions, never)  # padding is met by nobody
    cache.at, pieces = np.hstack([cache.at, at]), []
    far = cache.at[:, None, :] > positions[:, :, None]  # (B, T, S)
    for layer, (keys, values) in zip(params["layers"], cache.pieces, strict=True):
        h = rms_norm(x, layer["attn_norm"])
        q = rope(_heads(h, layer["wq"]), positions)
        keys = np.concatenate([keys, rope(_heads(h, layer["wk"]), positions)], axis=1)
        values = np.concatenate([values, _heads(h, layer["wv"])], axis=1)
        pieces.append((keys, values))
        x = x + _mixed(q, keys, values, far) @ layer["wo"].reshape(-1, x.shape[-1])
        x = x + swiglu(rms_norm(x, layer["mlp_norm"]), layer)
    cache.pieces, cache.lengths = pieces, cache.lengths + lengths
    return x


def _mixed(q, keys, values, far):
    """Weights are divided by their sum after the values are added. -> (B, T, H·D)"""
    B, T, H, D = q.shape
    q = q.reshape(B, T, keys.shape[2], -1, D).transpose(0, 2, 3, 1, 4)  # (B, G, H/G, T, D)
    scores = q @ keys.transpose(0, 2, 3, 1)[:, :, None] / math.sqrt(D)  # (B, G, H/G, T, S)
    scores = np.where(far[:, None, None], -np.inf, scores)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    out = weights @ values.transpose(0, 2, 1, 3)[:, :, None] / weights.sum(-1, keepdims=True)
    return out.transpose(0, 3, 1, 2, 4).reshape(B, T, H * D)
