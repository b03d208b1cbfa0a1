"""Stage 2: groups of query heads, each with a key/value head of its own."""

import numpy as np

from pytest_llmgrind import check, given, rule, st

from .common import (
    DTYPES,
    FEW,
    HEADS,
    SEEDS,
    WIDTHS,
    arrays,
    check_kept,
    check_large,
    column_major,
    large_scores,
    layer_of,
    plain_attention,
    plain_layer,
    steep,
)

N = 60  # additions behind an element of the output of attention
N_LAYER = 300  # and of a layer: two projections more
MORE = st.sampled_from([2, 0, 1])
# Of equal numbers of groups and heads in each, h // R and h % G may agree: these come first.
GROUPED = st.sampled_from([(6, 2), (6, 3), (8, 2), (4, 2), (12, 3)])


def shapes_of(B, heads, T, S, widths):
    (H, G), (D, D_v) = heads, widths
    return (B, H, T, D), (B, G, S, D), (B, G, S, D_v)


def drawn(seed, shapes, **kwargs):
    """q, k and v, and the words that reproduce them."""
    words = f"seed {seed}, q {shapes[0]}, k {shapes[1]}, v {shapes[2]}"
    return arrays(seed, *shapes, **kwargs), words


@rule("R7")
@given(B=FEW, heads=HEADS, T=FEW, S=st.sampled_from([5, 1, 2]), widths=WIDTHS, seed=SEEDS)
def test_neighbours_share_a_head(solution, B, heads, T, S, widths, seed):
    (q, k, v), words = drawn(seed, shapes_of(B, heads, T, S, widths))

    saw = solution.grouped_query_attention(q, k, v)

    check.close(saw, plain_attention(q, k, v), what="the output", given=words, n=N)


