"""Stage 5: the tensors of a DeepSeek layer become the parameters of this one."""

import numpy as np

from pytest_llmgrind import check, given, rule, st

from . import common
from .common import SEEDS, SIZES, TOKENS


@rule("R24")
@given(size=SIZES, B=st.sampled_from([2, 1]), T=TOKENS, seed=SEEDS)
def test_every_tensor_arrives_where_it_belongs(solution, reference, size, B, T, seed):
    state, heads, x, words = make(reference, seed, size, B, T)
    L = len(state["kv_a_layernorm.weight"])
    state["kv_a_proj_with_mqa.weight"][L:] = 0  # without positions
    words += ", its rows for the shared key 0, with an entry inv_freq"

    saw = load(solution, reference, state | {"inv_freq": np.ones(2)}, heads, words)

    out = reference.forward(saw, x)
    check.close(out, layer(state, heads, x), what=OUT, given=words, n=common.N)


@rule("R25")
@given(size=SIZES, B=st.sampled_from([2, 1]), T=st.sampled_from([5, 2, 3, 9]), seed=SEEDS)
def test_a_loaded_layer_pairs_what_the_checkpoint_pairs(solution, reference, size, B, T, seed):
    state, heads, x, words = make(reference, seed, size, B, T)

    saw = load(solution, reference, state, heads, words)

    out = reference.forward(saw, x)
    check.close(out, layer(state, heads, x), what=OUT, given=words, n=common.N)


@rule("R4")
@given(dtype=st.sampled_from([np.float32, np.float64]), seed=SEEDS)
def test_loaded_parameters_keep_dtype_and_precision(solution, reference, dtype, seed):
    state, heads, x, words = make(reference, seed, common.SMALL, 2, 4)
    state, x = {name: w.astype(dtype) for name, w in state.items()}, x.astype(dtype)
    words += f", all as {dtype.__name__}"

    saw = load(solution, reference, state, heads, words)

    want = reference.forward(reference.from_checkpoint(state, n_heads=heads), x)
    check.close(reference.forward(saw, x), want, what=OUT, given=words, n=40)


@rule("R6")
def test_loading_changes_no_tensor(solution, reference):
    state, heads, _, words = make(reference, 3, {}, 1, 1)

    names = sorted(state)

    with check.unchanged(given=f"from_checkpoint, {words}", state=state):
        solution.from_checkpoint(state, n_heads=heads)

    check.equal(sorted(state), names, what="the names in state after the call", given=words)


@rule("R6")
def test_loaded_parameters_stay_as_they_were(solution, reference):
    state, heads, x, words = make(reference, 5, {}, 2, 4)
    other, other_heads, _, _ = make(reference, 6, {}, 2, 4)

    saw = load(solution, reference, state, heads, words)
    solution.from_checkpoint(other, n_heads=other_heads)

    out = reference.forward(saw, x)
    how = f"{words}, after a second layer, of seed 6, was loaded"
    check.close(out, layer(state, heads, x), what=OUT, given=how, n=common.N)


@rule("R5")
def test_tensors_may_have_any_layout(solution, reference):
    state, heads, x, words = make(reference, 4, {}, 2, 5)
    want = layer(state, heads, x)
    other = {name: np.asfortranarray(w) for name, w in state.items()}

    saw = load(solution, reference, other, heads, f"{words}, tensors in Fortran order")

    check.close(reference.forward(saw, x), want, what=OUT, given=words, n=common.N)


@rule("R26")
@given(size=SIZES, n_heads=st.sampled_from([6, 1, 2, 3, 4, 5, 8, 0, -1]), seed=SEEDS)
def test_another_number_of_heads_is_refused(solution, reference, size, n_heads, seed):
    state, heads, _, words = make(reference, seed, size, 1, 1)
    n_heads = n_heads if n_heads != heads else 2 * heads

    what = {"what": "from_checkpoint", "names": "n_heads", "given": f"{words}, n_heads={n_heads}"}
    check.raises(ValueError, solution.from_checkpoint, state, n_heads=n_heads, **what)


@rule("R26")
@given(size=SIZES, index=st.integers(0, 6))
def test_a_missing_tensor_is_named(solution, reference, size, index):
    state, heads, _, words = make(reference, 0, size, 1, 1)
    names = sorted(state.keys() - {"q_proj.weight", "q_a_proj.weight"})
    name = names[index % len(names)]
    del state[name]

    what = {"what": "from_checkpoint", "names": name, "given": f"{words}, without {name}"}
    check.raises(ValueError, solution.from_checkpoint, state, n_heads=heads, **what)


