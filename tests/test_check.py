"""The ladder: which rung a wrong answer breaks, and the sentence for it."""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from pytest_llmgrind import check
from pytest_llmgrind.check import Misused, RuleBroken

X = np.arange(6, dtype=np.float64).reshape(2, 3)


def saw(call: Callable[..., Any], *args: Any, **kwargs: Any) -> str:
    """The sentence of a check that does not hold."""
    with pytest.raises(RuleBroken) as caught:
        call(*args, **kwargs)
    return caught.value.saw


class TestArray:
    """``check.array``: type, shape, dtype, finite."""

    @pytest.mark.parametrize(
        ("value", "said"),
        [
            (None, "came back as None, wanted a NumPy array"),
            (X.tolist(), "came back as a list, wanted a NumPy array"),
            (1.5, "came back as a float (1.5), wanted a NumPy array"),
            ("x" * 500, f"came back as a str ('{'x' * 56}...), wanted a NumPy array"),
            (
                np.ma.masked_array(X),
                "came back as a MaskedArray of shape (2, 3) and dtype float64, "
                "wanted a plain NumPy array",
            ),
            (
                X.view(np.recarray),
                "came back as a recarray of shape (2, 3) and dtype float64, "
                "wanted a plain NumPy array",
            ),
            (X.T, "had shape (3, 2), wanted (2, 3)"),
            (X[0, 0], "had shape (), wanted (2, 3)"),
            (X[:0], "had shape (0, 3), wanted (2, 3)"),
            (X.astype(np.float32), "had dtype float32, wanted float64"),
            (X.astype(">f8"), "had dtype >f8, wanted float64"),
            (X.astype(object), "had dtype object, wanted float64"),
            (X.astype(complex), "had dtype complex128, wanted float64"),
            (X > 1, "had dtype bool, wanted float64"),
            (
                np.where(X == 2, np.nan, X),
                "held NaN at index (0, 2), in 1 of 6 elements",
            ),
            (
                np.where(X > 2, -np.inf, X),
                "held infinity at index (1, 0), in 3 of 6 elements",
            ),
        ],
    )
    def test_says_the_first_rung_that_breaks(self, value: Any, said: str) -> None:
        """A value of the wrong form gets one sentence, about the lowest rung that it breaks."""
        text = saw(check.array, value, shape=(2, 3), dtype=np.float64, what="out", given="T=3")

        assert text == f"T=3: out {said}"

    def test_returns_the_array(self) -> None:
        """An array of the right form comes back as it is."""
        assert check.array(X, shape=(2, 3), dtype=np.float64, what="out") is X

    def test_takes_a_scalar_of_numpy_for_an_array_without_axes(self) -> None:
        """NumPy's reductions return scalars where an array of shape () is meant."""
        check.array(X.sum(), shape=(), dtype=np.float64, what="loss")

    def test_lets_infinity_pass_where_it_is_allowed(self) -> None:
        """With finite=False only the form counts."""
        check.array(np.full(3, np.inf), shape=(3,), dtype=X.dtype, what="out", finite=False)


