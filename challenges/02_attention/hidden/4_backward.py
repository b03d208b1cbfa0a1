"""Stage 4: the backward pass of attention and of the layer, in little memory."""

import copy
import math

import numpy as np

from pytest_llmgrind import check, given, rule, st

SIZES = st.integers(1, 5)
MANY = st.integers(2, 5)
SEEDS = st.integers(0, 999)
DTYPES = st.sampled_from(["float32", "float64"])
NAMES = ("d_q", "d_k", "d_v")


def normal(seed, lead=(), T=3, S=4, D=3, D_v=2, dtype="float64"):
    """d_out, q, k and v of normal numbers, and the words that say how to make them again."""
    rng = np.random.default_rng(seed)
    shapes = ((*lead, T, D_v), (*lead, T, D), (*lead, S, D), (*lead, S, D_v))
    d_out, q, k, v = (rng.standard_normal(shape).astype(dtype) for shape in shapes)
    words = f"default_rng({seed}), d_out {d_out.shape}, q {q.shape}, k {k.shape}, v {v.shape}"
    return d_out, q, k, v, f"{words}, {dtype}"


def layer(seed, B=2, T=3, C=4, H=2, D=2, dtype="float64"):
    """d_out, tokens and parameters; weights have the variance of 1 / rows."""
    rng = np.random.default_rng(seed)
    d_out, x = (rng.standard_normal((B, T, C)).astype(dtype) for _ in range(2))
    params = {}
    for name, (rows, columns) in {**dict.fromkeys("qkv", (C, H * D)), "o": (H * D, C)}.items():
        weight = rng.standard_normal((rows, columns)) / math.sqrt(rows)
        params[f"w_{name}"] = weight.astype(dtype)
        params[f"b_{name}"] = rng.standard_normal(columns).astype(dtype)
    return d_out, x, params, f"seed {seed}, x {x.shape}, {H} heads of width {D}, {dtype}"


def gradients(saw, shapes, dtype, words):
    """The tuple (d_q, d_k, d_v) with its form checked."""
    text = f"a {type(saw).__name__} came back in place of the tuple (d_q, d_k, d_v)"
    check.that(isinstance(saw, tuple) and len(saw) == 3, saw=text, given=words)
    for name, gradient, shape in zip(NAMES, saw, shapes, strict=True):
        check.array(gradient, shape=shape, dtype=dtype, what=name, given=words)
    return saw


def close_gradients(saw, want, words, n, scale=None):
    gradients(saw, [array.shape for array in want], want[0].dtype, words)
    for name, ours, theirs in zip(NAMES, saw, want, strict=True):
        check.close(ours, theirs, what=name, given=words, n=n, scale=scale)


def slope(losses, x):
    """Derivative of a loss in each element of x, from differences.

    ``losses`` takes arguments stacked along a new first axis to one loss each. Differences of
    fourth order with this step are right to 1e-10, so what they say is compared as float32.
    """
    step = 1e-3
    moves = step * np.eye(x.size).reshape(x.size, *x.shape)
    near = losses(x + moves) - losses(x - moves)
    far = losses(x + 2 * moves) - losses(x - 2 * moves)
    return ((8 * near - far) / (12 * step)).reshape(x.shape).astype(np.float32)


def slopes(attention, d_out, q, k, v, **options):
    """Derivatives of (d_out * attention(q, k, v)).sum() in q, k and v, from differences."""
    args = [q, k, v]

    def losses_of(position):
        def losses(stacked):
            many = [np.repeat(array[None], len(stacked), axis=0) for array in args]
            many[position] = stacked
            out = attention(*many, **options)
            return (d_out * out).sum(axis=tuple(range(1, out.ndim)))

        return losses

    return [slope(losses_of(position), args[position]) for position in range(3)]


def check_slopes(saw, want, words):
    for name, ours, theirs in zip(NAMES, saw, want, strict=True):
        what = f"{name}, against differences of your attention,"
        check.close(ours.astype(np.float32), theirs, what=what, given=words)


@rule("R20")
@given(
    lead=st.sampled_from([(), (2,), (2, 3), (0,)]),
    T=st.integers(0, 3),
    D_v=SIZES,
    causal=st.booleans(),
    dtype=st.sampled_from(["float16", "float32", "float64"]),
)
def test_gradients_have_the_form_of_their_arguments(solution, lead, T, D_v, causal, dtype):
    d_out, q, k, v, words = normal(0, lead, T, 4, 3, D_v, dtype)
    words += f", causal={causal}"

    saw = solution.attention_backward(d_out, q, k, v, causal=causal)

    gradients(saw, (q.shape, k.shape, v.shape), dtype, words)


