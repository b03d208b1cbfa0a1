"""Stage 5: checkpoints: fused and dealt out, pooled to fewer heads, aligned before that."""

from functools import partial

import numpy as np

from pytest_llmgrind import check, given, rule, st

from .common import (
    DTYPES,
    HEADS,
    SEEDS,
    arrays,
    check_kept,
    column_major,
    layer_of,
    plain_layer,
)

N = 2000  # additions behind an element: a decomposition, two products with it, the layer
# (H, G), n_kv_heads: groups of two and three, from one head for each query head and from shared.
POOLS = st.sampled_from(
    [
        ((6, 6), 2),
        ((6, 6), 3),
        ((8, 4), 2),
        ((4, 4), 1),
        ((12, 6), 2),
        ((6, 2), 2),
        ((2, 2), 1),
        ((3, 1), 1),
    ]
)
WIDTHS = st.sampled_from([(5, 4), (2, 4), (8, 3), (4, 1)])  # C, D: also more columns than rows
KV = ("wk", "bk", "wv", "bv")


def check_names(params, names, words):
    check.that(isinstance(params, dict), saw=f"a {type(params).__name__} came back", given=words)
    check.equal(sorted(params), sorted(names), what="the names", given=words)
    return params


def fused(params, order):
    """The heads of queries, keys and values side by side, in an order of (name, head)."""
    w = np.concatenate([params[f"w{name}"][:, head] for name, head in order], axis=1)
    return w, np.concatenate([params[f"b{name}"][head] for name, head in order])


def concatenated(H, G):
    return [("q", h) for h in range(H)] + [(name, g) for name in "kv" for g in range(G)]


def grouped(H, G):
    order, R = [], H // G
    for g in range(G):
        order += [("q", h) for h in range(g * R, (g + 1) * R)] + [("k", g), ("v", g)]
    return order


def check_unpacked(solution, reference, heads, widths, layout, order, transposed, seed):
    C, D = widths
    params, words = layer_of(reference, seed, heads, d_model=C, head_dim=D)
    w, b = fused(params, order)
    words += f", layout {layout}"
    if transposed:  # as a checkpoint's (columns, C) comes
        w, words = column_major({"w": w})["w"], f"{words}, w_qkv a read-only transposed view"

    saw = solution.unpack_qkv(w, b, n_heads=heads[0], n_kv_heads=heads[1], layout=layout)

    names = ["wq", "bq", "wk", "bk", "wv", "bv"]
    check_names(saw, names, words)
    for name in names:
        check.equal(saw[name], params[name], what=name, given=words, moved=True)


@rule("R20")
@given(heads=HEADS, widths=WIDTHS, transposed=st.booleans(), seed=SEEDS)
def test_concatenated_heads_are_found(solution, reference, heads, widths, transposed, seed):
    order, layout = concatenated(*heads), "concatenated"
    check_unpacked(solution, reference, heads, widths, layout, order, transposed, seed)


@rule("R21")
@given(heads=HEADS, widths=WIDTHS, transposed=st.booleans(), seed=SEEDS)
def test_heads_are_found_group_by_group(solution, reference, heads, widths, transposed, seed):
    order = grouped(*heads)
    check_unpacked(solution, reference, heads, widths, "grouped", order, transposed, seed)


@rule("R22")
@given(heads=HEADS, seed=SEEDS)
def test_heads_that_were_dealt_out_come_to_their_groups(solution, reference, heads, seed):
    params, words = layer_of(reference, seed, heads)
    (x,) = arrays(seed, (2, 4, 5))

    new = solution.contiguous_groups(params)

    check_names(new, params, words)
    for name, array in params.items():
        check.array(new[name], shape=array.shape, dtype=array.dtype, what=name, given=words)
    want = plain_layer(params, x, uses=[h % heads[1] for h in range(heads[0])])
    what = "the output of the layer with the new parameters"
    check.close(plain_layer(new, x), want, what=what, given=words, n=300)


@rule("R23")
@given(pool=POOLS, widths=WIDTHS, dtype=DTYPES, seed=SEEDS)
def test_keys_and_values_become_the_means_of_their_groups(
    solution, reference, pool, widths, dtype, seed
):
    heads, n = pool
    params, words = layer_of(
        reference, seed, heads, d_model=widths[0], head_dim=widths[1], dtype=dtype
    )
    words += f", pooled to {n}"

    new = check_names(solution.mean_pool(params, n), params, words)

    for name in KV:
        parts = np.split(params[name].astype(float), n, axis=-2)
        want = np.stack([part.mean(axis=-2) for part in parts], axis=-2).astype(dtype)
        check.close(new[name], want, what=name, given=words, n=6)


