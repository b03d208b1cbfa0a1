"""Whatever a worker sends, the grader takes it as a value, an exception or a breach."""

from __future__ import annotations

import socket
import threading
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

pytest.importorskip("msgspec", reason="pip install pytest-llmgrind[graded]")

from pytest_llmgrind.graded import breach, nodes
from pytest_llmgrind.graded.breach import Breach
from pytest_llmgrind.graded.grader import Grader
from pytest_llmgrind.graded.nodes import Parts
from pytest_llmgrind.graded.wire import HEADER, MAGIC, PIECE, REGION_BYTES, Wire

MANY = settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None
)
WORDS = {breach.PROTOCOL, breach.CRASHED, breach.TIME, breach.FORBIDDEN}
PATIENCE_S = 20.0
REGION: Any = bytearray(REGION_BYTES)


@dataclass
class Nobody:
    """A worker's process that is not there; what it would say has been said before."""

    broken: Breach | None = None

    @property
    def alive(self) -> bool:
        return self.broken is None

    def end(self, why: Breach | None = None) -> None:
        self.broken = self.broken or why

    def autopsy(self) -> Breach:
        return self.broken or Breach(breach.CRASHED, "its process closed the connection")


class Adder:
    """An object of the test's own that is passed in."""

    _secret = "open sesame"

    def __init__(self) -> None:
        self.total = 0

    def add(self, number: int) -> int:
        self.total += number
        return self.total


class Conversation:
    """A grader that asks once, with an array, a list and an object, and hears ``answers``."""

    def __init__(self, *answers: bytes) -> None:
        self.ours, self.theirs = socket.socketpair()
        self.process = Nobody()
        self.grader = Grader(0, process=self.process, deadline=time.monotonic() + PATIENCE_S)
        self.grader.wires[threading.get_ident()] = Wire(self.ours, None, REGION)
        self.array, self.list, self.adder = np.arange(3.0), [1, 2], Adder()
        self.answers = answers
        self.heard: list[bytes] = []

    def ask(self) -> Any:
        """The value; the threads and sockets are gone afterwards."""
        worker = threading.Thread(target=self._say)
        worker.start()
        try:
            return self.grader.call(7, "f", (self.array, self.list, self.adder, len), {})
        finally:
            self.ours.close()
            worker.join()

    def _say(self) -> None:
        with self.theirs:
            try:
                for answer in self.answers:
                    self.heard.append(self.theirs.recv(1 << 16))
                    self.theirs.sendall(answer)
                self.theirs.shutdown(socket.SHUT_WR)
                while self.theirs.recv(1 << 16):
                    pass
            except OSError:
                pass  # the grader hung up


def framed(body: bytes, *buffers: bytes) -> bytes:
    """A message as an honest worker frames it."""
    pieces = b"".join(PIECE.pack(-1, len(buffer)) for buffer in buffers)
    inline = b"".join(buffers)
    total = HEADER.size + len(pieces) + len(body) + len(inline)
    return HEADER.pack(MAGIC, len(body), len(buffers), total) + pieces + body + inline


def message(node: nodes.Message, *buffers: bytes) -> bytes:
    return framed(nodes.ENCODER.encode(node), *buffers)


def outcome(conversation: Conversation) -> str:
    """``value``, ``raised`` or the word of a breach; anything else of the grader's is a failure."""
    try:
        conversation.ask()
    except (Breach, Exception) as error:
        return _word(error, conversation)
    return "value"


def _word(error: BaseException, conversation: Conversation) -> str:
    if isinstance(error, Breach):
        assert error.word in WORDS
        assert len(str(error)) < 500
        if error.word != breach.FORBIDDEN:  # a worker may say that of its own solution
            assert not conversation.process.alive
        return error.word
    if error in conversation.grader._errors.values():
        return "raised"  # an exception of the test's own, which came back
    raised_by = [frame.f_code.co_name for frame in _frames(error)][-1]
    assert raised_by == "_exchange", f"the grader's own mistake: {error!r} in {raised_by}"
    return "raised"


def _frames(error: BaseException) -> list[Any]:
    found, trace = [], error.__traceback__
    while trace is not None:
        found.append(trace.tb_frame)
        trace = trace.tb_next
    return found


# -- bytes ------------------------------------------------------------------------------------


@MANY
@given(noise=st.binary(max_size=200))
def test_noise_is_no_message(noise: bytes) -> None:
    """Bytes that do not begin like a message, or end too soon, are a breach."""
    assert outcome(Conversation(noise)) in (breach.PROTOCOL, breach.CRASHED)


@MANY
@given(
    length=st.integers(0, 2**32 - 1),
    number=st.integers(0, 2**32 - 1),
    total=st.integers(0, 2**64 - 1),
    rest=st.binary(max_size=64),
)
def test_headers_that_lie(length: int, number: int, total: int, rest: bytes) -> None:
    """Sizes are not believed: no memory is taken for what cannot be, and nothing is waited for."""
    head = HEADER.pack(MAGIC, length, number, total)

    assert outcome(Conversation(head + rest)) in (breach.PROTOCOL, breach.CRASHED)


