"""The reference of 09_continuous_batching against slow models of the same rules.

No library schedules without a GPU and a model behind it. So each thing is written here once more in
another way, too slow to be of use and hard to get wrong: budgets are handed out token by token, who
runs is found by trying, batches are tables with a cell for each row and step.
"""

from __future__ import annotations

import importlib
import importlib.util
import itertools
import math
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
CHALLENGE = ROOT / "challenges" / "09_continuous_batching"
SEEDS = range(12)


def load(path: Path, name: str) -> ModuleType:
    """A module from a file; it stands in sys.modules, where dataclasses look for it."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def hidden(name: str) -> ModuleType:
    """A hidden helper, in a package of its own as in a graded run."""
    package = sys.modules.setdefault("hidden_09", ModuleType("hidden_09"))
    package.__path__ = [str(CHALLENGE / "hidden")]
    return importlib.import_module(f"hidden_09.{name}")


reference = load(ROOT / "reference" / "09_continuous_batching.py", "reference_09")
engine, trace = hidden("engine"), hidden("trace")


def draw(seed: int, n: int = 12, output: int = 30) -> list[Any]:
    """Requests under shuffled ids, in order of arrival."""
    rng = np.random.default_rng(seed)
    ids, arrivals = rng.permutation(3 * n)[:n].tolist(), np.sort(rng.integers(0, 40, n)).tolist()
    prompts, outputs = rng.integers(1, 40, n).tolist(), rng.integers(1, output, n).tolist()
    tops = [o + int(rng.integers(0, 60)) for o in outputs]
    rows = zip(ids, arrivals, prompts, outputs, tops, strict=True)
    return [reference.Request(*row) for row in rows]


# -- the scheduler ------------------------------------------------------------------------------


class Slow:
    """The rules as they are written: decodes first, then token by token to the first that may."""

    def __init__(self, seats: int, budget: float, threshold: float, slots: float) -> None:
        self.seats, self.budget, self.threshold, self.slots = seats, budget, threshold, slots
        self.order: list[int] = []
        self.prompt: dict[int, int] = {}
        self.top: dict[int, int] = {}
        self.output: dict[int, int] = {}
        self.cached: dict[int, set[int]] = {}  # the positions of which keys and values are held

    def add_request(self, id: int, prompt_len: int, max_tokens: int) -> None:
        self.order.append(id)
        self.prompt[id], self.top[id] = prompt_len, prompt_len + max_tokens - 1
        self.output[id], self.cached[id] = 0, set()

    def finish(self, ids: list[int]) -> None:
        self.order = [id for id in self.order if id not in ids]

    def missing(self, id: int) -> list[int]:
        return sorted(set(range(self.prompt[id] + self.output[id])) - self.cached[id])

    def fits(self, ids: list[int], ahead: float) -> bool:
        sizes = [min(self.prompt[i] + self.output[i] + ahead, max(self.top[i], 1)) for i in ids]
        return sum(sizes) <= self.slots

    def running(self) -> tuple[list[int], list[int]]:
        begun = [id for id in self.order if self.cached[id]]
        # The longest beginning of those who hold slots that fits; then as many more as may enter.
        keep = max(k for k in range(len(begun) + 1) if self.fits(begun[:k], 0))
        if keep < len(begun):
            return begun[:keep], begun[keep:]
        most = keep
        while most < min(self.seats, len(self.order)) and self.fits(
            self.order[: most + 1], reference._LOOKAHEAD
        ):
            most += 1
        return self.order[:most], []

    def schedule(self) -> tuple[dict[int, int], list[int]]:
        running, preempted = self.running()
        for id in preempted:
            self.cached[id] = set()
        missing = {id: self.missing(id) for id in running}
        given = dict.fromkeys(running, 0)
        for id in running:
            given[id] += bool(self.cached[id]) and len(missing[id]) == 1
        while sum(given.values()) < self.budget:
            may = [i for i in running if given[i] < min(len(missing[i]), self.threshold)]
            if not may:
                break
            given[may[0]] += 1
        for id, n in given.items():
            self.cached[id] |= set(missing[id][:n])
            self.output[id] += n == len(missing[id])
        return {id: n for id, n in given.items() if n}, preempted


class Both:
    """Asks the reference and the slow model, which have to agree on every plan."""

    def __init__(self, **limits: Any) -> None:
        self.own = reference.Scheduler(**limits)
        names = ("max_num_batched_tokens", "long_prefill_token_threshold", "kv_slots")
        self.slow = Slow(limits["max_num_seqs"], *(limits.get(n) or math.inf for n in names))
        self.preempted = 0

    def add_request(self, *request: int) -> None:
        self.own.add_request(*request)
        self.slow.add_request(*request)

    def finish(self, ids: list[int]) -> None:
        self.own.finish(ids)
        self.slow.finish(ids)

    def schedule(self) -> tuple[dict[int, int], list[int]]:
        plan, slow = self.own.schedule(), self.slow.schedule()
        assert plan == slow
        self.preempted += len(plan[1])
        return plan


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    "limits",
    [
        {"max_num_seqs": 1},
        {"max_num_seqs": 3},
        {"max_num_seqs": 3, "max_num_batched_tokens": 3},
        {"max_num_seqs": 4, "max_num_batched_tokens": 16},
        {"max_num_seqs": 4, "max_num_batched_tokens": 16, "long_prefill_token_threshold": 5},
        {"max_num_seqs": 5, "long_prefill_token_threshold": 2},
        {"max_num_seqs": 8, "max_num_batched_tokens": 16, "kv_slots": 150},
        {"max_num_seqs": 2, "max_num_batched_tokens": 9, "kv_slots": 130},
        {
            "max_num_seqs": 9,
            "max_num_batched_tokens": 11,
            "kv_slots": 140,
            "long_prefill_token_threshold": 4,
        },
    ],
)
def test_every_plan_is_that_of_the_slow_model(seed: int, limits: dict[str, int]) -> None:
    """Requests that are given up while they wait or run included."""
    requests = draw(seed)
    rng = np.random.default_rng(seed)
    leave = {
        int(step): [r.request_id]
        for step, r in zip(rng.integers(3, 60, 4), requests[::3], strict=True)
    }
    rows = [
        engine.Request(r.request_id, r.arrival_us, r.prompt_len, r.output_len, r.max_tokens)
        for r in requests
    ]

    both = Both(**limits)
    log = engine.run(both, rows, given="", cancelled=leave)

    assert len(log.steps) > 30


@pytest.mark.parametrize("ahead", [0, 8, math.inf])
def test_admission_with_another_lookahead(ahead: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Greedy admission preempts, Orca's reservation of max_tokens never does (its algorithm 1)."""
    monkeypatch.setattr(reference, "_LOOKAHEAD", ahead)
    preempted = 0

    for seed in SEEDS:
        both = Both(max_num_seqs=9, max_num_batched_tokens=16, kv_slots=140)
        reference.simulate(both, draw(seed, output=50), step_us=lambda tokens: 1)
        preempted += both.preempted

    assert (preempted > 20) == (ahead == 0)
    assert (preempted == 0) == (ahead == math.inf)