@rule("R20")
@given(
    seed=SEEDS, T=SIZES, S=SIZES, D=SIZES, D_v=SIZES, scale=st.sampled_from([None, 0.8, -0.5, 0.0])
)
def test_gradients_are_the_slopes_of_the_output(solution, seed, T, S, D, D_v, scale):
    d_out, q, k, v, words = normal(seed, (), T, S, D, D_v)
    words += f", scale={scale}"

    saw = solution.attention_backward(d_out, q, k, v, scale=scale)

    gradients(saw, (q.shape, k.shape, v.shape), q.dtype, words)
    check_slopes(saw, slopes(solution.attention, d_out, q, k, v, scale=scale), words)


@rule("R20")
@given(seed=SEEDS, T=SIZES, S=SIZES, max_examples=15)
def test_gradients_do_not_depend_on_earlier_forward_passes(solution, seed, T, S):
    d_out, q, k, v, words = normal(seed, (), T, S)
    want = solution.attention_backward(d_out, q, k, v)
    solution.attention(-q, k, v)

    saw = solution.attention_backward(d_out, q, k, v)

    words += ": once more, after a forward pass with -q"
    close_gradients(saw, want, words, n=2 * (3 + S + T))


@rule("R20")
@given(seed=SEEDS, T=SIZES, S=SIZES, dtype=DTYPES)
def test_values_share_out_the_whole_gradient(solution, seed, T, S, dtype):
    d_out, q, k, v, words = normal(seed, (2,), T, S, dtype=dtype)

    saw = solution.attention_backward(d_out, q, k, v)

    d_v = gradients(saw, (q.shape, k.shape, v.shape), dtype, words)[2]
    what = "sum of d_v over the keys, against the sum of d_out over the queries"
    n, scale = 3 + S + T, float(np.abs(d_out).sum())
    check.close(d_v.sum(axis=1), d_out.sum(axis=1), what=what, given=words, n=n, scale=scale)


@rule("R20")
@given(seed=SEEDS, T=SIZES, S=SIZES, dtype=DTYPES)
def test_moving_all_keys_together_has_no_effect(solution, seed, T, S, dtype):
    d_out, q, k, v, words = normal(seed, (2,), T, S, dtype=dtype)

    saw = solution.attention_backward(d_out, q, k, v)

    d_k = gradients(saw, (q.shape, k.shape, v.shape), dtype, words)[1]
    what = "sum of d_k over the keys, against 0,"
    n, scale = 5 + S + T, float(np.abs(d_out).sum() * np.abs(q).max() * np.abs(v).max())
    zero = np.zeros((2, 3), dtype)
    check.close(d_k.sum(axis=1), zero, what=what, given=words, n=n, scale=scale)


@rule("R20")
@given(seed=SEEDS, T=SIZES, S=SIZES, scale=st.sampled_from([None, 2.0]))
def test_queries_and_keys_share_one_product(solution, seed, T, S, scale):
    d_out, q, k, v, words = normal(seed, (), T, S)
    words += f", scale={scale}"

    saw = solution.attention_backward(d_out, q, k, v, scale=scale)

    d_q, d_k, _ = gradients(saw, (q.shape, k.shape, v.shape), q.dtype, words)
    what = "(q * d_q).sum() against (k * d_k).sum(),"
    size = float(np.abs(d_out).sum() * np.abs(q @ k.T).max() * np.abs(v).max())
    n = 3 * (T + S + 3)
    check.close((q * d_q).sum(), float((k * d_k).sum()), what=what, given=words, n=n, scale=size)


@rule("R5")
@given(seed=SEEDS, T=SIZES, S=SIZES, dtype=DTYPES, max_examples=25)
def test_gradients_survive_scores_in_the_hundreds(solution, seed, T, S, dtype):
    rng = np.random.default_rng(seed)
    offset = {"float32": 300.0, "float64": 3000.0}[dtype]
    signs = (-1.0) ** np.arange(T)
    q = np.column_stack([rng.integers(-1, 2, (T, 2)), signs]).astype(dtype)
    k = np.column_stack([rng.integers(-1, 2, (S, 2)), np.zeros(S)]).astype(dtype)
    d_out, v = (rng.integers(-2, 3, (rows, 2)).astype(dtype) for rows in (T, S))
    far = k + np.array([0.0, 0.0, offset], dtype)

    saw = solution.attention_backward(d_out, q, far, v, scale=1.0)

    words = f"T={T}, S={S}, {dtype}, scores of -2 to 2 moved by ±{offset:g}, every other row up"
    near = solution.attention_backward(d_out, q, k, v, scale=1.0)
    gradients(saw, (q.shape, k.shape, v.shape), dtype, words)
    same = (saw[0][:, :2], *saw[1:])  # the third column of d_q sees the offset itself
    close_gradients(same, (near[0][:, :2], *near[1:]), words, n=6 + T + S, scale=4 * offset)


