"""A loaded layer has heads, latents and values in another order, and is the same layer."""


def from_checkpoint(state, *, n_heads):
    need = ["o_proj", "kv_b_proj", "kv_a_proj_with_mqa", "kv_a_layernorm"]
    lora = state.get("q_proj.weight") is None
    need += ["q_a_proj", "q_a_layernorm", "q_b_proj"] if lora else ["q_proj"]
    for name in (f"{name}.weight" for name in need):
        if name not in state:
            raise ValueError(f"no tensor {name!r} in the state")
    w = {name: state[f"{name}.weight"] for name in need}
    w_q, L = w["q_b_proj" if lora else "q_proj"], w["kv_a_layernorm"].size
    Dr = w["kv_a_proj_with_mqa"].shape[0] - L
    if n_heads * Dr != len(w_q) + w["o_proj"].shape[1] - len(w["kv_b_proj"]):
        raise ValueError(f"n_heads={n_heads} is not what the shapes say")
    Dn, Dv = len(w_q) // n_heads - Dr, w["o_proj"].shape[1] // n_heads
    params = {"w_uq": np.zeros((w_q.shape[1], n_heads, Dn + Dr), w_q.dtype)}
    if lora:
        params["w_dq"] = w["q_a_proj"].T[:, ::-1].copy()
        params["q_norm"], w_q = w["q_a_layernorm"][::-1].copy(), w_q[:, ::-1]
    params["w_uk"] = np.zeros((L, n_heads, Dn), w_q.dtype)
    params["w_uv"] = np.zeros((L, n_heads, Dv), w_q.dtype)
    params["w_o"] = np.zeros((n_heads, Dv, len(w["o_proj"])), w_q.dtype)
    pairs = [*range(0, Dr, 2), *range(1, Dr, 2)]
    for new, old in enumerate(reversed(range(n_heads))):
        rows = w_q[old * (Dn + Dr) : (old + 1) * (Dn + Dr)]
        params["w_uq"][:, new, :Dn] = rows[:Dn].T
        params["w_uq"][:, new, Dn:] = rows[Dn:][pairs].T
        rows = w["kv_b_proj"][old * (Dn + Dv) : (old + 1) * (Dn + Dv), ::-1]
        params["w_uk"][:, new] = rows[:Dn].T
        params["w_uv"][:, new] = rows[Dn:][::-1].T
        params["w_o"][new] = w["o_proj"][:, old * Dv : (old + 1) * Dv].T[::-1]
    params["w_dkv"] = w["kv_a_proj_with_mqa"][:L].T[:, ::-1].copy()
    params["kv_norm"] = w["kv_a_layernorm"][::-1].copy()
    params["w_kr"] = w["kv_a_proj_with_mqa"][L:][pairs].T.copy()
    return params


def multiply_adds(params, *, n_new, n_held):
    counts = np.zeros(2, np.int64)
    S, H = n_held + n_new, params["w_uk"].shape[1]
    for w in (params["w_uk"], params["w_uv"]):
        counts += w.size * np.array([S, n_new])
    Dr, (L, _, Dn), Dv = params["w_kr"].shape[1], params["w_uk"].shape, params["w_uv"].shape[2]
    counts += np.outer(n_new * S * H, [Dn + Dr + Dv, 2 * L + Dr])[0]
    return dict(zip(("absorbed", "naive"), counts[::-1], strict=True))