class TestClose:
    """``check.close``: the ladder, then the values within a derived tolerance."""

    def test_tells_how_far_off_where_and_how_often(self) -> None:
        """The largest error, its place and the number of wrong elements, and no wanted value."""
        wrong = X.copy()
        wrong[0, 1] += 0.25
        wrong[1, 2] -= 0.5

        assert saw(check.close, wrong, X, what="logits", given="prompt of 3 tokens") == (
            "prompt of 3 tokens: logits differed by up to 0.5 at index (1, 2), in 2 of 6 elements"
        )

    @pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.complex64])
    @pytest.mark.parametrize("n", [1, 100])
    def test_draws_the_line_at_the_tolerance(self, dtype: Any, n: int) -> None:
        """Half the tolerance off passes and twice the tolerance off fails, whatever the dtype."""
        limit = 16 * n * np.finfo(dtype).eps
        want = np.ones(3, dtype)

        check.close(want + dtype(limit / 2), want, what="out", n=n)

        assert "differed by" in saw(check.close, want + dtype(limit * 2), want, what="out", n=n)

    def test_scales_with_the_largest_magnitude(self) -> None:
        """The default scale is the largest magnitude that is wanted, and at least 1."""
        eps = np.finfo(np.float64).eps
        big, small = np.array([1000.0, 0.0]), np.array([1e-6, 0.0])

        off = np.array([0.0, eps])

        check.close(big + 1000 * off, big, what="out")
        check.close(small + 10 * off, small, what="out")

        assert saw(check.close, small + 20 * off, small, what="out")
        assert saw(check.close, big + 1000 * off, big, what="out", scale=1.0)

    @pytest.mark.parametrize(
        ("value", "said"),
        [
            (None, "came back as None, wanted a number"),
            (True, "came back as a bool (True), wanted a number"),
            (np.True_, "came back as a bool (True), wanted a number"),
            ("2.0", "came back as a str ('2.0'), wanted a number"),
            ([2.0], "came back as a list, wanted a number"),
            (2.0 + 0j, "came back as a complex ((2+0j)), wanted a number"),
            (np.ones(1), "came back as an array of shape (1,) and dtype float64, wanted a number"),
            (math.nan, "came back as nan"),
            (np.float32(-np.inf), "came back as -inf"),
            (2.5, "differed by 0.5"),
            (np.array(2.5), "differed by 0.5"),
        ],
    )
    def test_wants_a_number_where_a_number_is_right(self, value: Any, said: str) -> None:
        """Only one real, finite number is compared with a number."""
        assert saw(check.close, value, 2.0, what="loss") == f"loss {said}"

    @pytest.mark.parametrize(
        "value", [2, 2.0, np.float32(2), np.int64(2), np.array(2.0), Decimal(2)]
    )
    def test_takes_any_real_number_for_a_number(self, value: Any) -> None:
        """Which type a number has does not matter where the spec asks for a number."""
        check.close(value, 2.0, what="loss")

    def test_compares_a_narrow_number_at_its_own_precision(self) -> None:
        """A float32 reference does not ask for float64's precision."""
        check.close(1.0 + 1e-6, np.float32(1.0), what="loss")

        assert saw(check.close, 1.0 + 1e-6, 1.0, what="loss") == "loss differed by 1e-06"

    def test_wants_infinities_in_their_places(self) -> None:
        """With finite=False an infinity of the wrong sign or place is wrong, and NaN equals NaN."""
        want = np.array([1.0, -np.inf, np.nan])

        check.close(want.copy(), want, what="mask", finite=False)

        assert saw(check.close, -want, want, what="mask", finite=False) == (
            "mask had NaN or infinity in the wrong place at index (1,), in 1 of 3 elements"
        )

    def test_holds_for_arrays_without_elements(self) -> None:
        """Nothing to compare is equal, once the form is right."""
        check.close(X[:0], X[:0].copy(), what="out")

    def test_sees_values_through_any_layout(self) -> None:
        """A transposed or strided array counts by its values."""
        check.close(np.asfortranarray(X)[::-1], X[::-1].copy(), what="out")

    @pytest.mark.parametrize("want", [np.arange(3), [1.0], None, True, "x", np.array(["x"])])
    def test_refuses_what_is_not_floating_point(self, want: Any) -> None:
        """Comparing integers within a tolerance is a mistake of the test, and said to be one."""
        with pytest.raises(Misused):
            check.close(want, want, what="out")

    @pytest.mark.parametrize("wrong", [{"n": 0}, {"scale": 0.0}, {"scale": math.inf}])
    def test_refuses_a_tolerance_that_means_nothing(self, wrong: dict[str, Any]) -> None:
        """A tolerance of nothing or of everything is a mistake of the test."""
        with pytest.raises(Misused):
            check.close(X, X, what="out", **wrong)

    def test_keeps_both_sides_for_the_diagnosis(self) -> None:
        """The values travel with the exception and not in its text."""
        with pytest.raises(RuleBroken) as caught:
            check.close(X + 41.5, X, what="out", given="T=3")

        assert caught.value.value is not None
        np.testing.assert_array_equal(caught.value.want, X)
        assert caught.value.where == "T=3: out"