def test_the_lookahead_of_the_reference_preempts_now_and_then() -> None:
    """Else no plan above would have had a preemption in it."""
    preempted = 0

    for seed in SEEDS:
        requests = draw(seed, output=90)
        slots = max(r.prompt_len + r.max_tokens - 1 for r in requests)
        both = Both(max_num_seqs=9, max_num_batched_tokens=16, kv_slots=slots)
        reference.simulate(both, requests, step_us=lambda tokens: 1)
        preempted += both.preempted

    assert preempted >= 5


# -- static batching ----------------------------------------------------------------------------


def slow_static(requests: list[Any], seats: int) -> tuple[int, int, int, list[list[int]]]:
    """Batches as tables: a row a request, a column a step, 2 where the row is served by a cell."""
    queue = sorted(enumerate(requests), key=lambda pair: (pair[1].arrival_us, pair[0]))
    times: list[list[int]] = [[] for _ in requests]
    steps = computed = padded = now = 0
    while queue:
        while not any(r.arrival_us <= now for _, r in queue):
            now += 1  # a microsecond at a time
        batch = list(itertools.islice((p for p in queue if p[1].arrival_us <= now), seats))
        queue = [pair for pair in queue if pair not in batch]
        width = max(r.prompt_len for _, r in batch) + max(r.output_len for _, r in batch) - 1
        served = np.zeros((len(batch), width), bool)
        prefill = max(r.prompt_len for _, r in batch)
        for row, (_, r) in enumerate(batch):
            served[row, prefill - r.prompt_len : prefill] = True  # padded on the left
            served[row, prefill : prefill + r.output_len - 1] = True
        for columns in [range(prefill), *([c] for c in range(prefill, width))]:
            now += 20_000 + 100 * len(batch) * len(columns)
            steps += 1
            for row, (place, _) in enumerate(batch):
                if served[row, columns[-1]]:
                    times[place].append(now)
        computed, padded = computed + served.size, padded + int((~served).sum())
    return steps, computed, padded, times


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("seats", [1, 2, 3, 5, 20])
def test_static_batching_is_that_of_the_tables(seed: int, seats: int) -> None:
    """With arrivals that are equal, out of order, and far apart."""
    rng = np.random.default_rng([seed, seats])
    arrivals = (rng.integers(0, 12, 9) * 20_000).tolist()
    sizes = rng.integers(1, 9, (9, 2)).tolist()
    requests = [
        reference.Request(i, a, *row, 9)
        for i, (a, row) in enumerate(zip(arrivals, sizes, strict=True))
    ]

    report = reference.static_batching(requests, max_num_seqs=seats)

    saw = (report.steps, report.computed_tokens, report.padded_tokens, report.token_us)
    assert saw == slow_static(requests, seats)