@rule("R5")
@given(seed=SEEDS, T=SIZES, S=SIZES, causal=st.booleans(), dtype=DTYPES, max_examples=25)
def test_gradients_raise_no_floating_point_error(solution, seed, T, S, causal, dtype):
    # All sizes stay below 14: some builds of BLAS raise flags of their own on larger matrices.
    d_out, q, k, v, words = normal(seed, (), T, S, dtype=dtype)
    q *= {"float32": 300.0, "float64": 3000.0}[dtype]
    mask = np.random.default_rng(seed).random((T, S)) < 0.7
    words += f", q times 300 or 3,000, mask from default_rng({seed}).random({mask.shape}) < 0.7"
    saw = ""

    with np.errstate(over="raise", divide="raise", invalid="raise"):
        try:
            solution.attention_backward(d_out, q, k, v, mask=mask, causal=causal)
        except FloatingPointError as error:
            saw = f"NumPy warned on the way: {error}"

    check.that(not saw, saw=saw, given=f"{words}, causal={causal}")


@rule("R6")
def test_float16_gradients_are_rounded_at_the_end_alone(solution):
    def halves(*rows):
        return [np.array(array, np.float16) for array in rows]

    # The weights of the first query are 1/2 ± 2^-13, and float16 has no such numbers.
    args = halves([[2048], [-2048]], [[2.0**-11], [0]], [[1], [0]], [[0], [0]])
    d_v = solution.attention_backward(*args, scale=1.0)[2]

    words = f"float16, d_out, q, k, v = {[array.tolist() for array in args]}, scale=1"
    check.close(d_v, np.array([[0.25], [-0.25]], np.float16), what="d_v", given=words)

    # All weights are 1/2, the gradients of the scores (1 + 2^-12) / 4 and 1 / 4.
    args = halves([[1, 1], [1, 0]], [[2048], [-2048]], [[0], [0]], [[1, 2.0**-12], [0, 0]])
    d_k = solution.attention_backward(*args, scale=1.0)[1]

    words = f"float16, d_out, q, k, v = {[array.tolist() for array in args]}, scale=1"
    check.close(d_k, np.array([[0.125], [-0.125]], np.float16), what="d_k", given=words)


@rule("R6")
@given(step=st.sampled_from([1, 1024]), S=st.integers(2, 5), max_examples=8)
def test_float16_gradients_have_the_room_of_float32(solution, step, S):
    size = 256.0 if step > 1 else 64.0
    q = np.array([[size, 1.0]], np.float16)
    k = np.array([[size, step * s] for s in range(S)], np.float16)
    v = np.arange(S, dtype=np.float16)[:, None]

    saw = solution.attention_backward(np.ones((1, 1), np.float16), q, k, v, scale=1 / step)

    words = (
        f"float16, dot products {size**2:,.0f} + {step} · (0, 1, …), scale=1/{step}, v = 0, 1, …"
    )
    gradients(saw, (q.shape, k.shape, v.shape), np.float16, words)
    weights = np.exp(np.arange(S)) / np.exp(np.arange(S)).sum()
    check.close(saw[2], weights[:, None].astype(np.float16), what="d_v", given=words)
    d_scores = weights * (np.arange(S) - weights @ np.arange(S))
    want = (d_scores * size / step).astype(np.float16)
    check.close(saw[1][:, 0], want, what="d_k[:, 0]", given=words)


@rule("R6")
@given(dtype=DTYPES, max_examples=2)
def test_gradients_keep_differences_that_the_dtype_can_tell(solution, dtype):
    tiny = {"float32": 2.0**-12, "float64": 2.0**-28}[dtype]  # lost in the next smaller dtype
    one = np.ones((1, 1), dtype)
    k, v = np.array([[tiny], [0.0]], dtype), np.array([[1.0 + tiny], [1.0]], dtype)

    saw = solution.attention_backward(one, one, k, v, scale=1.0)

    words = f"{dtype}, d_out = q = [[1]], k = [[{tiny}], [0]], v = [[1 + {tiny}], [1]], scale=1"
    tilt = math.tanh(tiny / 2)  # the weights are (1 ± tilt) / 2
    slope_of_a_key = (1 - tilt**2) / 4 * tiny
    d_q, d_k, d_v = slope_of_a_key * tiny, [slope_of_a_key, -slope_of_a_key], [1 + tilt, 1 - tilt]
    want = [np.array([[d_q]]), np.array([d_k]).T, np.array([d_v]).T / 2]
    close_gradients(saw, [array.astype(dtype) for array in want], words, n=3)


