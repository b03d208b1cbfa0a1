"""float64 inside for float32 parameters, and results that are read-only views of wider arrays."""


def compress(params, x):
    return _back(params, _layer(params).compress(np.asarray(x, np.float64)))


def expand(params, latents):
    layer = _layer(params)
    both = np.tensordot(np.float64(latents), np.concatenate([layer.w_uk, layer.w_uv], axis=2), 1)
    both = _back(params, both)
    return both[..., : layer.w_uk.shape[2]], both[..., layer.w_uk.shape[2] :]


def queries(params, x):
    layer = _layer(params)
    q = _back(params, np.tensordot(layer.query_latent(np.float64(x)), layer.w_uq, 1))
    return q[..., : layer.w_uk.shape[2]], q[..., layer.w_uk.shape[2] :]


def shared_key(params, x, positions):
    key = rope(np.float64(x) @ np.float64(params["w_kr"]), np.asarray(positions, np.float64))
    return _back(params, key)


def extend_naive(params, x, kv_cache, lengths):
    return _double(params, x, kv_cache, lengths, _attend_expanded)


def extend_absorbed(params, x, kv_cache, lengths):
    return _double(params, x, kv_cache, lengths, _attend_absorbed)


class _Layer:
    __slots__ = ("kv_norm", "q_norm", "w_dkv", "w_dq", "w_kr", "w_o", "w_uk", "w_uq", "w_uv")

    def __init__(self, **weights):
        self.w_dq = self.q_norm = None
        for name, w in weights.items():
            setattr(self, name, np.asarray(w, np.float64))

    def compress(self, x):
        return rms_norm(x @ self.w_dkv, self.kv_norm)

    def query_latent(self, x):
        return x if self.w_dq is None else rms_norm(x @ self.w_dq, self.q_norm)


def _layer(params):
    names = set(_Layer.__slots__)
    return _Layer(**{name: w for name, w in params.items() if name in names})


def _back(params, result):
    return np.broadcast_to(result.astype(params["w_dkv"].dtype), result.shape)  # not writable


def _double(params, x, kv_cache, lengths, attend):
    _check_fit(params, x, kv_cache, lengths)
    wide, slots = {name: np.float64(w) for name, w in params.items()}, kv_cache.astype(np.float64)
    out = _extend(wide, np.float64(x), slots, lengths, attend)
    for b, n in enumerate(map(int, lengths)):
        kv_cache[b, n : n + x.shape[1]] = slots[b, n : n + x.shape[1]]
    return out.astype(x.dtype)
