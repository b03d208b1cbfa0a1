"""Stage 3: many heads between learned projections."""

import copy
import math

import numpy as np

from pytest_llmgrind import check, given, rule, st

SIZES = st.integers(1, 6)
SEEDS = st.integers(0, 999)
DTYPES = st.sampled_from(["float32", "float64"])


def layer(seed, B=2, T=4, C=6, H=3, D=2, dtype="float64"):
    """Tokens and parameters of normal numbers, and the words that say how to make them again.

    Weights have the variance of 1 / rows, so that projections have that of the tokens.
    """
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((B, T, C)).astype(dtype)
    params = {}
    for name, (rows, columns) in {**dict.fromkeys("qkv", (C, H * D)), "o": (H * D, C)}.items():
        weight = rng.standard_normal((rows, columns)) / math.sqrt(rows)
        params[f"w_{name}"] = weight.astype(dtype)
        params[f"b_{name}"] = rng.standard_normal(columns).astype(dtype)
    return x, params, f"seed {seed}, x {x.shape}, {H} heads of width {D}, {dtype}"


def head(x, params, h, D):
    """Queries, keys and values (B, T, D) of head h."""
    own = slice(h * D, (h + 1) * D)
    return (x @ params[f"w_{name}"][:, own] + params[f"b_{name}"][own] for name in "qkv")


def merged(heads, params):
    return np.concatenate(heads, axis=-1) @ params["w_o"] + params["b_o"]


def length(C, D, T, H):
    """Additions behind one output: two projections, a score, a mean."""
    return C + D + T + H * D


@rule("R16")
@given(seed=SEEDS, T=SIZES, C=SIZES, D=SIZES, dtype=DTYPES)
def test_one_head_is_attention_between_projections(solution, seed, T, C, D, dtype):
    x, params, words = layer(seed, 2, T, C, 1, D, dtype)

    out = solution.multi_head_attention(x, params, n_heads=1)

    want = merged([solution.attention(*head(x, params, 0, D))], params)
    check.close(out, want, what="output", given=words, n=length(C, D, T, 1))


@rule("R16")
@given(seed=SEEDS, B=st.integers(1, 3), T=SIZES, C=SIZES, H=SIZES, D=SIZES)
def test_each_head_works_on_its_own_columns(solution, seed, B, T, C, H, D):
    x, params, words = layer(seed, B, T, C, H, D)

    out = solution.multi_head_attention(x, params, n_heads=H)

    want = merged([solution.attention(*head(x, params, h, D)) for h in range(H)], params)
    check.close(out, want, what="output", given=words, n=length(C, D, T, H))


@rule("R16")
@given(seed=SEEDS, T=SIZES, H=st.integers(2, 6), D=SIZES)
def test_the_order_of_the_heads_does_not_matter(solution, seed, T, H, D):
    x, params, words = layer(seed, 2, T, 6, H, D)
    order = np.random.default_rng(seed).permutation(H)
    columns = (order[:, None] * D + np.arange(D)).ravel()
    moved = {name: array[..., columns] for name, array in params.items() if name[-1] in "qkv"}
    moved |= {"w_o": params["w_o"][columns], "b_o": params["b_o"]}

    out = solution.multi_head_attention(x, moved, n_heads=H)

    words += f", heads in the order {order.tolist()} in the projections and in w_o"
    want = solution.multi_head_attention(x, params, n_heads=H)
    check.close(out, want, what="output", given=words, n=length(6, D, T, H))


@rule("R17")
@given(seed=SEEDS, T=st.integers(2, 6), C=st.integers(2, 9), H=SIZES, D=st.integers(1, 2))
def test_a_head_is_scaled_by_its_own_width(solution, seed, T, C, H, D):
    x, params, words = layer(seed, 1, T, C, H, D)
    params["w_o"] = np.eye(H * D, C)
    params["b_o"] = np.zeros(C)
    words += f", C={C}, w_o = eye({H * D}, {C}), b_o = 0: the first {D} columns are those of head 0"

    out = solution.multi_head_attention(x, params, n_heads=H)

    check.array(out, shape=x.shape, dtype=x.dtype, what="output", given=words)
    want = solution.attention(*head(x, params, 0, D), scale=1 / math.sqrt(D))
    check.close(out[..., :D], want, what="output of head 0", given=words, n=length(C, D, T, H))