@MANY
@given(places=st.lists(st.tuples(st.integers(-(2**63), 2**63 - 1), st.integers(0, 2**64 - 1))))
def test_arrays_outside_of_their_memory(places: list[tuple[int, int]]) -> None:
    """A piece that lies elsewhere, or is larger than all memory, is a breach."""
    body = nodes.ENCODER.encode(nodes.Return(1))
    pieces = b"".join(PIECE.pack(*place) for place in places)
    total = HEADER.size + len(pieces) + len(body)
    data = HEADER.pack(MAGIC, len(body), len(places), total) + pieces + body

    found = outcome(Conversation(data))

    inside = all(0 <= place <= REGION_BYTES - size for place, size in places)
    assert found == ("value" if inside else breach.PROTOCOL)


@MANY
@pytest.mark.filterwarnings("ignore")
@given(place=st.integers(0, 10**6), value=st.integers(0, 255), data=st.data())
def test_messages_with_a_wrong_byte(place: int, value: int, data: st.DataObject) -> None:
    """One byte of an honest answer is replaced."""
    honest = bytearray(message(*data.draw(ANSWERS)))
    honest[place % len(honest)] = value

    event(outcome(Conversation(bytes(honest))))


# -- nodes ------------------------------------------------------------------------------------

NUMBERS = st.sampled_from([0, 1, 2, 2, 4, 4, 6, 7, -1, 64, 2**31, 2**63 - 1, -(2**63)])
NAMES = st.sampled_from(
    [
        "float",
        "eval",
        "exec",
        "__import__",
        "open",
        "load",
        "memmap",
        "os.system",
        "total",
        "add",
        "list",
        "ndarray",
        "_secret",
        "__class__",
        "__globals__",
        "__dict__",
        "x[0]",
        "x.y",
        "",
    ]
)
DTYPES = st.sampled_from(
    ["<f8", "<i4", "|b1", "|O", "|O8", "<M8[ns]", "|V999999999", "<U9", "", "f"]
)
SHAPES = st.lists(NUMBERS, max_size=4)
ARRAYS = st.builds(
    nodes.Array,
    id=NUMBERS,
    dtype=DTYPES,
    shape=SHAPES,
    order=st.sampled_from("CF"),
    buffer=NUMBERS,
    writeable=st.booleans(),
    faithful=st.booleans(),
    kind=st.sampled_from(["", "torch", "matrix", "memmap"]),
    strides=st.just([]) | SHAPES,
)
VIEWS = st.builds(
    nodes.View,
    id=NUMBERS,
    dtype=DTYPES,
    shape=st.none() | SHAPES,
    strides=SHAPES,
    offset=NUMBERS,
    writeable=st.booleans(),
)
KINDS = ("dtype", "type", "builtin", "numpy", "torch", "ellipsis", "notimplemented")
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    NUMBERS,
    st.floats(),
    st.text(max_size=5),
    st.builds(nodes.Data, st.binary(max_size=8)),
    st.builds(nodes.Big, st.sampled_from(["0x10", "-0x1", "10", "zz", "", "0x" + "f" * 5000])),
    st.builds(nodes.Complex, st.floats(), st.floats()),
    ARRAYS,
    VIEWS,
    st.builds(nodes.Scalar, DTYPES, st.binary(max_size=8)),
    st.builds(nodes.Known, st.sampled_from(KINDS), NAMES),
    st.builds(nodes.Ref, NUMBERS, NAMES, st.lists(NAMES, max_size=3)),
    st.builds(nodes.Raises, NUMBERS, NAMES, NAMES),
    st.builds(nodes.Back, NUMBERS),
    st.builds(nodes.Boxed, NUMBERS),
)


def holding(inner: st.SearchStrategy[nodes.Node]) -> st.SearchStrategy[nodes.Node]:
    """Nodes that hold others."""
    some = st.lists(inner, max_size=3)
    return st.one_of(
        st.builds(nodes.Sequence, st.sampled_from(["list", "tuple", "set", "frozenset"]), some),
        st.builds(nodes.Mapping, st.lists(st.tuples(inner, inner), max_size=2)),
        st.builds(nodes.Slice, inner, inner, inner),
        st.builds(nodes.Named, NUMBERS, NAMES, st.lists(NAMES, max_size=3), some),
        st.builds(nodes.Generator, NUMBERS, NAMES, inner),
    )