class TestEqual:
    """``check.equal``: exactly the same, of the same kind."""

    @pytest.mark.parametrize(
        ("value", "want", "said"),
        [
            (3, 4, "came back as 3, which is not right"),
            (True, 1, "came back as a bool (True), wanted an int"),
            (1, True, "came back as an int (1), wanted a bool"),
            (4.0, 4, "came back as a float (4.0), wanted an int"),
            (np.array(4), 4, "came back as an array of shape () and dtype int64, wanted an int"),
            (None, "x", "came back as None, wanted a str"),
            (0, None, "came back as an int (0), wanted None"),
            ("a\nb", "ab", "came back as 'a\\nb', which is not right"),
            (b"x", "x", "came back as a bytes (b'x'), wanted a str"),
            ([1], (1,), "came back as a list, wanted a tuple"),
            ([1], [1, 2], "had 1 items, wanted 2"),
            ([1, 5], [1, 2], "[1] came back as 5, which is not right"),
            ([1, [2, "x"]], [1, [2, 3]], "[1][1] came back as a str ('x'), wanted an int"),
            ({"a": 1}, {"b": 1}, "had the key 'a', which is not right"),
            ({"a": 1}, {"a": 2}, "['a'] came back as 1, which is not right"),
            (np.array([1, 2]), np.array([1, 3]), "differed at index (1,), in 1 of 2 elements"),
            (np.array([1.0]), np.array([1]), "had dtype float64, wanted int64"),
            ([1], np.array([1]), "came back as a list, wanted a NumPy array"),
        ],
    )
    def test_says_what_differs(self, value: Any, want: Any, said: str) -> None:
        """The kind is said first, then the place; the right value never."""
        joint = "" if said.startswith("[") else " "

        assert saw(check.equal, value, want, what="out") == f"out{joint}{said}"

    @pytest.mark.parametrize(
        ("value", "want"),
        [
            (np.int32(4), 4),
            (4, np.int64(4)),
            (np.True_, True),
            ((1, "a", None), (1, "a", None)),
            ({"a": [1, 2]}, {"a": [1, 2]}),
            ({1, 2}, {2, 1}),
            (np.array([True, False]), np.array([True, False])),
        ],
    )
    def test_takes_numpy_scalars_for_python_numbers(self, value: Any, want: Any) -> None:
        """An int is an int, whoever made it."""
        check.equal(value, want, what="out")

    @pytest.mark.parametrize(
        "want", [1.0, [1.0], np.ones(2), np.float32(1), {"a": 1.0}, 1j, object]
    )
    def test_refuses_floating_point(self, want: Any) -> None:
        """Exact comparison of computed floats fails right programs, so it does not exist."""
        with pytest.raises(Misused):
            check.equal(want, want, what="out")

    def test_compares_floats_that_were_only_moved(self) -> None:
        """With moved=True every bit counts, and NaN equals NaN."""
        want = np.array([1.0, np.nan])

        check.equal(want.copy(), want, what="rows", moved=True)

        assert saw(check.equal, want * (1 + 1e-15), want, what="rows", moved=True) == (
            "rows differed at index (0,), in 1 of 2 elements"
        )


class TestRaises:
    """``check.raises``: the right error, which names its argument."""

    def test_passes_when_the_error_names_the_argument(self) -> None:
        """The name counts as a word of the message, with quotes or without."""

        def call() -> None:
            raise ValueError("expected 'T' > 0, got -1")

        check.raises(ValueError, call, what="f", names="T")

    @pytest.mark.parametrize(
        ("error", "said"),
        [
            (None, "f returned a list, wanted ValueError"),
            (KeyError("k"), "f raised KeyError: 'k', wanted ValueError"),
            (
                ValueError("The size is wrong"),
                "f raised ValueError: The size is wrong, which does not name T",
            ),
        ],
    )
    def test_says_what_came_instead(self, error: Exception | None, said: str) -> None:
        """No error, another error, and an error that leaves the reader alone are told apart."""

        def call() -> list[int]:
            if error:
                raise error
            return []

        assert saw(check.raises, ValueError, call, what="f", names="T") == said

    def test_lets_a_todo_pass(self) -> None:
        """What is not written yet is not a wrong error."""

        def call() -> None:
            raise NotImplementedError("stage 1")

        with pytest.raises(NotImplementedError):
            check.raises(ValueError, call, what="f")

    def test_survives_an_error_that_cannot_be_printed(self) -> None:
        """An exception whose text raises is still a wrong exception."""

        class Nasty(Exception):
            def __str__(self) -> str:
                raise RuntimeError("no")

        def call() -> None:
            raise Nasty

        assert saw(check.raises, ValueError, call, what="f") == (
            "f raised Nasty: <a text that cannot be made: RuntimeError>, wanted ValueError"
        )

    def test_passes_arguments_on(self) -> None:
        """Positional and keyword arguments reach the call."""
        check.raises(ValueError, int, "z", base=10, what="int")