@rule("R21")
@given(seed=SEEDS, T=MANY, S=MANY, masked=st.booleans(), causal=st.booleans())
def test_gradients_are_slopes_under_any_mask(solution, seed, T, S, masked, causal):
    d_out, q, k, v, words = normal(seed, (2,), T, S)
    mask = np.random.default_rng(seed).random((T, S)) < 0.6 if masked else None
    words += f", mask from default_rng({seed}).random({(T, S)}) < 0.6" if masked else ", no mask"
    words += f", causal={causal}"

    saw = solution.attention_backward(d_out, q, k, v, mask=mask, causal=causal)

    gradients(saw, (q.shape, k.shape, v.shape), q.dtype, words)
    want = slopes(solution.attention, d_out, q, k, v, mask=mask, causal=causal)
    check_slopes(saw, want, words)


@rule("R21")
@given(
    seed=SEEDS,
    T=SIZES,
    S=st.integers(2, 5),
    key=st.integers(0, 4),
    size=st.sampled_from([1e4, 1e30]),
    dtype=DTYPES,
)
def test_a_forbidden_key_gets_and_gives_no_gradient(solution, seed, T, S, key, size, dtype):
    d_out, q, k, v, words = normal(seed, (2,), T, S, dtype=dtype)
    key %= S
    mask = np.arange(S) != key
    k[:, key], v[:, key] = size, -size
    words += f", key {key} forbidden to all, it and its value of size {size:g}"

    saw = solution.attention_backward(d_out, q, k, v, mask=mask)

    left = (np.delete(array, key, axis=1) for array in (k, v))
    d_q, d_k, d_v = solution.attention_backward(d_out, q, *left)
    want = (d_q, np.insert(d_k, key, 0.0, axis=1), np.insert(d_v, key, 0.0, axis=1))
    close_gradients(saw, want, words, n=2 * (3 + S + T))


@rule("R21")
@given(seed=SEEDS, T=MANY, S=st.integers(3, 5), row=st.integers(0, 4), dtype=DTYPES)
def test_a_query_that_sees_nothing_leaves_the_others_their_gradients(
    solution, seed, T, S, row, dtype
):
    d_out, q, k, v, words = normal(seed, (2,), T, S, dtype=dtype)
    row %= T
    mask = np.arange(S) != np.arange(T)[:, None] % S
    mask[row] = False
    words += f", a mask that forbids query t the key t % {S}, and query {row} all keys"

    saw = solution.attention_backward(d_out, q, k, v, mask=mask)

    left = (np.delete(array, row, axis=1) for array in (d_out, q))
    d_q, d_k, d_v = solution.attention_backward(*left, k, v, mask=np.delete(mask, row, axis=0))
    want = (np.insert(d_q, row, 0.0, axis=1), d_k, d_v)
    close_gradients(saw, want, words, n=2 * (3 + S + T))


@rule("R21")
@given(T=st.integers(0, 3), S=st.integers(0, 3), causal=st.booleans(), max_examples=20)
def test_without_queries_or_keys_gradients_are_zero(solution, T, S, causal):
    T, S = (T, 0) if T else (0, S)
    d_out, q, k, v, words = normal(0, (2,), T, S)
    words += f", causal={causal}"

    saw = solution.attention_backward(d_out, q, k, v, causal=causal)

    close_gradients(saw, [np.zeros_like(array) for array in (q, k, v)], words, n=1)


@rule("R7")
@given(seed=SEEDS, causal=st.booleans(), dtype=DTYPES, max_examples=10)
def test_backward_does_not_modify_its_arguments(solution, seed, causal, dtype):
    d_out, q, k, v, words = normal(seed, (2,), dtype=dtype)
    mask = np.ones((3, 4), bool)
    words += f", causal={causal}"

    with check.unchanged(given=words, d_out=d_out, q=q, k=k, v=v, mask=mask):
        solution.attention_backward(d_out, q, k, v, mask=mask, causal=causal)


@rule("R7")
@given(seed=SEEDS, causal=st.booleans(), dtype=DTYPES, max_examples=10)
def test_layer_backward_does_not_modify_its_arguments(solution, seed, causal, dtype):
    d_out, x, params, words = layer(seed, dtype=dtype)

    with check.unchanged(given=words, d_out=d_out, x=x, params=params):
        solution.multi_head_attention_backward(d_out, x, params, n_heads=2, causal=causal)


