"""All projections of x are one product of glued weights; angles come from a table of the call's."""


def compress(params, x):
    return _glued(params, x)[0]


def shared_key(params, x, positions):
    return _turn(_glued(params, x)[1], np.asarray(positions))


def queries(params, x):
    return _glued(params, x)[2:]


def _glued(params, x):
    L, Dr = params["w_dkv"].shape[1], params["w_kr"].shape[1]
    C, up = x.shape[-1], params["w_uq"]
    first = params.get("w_dq", up.reshape(len(up), -1))
    y = np.hstack([params["w_dkv"], params["w_kr"], first]).T @ np.moveaxis(x, -1, 0).reshape(C, -1)
    c, key, q = np.split(y, [L, L + Dr])
    c = _normed(c, params["kv_norm"])
    if "w_dq" in params:
        q = up.reshape(len(up), -1).T @ _normed(q, params["q_norm"])
    lead = x.shape[:-1]
    q = q.reshape(*up.shape[1:], -1).transpose(2, 0, 1).reshape(*lead, *up.shape[1:])
    Dn = up.shape[2] - Dr
    return c.T.reshape(*lead, L), key.T.reshape(*lead, Dr), q[..., :Dn], q[..., Dn:]


def _normed(c, gain):
    return (c.T * ((c * c).mean(axis=0) + NORM_EPS)[:, None] ** -0.5 * gain).T


def _turn(x, positions):
    half = x.shape[-1] // 2
    seen, where = np.unique(positions, return_inverse=True)
    angles = np.outer(seen, [ROPE_BASE ** (-i / half) for i in range(half)])
    table = np.stack([np.cos(angles), np.sin(angles)]).astype(x.dtype)
    cos, sin = table[:, where.reshape(positions.shape)]
    out = np.empty(x.shape, x.dtype)
    out[..., :half] = x[..., :half] * cos - x[..., half:] * sin
    out[..., half:] = x[..., half:] * cos + x[..., :half] * sin
    return out
