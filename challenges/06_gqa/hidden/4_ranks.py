"""Stage 4: the heads of one rank, with fewer key/value heads than ranks or more."""

from functools import partial

import numpy as np

from pytest_llmgrind import check, given, rule, st

from .common import SEEDS, arrays, check_kept, layer_of, plain_layer

N = 400  # additions behind an element of a sum over ranks
# (H, G), ranks: fewer key/value heads than ranks, as many, more.
SPLITS = st.sampled_from(
    [
        ((8, 2), 4),
        ((12, 2), 6),
        ((8, 4), 2),
        ((12, 6), 3),
        ((6, 3), 3),
        ((8, 1), 4),
        ((4, 4), 2),
        ((9, 3), 9),
        ((6, 2), 1),
    ]
)


def parts_of(solution, params, n_ranks, words):
    """All shards, with the names of the layer."""
    parts = [solution.shard_params(params, rank, n_ranks) for rank in range(n_ranks)]
    for rank, part in enumerate(parts):
        how = f"{words}, rank {rank} of {n_ranks}"
        check.that(isinstance(part, dict), saw=f"a {type(part).__name__} came back", given=how)
        check.equal(sorted(part), sorted(params), what="the names", given=how)
    return parts


def shapes_of(params, n_ranks):
    """The shapes that a rank's arrays have."""
    (C, H, D), G = params["wq"].shape, params["wk"].shape[1]
    H, G = H // n_ranks, max(1, G // n_ranks)
    shapes = {"wq": (C, H, D), "bq": (H, D), "wo": (H, D, C), "bo": (C,)}
    return shapes | {"wk": (C, G, D), "bk": (G, D), "wv": (C, G, D), "bv": (G, D)}


@rule("R17")
@given(split=SPLITS, seed=SEEDS)
def test_the_outputs_of_all_ranks_add_up(solution, reference, split, seed):
    heads, n_ranks = split
    params, words = layer_of(reference, seed, heads)
    (x,) = arrays(seed, (2, 4, 5))

    parts = parts_of(solution, params, n_ranks, words)
    for part in parts:
        for name, shape in shapes_of(params, n_ranks).items():
            what, how = f"{name} of a rank", f"{words}, {n_ranks} ranks"
            check.array(part[name], shape=shape, dtype=x.dtype, what=what, given=how)
    saw = sum(plain_layer(part, x) for part in parts)

    what = "the sum of all outputs"
    check.close(saw, plain_layer(params, x), what=what, given=f"{words}, {n_ranks} ranks", n=N)


@rule("R18")
@given(split=SPLITS, seed=SEEDS)
def test_a_rank_holds_what_its_query_heads_use(solution, reference, split, seed):
    (H, G), n_ranks = split
    params, words = layer_of(reference, seed, (H, G))

    parts = parts_of(solution, params, n_ranks, words)

    for rank, part in enumerate(parts):
        own = range(rank * H // n_ranks, (rank + 1) * H // n_ranks)
        used = sorted({h * G // H for h in own})
        want = {name: params[name][..., own, :] for name in ("wq", "bq")}
        want |= {name: params[name][..., used, :] for name in ("wk", "bk", "wv", "bv")}
        want["wo"] = params["wo"][own]
        for name, right in want.items():
            how = f"{words}, rank {rank} of {n_ranks}"
            check.equal(part[name], np.array(right), what=name, given=how, moved=True)


@rule("R5")
@given(max_examples=20, split=SPLITS, seed=SEEDS)
def test_shards_share_nothing_with_the_whole(solution, reference, split, seed):
    heads, n_ranks = split
    params, words = layer_of(reference, seed, heads)

    with check.unchanged(given=words, params=params):
        parts = parts_of(solution, params, n_ranks, words)

    for rank, part in enumerate(parts):
        how = f"{words}, rank {rank} of {n_ranks}"
        check.fresh(part, what="a shard", given=how, params=params)
    other, _ = layer_of(reference, seed + 1, heads)
    how = f"{words}, rank 0 of {n_ranks}"
    again = partial(solution.shard_params, other, 0, n_ranks)
    check_kept(parts[0], again, what="a shard", given=how)


@rule("R4")
@given(max_examples=10, split=SPLITS, seed=SEEDS)
def test_shards_keep_the_dtype(solution, reference, split, seed):
    heads, n_ranks = split
    params, words = layer_of(reference, seed, heads, dtype=np.float32)

    for rank, part in enumerate(parts_of(solution, params, n_ranks, words)):
        for name, shape in shapes_of(params, n_ranks).items():
            how = f"{words}, rank {rank} of {n_ranks}"
            check.array(part[name], shape=shape, dtype=np.float32, what=name, given=how)


@rule("R28")
def test_ranks_that_do_not_fit_are_named(solution, reference):
    misfits = [((8, 2), 3), ((12, 4), 6), ((6, 3), 2), ((4, 2), 8), ((4, 2), 0), ((4, 2), -2)]
    for heads, n_ranks in misfits:
        refuse(solution, reference, heads, 0, n_ranks, "n_ranks")
    for rank, n_ranks in ((-1, 2), (2, 2), (5, 4), (1, 1)):
        refuse(solution, reference, (8, 2), rank, n_ranks, "rank")


def refuse(solution, reference, heads, rank, n_ranks, name):
    params, words = layer_of(reference, 0, heads)
    how = f"{words}, rank {rank} of {n_ranks}"
    call, what = solution.shard_params, "shard_params"
    check.raises(ValueError, call, params, rank, n_ranks, what=what, names=name, given=how)


@rule("R19")
def test_a_rank_caches_its_own_heads(count, reference):
    def inputs(rng):
        params, _ = layer_of(reference, int(rng.integers(1000)), (32, 8), head_dim=16)
        return (params,)

    def run(impl, params):
        parts = [impl.shard_params(params, rank, 8) for rank in range(8)]
        return max(part["bk"].nbytes + part["bv"].nbytes for part in parts)

    def verify(nbytes, params):
        check.that(nbytes > 0, saw=f"{nbytes} bytes were counted", given="8 heads on 8 ranks")

    count(run, inputs=inputs, verify=verify)