@rule("R7")
@given(heads=GROUPED, T=FEW, part=st.sampled_from(["key", "value"]), seed=SEEDS)
def test_a_head_reaches_its_group_and_no_other(solution, heads, T, part, seed):
    H, G = heads
    g = seed % G
    (q, k, v), words = drawn(seed, shapes_of(1, heads, T, 4, (4, 4)))
    changed = {"key": k, "value": v}[part].copy()
    changed[:, g] += arrays(seed + 1, changed[:, g].shape)[0]
    before = np.array(solution.grouped_query_attention(q, k, v))

    after = solution.grouped_query_attention(
        q, changed if part == "key" else k, changed if part == "value" else v
    )

    for out in (before, after):
        check.array(out, shape=q.shape, dtype=q.dtype, what="the output", given=words)
    moved = np.abs(after - before).max(axis=(0, 2, 3)) > 1e-9
    heads_moved = np.flatnonzero(moved).tolist()
    right = heads_moved == list(range(g * H // G, (g + 1) * H // G))
    saw = f"the output of query heads {heads_moved} changed with {part} head {g}"
    check.that(right, saw=saw, given=words, value=[before, after])


@rule("R2")
@given(heads=HEADS, T=FEW, more=MORE, widths=WIDTHS, seed=SEEDS)
def test_every_group_sees_the_past_and_itself(solution, heads, T, more, widths, seed):
    (q, k, v), words = drawn(seed, shapes_of(2, heads, T, T + more, widths))

    saw = solution.grouped_query_attention(q, k, v, causal=True)

    want = plain_attention(q, k, v, causal=True)
    check.close(saw, want, what="the output", given=f"{words}, causal=True", n=N)


@rule("R8")
@given(H=st.sampled_from([3, 2, 1, 4]), T=FEW, causal=st.booleans(), widths=WIDTHS, seed=SEEDS)
def test_with_as_many_groups_as_heads_it_is_multi_head(solution, H, T, causal, widths, seed):
    (q, k, v), words = drawn(seed, shapes_of(2, (H, H), T, T + 1, widths))

    saw = solution.grouped_query_attention(q, k, v, causal=causal)

    want = np.concatenate(
        [
            plain_attention(q[:, h : h + 1], k[:, h : h + 1], v[:, h : h + 1], causal=causal)
            for h in range(H)
        ],
        axis=1,
    )
    check.close(saw, want, what="the output", given=f"{words}, causal={causal}", n=N)


@rule("R8")
@given(H=st.sampled_from([3, 2, 1, 4]), T=FEW, causal=st.booleans(), widths=WIDTHS, seed=SEEDS)
def test_with_one_group_it_is_multi_query(solution, H, T, causal, widths, seed):
    (q, k, v), words = drawn(seed, shapes_of(2, (H, 1), T, T + 1, widths))

    saw = solution.grouped_query_attention(q, k, v, causal=causal)
    same = solution.multi_query_attention(q, k[:, 0], v[:, 0], causal=causal)

    words += f", causal={causal}"
    want = plain_attention(q, k, v, causal=causal)
    check.close(saw, want, what="the output", given=words, n=N)
    check.close(same, want, what="that of multi_query_attention", given=words, n=N)


@rule("R3")
@given(max_examples=20, heads=HEADS, T=FEW, causal=st.booleans(), dtype=DTYPES, seed=SEEDS)
def test_large_scores_stay_in_their_group(solution, heads, T, causal, dtype, seed):
    q, k, v, words = large_scores(seed, 1, *heads, T, T + 1, dtype)

    saw = solution.grouped_query_attention(q, k, v, causal=causal)

    want = plain_attention(q, k, v, causal=causal)
    check_large(saw, want, given=f"{words}, causal={causal}")


@rule("R3")
@given(max_examples=20, heads=HEADS, T=FEW, seed=SEEDS)
def test_large_scores_pass_through_the_layer(solution, reference, heads, T, seed):
    params, words = layer_of(reference, seed, heads)
    params, words = steep(params), f"{words}, wq and bq times 300, wk and bk times 100"
    (x,) = arrays(seed, (2, T, 5))

    saw = solution.gqa_layer(params, x)

    want = plain_layer(params, x)
    check.close(saw, want, what="the output", given=f"{words}, x {x.shape}", n=N_LAYER, scale=1e5)


@rule("R10")
@given(
    heads=HEADS,
    B=FEW,
    T=st.sampled_from([5, 1, 2]),
    d_model=st.sampled_from([5, 1, 16]),
    head_dim=st.sampled_from([4, 1, 3]),
    seed=SEEDS,
)
def test_the_layer_projects_attends_and_mixes(
    solution, reference, heads, B, T, d_model, head_dim, seed
):
    params, words = layer_of(reference, seed, heads, d_model=d_model, head_dim=head_dim)
    (x,) = arrays(seed, (B, T, d_model))

    saw = solution.gqa_layer(params, x)

    want = plain_layer(params, x)
    check.close(saw, want, what="the output", given=f"{words}, x {x.shape}", n=N_LAYER)


@rule("R10")
@given(max_examples=15, heads=HEADS, T=FEW, seed=SEEDS)
def test_the_layer_reads_arrays_of_any_layout(solution, reference, heads, T, seed):
    params, words = layer_of(reference, seed, heads)
    params = column_major(params)
    x = arrays(seed, (T, 2, 5))[0].swapaxes(0, 1)
    x.flags.writeable = False

    saw = solution.gqa_layer(params, x)

    words += f", read-only and in Fortran order, x {x.shape} a swapped view of (T, B, C)"
    check.close(saw, plain_layer(params, x), what="the output", given=words, n=N_LAYER)


@rule("R2")
@given(max_examples=15, heads=HEADS, T=st.sampled_from([4, 2, 3]), seed=SEEDS)
def test_a_token_changes_no_output_before_its_own(solution, reference, heads, T, seed):
    params, words = layer_of(reference, seed, heads)
    (x,) = arrays(seed, (2, T, 5))
    t = 1 + seed % (T - 1)
    other = x.copy()
    other[:, t:] += 1

    before, after = solution.gqa_layer(params, x), solution.gqa_layer(params, other)

    words += f", x {x.shape}, 1 added from position {t} on"
    for out in (before, after):
        check.array(out, shape=x.shape, dtype=x.dtype, what="the output", given=words)
    what = f"the output at positions before {t}"
    check.close(after[:, :t], before[:, :t], what=what, given=words, n=N_LAYER)


@rule("R4")
@given(dtype=DTYPES, heads=GROUPED, causal=st.booleans(), seed=SEEDS)
def test_groups_keep_dtype_and_precision(solution, reference, dtype, heads, causal, seed):
    (q, k, v), words = drawn(seed, shapes_of(1, heads, 3, 3, (2, 3)), dtype=dtype)
    params, how = layer_of(reference, seed, heads, d_model=3, head_dim=2, dtype=dtype)
    (x,) = arrays(seed, (1, 3, 3), dtype=dtype)

    saw = solution.grouped_query_attention(q, k, v, causal=causal)
    layer = solution.gqa_layer(params, x)

    words += f", {np.dtype(dtype)}, causal={causal}"
    want = plain_attention(q, k, v, causal=causal)
    check.close(saw, want, what="the output of attention", given=words, n=20)
    wide = {name: array.astype(float) for name, array in params.items()}
    want = plain_layer(wide, x.astype(float)).astype(dtype)
    check.close(layer, want, what="the output of the layer", given=f"{how}, x (1, 3, 3)", n=60)


@rule("R5")
@given(max_examples=20, heads=HEADS, T=FEW, causal=st.booleans(), seed=SEEDS)
def test_groups_leave_their_arguments_alone(solution, reference, heads, T, causal, seed):
    (q, k, v), words = drawn(seed, shapes_of(2, heads, T, T + 1, (4, 4)))
    params, how = layer_of(reference, seed, heads)
    (x,) = arrays(seed, (2, T, 5))
    words += f", causal={causal}"

    with check.unchanged(given=words, q=q, k=k, v=v):
        saw = solution.grouped_query_attention(q, k, v, causal=causal)
    with check.unchanged(given=how, params=params, x=x):
        layer = solution.gqa_layer(params, x)

    check.fresh(saw, what="the output", given=words, q=q, k=k, v=v)
    check.fresh(layer, what="the output of the layer", given=how, params=params, x=x)
    check_kept(
        saw,
        lambda: solution.grouped_query_attention(-q, k, v, causal=causal),
        what="the output",
        given=words,
    )
    what = "the output of the layer"
    check_kept(layer, lambda: solution.gqa_layer(params, -x), what=what, given=how)


@rule("R7")
@given(max_examples=20, heads=HEADS, T=FEW, seed=SEEDS)
def test_heads_behind_positions_in_memory_are_served(solution, heads, T, seed):
    (H, G), S = heads, T + 1
    q, k, v = arrays(seed, (2, T, H, 4), (2, S, G, 4), (2, S, G, 4))
    q, k, v = (array.swapaxes(1, 2) for array in (q, k, v))  # as projections leave them
    for array in (q, k, v):
        array.flags.writeable = False

    saw = solution.grouped_query_attention(q, k, v)

    words = f"seed {seed}, swapped read-only views of (B, T, heads, D): q {q.shape}, k {k.shape}"
    check.close(saw, plain_attention(q, k, v), what="the output", given=words, n=N)


@rule("R28")
def test_groups_that_do_not_fit_are_named(solution, reference):
    fitting = {"q": (2, 6, 2, 4), "k": (2, 3, 5, 4), "v": (2, 3, 5, 7)}
    misfits = [
        ("q", {"q": (2, 6, 4)}),
        ("k", {"k": (2, 4, 5, 4), "v": (2, 4, 5, 7)}),
        ("k", {"k": (2, 12, 5, 4), "v": (2, 12, 5, 7)}),
        ("k", {"k": (2, 3, 5, 3)}),
        ("k", {"k": (1, 3, 5, 4)}),
        ("k", {"k": (2, 5, 4)}),
        ("v", {"v": (2, 2, 5, 7)}),
        ("v", {"v": (2, 3, 4, 7)}),
        ("v", {"v": (1, 3, 5, 7)}),
        ("v", {"v": (2, 1, 5, 7)}),
    ]
    for name, change in misfits:
        q, k, v = (np.ones(shape) for shape in (fitting | change).values())
        refuse(solution.grouped_query_attention, q, k, v, names=name, given=f"{fitting | change}")
    q, k, v = (np.ones(shape) for shape in ((1, 2, 4, 3), (1, 2, 3, 3), (1, 2, 3, 3)))
    words = "4 queries, 3 keys, causal=True"
    refuse(solution.grouped_query_attention, q, k, v, causal=True, names="causal", given=words)
    params, words = layer_of(reference, 0, (4, 2))
    for shape in ((2, 3, 4), (2, 3, 6), (3, 5), (1, 2, 3, 5)):
        refuse(solution.gqa_layer, params, np.ones(shape), names="x", given=f"{words}, x {shape}")


def refuse(call, *args, **kwargs):
    what = "gqa_layer" if kwargs["names"] == "x" else "grouped_query_attention"
    check.raises(ValueError, call, *args, what=what, **kwargs)


@rule("R9")
def test_a_step_beats_repeated_heads(race):
    # Products of 2^17 multiplications: too small for BLAS to wake other threads.
    shapes = (2, 32, 1, 128), (2, 4, 128, 128), (2, 4, 128, 128)

    def inputs(rng):
        return tuple(rng.standard_normal(shape, np.float32) for shape in shapes)

    def verify(out, q, k, v):
        how = f"q {q.shape}, k {k.shape}, float32"
        check.close(out, plain_attention(q, k, v), what="the output", given=how, n=300)

    race(lambda impl, q, k, v: impl.grouped_query_attention(q, k, v), inputs=inputs, verify=verify)