NODES = LEAVES | holding(LEAVES | holding(LEAVES))
CHANGES = st.just([]) | st.lists(st.builds(nodes.Change, NUMBERS, NUMBERS, NODES), max_size=2)
EDITS = st.just([]) | st.lists(st.builds(nodes.Edit, NUMBERS, NODES), max_size=2)
ERRORS = st.builds(
    nodes.Error,
    name=NAMES,
    base=NAMES | st.sampled_from(["ValueError", "KeyError", "SystemExit", "KeyboardInterrupt"]),
    args=st.lists(NODES, max_size=2),
    frames=st.lists(st.builds(nodes.Frame, NAMES, NUMBERS, NAMES), max_size=2),
    cls=NUMBERS,
    id=NUMBERS,
    own=NUMBERS,
    blocks=st.sampled_from(["", "forbidden", "x"]),
)
DROPS = st.just([]) | st.lists(NUMBERS, max_size=3)
WARNED = st.lists(st.tuples(NAMES, NAMES), max_size=2)
BOXES = st.just([]) | st.lists(st.tuples(NUMBERS, NUMBERS), max_size=3)
RETURNS = st.builds(nodes.Return, NODES, CHANGES, EDITS, DROPS, DROPS, WARNED, BOXES)
RAISES = st.builds(nodes.Raise, ERRORS, CHANGES, EDITS, DROPS, WARNED)
CALLS = st.builds(
    nodes.Call,
    target=NUMBERS,
    name=NAMES | st.sampled_from(["__call__", "__setattr__", "__reduce_ex__"]),
    args=st.lists(NODES, max_size=2),
    kwargs=st.dictionaries(NAMES, NODES, max_size=1),
    changes=CHANGES,
    drop=DROPS,
    errstate=st.sampled_from(["", "rrrr", "zzzzzz"]),
)
ASKED = CALLS | st.builds(nodes.Get, NUMBERS, NAMES, CHANGES, DROPS)
ANSWERS = st.tuples(RETURNS | RAISES, st.binary(max_size=24))


@MANY
@pytest.mark.filterwarnings("ignore")
@given(answer=ANSWERS)
def test_answers_of_any_content(answer: Any) -> None:
    """Numbers of nothing, shapes without end, types of objects: a value, an exception, a breach."""
    event(outcome(Conversation(message(*answer))))


@MANY
@pytest.mark.filterwarnings("ignore")
@given(asked=ASKED, answer=ANSWERS)
def test_questions_of_any_content(
    asked: nodes.Message, answer: tuple[nodes.Message, bytes]
) -> None:
    """The same where a worker first asks for something of the grader's."""
    conversation = Conversation(message(asked, b"12345678"), message(*answer))

    event(outcome(conversation))

    assert Adder._secret == "open sesame"
    assert Adder.add.__name__ == "add"


@pytest.mark.parametrize(
    "node",
    [
        nodes.Known("builtin", "eval"),
        nodes.Known("builtin", "exec"),
        nodes.Known("builtin", "open"),
        nodes.Known("builtin", "__import__"),
        nodes.Known("builtin", "getattr"),
        nodes.Known("type", "type"),
        nodes.Known("numpy", "load"),
        nodes.Known("numpy", "fromfile"),
        nodes.Known("numpy", "memmap"),
        nodes.Known("numpy", "save"),
        nodes.Known("dtype", "|O"),
        nodes.Scalar("|O", b"12345678"),
        nodes.Array(2, "|O", [1], "C", 0, True, True),
        nodes.Array(2, "<f8", [2**40], "C", 0, True, True),
        nodes.Array(2, "<f8", [-1], "C", 0, True, True),
        nodes.View(2, "<f8", [4], [8], 2**40, True),
        nodes.Generator(2, "os.system", None),
    ],
    ids=repr,
)
def test_what_would_be_dangerous_is_refused(node: nodes.Node) -> None:
    """No code of the grader's runs for it, and no memory but its own is shown."""
    assert outcome(Conversation(message(nodes.Return(node), b"12345678"))) == breach.PROTOCOL


def test_a_value_nested_too_deep_is_refused() -> None:
    """Neither the stack of the grader nor its time is at the worker's command."""
    deep = b"\x93\xa1s\xa4list\x91" * 100_000 + b"\x01"

    assert outcome(Conversation(framed(b"\x96\xa3ret" + deep))) == breach.PROTOCOL


@pytest.mark.parametrize("name", ["_secret", "__class__", "__dict__", "__reduce_ex__", "__init__"])
def test_private_names_are_not_answered(name: str) -> None:
    """Of an object that a test passes in, a solution sees public names alone."""
    conversation = Conversation()
    number = conversation.grader.codec.encode(conversation.adder, Parts()).id  # type: ignore[union-attr]
    conversation.answers = (message(nodes.Get(number, name)), message(nodes.Return(5)))

    assert conversation.ask() == 5
    answer = nodes.DECODER.decode(conversation.heard[1][HEADER.size :])
    assert isinstance(answer, nodes.Raise)
    assert answer.error.name == "AttributeError"


def test_public_names_are_answered() -> None:
    """What the tests above would miss if nothing were answered at all."""
    conversation = Conversation()
    number = conversation.grader.codec.encode(conversation.adder, Parts()).id  # type: ignore[union-attr]
    asked = nodes.Call(number, "add", [5], {})
    conversation.answers = (message(asked), message(nodes.Return(6)))

    assert (conversation.ask(), conversation.adder.total) == (6, 5)