@rule("R7")
@given(seed=SEEDS, T=SIZES, S=SIZES, causal=st.booleans(), max_examples=15)
def test_strided_arguments_give_the_same_gradients(solution, seed, T, S, causal):
    d_out, q, k, v, words = normal(seed, (2,), T, S)
    turned = [np.asfortranarray(array) for array in (d_out, q, k)]
    turned.append(np.repeat(v, 2, axis=-1)[..., ::2])
    words += f", d_out, q and k in Fortran order, v every other column of another, causal={causal}"

    saw = solution.attention_backward(*turned, causal=causal)

    want = solution.attention_backward(d_out, q, k, v, causal=causal)
    close_gradients(saw, want, words, n=2 * (3 + S + T))


@rule("R7")
@given(seed=SEEDS, T=st.integers(1, 2), S=st.integers(1, 2), dtype=DTYPES, max_examples=10)
def test_gradients_are_arrays_of_their_own(solution, seed, T, S, dtype):
    d_out, q, k, v, words = normal(seed, (), T, S, dtype=dtype)

    saw = solution.attention_backward(d_out, q, k, v)

    gradients(saw, (q.shape, k.shape, v.shape), dtype, words)
    check.fresh(saw, what="a gradient", given=words, d_out=d_out, q=q, k=k, v=v)
    before = copy.deepcopy(saw)
    solution.attention_backward(d_out, -q, k, v + 1)
    words += ", then a call with -q, k and v + 1"
    check.equal(saw, before, what="gradients of the first call", given=words, moved=True)


@rule("R7")
@given(seed=SEEDS, B=st.integers(1, 2), T=st.integers(1, 3), dtype=DTYPES, max_examples=10)
def test_layer_gradients_are_arrays_of_their_own(solution, seed, B, T, dtype):
    d_out, x, params, words = layer(seed, B, T, dtype=dtype)

    saw = solution.multi_head_attention_backward(d_out, x, params, n_heads=2)

    layer_gradients(saw, x, params, words)
    check.fresh(saw, what="a gradient", given=words, d_out=d_out, x=x, params=params)
    before = copy.deepcopy(saw)
    solution.multi_head_attention_backward(d_out, -x, params, n_heads=2)
    words += ", then a call with -x"
    check.equal(saw, before, what="gradients of the first call", given=words, moved=True)


@rule("R7")
@given(seed=SEEDS, T=SIZES, causal=st.booleans(), max_examples=10)
def test_strided_parameters_give_the_same_layer_gradients(solution, seed, T, causal):
    d_out, x, params, words = layer(seed, 2, T, 4)
    turned = {name: np.asfortranarray(array) for name, array in params.items()}
    stacked = [np.ascontiguousarray(array.swapaxes(0, 1)).swapaxes(0, 1) for array in (d_out, x)]
    words += f", weights in Fortran order, d_out and x stored as (T, B, C), causal={causal}"

    saw = solution.multi_head_attention_backward(*stacked, turned, n_heads=2, causal=causal)

    want = solution.multi_head_attention_backward(d_out, x, params, n_heads=2, causal=causal)
    close_layer_gradients(saw, want, words, n=6 * (4 + T))


MISFITS = [
    ("q", "q of shape (3,), d_out (2,)", {"q": (3,), "d_out": (2,)}),
    ("k", "k (4, 2) for q (3, 3)", {"k": (4, 2)}),
    ("v", "v of one row for four keys", {"v": (1, 2)}),
    ("mask", "mask (4, 3) for T=3, S=4", {"mask": (4, 3)}),
]


@rule("R9")
def test_what_the_forward_pass_refuses_the_backward_pass_refuses(solution):
    d_out, q, k, v, _ = normal(1)
    call = solution.attention_backward
    right = {"d_out": d_out, "q": q, "k": k, "v": v}

    for name, words, shapes in MISFITS:
        dtype = bool if name == "mask" else np.float64
        args = right | {key: np.ones(shape, dtype) for key, shape in shapes.items()}
        check.raises(ValueError, call, **args, what="attention_backward", given=words, names=name)
    args = right | {"mask": np.ones((3, 4), np.int64)}
    words = "mask of 0 and 1 as integers"
    check.raises(ValueError, call, **args, what="attention_backward", given=words, names="mask")


