"""Both ways pass over the slots a chunk at a time with a running maximum; the last chunk first."""


def init_cache(params, *, batch, capacity):
    L, Dr = params["w_dkv"].shape[1], params["w_kr"].shape[1]
    slots = np.full((capacity, L + Dr, batch), np.nan, params["kv_norm"].dtype)
    return slots.transpose(2, 0, 1)  # a row's slots do not lie together


def _attend_expanded(params, q_nope, q_rope, held, future):
    L = len(params["w_uk"])

    def part(slots):
        k_nope, v = expand(params, slots[..., :L])  # (B, n, H, Dn), (B, n, H, Dv)
        k_rope = np.broadcast_to(slots[:, :, None, L:], (*k_nope.shape[:3], slots.shape[2] - L))
        return np.concatenate([k_nope, k_rope], axis=-1).swapaxes(1, 2), v.swapaxes(1, 2)

    q = np.concatenate([q_nope, q_rope], axis=-1)
    return _online(q / q.dtype.type(math.sqrt(q.shape[-1])), held, future, part)


def _attend_absorbed(params, q_nope, q_rope, held, future):
    L = len(params["w_uk"])
    q = np.concatenate([np.einsum("bhtd,lhd->bhtl", q_nope, params["w_uk"]), q_rope], axis=-1)
    q = q / q.dtype.type(math.sqrt(q_nope.shape[-1] + q_rope.shape[-1]))
    mixed = _online(q, held, future, lambda slots: (slots[:, None], slots[:, None, :, :L]))
    return np.einsum("bhtl,lhd->bhtd", mixed, params["w_uv"])


def _online(q, held, future, part, chunk=7):
    peak, total, out = -np.inf, 0, 0
    for start in reversed(range(0, held.shape[1], chunk)):
        k, v = part(held[:, start : start + chunk])
        scores = q @ k.swapaxes(-1, -2)
        scores = np.where(future[..., start : start + chunk], -np.inf, scores)
        new = np.maximum(peak, scores.max(axis=-1, keepdims=True))
        base = np.where(np.isneginf(new), 0, new)  # 0 where nothing has been seen so far
        weights, shrink = np.exp(scores - base), np.exp(peak - base)
        total = total * shrink + weights.sum(axis=-1, keepdims=True)
        out = out * shrink + weights @ v
        peak = new
    return out / total
