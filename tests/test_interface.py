"""The names of a stub, and whether a module answers the same calls."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_llmgrind import interface
from pytest_llmgrind.loader import import_fresh

STUB = '''
"""Sums."""

import dataclasses

LIMIT = 3
WIDTH: int = 4


@dataclasses.dataclass
class Config:
    """Given."""

    dim: int
    eps: float = 1e-5
    cache: object = dataclasses.field(init=False)


def generate(params, ids, /, n=1, *, eos_id=None):
    """Tokens."""
    raise NotImplementedError("01_x, stage 1")


class Cache:
    """Keys."""

    def __init__(self, size):
        """Empty."""
        raise NotImplementedError("01_x, stage 2")

    def append(self, k, *, at=0):
        """One more."""
        raise NotImplementedError("01_x, stage 2")

    @property
    def nbytes(self):
        """Bytes."""
        raise NotImplementedError("01_x, stage 2")

    @staticmethod
    def of(k):
        """Made of k."""
        raise NotImplementedError("01_x, stage 2")


def _private(): ...
'''
GOOD = """
import dataclasses
LIMIT, WIDTH = 3, 4
@dataclasses.dataclass
class Config:
    dim: int
    eps: float = 1e-5
def generate(params, ids, /, n=1, *, eos_id=None): ...
class Cache:
    def __init__(self, size): self.nbytes = 0
    def append(self, k, *, at=0): ...
    @staticmethod
    def of(k): ...
"""


@pytest.fixture
def stub(tmp_path: Path) -> Path:
    (tmp_path / "stub.py").write_text(STUB, "utf-8")
    return tmp_path / "stub.py"


def said(stub: Path, source: str) -> str:
    """What is wrong with a module of that text."""
    file = stub.with_name("solution.py")
    file.write_text(source)
    return interface.mismatch(import_fresh(file, None), interface.names(stub))


def test_names_are_what_a_learner_keeps(stub: Path) -> None:
    """Public functions, classes, methods and constants; no private names, no properties."""
    found = [name.path for name in interface.names(stub)]

    assert found == [
        "LIMIT",
        "WIDTH",
        "Config",
        "generate",
        "Cache",
        "Cache.__init__",
        "Cache.append",
        "Cache.of",
    ]


def test_todos_carry_their_text(stub: Path) -> None:
    """A function whose body is the one raise is to do, and says of which stage."""
    todos = {name.path: name.todo for name in interface.names(stub) if name.todo}

    assert todos["generate"] == "01_x, stage 1"
    assert todos["Cache.append"] == "01_x, stage 2"


def test_a_module_with_the_same_names_answers(stub: Path) -> None:
    """A property may be an attribute, and an alias is as good as a definition."""
    assert said(stub, GOOD) == ""


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        (
            "def generate",
            "def generated",
            "generate is missing; the stub has"
            " generate(params, ids, /, n=1, *, eos_id=None) in line 19",
        ),
        ("LIMIT, WIDTH = 3, 4", "LIMIT = 3", "WIDTH is missing; the stub has WIDTH in line 7"),
        (
            "    def append(self, k, *, at=0): ...\n",
            "",
            "Cache.append is missing; the stub has Cache.append(k, *, at=0) in line 31",
        ),
        (
            "n=1, *, eos_id=None",
            "n=1",
            "generate takes (params, ids, /, n=…) (got an unexpected keyword argument 'eos_id');"
            " the stub has generate(params, ids, /, n=1, *, eos_id=None) in line 19",
        ),
        (
            "(params, ids, /, n=1",
            "(params, ids, temperature, n=1",
            "generate takes (params, ids, temperature, n=…, *, eos_id=…)"
            " (missing a required argument: 'temperature');"
            " the stub has generate(params, ids, /, n=1, *, eos_id=None) in line 19",
        ),
        (
            "append(self, k, *, at=0)",
            "append(self, key, *, at=0)",
            "Cache.append takes (key, *, at=…) (missing a required argument: 'key');"
            " the stub has Cache.append(k, *, at=0) in line 31",
        ),
        (
            "    eps: float = 1e-5\n",
            "",
            "Config takes (dim) (too many positional arguments);"
            " the stub has Config(dim, eps=1e-05) in line 11",
        ),
        (
            "def of(k): ...",
            "def of(): ...",
            "Cache.of takes () (too many positional arguments);"
            " the stub has Cache.of(k) in line 41",
        ),
    ],
)
def test_what_a_module_lacks_is_said_with_the_stubs_line(
    stub: Path, old: str, new: str, text: str
) -> None:
    """A missing name and a signature that refuses a call of the stub's are named."""
    assert old in GOOD

    assert said(stub, GOOD.replace(old, new)) == text


def test_a_value_is_no_function(stub: Path) -> None:
    """A constant where a function is wanted is said to be one."""
    assert said(stub, GOOD + "generate = 3").startswith("generate is an int, not a function; ")


@pytest.mark.parametrize(
    "change",
    [
        "import functools\ngenerate = functools.partial(generate)",
        "def generate(*args, **kwargs): ...",
        "def generate(params, ids, n=1, *, eos_id=None, extra=0): ...",
        "import functools\ngenerate = functools.cache(generate)",
        "class Base:\n    def append(self, k, *, at=0): ...\nclass Cache(Base):\n"
        "    def __init__(self, size): ...\n    @classmethod\n    def of(cls, k): ...",
    ],
)
def test_other_ways_to_take_the_same_calls_are_fine(stub: Path, change: str) -> None:
    """What counts is which calls are answered, not how the definition looks."""
    assert said(stub, GOOD + change) == ""


def test_a_signature_that_cannot_be_read_is_let_pass(stub: Path) -> None:
    """A callable that hides its signature is found out by the tests that call it."""
    nasty = """
class Nasty:
    @property
    def __signature__(self): raise RuntimeError
    def __call__(self): ...
generate = Nasty()
"""
    assert said(stub, GOOD + nasty) == ""


class TestUntouched:
    """Whether somebody has begun in a stub."""

    REFERENCE = "def add(a, b):\n    return a + b\n\ndef given(x):\n    return x\n"

    def begun(self, tmp_path: Path, stub: str) -> bool:
        (tmp_path / "stub.py").write_text(stub)
        (tmp_path / "reference.py").write_text(self.REFERENCE)
        return not interface.untouched(tmp_path / "stub.py", tmp_path / "reference.py")

    TODO = 'def add(a, b):\n    """Doc."""\n    # TODO\n    raise NotImplementedError("s 1")\n'

    @pytest.mark.parametrize("given", ["", "def given(x):\n    return x\n", "X = 3\n"])
    def test_todos_and_what_is_given_are_no_beginning(self, tmp_path: Path, given: str) -> None:
        """A function that reads as in the reference was given with the stub."""
        assert not self.begun(tmp_path, self.TODO + given)

    @pytest.mark.parametrize(
        "stub",
        [
            "def add(a, b):\n    return 0\n",
            TODO.replace("    raise", "    x = 1\n    raise"),
            TODO + "def given(x):\n    return x + 1\n",
            TODO + "def helper(x):\n    return x\n",
            "def add(a, b:\n",
            "\0",
        ],
    )
    def test_any_other_body_is_a_beginning(self, tmp_path: Path, stub: str) -> None:
        """A line of code in a TODO, a helper, and a syntax error show that somebody began."""
        assert self.begun(tmp_path, stub)
