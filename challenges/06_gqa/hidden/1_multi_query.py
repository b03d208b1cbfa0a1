"""Stage 1: one set of keys and values for all query heads."""

import numpy as np

from pytest_llmgrind import check, given, rule, st

from .common import (
    DTYPES,
    FEW,
    SEEDS,
    WIDTHS,
    arrays,
    check_kept,
    check_large,
    large_scores,
    plain_attention,
)

N = 60  # additions behind an element: a head of width 8, at most 12 keys, softmax and scale
HEADS = st.sampled_from([3, 2, 1, 5])
MORE = st.sampled_from([1, 0, 2, 5])  # keys before the first query


def drawn(seed, shapes, **kwargs):
    """q, k and v, and the words that reproduce them."""
    return arrays(seed, *shapes, **kwargs), f"seed {seed}, q {shapes[0]}, k {shapes[1]}"


def shapes_of(B, H, T, S, widths):
    D, D_v = widths
    return (B, H, T, D), (B, S, D), (B, S, D_v)


def plain(q, k, v, **kwargs):
    return plain_attention(q, k[:, None], v[:, None], **kwargs)


@rule("R1")
@given(B=FEW, H=HEADS, T=FEW, S=st.sampled_from([5, 1, 2, 7]), widths=WIDTHS, seed=SEEDS)
def test_every_head_weighs_the_same_values(solution, B, H, T, S, widths, seed):
    (q, k, v), words = drawn(seed, shapes_of(B, H, T, S, widths))

    saw = solution.multi_query_attention(q, k, v)

    check.close(saw, plain(q, k, v), what="the output", given=f"{words}, v {v.shape}", n=N)


@rule("R2")
@given(B=FEW, H=HEADS, T=FEW, more=MORE, widths=WIDTHS, seed=SEEDS)
def test_every_head_sees_the_past_and_itself(solution, B, H, T, more, widths, seed):
    (q, k, v), words = drawn(seed, shapes_of(B, H, T, T + more, widths))

    saw = solution.multi_query_attention(q, k, v, causal=True)

    want = plain(q, k, v, causal=True)
    check.close(saw, want, what="the output", given=f"{words}, causal=True", n=N)


@rule("R3")
@given(H=HEADS, T=FEW, more=MORE, causal=st.booleans(), dtype=DTYPES, seed=SEEDS)
def test_large_scores_give_the_right_weights(solution, H, T, more, causal, dtype, seed):
    q, k, v, words = large_scores(seed, 2, H, 1, T, T + more, dtype)

    saw = solution.multi_query_attention(q, k[:, 0], v[:, 0], causal=causal)

    want = plain_attention(q, k, v, causal=causal)
    check_large(saw, want, given=f"{words}, causal={causal}")


@rule("R4")
@given(dtype=DTYPES, causal=st.booleans(), widths=WIDTHS, seed=SEEDS)
def test_attention_keeps_dtype_and_precision(solution, dtype, causal, widths, seed):
    (q, k, v), words = drawn(seed, shapes_of(2, 3, 3, 4, widths), dtype=dtype)

    saw = solution.multi_query_attention(q, k, v, causal=causal)

    how = f"{words}, v {v.shape}, {np.dtype(dtype)}, causal={causal}"
    check.close(saw, plain(q, k, v, causal=causal), what="the output", given=how, n=20)


@rule("R5")
@given(max_examples=20, H=HEADS, T=FEW, more=MORE, causal=st.booleans(), seed=SEEDS)
def test_attention_leaves_its_arguments_alone(solution, H, T, more, causal, seed):
    shapes = shapes_of(2, H, T, T + more, (4, 4))
    (q, k, v), words = drawn(seed, shapes)
    words += f", causal={causal}"

    with check.unchanged(given=words, q=q, k=k, v=v):
        saw = solution.multi_query_attention(q, k, v, causal=causal)

    check.fresh(saw, what="the output", given=words, q=q, k=k, v=v)
    check_kept(
        saw,
        lambda: solution.multi_query_attention(2 * q, k, v, causal=causal),
        what="the output",
        given=words,
    )


@rule("R1")
@given(max_examples=20, H=HEADS, T=FEW, S=FEW, seed=SEEDS)
def test_views_give_what_their_copies_give(solution, H, T, S, seed):
    q, k, v = arrays(seed, (2, T, H, 4), (2, 4, S), (4, S, 2))
    q, k, v = q.swapaxes(1, 2), k.swapaxes(1, 2), v.transpose(2, 1, 0)  # none is contiguous
    for array in (q, k, v):
        array.flags.writeable = False

    saw = solution.multi_query_attention(q, k, v)

    words = f"seed {seed}, transposed read-only views: q {q.shape}, k {k.shape}"
    check.close(saw, plain(q, k, v), what="the output", given=words, n=N)


@rule("R28")
def test_shapes_that_do_not_fit_are_named(solution):
    shapes = {"q": (2, 3, 2, 4), "k": (2, 5, 4), "v": (2, 5, 6)}
    misfits = [
        ("q", {"q": (2, 3, 4)}),
        ("k", {"k": (2, 5, 3)}),
        ("k", {"k": (1, 5, 4)}),
        ("k", {"k": (2, 1, 5, 4)}),
        ("v", {"v": (2, 4, 6)}),
        ("v", {"v": (1, 5, 6)}),
        ("v", {"v": (5, 6)}),
    ]
    for name, change in misfits:
        q, k, v = (np.ones(shape) for shape in (shapes | change).values())
        words = f"q {q.shape}, k {k.shape}, v {v.shape}"
        refuse(solution, q, k, v, names=name, given=words)
    q, k, v = (np.ones(shape) for shape in ((1, 2, 4, 3), (1, 3, 3), (1, 3, 3)))
    refuse(solution, q, k, v, causal=True, names="causal", given="4 queries, 3 keys, causal=True")


def refuse(solution, *args, **kwargs):
    call = solution.multi_query_attention
    check.raises(ValueError, call, *args, what="multi_query_attention", **kwargs)


@rule("R6")
def test_keys_are_not_copied_for_each_head(peak):
    shapes = (1, 32, 1, 64), (1, 1024, 64), (1, 1024, 64)

    def inputs(rng):
        return tuple(rng.standard_normal(shape, np.float32) for shape in shapes)

    def verify(out, q, k, v):
        how = f"q {q.shape}, k {k.shape}, float32"
        check.close(out, plain(q, k, v), what="the output", given=how, n=1100)

    peak(lambda impl, q, k, v: impl.multi_query_attention(q, k, v), inputs=inputs, verify=verify)
