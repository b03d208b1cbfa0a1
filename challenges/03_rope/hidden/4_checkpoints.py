"""Stage 4: convert a checkpoint between layouts."""

import numpy as np

from pytest_llmgrind import check, given, rule, st

SEEDS = st.integers(0, 999)
WAYS = st.sampled_from(
    [("interleaved", "half"), ("half", "interleaved"), ("half", "half"), ("interleaved",) * 2]
)


def layer(seed, *, C, heads, kv_heads, D, biases=True, dtype=np.float64):
    """Random parameters of one attention layer; comments in the stub say the shapes."""
    rng = np.random.default_rng(seed)
    shapes = {
        "w_q": (C, heads * D),
        "w_k": (C, kv_heads * D),
        "w_v": (C, kv_heads * D),
        "w_o": (heads * D, C),
    }
    if biases:
        shapes |= {"b_q": (heads * D,), "b_k": (kv_heads * D,), "b_v": (kv_heads * D,), "b_o": (C,)}
    return {name: rng.normal(size=shape).astype(dtype) for name, shape in shapes.items()}


def heads_of(x, w, b, n_heads):
    """x (T, C) projected and split. -> (n_heads, T, D)"""
    return (x @ w + b).reshape(len(x), n_heads, -1).swapaxes(0, 1)


