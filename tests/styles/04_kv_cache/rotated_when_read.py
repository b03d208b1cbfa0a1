"""Keys are stored as projected, the head's axis before the slots, and rotated when read."""


class KVCache:
    def __init__(self, params, *, batch, capacity):
        G, D = params["layers"][0]["wk"].shape[1:]
        shape = (batch, len(params["layers"]), 2, G, D, capacity)
        self.slots, self.held = np.zeros(shape, params["embed"].dtype), np.zeros(batch, np.int64)

    capacity = property(lambda self: self.slots.shape[-1])
    lengths = property(lambda self: self.held.copy())
    nbytes = property(lambda self: self.slots.nbytes)

    def fork(self):
        new = copy.copy(self)
        new.slots, new.held = self.slots.copy(), self.held.copy()
        return new


def _extend(params, ids, cache, lengths):
    x, columns = params["embed"][ids], np.arange(ids.shape[1])
    positions = cache.held[:, None] + columns  # (B, T)
    rows, at = np.nonzero(columns < lengths[:, None])
    S = (cache.held + lengths).max()
    for index, layer in enumerate(params["layers"]):
        h = rms_norm(x, layer["attn_norm"])
        for kind, name in enumerate(("wk", "wv")):
            new = _heads(h, layer[name])[rows, at]  # (N, G, D)
            cache.slots[rows, index, kind, :, :, positions[rows, at]] = new
        keys, values = cache.slots[:, index, ..., :S].transpose(1, 0, 4, 2, 3)  # (B, S, G, D)
        keys = rope(keys, np.arange(S)).swapaxes(1, 2)
        q = rope(_heads(h, layer["wq"]), positions)
        heads = _attend(q, keys, values.swapaxes(1, 2), positions)
        x = x + heads @ layer["wo"].reshape(-1, x.shape[-1])
        x = x + swiglu(rms_norm(x, layer["mlp_norm"]), layer)
    cache.held = cache.held + lengths
    return x
