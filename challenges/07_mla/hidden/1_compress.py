"""Stage 1: latents, what they expand to, and the queries."""

import numpy as np

from pytest_llmgrind import check, given, rule, st

from .common import SEEDS, SIZES, SMALL, N, make

LEAD = st.sampled_from([(2, 3), (4,), (), (1, 1), (2, 1, 3)])


@rule("R1")
@given(size=SIZES, lead=LEAD, scale=st.sampled_from([3.0, 1.0, 1e-3]), seed=SEEDS)
def test_the_latent_is_projected_and_normed(solution, reference, size, lead, scale, seed):
    params, x, words = make(reference, seed, size, *lead)
    x = x * scale

    saw = solution.compress(params, x)

    want = reference.compress(params, x)
    check.close(saw, want, what="latents", given=f"{words} times {scale}", n=N)


@rule("R2")
@given(size=SIZES, lead=LEAD, seed=SEEDS)
def test_every_head_makes_its_own_key_and_value(solution, reference, size, lead, seed):
    params, x, words = make(reference, seed, size, *lead)
    latents = reference.compress(params, x)

    keys, values = solution.expand(params, latents)

    want = reference.expand(params, latents)
    words += ", latents compress(params, x)"
    check.close(keys, want[0], what="keys", given=words, n=N)
    check.close(values, want[1], what="values", given=words, n=N)


@rule("R3")
@given(size=SIZES, lead=LEAD, seed=SEEDS)
def test_queries_take_the_compressed_way_where_there_is_one(solution, reference, size, lead, seed):
    params, x, words = make(reference, seed, size, *lead)

    q_nope, q_rope = solution.queries(params, x)

    want = reference.queries(params, x)
    check.close(q_nope, want[0], what="the part without RoPE", given=words, n=N)
    check.close(q_rope, want[1], what="the part for RoPE", given=words, n=N)


@rule("R4")
@given(dtype=st.sampled_from([np.float32, np.float64]), seed=SEEDS)
def test_projections_have_the_precision_of_the_parameters(solution, reference, dtype, seed):
    params, x, words = make(reference, seed, {**SMALL, "dtype": dtype}, 2, 3)
    latents = reference.compress(params, x)

    saw = {
        "compress": [solution.compress(params, x)],
        "expand": solution.expand(params, latents),
        "queries": solution.queries(params, x),
    }

    wanted = {
        "compress": [latents],
        "expand": reference.expand(params, latents),
        "queries": reference.queries(params, x),
    }
    for call, results in saw.items():
        for index, (result, want) in enumerate(zip(results, wanted[call], strict=True)):
            what = f"result {index} of {call}"
            check.close(result, want, what=what, given=words, n=30)


@rule("R5")
def test_the_layout_of_arguments_does_not_matter(solution, reference):
    params, x, words = make(reference, 2, {}, 3, 4)
    latents = reference.compress(params, x)
    wanted = [latents, *reference.expand(params, latents), *reference.queries(params, x)]
    fortran = {key: np.asfortranarray(w) for key, w in params.items()}

    def others(a):
        return np.asfortranarray(a), a.repeat(2, axis=-1)[..., ::2], a[::-1][::-1]

    for other, latent in zip(others(x), others(latents), strict=True):
        saw = [solution.compress(fortran, other), *solution.expand(fortran, latent)]
        saw += solution.queries(fortran, other)
        how = f"{words}, params in Fortran order, x of strides {other.strides}"
        for index, (result, want) in enumerate(zip(saw, wanted, strict=True)):
            what = ("latents", "keys", "values", "queries without RoPE", "queries for RoPE")[index]
            check.close(result, want, what=what, given=how, n=N)


@rule("R6")
def test_projections_change_no_argument(solution, reference):
    params, x, words = make(reference, 4, {}, 2, 3)
    latents = reference.compress(params, x)

    for name, call, given_to in (
        ("compress", solution.compress, x),
        ("expand", solution.expand, latents),
        ("queries", solution.queries, x),
    ):
        with check.unchanged(given=f"{name}, {words}", params=params, argument=given_to):
            call(params, given_to)


@rule("R6")
def test_projections_stay_as_they_were(solution, reference):
    params, x, words = make(reference, 6, {}, 2, 3)
    latents = reference.compress(params, x)

    for name, argument in (("compress", x), ("expand", latents), ("queries", x)):
        call = getattr(solution, name)
        first = call(params, argument)
        call(params, 2 * argument[::-1])

        want = getattr(reference, name)(params, argument)
        pairs = [(first, want)] if name == "compress" else zip(first, want, strict=True)
        how = f"{name}, {words}, after a second call with twice the argument[::-1]"
        for index, (saw, right) in enumerate(pairs):
            what = f"result {index} of the first call"
            check.close(saw, right, what=what, given=how, n=N)