@rule("R18")
@given(seed=SEEDS, T=SIZES, H=st.integers(1, 4), causal=st.booleans(), dtype=DTYPES)
def test_every_head_has_its_own_mask(solution, seed, T, H, causal, dtype):
    x, params, words = layer(seed, 2, T, 6, H, 2, dtype)
    mask = np.random.default_rng(seed).random((2, H, T, T)) < 0.6
    mask |= np.eye(T, dtype=bool)

    out = solution.multi_head_attention(x, params, n_heads=H, mask=mask, causal=causal)

    heads = [
        solution.attention(*head(x, params, h, 2), mask=mask[:, h], causal=causal) for h in range(H)
    ]
    words += f", mask {mask.shape}: default_rng({seed}).random() < 0.6 or on the diagonal"
    words += f", causal={causal}"
    check.close(out, merged(heads, params), what="output", given=words, n=length(6, 2, T, H))


@rule("R18")
@given(seed=SEEDS, T=st.integers(2, 3), H=st.integers(2, 3), causal=st.booleans(), max_examples=20)
def test_a_mask_is_broadcast_to_batch_and_heads(solution, seed, T, H, causal):
    x, params, words = layer(seed, 2, T, 6, H)
    rng = np.random.default_rng(seed)

    # B may be as large as H or T: what an axis means does not follow from its size.
    for shape in ((T,), (T, T), (T, 1), (H, 1, T), (H, T, T), (2, 1, 1, T), (2, 1, T, T)):
        mask = rng.random(shape) < 0.6
        out = solution.multi_head_attention(x, params, n_heads=H, mask=mask, causal=causal)

        whole = np.broadcast_to(mask, (2, H, T, T)).copy()
        want = solution.multi_head_attention(x, params, n_heads=H, mask=whole, causal=causal)
        given = f"{words}, mask {shape}, causal={causal}"
        check.close(out, want, what="output", given=given, n=length(6, 2, T, H))


@rule("R18")
@given(seed=SEEDS, T=st.integers(3, 6), H=st.integers(1, 4), kept=st.integers(1, 5))
def test_a_later_token_does_not_change_earlier_outputs(solution, seed, T, H, kept):
    x, params, words = layer(seed, 2, T, 6, H)
    kept = min(kept, T - 1)

    whole = solution.multi_head_attention(x, params, n_heads=H, causal=True)

    words += f", causal=True, the first {kept} of {T} tokens"
    check.array(whole, shape=x.shape, dtype=x.dtype, what="output", given=words)
    start = solution.multi_head_attention(x[:, :kept], params, n_heads=H, causal=True)
    what = "output of the shorter sequence, against the start of the longer one"
    check.close(start, whole[:, :kept], what=what, given=words, n=length(6, 2, T, H))


@rule("R18")
@given(seed=SEEDS, T=st.integers(2, 6), H=st.integers(1, 4), real=st.integers(1, 5))
def test_padding_does_not_change_real_tokens(solution, seed, T, H, real):
    x, params, words = layer(seed, 2, T, 6, H)
    real = min(real, T - 1)
    x[1, real:] *= 100.0
    lengths = np.array([T, real])
    mask = (np.arange(T) < lengths[:, None])[:, None, None]  # (B, 1, 1, T)

    out = solution.multi_head_attention(x, params, n_heads=H, mask=mask)

    words += f", mask (2, 1, 1, {T}) for lengths {lengths.tolist()}, padding of size 100"
    check.array(out, shape=x.shape, dtype=x.dtype, what="output", given=words)
    alone = solution.multi_head_attention(x[1:, :real], params, n_heads=H)
    what = f"output of the {real} real tokens"
    check.close(out[1:, :real], alone, what=what, given=words, n=length(6, 2, T, H))


@rule("R18")
@given(seed=SEEDS, T=SIZES, H=st.integers(1, 4), row=st.integers(0, 5), max_examples=20)
def test_a_token_that_sees_nothing_gets_the_output_bias(solution, seed, T, H, row):
    x, params, words = layer(seed, 2, T, 6, H)
    mask = np.ones((T, T), bool)
    mask[row % T] = False

    out = solution.multi_head_attention(x, params, n_heads=H, mask=mask)

    words += f", a mask that forbids token {row % T} every key"
    check.array(out, shape=x.shape, dtype=x.dtype, what="output", given=words)
    want = np.stack([params["b_o"]] * 2)
    check.close(out[:, row % T], want, what=f"output of token {row % T}", given=words, n=H * 2)