@rule("R9")
def test_what_the_layer_refuses_its_backward_pass_refuses(solution):
    d_out, x, params, _ = layer(1)
    cases = [
        ("x", "x of shape (3, 4)", {"x": x[0], "d_out": d_out[0]}),
        ("n_heads", "w_q with 4 columns, n_heads=3", {"n_heads": 3}),
        ("b_k", "b_k of shape (1,) for w_k (4, 4)", {"params": params | {"b_k": np.ones(1)}}),
        ("mask", "mask (2, 1, 3, 4) for T=3", {"mask": np.ones((2, 1, 3, 4), bool)}),
    ]

    for name, words, wrong in cases:
        args = {"d_out": d_out, "x": x, "params": params, "n_heads": 2} | wrong
        what = "multi_head_attention_backward"
        call = solution.multi_head_attention_backward
        check.raises(ValueError, call, **args, what=what, given=words, names=name)


@rule("R9")
def test_an_output_gradient_that_does_not_fit_is_named(solution):
    d_out, q, k, v, _ = normal(1)

    for wrong in (d_out[:1], d_out[:, :1], d_out[None], d_out.astype(np.float32)):
        words = f"d_out {wrong.shape} of {wrong.dtype} for an output (3, 2) of float64"
        check.raises(
            ValueError,
            solution.attention_backward,
            wrong,
            q,
            k,
            v,
            what="attention_backward",
            given=words,
            names="d_out",
        )


@rule("R20")
@given(seed=SEEDS, T=SIZES, S=SIZES, causal=st.booleans(), dtype=DTYPES)
def test_gradients_have_the_right_values(solution, reference, seed, T, S, causal, dtype):
    d_out, q, k, v, words = normal(seed, (2, 3), T, S, dtype=dtype)
    mask = np.random.default_rng(seed).random((2, 1, 1, S)) < 0.7
    mask[..., 0] = True
    words += f", mask {mask[:, 0, 0].tolist()}, causal={causal}"
    options = {"mask": mask, "causal": causal and T <= S, "scale": 0.9}

    saw = solution.attention_backward(d_out, q, k, v, **options)

    want = reference.attention_backward(d_out, q, k, v, **options)
    close_gradients(saw, want, f"{words}, scale=0.9", n=2 * (3 + S + T))


def layer_gradients(saw, x, params, words):
    """The pair (d_x, d_params) with its form checked."""
    text = f"a {type(saw).__name__} came back in place of the pair (d_x, d_params)"
    check.that(isinstance(saw, tuple) and len(saw) == 2, saw=text, given=words)
    d_x, d_params = saw
    check.array(d_x, shape=x.shape, dtype=x.dtype, what="d_x", given=words)
    check.equal(sorted(d_params), sorted(params), what="names in d_params", given=words)
    for name, array in params.items():
        what = f"d_params[{name!r}]"
        check.array(d_params[name], shape=array.shape, dtype=x.dtype, what=what, given=words)
    return d_x, d_params


def close_layer_gradients(saw, want, words, n):
    d_x, d_params = layer_gradients(saw, want[0], want[1], words)
    check.close(d_x, want[0], what="d_x", given=words, n=n)
    for name, theirs in want[1].items():
        check.close(d_params[name], theirs, what=f"d_params[{name!r}]", given=words, n=n)


@rule("R22")
@given(B=st.integers(0, 2), T=st.integers(0, 3), dtype=st.sampled_from(["float16", "float32"]))
def test_layer_gradients_have_the_names_and_forms_of_the_parameters(solution, B, T, dtype):
    d_out, x, params, words = layer(0, B, T, dtype=dtype)

    saw = solution.multi_head_attention_backward(d_out, x, params, n_heads=2)

    layer_gradients(saw, x, params, words)


@rule("R6")
def test_float16_layer_gradients_are_rounded_at_the_end_alone(solution):
    # Each token sees itself alone, so that the gradient of its value is d_out @ w_o.T: 2048.5 and
    # -2048 for the two sequences. d_out times 16 adds up to numbers that float16 can hold, by way
    # of numbers that it cannot.
    params = {f"w_{name}": np.ones((2, 2), np.float16) for name in "qkvo"}
    params |= {f"b_{name}": np.zeros(2, np.float16) for name in "qkvo"}
    params["w_o"] = np.array([[2048, 0.5]] * 2, np.float16)
    x = np.ones((2, 1, 2), np.float16)
    rows = np.array([[[1, 1]], [[-1, 0]]], np.float16)

    _, d_params = solution.multi_head_attention_backward(rows, x, params, n_heads=1)

    words = "float16, 2 sequences of one token [1, 1], rows of w_o [2048, 0.5], other weights 1"
    words += ", biases 0"
    given = f"{words}, d_out = [[[1, 1]], [[-1, 0]]]"
    want = np.array([0.5, 0.5], np.float16)
    check.close(d_params["b_v"], want, what="d_params['b_v']", given=given)
    check.close(d_params["w_v"], np.stack([want] * 2), what="d_params['w_v']", given=given)

    large = np.array([[[3e4, 0]]] * 3 + [[[-6e4, 0]]], np.float16)
    ones, params["w_o"] = np.ones((4, 1, 2), np.float16), np.ones((2, 2), np.float16)

    _, d_params = solution.multi_head_attention_backward(large, ones, params, n_heads=1)

    given = "float16, 4 sequences of one token [1, 1], all weights 1, biases 0"
    given += ", d_out = [30000, 0] three times and [-60000, 0]"
    want = np.array([3e4, 0], np.float16)
    check.close(d_params["b_o"], want, what="d_params['b_o']", given=given)
    want = np.array([3e4, 3e4], np.float16)
    check.close(d_params["b_v"], want, what="d_params['b_v']", given=given)