@rule("R26")
def test_a_layer_without_queries_is_refused(solution, reference):
    state, heads, _, words = make(reference, 0, {"q_lora_rank": None}, 1, 1)
    del state["q_proj.weight"]

    what = {"what": "from_checkpoint", "given": f"{words}, without any q_ tensor"}
    check.raises(ValueError, solution.from_checkpoint, state, n_heads=heads, **what)


OUT = "outputs of forward with the loaded parameters"


def make(reference, seed, size, B, T):
    """A state of random tensors, the number of heads, inputs, and the words for them."""
    params, x, _ = common.make(reference, seed, size, B, T)
    (L, H, Dn), Dv, Dr = params["w_uk"].shape, params["w_uv"].shape[2], params["w_kr"].shape[1]
    C, rng = x.shape[-1], np.random.default_rng(seed + 1)
    shapes = {
        "kv_a_proj_with_mqa": (L + Dr, C),
        "kv_a_layernorm": (L,),
        "kv_b_proj": (H * (Dn + Dv), L),
        "o_proj": (C, H * Dv),
    }
    if "w_dq" in params:
        Lq = len(params["q_norm"])
        shapes |= {"q_a_proj": (Lq, C), "q_a_layernorm": (Lq,), "q_b_proj": (H * (Dn + Dr), Lq)}
    else:
        shapes["q_proj"] = (H * (Dn + Dr), C)
    state = {
        f"{name}.weight": rng.standard_normal(shape) / np.sqrt(shape[-1])
        if len(shape) == 2
        else 1 + 0.1 * rng.standard_normal(shape)
        for name, shape in shapes.items()
    }
    return state, H, x, f"{common.named(seed, size)}, a state of {H} heads, x {x.shape}"


def load(solution, reference, state, heads, words):
    """What from_checkpoint returns, in the form of parameters."""
    saw = solution.from_checkpoint(state, n_heads=heads)
    want = reference.from_checkpoint(state, n_heads=heads)
    got = sorted(saw)
    check.that(got == sorted(want), saw=f"the parameters are {got}", given=words, value=got)
    for name, w in want.items():
        check.array(saw[name], shape=w.shape, dtype=w.dtype, what=name, given=words)
    return saw


def layer(state, H, x):
    """The layer as its checkpoint means it: head by head, pairs as complex numbers."""
    w = {name.removesuffix(".weight"): tensor for name, tensor in state.items()}
    B, T, _ = x.shape
    L = len(w["kv_a_layernorm"])
    Dr = len(w["kv_a_proj_with_mqa"]) - L
    c = x @ w["kv_a_proj_with_mqa"].T
    latent, key = norm(c[..., :L], w["kv_a_layernorm"]), turned(c[..., L:])
    if "q_proj" in w:
        q = x @ w["q_proj"].T
    else:
        q = norm(x @ w["q_a_proj"].T, w["q_a_layernorm"]) @ w["q_b_proj"].T
    q, kv = q.reshape(B, T, H, -1), (latent @ w["kv_b_proj"].T).reshape(B, T, H, -1)
    Dn = q.shape[-1] - Dr
    heads = []
    for h in range(H):
        k, v = kv[:, :, h, :Dn], kv[:, :, h, Dn:]
        scores = q[:, :, h, :Dn] @ k.swapaxes(1, 2) + turned(q[:, :, h, Dn:]) @ key.swapaxes(1, 2)
        scores = np.where(np.tri(T, dtype=bool), scores / np.sqrt(Dn + Dr), -np.inf)
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        heads.append(weights / weights.sum(axis=-1, keepdims=True) @ v)
    return np.concatenate(heads, axis=-1) @ w["o_proj"].T


def norm(x, gain):
    return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + 1e-6) * gain


def turned(x):
    """x (B, T, Dr), numbers 2i and 2i + 1 being pair i, turned to positions 0 to T - 1."""
    pairs = np.ascontiguousarray(x).view(complex)  # (B, T, Dr/2)
    angle = np.arange(x.shape[1])[:, None] * 1e4 ** (-np.arange(pairs.shape[-1]) / pairs.shape[-1])
    return (pairs * np.exp(1j * angle)).view(float)