@rule("R1")
@given(
    B=st.integers(0, 2),
    T=st.integers(0, 4),
    dtype=st.sampled_from(["float16", "float32", "float64"]),
)
def test_output_has_the_form_of_the_tokens(solution, B, T, dtype):
    x, params, words = layer(0, B, T, 6, 2, 2, dtype)

    out = solution.multi_head_attention(x, params, n_heads=2, causal=True)

    check.array(out, shape=x.shape, dtype=dtype, what="output", given=words)


@rule("R6")
def test_float16_projections_have_the_room_of_float32(solution):
    x = np.array([[[256.0], [-256.0]]], np.float16)
    weights = {"w_q": 512.0, "w_k": 1 / 1024, "w_v": 1 / 256, "w_o": 2.0}
    params = {name: np.full((1, 1), value, np.float16) for name, value in weights.items()}
    params |= {f"b_{name}": np.zeros(1, np.float16) for name in "qkvo"}

    out = solution.multi_head_attention(x, params, n_heads=1)

    want = np.array([[[2.0], [-2.0]]], np.float16)
    words = f"float16, C=1, tokens 256 and -256, {weights}, biases 0"
    check.close(out, want, what="output", given=words)


@rule("R6")
@given(factor=st.sampled_from([1, 2]), shift=st.sampled_from([0, 2048]), max_examples=4)
def test_a_float16_layer_is_rounded_at_the_end_alone(solution, factor, shift):
    # The value is (1 + 2^-12, 1): float16 would round it to (1, 1), and the sums of products too.
    w_o = [[2048 * factor, 2048], [shift - 2048 * factor, 1]]
    lists = {f"w_{name}": [[1, 1], [0, 0]] for name in "qkv"} | {"w_o": w_o}
    lists |= {"b_q": [0, 0], "b_k": [0, 0], "b_v": [2.0**-12, 0], "b_o": [-shift, -2048]}
    params = {name: np.array(rows, np.float16) for name, rows in lists.items()}

    out = solution.multi_head_attention(np.array([[[1, 0]]], np.float16), params, n_heads=1)

    want = np.array([[[factor / 2, 1.5]]], np.float16)
    words = f"float16, one token [1, 0], {lists}"
    check.close(out, want, what="output", given=words)


@rule("R7")
@given(seed=SEEDS, T=SIZES, H=st.integers(1, 3), causal=st.booleans(), max_examples=15)
def test_strided_tokens_and_parameters_give_the_same_result(solution, seed, T, H, causal):
    x, params, words = layer(seed, 2, T, 6, H)
    turned = {name: np.repeat(array, 2, axis=-1)[..., ::2] for name, array in params.items()}
    turned |= {name: np.asfortranarray(params[name]) for name in ("w_q", "w_v", "w_o")}
    stacked = np.ascontiguousarray(x.swapaxes(0, 1)).swapaxes(0, 1)

    out = solution.multi_head_attention(stacked, turned, n_heads=H, causal=causal)

    words += ", then x stored as (T, B, C), w_q, w_v and w_o in Fortran order, the rest strided"
    want = solution.multi_head_attention(x, params, n_heads=H, causal=causal)
    what = "output, against contiguous copies,"
    check.close(out, want, what=what, given=f"{words}, causal={causal}", n=length(6, 2, T, H))


@rule("R7")
@given(seed=SEEDS, B=st.integers(1, 2), T=SIZES, dtype=DTYPES, max_examples=10)
def test_the_output_of_a_layer_is_its_own(solution, seed, B, T, dtype):
    x, params, words = layer(seed, B, T, dtype=dtype)

    out = solution.multi_head_attention(x, params, n_heads=3)

    check.array(out, shape=x.shape, dtype=dtype, what="output", given=words)
    check.fresh(out, what="output", given=words, x=x, params=params)
    before = copy.deepcopy(out)
    solution.multi_head_attention(-x, params, n_heads=3)
    words += ", then a call with -x"
    check.equal(out, before, what="output of the first call", given=words, moved=True)


@rule("R7")
@given(seed=SEEDS, causal=st.booleans(), dtype=DTYPES, max_examples=10)
def test_tokens_and_parameters_are_not_modified(solution, seed, causal, dtype):
    x, params, words = layer(seed, dtype=dtype)
    mask = np.ones((4, 4), bool)
    names = sorted(params)

    with check.unchanged(given=words, x=x, mask=mask, params=params):
        solution.multi_head_attention(x, params, n_heads=3, mask=mask, causal=causal)

    check.equal(sorted(params), names, what="names in params after the call", given=words)