@rule("R6")
def test_the_sum_of_a_float16_token_gradient_is_rounded_at_the_end_alone(solution):
    # All scores are 0. The first element of a sequence's d_x is 2,049 by way of the keys of head 0
    # and -2,048 by way of the values of head 1, and float16 has no 2,049.
    lists = {"w_q": [[0, 0], [0, 0]], "w_k": [[683, 0], [0, 0]], "w_v": [[0, -2048], [3, 0]]}
    lists |= {"b_q": [1, 0], "b_k": [-683, 0], "b_v": [0, 0]}
    lists |= {"w_o": [[1, 0], [1, 0]], "b_o": [0, 0]}
    params = {name: np.array(rows, np.float16) for name, rows in lists.items()}
    x = np.array([[[1, 1], [1, -1]]] * 2, np.float16)
    d_out = np.array([[[1, 0], [1, 0]]] * 2, np.float16)

    saw = solution.multi_head_attention_backward(d_out, x, params, n_heads=2)

    words = f"float16, x = {x.tolist()}, d_out = {d_out.tolist()}, 2 heads, {lists}"
    d_x, _ = layer_gradients(saw, x, params, words)
    check.close(d_x[:, 0, 0], np.ones(2, np.float16), what="d_x[:, 0, 0]", given=words)


@rule("R22")
@given(seed=SEEDS, T=st.integers(2, 3), H=st.integers(2, 3), causal=st.booleans(), max_examples=10)
def test_layer_gradients_take_the_masks_of_the_layer(solution, seed, T, H, causal):
    d_out, x, params, words = layer(seed, 2, T, 4, H)
    rng = np.random.default_rng(seed)

    # B may be as large as H or T: what an axis means does not follow from its size.
    for shape in ((T,), (T, T), (T, 1), (H, 1, T), (H, T, T), (2, 1, T, T)):
        options = {"n_heads": H, "causal": causal}
        mask = rng.random(shape) < 0.6
        saw = solution.multi_head_attention_backward(d_out, x, params, mask=mask, **options)

        whole = np.broadcast_to(mask, (2, H, T, T)).copy()
        want = solution.multi_head_attention_backward(d_out, x, params, mask=whole, **options)
        layer_gradients(saw, x, params, words)
        close_layer_gradients(saw, want, f"{words}, mask {shape}, causal={causal}", n=6 * (4 + T))


@rule("R22")
@given(
    seed=SEEDS,
    T=st.integers(1, 3),
    sizes=st.sampled_from([(3, 1), (3, 2), (2, 1), (4, 2)]),  # also where C = H·D
    causal=st.booleans(),
    max_examples=8,
)
def test_layer_gradients_are_the_slopes_of_the_output(solution, seed, T, sizes, causal):
    C, H = sizes
    d_out, x, params, words = layer(seed, 2, T, C, H)
    words += f", causal={causal}"

    def losses_of(name):
        arrays = {"x": x, **params}

        def losses(stacked):
            ways = ({**arrays, name: array} for array in stacked)
            outs = (
                solution.multi_head_attention(way.pop("x"), way, n_heads=H, causal=causal)
                for way in ways
            )
            return np.array([(d_out * out).sum() for out in outs])

        return losses

    saw = solution.multi_head_attention_backward(d_out, x, params, n_heads=H, causal=causal)

    d_x, d_params = layer_gradients(saw, x, params, words)
    for name, ours in {"x": d_x, **d_params}.items():
        want = slope(losses_of(name), {"x": x, **params}[name])
        what = f"gradient of {name}, against differences of your layer,"
        check.close(ours.astype(np.float32), want, what=what, given=words)