class TestInputs:
    """``check.unchanged`` and ``check.fresh``: what happens to the arguments of a call."""

    def test_unchanged_sees_a_write(self) -> None:
        """A write into an argument is found, with its place."""
        q = X.copy()

        def block() -> None:
            with check.unchanged(given="T=3", q=q):
                q[1, 1] = -1

        assert saw(block) == (
            "T=3: the argument q was modified by the call at index (1, 1), in 1 of 6 elements"
        )

    def test_unchanged_sees_a_resize(self) -> None:
        """Another shape is a change too."""
        q = X.copy()

        def block() -> None:
            with check.unchanged(q=q):
                q.resize((3, 2), refcheck=False)

        assert saw(block) == "the argument q had another shape or dtype after the call"

    def test_unchanged_looks_into_containers(self) -> None:
        """Nested parameters are watched under a name that says where."""
        params = {"layers": [{"wq": X.copy()}]}

        def block() -> None:
            with check.unchanged(params=params, mask=None, ids=[1, 2]):
                params["layers"][0]["wq"] += 1

        assert saw(block) == (
            "the argument params['layers'][0]['wq'] was modified by the call"
            " at index (0, 0), in 6 of 6 elements"
        )

    def test_unchanged_holds_for_nan(self) -> None:
        """NaN that stays NaN has not changed."""
        with check.unchanged(x=np.array([np.nan])):
            pass

    def test_unchanged_lets_errors_pass(self) -> None:
        """An error inside is the news, not the arguments."""
        q = X.copy()

        with pytest.raises(IndexError), check.unchanged(q=q):
            q[0], q[9] = 9, 9

    @pytest.mark.parametrize("view", [lambda x: x, lambda x: x.T, lambda x: [x[1:]]])
    def test_fresh_finds_a_view(self, view: Callable[[Any], Any]) -> None:
        """A result that shares memory with an input breaks when the input is written."""
        x = X.copy()

        text = saw(check.fresh, view(x), what="out", given="T=3", x=x)

        assert text == (
            "T=3: out shares memory with the argument x: writing to one changes the other"
        )
        np.testing.assert_array_equal(x, X)

    def test_fresh_holds_for_a_copy(self) -> None:
        """A result of its own stays as it is, and the inputs are put back."""
        x, mask = X.copy(), np.array([True, False])

        check.fresh(x * 1, what="out", x=x, mask=mask)

        np.testing.assert_array_equal(x, X)
        assert mask.tolist() == [True, False]

    def test_fresh_refuses_an_input_that_cannot_be_written(self) -> None:
        """A read-only input would make the check pass for nothing."""
        x = np.broadcast_to(1.0, (2, 2))

        with pytest.raises(Misused):
            check.fresh(x, what="out", x=x)


class TestThat:
    """``check.that``: a sentence of the test's own."""

    @pytest.mark.parametrize("condition", [False, 0, None, np.False_, []])
    def test_fails_with_the_sentence(self, condition: Any) -> None:
        """The sentence of the test is said, behind the input."""
        text = saw(check.that, condition, saw="two rows are equal", given="T=3")

        assert text == "T=3: two rows are equal"

    def test_passes(self) -> None:
        """A true condition says nothing."""
        check.that(np.True_, saw="never said")

    def test_refuses_an_array(self) -> None:
        """An array is no condition: which element counts?"""
        with pytest.raises(Misused):
            check.that(X > 1, saw="never said")


def test_tolerance_is_the_formula() -> None:
    """16 · n · eps · scale, as the documentation says."""
    assert check.tolerance(np.float32, n=4, scale=2.0) == 16 * 4 * 2.0 * np.finfo(np.float32).eps


def test_tolerance_covers_every_order_of_summation() -> None:
    """A million additions in the worst order that we know stay within the tolerance."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=10_000).astype(np.float32)
    exact = math.fsum(x.tolist())

    for order in (np.sort(x), np.sort(x)[::-1], x):
        total = np.float32(0)
        for value in order:
            total += value
        off = abs(float(total) - exact)
        assert off <= check.tolerance(np.float32, n=x.size, scale=float(np.abs(x).max()))


def test_a_verdict_is_not_swallowed_by_except_exception() -> None:
    """A solution that wraps a call of a test's function in ``except Exception`` hides nothing."""
    assert not issubclass(RuleBroken, Exception)


class TestTorch:
    """Tensors climb the same ladder, and nothing imports torch for it."""

    def test_same_rungs(self) -> None:
        """Type, shape, dtype, finite and values of tensors."""
        torch = pytest.importorskip("torch")
        want = torch.ones(2, 3)

        check.close(want.clone(), want, what="out")
        check.equal(torch.arange(3), torch.arange(3), what="ids")

        assert saw(check.close, X, want, what="out") == (
            "out came back as an array of shape (2, 3) and dtype float64, wanted a torch tensor"
        )
        assert saw(check.close, want.double(), want, what="out") == (
            "out had dtype torch.float64, wanted torch.float32"
        )
        assert saw(check.close, want * torch.nan, want, what="out") == (
            "out held NaN at index (0, 0), in 6 of 6 elements"
        )
        assert saw(check.close, want + 0.5, want, what="out") == (
            "out differed by up to 0.5 at index (0, 0), in 6 of 6 elements"
        )

    def test_bfloat16_is_compared_at_its_own_precision(self) -> None:
        """One step of bfloat16 at 1 is 2**-7: 16 of them pass, 32 do not."""
        torch = pytest.importorskip("torch")
        want = torch.ones(2, dtype=torch.bfloat16)

        check.close(want + 0.1, want, what="out")

        assert saw(check.close, want + 0.25, want, what="out").startswith("out differed by")