def output(reference, x, p, heads, kv_heads, layout, rotary_dim):
    """The layer on x (T, C): every head over all keys. -> (T, C)"""
    zero = {"b_q": 0.0, "b_k": 0.0, "b_v": 0.0, "b_o": 0.0} | p
    q = heads_of(x, p["w_q"], zero["b_q"], heads)
    k, v = (heads_of(x, p[f"w_{n}"], zero[f"b_{n}"], kv_heads) for n in "kv")
    k, v = (np.repeat(part, heads // kv_heads, axis=0) for part in (k, v))
    at = np.arange(len(x))
    out = reference.attend(q, k, v, at, at, layout=layout, rotary_dim=rotary_dim)
    return out.swapaxes(0, 1).reshape(len(x), -1) @ p["w_o"] + zero["b_o"]


@rule("R22")
@given(
    heads=st.integers(1, 3),
    D=st.sampled_from([2, 6, 7, 8]),
    part=st.booleans(),
    way=WAYS,
    seed=SEEDS,
)
def test_scores_survive_the_change_of_layout(solution, reference, heads, D, part, way, seed):
    source, target = way
    R = 4 if D == 7 else D - 2 if part and D > 2 else None  # an odd head is rotated in part
    rng = np.random.default_rng(seed)
    C = heads * D  # square projections: reordering their rows fits too, and shows
    x, w_q, w_k = rng.normal(size=(5, C)), *rng.normal(size=(2, C, C))
    at = np.arange(5) * 3

    new_q, new_k = (
        solution.convert(w, n_heads=heads, source=source, target=target, rotary_dim=R)
        for w in (w_q, w_k)
    )

    told = f"{heads} heads, D={D}, rotary_dim={R}, {source} to {target}, seed {seed}"
    for new in (new_q, new_k):
        check.array(new, shape=w_q.shape, dtype=w_q.dtype, what="projection", given=told)

    def scores(a, b, layout):
        q, k = (heads_of(x, w, 0.0, heads) for w in (a, b))
        return reference.attention_scores(q, k, at, at, layout=layout, rotary_dim=R)

    check.close(
        scores(new_q, new_k, target), scores(w_q, w_k, source), what="scores", n=200, given=told
    )


@rule("R22")
@given(heads=st.integers(1, 4), way=WAYS, seed=SEEDS)
def test_biases_and_stacks_of_layers_convert_too(solution, reference, heads, way, seed):
    source, target = way
    stack = np.random.default_rng(seed).normal(size=(3, 2, heads * 6)).astype(np.float32)
    told = f"shape (3, 2, {heads * 6}), {heads} heads, {source} to {target}"

    saw = solution.convert(stack, n_heads=heads, source=source, target=target)
    bias = solution.convert(stack[0, 0], n_heads=heads, source=source, target=target)

    want = reference.convert(stack, n_heads=heads, source=source, target=target)
    check.equal(saw, want, what="projections", given=told, moved=True)
    check.equal(bias, want[0, 0], what="bias", given=told, moved=True)


@rule("R9")
@given(heads=st.integers(1, 3), way=WAYS, seed=SEEDS)
def test_memory_order_does_not_matter_to_convert(solution, heads, way, seed):
    source, target = way
    w = np.random.default_rng(seed).normal(size=(heads * 6, 5)).T  # as PyTorch stores it

    saw = solution.convert(w, n_heads=heads, source=source, target=target)

    want = solution.convert(w.copy("C"), n_heads=heads, source=source, target=target)
    told = f"a transposed view of shape (5, {heads * 6}), {heads} heads, {source} to {target}"
    check.equal(saw, want, what="projection", given=told, moved=True)


@rule("R9")
@given(way=WAYS)
def test_a_projection_is_not_modified(solution, way):
    source, target = way
    w = np.arange(24.0).reshape(2, 12)
    told = f"shape (2, 12), 2 heads, {source} to {target}"

    with check.unchanged(given=told, w=w):
        saw = solution.convert(w, n_heads=2, source=source, target=target)
        check.array(saw, shape=w.shape, dtype=w.dtype, what="projection", given=told)

    check.fresh(saw, what="projection", given=told, w=w)


@rule("R23")
@given(heads=st.integers(1, 4), D=st.sampled_from([2, 6, 12]), part=st.booleans(), way=WAYS)
def test_there_and_back_is_where_it_began(solution, heads, D, part, way):
    source, target = way
    R = D - 2 if part and D > 2 else None
    w = np.arange(3.0 * heads * D).reshape(3, heads * D) / 7  # float32 would round it
    told = f"{heads} heads, D={D}, rotary_dim={R}, {source} to {target} to {source}"

    there = solution.convert(w, n_heads=heads, source=source, target=target, rotary_dim=R)
    check.array(there, shape=w.shape, dtype=w.dtype, what="projection", given=told)
    saw = solution.convert(there, n_heads=heads, source=target, target=source, rotary_dim=R)

    check.equal(saw, w, what="projection", given=told, moved=True)


@rule("R24")
@given(
    groups=st.integers(1, 2),
    kv_heads=st.integers(1, 3),
    part=st.booleans(),
    biases=st.booleans(),
    way=WAYS,
    seed=SEEDS,
)
def test_a_converted_layer_attends_as_before(
    solution, reference, groups, kv_heads, part, biases, way, seed
):
    source, target = way
    heads, R = groups * kv_heads, 4 if part else None
    params = layer(seed, C=5, heads=heads, kv_heads=kv_heads, D=6, biases=biases)
    x = np.random.default_rng(seed + 1).normal(size=(4, 5))

    new = solution.convert_checkpoint(
        params, n_heads=heads, n_kv_heads=kv_heads, source=source, target=target, rotary_dim=R
    )

    told = (
        f"{heads} query heads, {kv_heads} key heads, D=6, rotary_dim={R}, "
        f"{'with' if biases else 'no'} biases, {source} to {target}, seed {seed}"
    )
    check.equal(sorted(new), sorted(params), what="names", given=told)
    for name, old in params.items():
        check.array(new[name], shape=old.shape, dtype=old.dtype, what=name, given=told)
    saw = output(reference, x, new, heads, kv_heads, target, R)
    want = output(reference, x, params, heads, kv_heads, source, R)
    check.close(
        saw,
        want,
        what="the layer's output",
        n=400,
        given=told,
        scale=float(np.abs(want).max()) + 10,
    )


@rule("R24")
@given(kv_heads=st.sampled_from([1, 2, 4]), way=WAYS, seed=SEEDS)
def test_values_and_output_are_left_alone(solution, kv_heads, way, seed):
    source, target = way
    params = layer(seed, C=5, heads=4, kv_heads=kv_heads, D=6)

    new = solution.convert_checkpoint(
        params, n_heads=4, n_kv_heads=kv_heads, source=source, target=target
    )

    for name in ("w_v", "w_o", "b_v", "b_o"):
        told = f"4 query heads, {kv_heads} key heads, {source} to {target}"
        check.equal(new[name], params[name], what=name, given=told, moved=True)


@rule("R24")
@given(way=WAYS, seed=SEEDS)
def test_a_part_of_a_checkpoint_and_other_names_will_do(solution, reference, way, seed):
    source, target = way
    params = layer(seed, C=5, heads=4, kv_heads=2, D=6, dtype=np.float32)
    params = {"w_k": params["w_k"], "norm": params["b_q"][:5], "w_link": params["w_q"]}
    options = {"n_heads": 4, "n_kv_heads": 2, "source": source, "target": target}

    new = solution.convert_checkpoint(params, **options)

    told = f"float32, w_k, norm and w_link alone, 4 query heads, 2 key heads, {source} to {target}"
    want = reference.convert_checkpoint(params, **options)
    check.equal(dict(new), want, what="parameters", given=told, moved=True)


@rule("R9")
@given(way=WAYS)
def test_a_checkpoint_is_not_modified(solution, way):
    source, target = way
    params = layer(5, C=3, heads=2, kv_heads=1, D=4) | {"norm": np.ones(3)}
    told = f"2 query heads, 1 key head, {source} to {target}"

    with check.unchanged(given=told, **params):
        new = solution.convert_checkpoint(
            params, n_heads=2, n_kv_heads=1, source=source, target=target
        )

    check.equal(sorted(new), sorted(params), what="names", given=told)
    for name, old in params.items():
        check.array(new[name], shape=old.shape, dtype=old.dtype, what=name, given=told)
        check.fresh(new[name], what=name, given=told, **{name: old})


@rule("R10")
def test_what_does_not_fit_is_refused(solution):
    w = np.ones((3, 12))

    for heads in (5, 0, -2):
        check.raises(
            ValueError,
            solution.convert,
            w,
            n_heads=heads,
            source="half",
            target="interleaved",
            names="n_heads",
            what="convert",
            given=f"n_heads={heads} for a width of 12",
        )
    for source, target, wrong in (
        ("meta", "half", "source"),
        ("half", "hf", "target"),
        ("half", "Interleaved", "target"),
        ("hf", "hf", "source"),
    ):
        check.raises(
            ValueError,
            solution.convert,
            w,
            n_heads=2,
            source=source,
            target=target,
            names=wrong,
            what="convert",
            given=f"{source} to {target}",
        )
    check.raises(
        ValueError,
        solution.convert,
        np.ones((3, 10)),
        n_heads=2,
        source="half",
        target="interleaved",
        names="n_heads",
        what="convert",
        given="n_heads=2 for a width of 10: heads of 5 numbers",
    )
    for heads, kv_heads, wrong in ((5, 2, "n_heads"), (4, 5, "n_kv_heads")):
        check.raises(
            ValueError,
            solution.convert_checkpoint,
            layer(1, C=3, heads=4, kv_heads=2, D=6),
            n_heads=heads,
            n_kv_heads=kv_heads,
            source="half",
            target="interleaved",
            names=wrong,
            what="convert_checkpoint",
            given=f"n_heads={heads}, n_kv_heads={kv_heads} for 4 query and 2 key heads of 6",
        )
    for rotary_dim in (8, 0, 3, -2):
        check.raises(
            ValueError,
            solution.convert,
            w,
            n_heads=2,
            source="half",
            target="interleaved",
            rotary_dim=rotary_dim,
            names="rotary_dim",
            what="convert",
            given=f"rotary_dim={rotary_dim}, D=6",
        )


@rule("R10")
@given(layout=st.sampled_from(["half", "interleaved"]))
def test_what_does_not_fit_is_refused_where_nothing_moves(solution, layout):
    same = {"source": layout, "target": layout}

    for options, wrong in (
        ({"n_heads": 5}, "n_heads"),
        ({"n_heads": 4}, "n_heads"),
        ({"n_heads": 2, "rotary_dim": 8}, "rotary_dim"),
    ):
        told = f"{options} for a width of 12, {layout} to {layout}"
        check.raises(
            ValueError,
            solution.convert,
            np.ones((3, 12)),
            **options,
            **same,
            names=wrong,
            what="convert",
            given=told,
        )
