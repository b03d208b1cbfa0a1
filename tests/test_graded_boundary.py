"""What a test sees of a solution in a worker is what it would see in its own process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from pytest_llmgrind import manifest
from pytest_llmgrind.graded import breach, limits, source
from pytest_llmgrind.graded.breach import Breach
from pytest_llmgrind.graded.carrier import Carrier
from pytest_llmgrind.graded.sandbox import walls

ROOT = Path(__file__).parents[1]
SOLUTION = """
import numpy as np


class Pool:
    def __init__(self):
        self.free, self.names, self.used = [3, 2, 1], {"a": 1}, {5}

    def all(self):
        return self.free, self.names, self.used

    def copies(self):
        return list(self.free), dict(self.names), set(self.used)

    def take(self):
        self.used.add(taken := self.free.pop())
        self.names["b"] = taken
        return taken

    def nested(self):
        return [self.free, [list(self.free)]]

    def hold(self, value):
        self.free.append(value)

    def retype(self, kind):
        self.free[:] = map(kind, self.free)


def fill_through_a_reshape(array):
    array.reshape(-1)[:] = 7


def strides(array):
    return array.strides


def fill(array):
    array[...] = 7


def zeros(count):
    return np.zeros(count, np.uint8)
"""


@pytest.fixture(scope="module")
def here() -> Any:
    module = ModuleType("here")
    exec(SOLUTION, module.__dict__)
    return module


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    pytest.importorskip("msgspec")
    file = tmp_path_factory.mktemp("solution") / "01_mlp.py"
    file.write_text(SOLUTION, "utf-8")
    challenge = manifest.load(ROOT / "challenges/01_mlp")

    def make(home: Path) -> source.Source:
        return source.of_grader(challenge, file, home)

    carrier = Carrier(make, walls(), limits.NUMPY, 60.0)
    carrier.begin()
    yield carrier.module()
    carrier.close()


@pytest.fixture(params=["here", "worker"])
def solution(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


class TestBoxes:
    """Lists, dicts and sets that a call returns."""

    def test_what_the_solution_changes_later_is_seen(self, solution: Any) -> None:
        """They are its own, and so is what a nested list holds."""
        pool = solution.Pool()
        free, names, used = pool.all()
        outer = pool.nested()

        assert pool.take() == 1

        assert (free, names, used) == ([3, 2], {"a": 1, "b": 1}, {5, 1})
        assert outer == [[3, 2], [[3, 2, 1]]]

    def test_what_the_caller_changes_reaches_the_solution(self, solution: Any) -> None:
        """Whoever hands out its own list gets it back changed."""
        pool = solution.Pool()
        free, names, used = pool.all()

        free.append(9)
        names.clear()
        used.add(6)

        assert pool.take() == 9
        assert pool.copies() == ([3, 2, 1], {"b": 9}, {5, 6, 9})

    @pytest.mark.parametrize("kind", [float, bool])
    def test_a_number_of_another_type_is_another_one(self, solution: Any, kind: type) -> None:
        """Though Python says that 1 == 1.0 == True."""
        pool = solution.Pool()
        free, _, _ = pool.all()
        free[:] = [1, 0]

        pool.retype(kind)

        assert free == [1, 0]
        assert {type(item) for item in free} == {kind}

    def test_a_copy_is_the_callers_own(self, solution: Any) -> None:
        """Neither side sees what the other one does to its own."""
        pool = solution.Pool()
        free, names, used = pool.copies()

        pool.take()
        assert (free, names, used) == ([3, 2, 1], {"a": 1}, {5})
        free.clear()
        used.clear()
        assert pool.take() == 2

    def test_a_list_that_holds_more_than_numbers_is_left_alone(self, solution: Any) -> None:
        """What does not stay plain is no longer compared, and nothing breaks."""
        pool = solution.Pool()
        free, _, _ = pool.all()

        pool.hold([1, 2])
        pool.hold(4)

        assert free[:3] == [3, 2, 1]
        assert pool.copies()[0] == [3, 2, 1, [1, 2], 4]

    def test_boxes_that_nobody_has_any_more_are_forgotten(self, worker: Any) -> None:
        """Otherwise each message would compare all that there ever were."""
        pool = worker.Pool()
        table = pool._llmgrind_peer.codec.shared.boxes

        for _ in range(50):
            pool.all()

        assert len(table) <= 6


LAYOUTS = {
    "every other column": lambda: np.zeros((4, 6))[:, ::2],
    "axes swapped": lambda: np.zeros((2, 3, 4)).swapaxes(1, 2),
    "from the end": lambda: np.zeros((3, 4))[::-1, ::-2],
    "a field of rows": lambda: np.zeros((2, 5, 3))[:, 1:4],
    "in one piece": lambda: np.zeros((3, 4)),
    "in Fortran order": lambda: np.zeros((3, 4), order="F"),
    "far apart": lambda: np.zeros((2, 4000))[:, :2],
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_array_lies_in_the_worker_as_it_does_here(here: Any, worker: Any, layout: str) -> None:
    """A reshape that copies here copies there: what is written to the copy is lost."""
    array, same = LAYOUTS[layout](), LAYOUTS[layout]()

    here.fill_through_a_reshape(array)
    worker.fill_through_a_reshape(same)
    if layout == "far apart":  # which would cost a thousand times its bytes
        assert (array == 0).all()
    else:
        assert worker.strides(same) == array.strides
        assert np.array_equal(same, array)

    worker.fill(same)
    assert (same == 7).all()


def test_an_answer_of_more_than_a_message_holds_is_over_a_limit(worker: Any) -> None:
    """It is told so, nothing is copied before, and the worker goes on."""
    with pytest.raises(Breach, match="returned arrays of more than 512 MiB") as raised:
        worker.zeros((1 << 29) + 1)

    assert raised.value.word == breach.MEMORY
    assert len(worker.zeros(5)) == 5