@rule("R24")
@given(pool=POOLS, seed=SEEDS)
def test_pooling_leaves_queries_and_output_as_they_were(solution, reference, pool, seed):
    heads, n = pool
    params, words = layer_of(reference, seed, heads)
    words += f", pooled to {n}"

    new = check_names(solution.mean_pool(params, n), params, words)

    for name in ("wq", "bq", "wo", "bo"):
        check.equal(new[name], params[name], what=name, given=words, moved=True)


@rule("R25")
@given(pool=POOLS, widths=WIDTHS, seed=SEEDS)
def test_alignment_changes_no_output(solution, reference, pool, widths, seed):
    heads, n = pool
    params, words = layer_of(reference, seed, heads, d_model=widths[0], head_dim=widths[1])
    words += f", aligned for {n}"
    (x,) = arrays(seed, (2, 4, widths[0]))

    new = check_names(solution.align_heads(params, n), params, words)

    for name, array in params.items():
        check.array(new[name], shape=array.shape, dtype=array.dtype, what=name, given=words)
    what = "the output of the layer with the new parameters"
    check.close(plain_layer(new, x), plain_layer(params, x), what=what, given=words, n=N)


@rule("R26")
@given(pool=POOLS, widths=WIDTHS, seed=SEEDS)
def test_heads_lie_as_near_to_the_first_as_they_can(solution, reference, pool, widths, seed):
    heads, n = pool
    params, words = layer_of(reference, seed, heads, d_model=widths[0], head_dim=widths[1])
    words += f", aligned for {n}"
    best = reference.align_heads(params, n)

    new = check_names(solution.align_heads(params, n), params, words)

    size = heads[1] // n
    for name, array in params.items():
        check.array(new[name], shape=array.shape, dtype=array.dtype, what=name, given=words)
    for name in KV:
        what = f"{name} of the first head of each group"
        check.close(new[name][..., ::size, :], params[name][..., ::size, :], what=what,
                    given=words, n=N)
    for g in range(heads[1]):
        for name, part in (("k", "key"), ("v", "value")):
            saw, want = (distance(p, name, g, g // size * size) for p in (new, best))
            what = f"the squared distance of {part} head {g} from head {g // size * size}"
            check.close(saw, want, what=what, given=words, n=N, scale=20.0)


def distance(params, name, a, b):
    """Sum of squared differences of all that makes two heads: weights and biases."""
    w, bias = params[f"w{name}"], params[f"b{name}"]
    return float(((w[:, a] - w[:, b]) ** 2).sum() + ((bias[a] - bias[b]) ** 2).sum())


@rule("R27")
@given(pool=POOLS, widths=WIDTHS, seed=SEEDS)
def test_heads_that_differ_by_their_bases_are_pooled_without_loss(
    solution, reference, pool, widths, seed
):
    (H, G), n = pool
    (C, D), rng = widths, np.random.default_rng(seed)
    shared, words = layer_of(reference, seed, (H, n), d_model=C, head_dim=D)
    params = in_bases_of_their_own(shared, G, rng)
    (x,) = arrays(seed, (2, 4, C))
    words += f", then each of {G} heads in a basis of its own"

    aligned = check_names(solution.align_heads(params, n), params, words)
    new = check_names(solution.mean_pool(aligned, n), params, words)

    for name, array in shared.items():
        check.array(new[name], shape=array.shape, dtype=array.dtype, what=name, given=words)
    what = "the output of the aligned and pooled layer"
    check.close(plain_layer(new, x), plain_layer(shared, x), what=what, given=words, n=10 * N)


def in_bases_of_their_own(shared, G, rng):
    """A layer of G key/value heads that computes the same, turned and mirrored at random."""
    H, n, D = shared["wq"].shape[1], shared["wk"].shape[1], shared["wq"].shape[2]
    params = {name: array.copy() for name, array in shared.items()}
    params |= {name: shared[name].repeat(G // n, axis=-2) for name in KV}
    for g in range(G):
        users = range(g * H // G, (g + 1) * H // G)
        turn, other = (np.linalg.qr(rng.standard_normal((D, D)))[0] for _ in range(2))
        for name, heads in (("wk", [g]), ("bk", [g]), ("wq", users), ("bq", users)):
            params[name][..., heads, :] = params[name][..., heads, :] @ turn
        for name in ("wv", "bv"):
            params[name][..., g, :] = params[name][..., g, :] @ other
        params["wo"][users] = other.T @ params["wo"][users]
    return params


@rule("R4")
@given(max_examples=15, pool=POOLS, seed=SEEDS)
def test_checkpoints_keep_their_dtype(solution, reference, pool, seed):
    (H, G), n = pool
    params, words = layer_of(reference, seed, (H, G), dtype=np.float32)
    (x,) = arrays(seed, (1, 3, 5), dtype=np.float32)
    w, b = fused(params, concatenated(H, G))

    made = {
        "unpack_qkv": solution.unpack_qkv(
            w, b, n_heads=H, n_kv_heads=G, layout="concatenated"
        ),
        "contiguous_groups": solution.contiguous_groups(params),
        "mean_pool": solution.mean_pool(params, n),
        "align_heads": solution.align_heads(params, n),
    }

    for call, new in made.items():
        for name, array in new.items():
            shape, what = np.shape(array), f"{name} of {call}"
            check.array(array, shape=shape, dtype=np.float32, what=what, given=words)
    what = "the output of the aligned layer"
    check.close(plain_layer(made["align_heads"], x), plain_layer(params, x), what=what,
                given=words, n=200)


@rule("R5")
@given(max_examples=15, pool=POOLS, seed=SEEDS)
def test_checkpoints_are_copied(solution, reference, pool, seed):
    (H, G), n = pool
    params, words = layer_of(reference, seed, (H, G))
    sizes = {"n_heads": H, "n_kv_heads": G}
    made = {}

    for layout, order in (("concatenated", concatenated), ("grouped", grouped)):
        w, b = fused(params, order(H, G))
        how = f"{words}, layout {layout}"
        with check.unchanged(given=how, w_qkv=w, b_qkv=b):
            new = solution.unpack_qkv(w, b, **sizes, layout=layout)
        check.fresh(new, what="an array of unpack_qkv", given=how, w_qkv=w, b_qkv=b)
    with check.unchanged(given=words, params=params):
        made["contiguous_groups"] = solution.contiguous_groups(params)
        made["mean_pool"] = solution.mean_pool(params, n)
        made["align_heads"] = solution.align_heads(params, n)
    for call, new in made.items():
        check.fresh(new, what=f"an array of {call}", given=words, params=params)
    other, _ = layer_of(reference, seed + 1, (H, G))
    for call, new in made.items():
        args = [other] if call == "contiguous_groups" else [other, n]
        check_kept(new, partial(getattr(solution, call), *args), what=call, given=words)


@rule("R28")
def test_checkpoints_that_do_not_fit_are_named(solution, reference):
    params, words = layer_of(reference, 0, (6, 6))
    for call in ("mean_pool", "align_heads"):
        for n in (4, 12, 0, -2):
            refuse(solution, call, params, n, names="n_kv_heads", given=f"{words}, n_kv_heads={n}")
    shared, words = layer_of(reference, 0, (6, 2))
    for call in ("mean_pool", "align_heads"):
        refuse(solution, call, shared, 3, names="n_kv_heads", given=f"{words}, n_kv_heads=3")
    right = {"w": (5, 20), "b": (20,), "n_heads": 6, "n_kv_heads": 2, "layout": "grouped"}
    misfits = [
        ("n_kv_heads", {"n_kv_heads": 4}),
        ("n_kv_heads", {"n_kv_heads": 0}),
        ("n_kv_heads", {"n_kv_heads": -2}),
        ("layout", {"layout": "interleaved"}),
        ("w_qkv", {"w": (5, 21), "b": (21,)}),
        ("w_qkv", {"w": (20,)}),
        ("b_qkv", {"b": (10,)}),
        ("b_qkv", {"b": (1, 20)}),
    ]
    for name, change in misfits:
        now = right | change
        w, b = np.ones(now.pop("w")), np.ones(now.pop("b"))
        how = f"w_qkv {w.shape}, b_qkv {b.shape}, {now}"
        refuse(solution, "unpack_qkv", w, b, names=name, given=how, **now)


def refuse(solution, what, *args, **kwargs):
    check.raises(ValueError, getattr(solution, what), *args, what=what, **kwargs)
