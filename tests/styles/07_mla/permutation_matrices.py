"""A matrix undoes the interleaving of a checkpoint, and its equation of rows tells the heads."""

import types


def from_checkpoint(state, *, n_heads):
    get = types.MappingProxyType(dict(state)).get
    names = ["kv_a_proj_with_mqa", "kv_a_layernorm", "kv_b_proj", "o_proj"]
    compressed = "q_proj.weight" not in state
    names += ["q_a_proj", "q_a_layernorm", "q_b_proj"] if compressed else ["q_proj"]
    w = {}
    for name in names:
        w[name] = get(f"{name}.weight")
        if w[name] is None:
            raise ValueError(f"the layer lacks {name}.weight")
    q, kv, o = w["q_b_proj" if compressed else "q_proj"], w["kv_b_proj"], w["o_proj"]
    L = w["kv_a_layernorm"].size
    Dr = w["kv_a_proj_with_mqa"].shape[0] - L
    # q + o - kv is H · Dr
    if q.shape[0] + o.shape[1] - kv.shape[0] != n_heads * Dr or n_heads < 1:
        raise ValueError(f"n_heads={n_heads} is not the number of heads of this layer")
    Dn, Dv = q.shape[0] // n_heads - Dr, o.shape[1] // n_heads
    undo = np.zeros((Dr, Dr), q.dtype)
    for i in range(Dr // 2):
        undo[2 * i, i] = undo[2 * i + 1, i + Dr // 2] = 1
    whole = np.eye(Dn + Dr, dtype=q.dtype)
    whole[Dn:, Dn:] = undo
    loaded = {
        "w_o": np.stack([o[:, h * Dv : (h + 1) * Dv].T for h in range(n_heads)]),
        "kv_norm": w["kv_a_layernorm"].copy(),
        "w_kr": w["kv_a_proj_with_mqa"][L:].T @ undo,
        "w_dkv": np.array(w["kv_a_proj_with_mqa"][:L].T, order="C"),
        "w_uq": np.stack([a.T @ whole for a in np.split(q, n_heads)], axis=1),
        "w_uk": np.stack([a[:Dn].T for a in np.split(kv, n_heads)], axis=1),
        "w_uv": np.stack([a[Dn:].T for a in np.split(kv, n_heads)], axis=1),
    }
    if compressed:
        loaded |= {"w_dq": w["q_a_proj"].T, "q_norm": w["q_a_layernorm"]}
    return loaded


def multiply_adds(params, *, n_new, n_held):
    (L, H, Dn), Dv, Dr = params["w_uk"].shape, params["w_uv"].shape[-1], params["w_kr"].shape[-1]
    total = {"absorbed": 0, "naive": 0}
    for _ in range(H):
        total["naive"] += (n_new + n_held) * (L * Dn + L * Dv)
        total["naive"] += n_new * (n_new + n_held) * (Dn + Dr + Dv)
        total["absorbed"] += n_new * (L * Dn + L * Dv + (n_new + n_held) * (L + Dr + L))
    return total