# -- the engines and the trace ------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_the_given_engine_is_that_of_the_tests(seed: int) -> None:
    """The same times of the same tokens."""
    limits = {"max_num_seqs": 5, "max_num_batched_tokens": 16, "kv_slots": 130}
    requests = draw(seed)
    rows = [
        engine.Request(r.request_id, r.arrival_us, r.prompt_len, r.output_len, r.max_tokens)
        for r in requests
    ]

    report = reference.simulate(reference.Scheduler(**limits), requests)
    log = engine.run(
        reference.Scheduler(**limits), rows, given="", step_us=lambda n: 20_000 + 100 * n
    )

    assert report.token_us == list(log.times.values())
    assert report.steps == len(log.steps)
    assert report.computed_tokens == sum(sum(step.tokens.values()) for step in log.steps)


def test_the_recorded_trace_is_the_one_that_the_stub_makes() -> None:
    """Row by row; a platform on which it is not would show it here."""
    made = reference.make_trace(trace.SEED, 150)
    rows = [(r.id, r.arrival, r.prompt_len, r.output_len, r.max_tokens) for r in trace.requests()]

    want = [(r.request_id, r.arrival_us, r.prompt_len, r.output_len, r.max_tokens) for r in made]
    assert rows == want


def test_lengths_of_the_recorded_trace_have_heavy_tails() -> None:
    """The figures that spec.md gives, and a longest that is many times the median."""
    prompts, outputs = np.array([(r.prompt_len, r.output_len) for r in trace.requests()]).T

    assert (np.sort(prompts)[74], prompts.max()) == (58, 1568)
    assert (np.sort(outputs)[74], outputs.max()) == (40, 400)
    assert np.sort(prompts)[-15:].sum() > prompts.sum() / 3  # a tenth of them


def test_the_figures_of_static_batching_are_those_of_the_manifest() -> None:
    """What challenge.toml says of the recorded trace on 16 rows."""
    requests = reference.make_trace(5, 150)

    report = reference.static_batching(requests, max_num_seqs=16)

    waits = [row[0] - r.arrival_us for row, r in zip(report.token_us, requests, strict=True)]
    rows = 16 * report.steps - sum(r.output_len for r in requests)
    text = (CHALLENGE / "challenge.toml").read_text("utf-8")
    said = [int(n.replace(",", "")) for n in re.findall(r"static batching \w+ ([\d,]*\d)", text)]
    assert said == [report.steps, rows, sum(waits) // len(waits) // 1_000]