MISFITS = [
    ("x", "x of shape (4, 6)", (4, 6)),
    ("x", "x of shape (1, 2, 4, 6)", (1, 2, 4, 6)),
    ("w_q", "w_q of shape (5, 6) for x (2, 4, 6)", (5, 6)),
    ("w_k", "w_k of shape (6, 9) for w_q (6, 6)", (6, 9)),
    ("w_v", "w_v of shape (6, 3) for w_q (6, 6)", (6, 3)),
    ("b_q", "b_q of shape (2, 6) for w_q (6, 6)", (2, 6)),
    ("b_k", "b_k of shape (3,) for w_k (6, 6)", (3,)),
    ("b_v", "b_v of shape (1,) for w_v (6, 6)", (1,)),
    ("w_o", "w_o of shape (6, 1) for x (2, 4, 6)", (6, 1)),
    ("b_o", "b_o of shape (1,) for x (2, 4, 6)", (1,)),
]


@rule("R9")
def test_an_array_that_does_not_fit_is_named(solution):
    x, params, _ = layer(1)

    for name, words, shape in MISFITS:
        arrays = {"x": x, **params, name: np.ones(shape)}
        check.raises(
            ValueError,
            solution.multi_head_attention,
            arrays.pop("x"),
            arrays,
            n_heads=3,
            what="multi_head_attention",
            given=words,
            names=name,
        )


@rule("R9")
def test_a_parameter_of_another_dtype_is_named(solution):
    x, params, _ = layer(1, dtype="float32")

    for name in sorted(params):
        arrays = {**params, name: params[name].astype(np.float64)}
        check.raises(
            ValueError,
            solution.multi_head_attention,
            x,
            arrays,
            n_heads=3,
            what="multi_head_attention",
            given=f"{name} of float64, all else of float32",
            names=name,
        )


@rule("R9")
def test_a_mask_that_does_not_fit_the_heads_is_named(solution):
    x, params, _ = layer(1)
    masks = {
        "a mask of 0 and 1 as integers": np.ones((4, 4), np.int64),
        "a mask (2, 4, 4) for 2 sequences and 3 heads": np.ones((2, 4, 4), bool),
        "a mask (4, 3) for T=4": np.ones((4, 3), bool),
        "a mask (1, 2, 3, 4, 4)": np.ones((1, 2, 3, 4, 4), bool),
    }

    for words, mask in masks.items():
        check.raises(
            ValueError,
            solution.multi_head_attention,
            x,
            params,
            n_heads=3,
            mask=mask,
            what="multi_head_attention",
            given=words,
            names="mask",
        )


@rule("R9")
def test_heads_that_do_not_divide_the_width_are_named(solution):
    x, params, _ = layer(1)

    for n_heads in (4, 5, 12, 0, -2):
        words = f"w_q with 6 columns, n_heads={n_heads}"
        check.raises(
            ValueError,
            solution.multi_head_attention,
            x,
            params,
            n_heads=n_heads,
            what="multi_head_attention",
            given=words,
            names="n_heads",
        )


@rule("R16")
@given(seed=SEEDS, B=st.integers(1, 3), T=SIZES, C=SIZES, H=SIZES, D=SIZES, dtype=DTYPES)
def test_layer_output_has_the_right_values(solution, reference, seed, B, T, C, H, D, dtype):
    x, params, words = layer(seed, B, T, C, H, D, dtype)

    out = solution.multi_head_attention(x, params, n_heads=H)

    want = reference.multi_head_attention(x, params, n_heads=H)
    check.close(out, want, what="output", given=words, n=length(C, D, T, H))


@rule("R19")
def test_many_heads_beat_a_loop_over_heads(race, reference):
    _, params, words = layer(0, 1, 8, 64, 32, 4, "float32")

    def inputs(rng):
        return (rng.standard_normal((1, 8, 64), dtype=np.float32),)

    def run(impl, x):
        return impl.multi_head_attention(x, params, n_heads=32, causal=True)

    def verify(out, x):
        want = run(reference, x)
        check.close(out, want, what="output", given=words, n=length(64, 4, 8, 32))

    race(run, inputs=inputs, verify=verify)