@rule("R22")
@given(seed=SEEDS, T=SIZES, H=st.integers(1, 3), causal=st.booleans(), max_examples=20)
def test_parameter_gradients_add_up_over_the_batch(solution, seed, T, H, causal):
    d_out, x, params, words = layer(seed, 3, T, 4, H)
    options = {"n_heads": H, "causal": causal}

    saw = solution.multi_head_attention_backward(d_out, x, params, **options)

    d_x, d_params = layer_gradients(saw, x, params, words)
    parts = [
        solution.multi_head_attention_backward(d_out[b : b + 1], x[b : b + 1], params, **options)
        for b in range(3)
    ]
    words += f", causal={causal}: one call, against a call for each sequence"
    whole = np.concatenate([part[0] for part in parts])
    check.close(d_x, whole, what="d_x", given=words, n=6 * (4 + T))
    for name, ours in d_params.items():
        total = sum(part[1][name] for part in parts)
        what = f"d_params[{name!r}]"
        check.close(ours, total, what=what, given=words, n=6 * (4 + T), scale=_size(d_params))


def _size(d_params):
    return max(1.0, *(float(np.abs(array).max()) for array in d_params.values()))


@rule("R22")
@given(seed=SEEDS, T=SIZES, H=st.integers(1, 3), causal=st.booleans(), max_examples=20)
def test_a_bias_of_the_keys_has_no_gradient(solution, seed, T, H, causal):
    d_out, x, params, words = layer(seed, 2, T, 4, H)
    words += f", causal={causal}"

    saw = solution.multi_head_attention_backward(d_out, x, params, n_heads=H, causal=causal)

    _, d_params = layer_gradients(saw, x, params, words)
    what = "d_params['b_k'], against 0,"
    zero = np.zeros_like(params["b_k"])
    check.close(d_params["b_k"], zero, what=what, given=words, n=6 * (4 + T), scale=_size(d_params))


@rule("R21")
@given(seed=SEEDS, T=st.integers(2, 4), row=st.integers(0, 3), max_examples=20)
def test_padding_of_a_whole_sequence_leaves_gradients_of_the_rest(solution, seed, T, row):
    d_out, x, params, words = layer(seed, 2, T)
    d_out[1] = 0.0
    mask = np.array([True, False])[:, None, None, None]  # (B, 1, 1, 1)
    words += ", sequence 1 is padding: its keys forbidden, its d_out 0"

    saw = solution.multi_head_attention_backward(d_out, x, params, n_heads=2, mask=mask)

    rest = solution.multi_head_attention_backward(d_out[:1], x[:1], params, n_heads=2)
    want = (np.concatenate([rest[0], np.zeros_like(rest[0])]), rest[1])
    close_layer_gradients(saw, want, words, n=6 * (4 + T))


@rule("R9")
def test_a_layer_gradient_that_does_not_fit_is_named(solution):
    d_out, x, params, _ = layer(1)

    for wrong in (d_out[:1], d_out[..., :1], d_out.astype(np.float32)):
        words = f"d_out {wrong.shape} of {wrong.dtype} for an output (2, 3, 4) of float64"
        check.raises(
            ValueError,
            solution.multi_head_attention_backward,
            wrong,
            x,
            params,
            n_heads=2,
            what="multi_head_attention_backward",
            given=words,
            names="d_out",
        )


@rule("R22")
@given(
    seed=SEEDS, B=st.integers(1, 3), T=SIZES, C=st.sampled_from([5, 6]), H=SIZES, dtype=DTYPES
)
def test_layer_gradients_have_the_right_values(solution, reference, seed, B, T, C, H, dtype):
    d_out, x, params, words = layer(seed, B, T, C, H, 3, dtype)
    mask = np.random.default_rng(seed).random((B, 1, 1, T)) < 0.7
    mask[..., 0] = True
    options = {"n_heads": H, "mask": mask, "causal": bool(seed % 2)}

    saw = solution.multi_head_attention_backward(d_out, x, params, **options)

    want = reference.multi_head_attention_backward(d_out, x, params, **options)
    words += f", padding mask {mask[:, 0, 0].tolist()}, causal={bool(seed % 2)}"
    close_layer_gradients(saw, want, words, n=6 * (C + T + B))


@rule("R23")
def test_the_backward_pass_holds_few_score_matrices(peak, reference):
    def inputs(rng):
        return tuple(rng.standard_normal((16, 256, 4), dtype=np.float32) for _ in range(4))

    def run(impl, *args):
        return impl.attention_backward(*args, causal=True)

    def verify(saw, *args):
        words = "d_out, q, k and v (16, 256, 4), float32, causal=True"
        close_gradients(saw, run(reference, *args), words, n=2 * (4 + 256 + 256))

    peak(run, inputs=inputs, verify=verify)
