"""All contact with pytest-benchmark: budgets in its table, its files and its comparisons.

Budgets are measured by our own loop, since pytest-benchmark times one function at a time and turns
itself off under xdist. What was measured is handed to it where the terminal is, when the session
ends. Besides documented hooks and options two things of it are touched: the list
``config._benchmarksession.benchmarks`` and the class ``pytest_benchmark.stats.Metadata``.
"""

from __future__ import annotations

import warnings
from collections.abc import Generator, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from pytest_llmgrind.collect import stage_of
from pytest_llmgrind.grading import GRADING
from pytest_llmgrind.tiers import Closing, hardware

FIXTURES = frozenset({"race", "scaling", "peak", "count"})
KEY = "llmgrind"
"""The key of pytest-benchmark's JSON under which the figures of all budgets stand."""

EARLIER = pytest.StashKey[dict[str, float]]()


def measuring(config: pytest.Config) -> bool:
    """Whether budgets are measured: always, but for --benchmark-disable.

    The options are asked, not pytest-benchmark: it also disables itself under xdist.
    """
    disabled = config.getoption("benchmark_disable", False)
    return not disabled or bool(config.getoption("benchmark_enable", False))


def ratios_before(config: pytest.Config) -> dict[str, float]:
    """Node id -> figure of the run that --benchmark-compare names; empty without one."""
    return config.stash.get(EARLIER, {})


def remember(config: pytest.Config, machine_info: dict[str, Any], saved: dict[str, Any]) -> None:
    """Keep the figures of a saved run; compare its GPUs with ours, where it names any."""
    found = saved.get(KEY)
    entries = found.items() if isinstance(found, dict) else ()
    figures = {nodeid: entry["figure"] for nodeid, entry in entries}
    config.stash.setdefault(EARLIER, {}).update(figures)
    machine_info.pop("gpus", None)
    if "gpus" in saved.get("machine_info", {}):
        _name_gpus(machine_info)


def calm(config: pytest.Config) -> None:
    """Keep what pytest-benchmark warns of at the start from ending pytest under ``-W error``.

    Up to 5.2.3 it says under xdist that benchmarks are disabled, also where none of its own was
    asked for: our budgets are measured there. That nothing was saved yet is said once.
    """
    on_worker = hasattr(config, "workerinput")
    warnings.filterwarnings("ignore" if on_worker else "default", "Can't compare. No benchmark")
    warnings.filterwarnings("ignore", r"Benchmarks are .* because xdist plugin is active\.B")


def register(config: pytest.Config) -> None:
    """Connect this session with pytest-benchmark, if that is there."""
    if hasattr(config, "_benchmarksession"):
        config.pluginmanager.register(Bridge(config), "llmgrind-bench-bridge")


class Bridge:
    """The hooks of a session that has pytest-benchmark."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config

    @pytest.hookimpl(wrapper=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> Generator[None]:
        """For --benchmark-only and --benchmark-skip a test with a budget is a benchmark."""
        if not (self.config.getoption("benchmark_only") or self.config.getoption("benchmark_skip")):
            return (yield)
        lent: list[tuple[Any, list[str]]] = [(i, _fixtures(i)) for i in items if has_budget(i)]
        for item, names in lent:
            item.fixturenames = [*names, "benchmark"]
        try:
            return (yield)
        finally:
            for item, names in lent:
                item.fixturenames = names

    @pytest.hookimpl(wrapper=True)
    def pytest_sessionfinish(self) -> Generator[None]:
        """When the session ends pytest-benchmark saves and compares. Of two wrappers the one that
        was registered last begins: this one, before that one."""
        try:
            self._post()
        except (AttributeError, ImportError, TypeError) as error:
            self._say_that_it_broke(error)
        return (yield)

    def pytest_benchmark_update_machine_info(self, machine_info: dict[str, Any]) -> None:
        """pytest-benchmark names no GPU: without this, runs on two cards compare in silence."""
        _name_gpus(machine_info)

    def pytest_benchmark_update_json(self, output_json: dict[str, Any]) -> None:
        output_json[KEY] = {
            nodeid: {**_about(result), **_figures(result["budget"])}
            for nodeid, result in self._measured().items()
        }

    def _post(self) -> None:
        measured = self._measured()
        benches = [bench for nodeid, result in measured.items() for bench in _laps(nodeid, result)]
        if measured and not benches:
            benches = [_placeholder()]
        self.config._benchmarksession.benchmarks.extend(benches)  # type: ignore[attr-defined]

    def _say_that_it_broke(self, error: Exception) -> None:
        import pytest_benchmark

        where = f"the table and files of pytest-benchmark {pytest_benchmark.__version__}"
        line = f"llmgrind: budgets are not in {where}: {error}"
        self.config.pluginmanager.register(Closing(line), "llmgrind-benchmark-broke")

    def _measured(self) -> dict[str, dict[str, Any]]:
        """The last result of each test that has a figure, by node id; a worker sees no results."""
        results = [r for r in self.config.stash[GRADING].results if r["budget"]]
        return {r["nodeid"]: r for r in results if r["budget"]["figure"] is not None}


def has_budget(item: pytest.Item) -> bool:
    """Whether a test of ours measures something."""
    return stage_of(item) is not None and not FIXTURES.isdisjoint(_fixtures(item))


def _fixtures(item: pytest.Item) -> list[str]:
    return getattr(item, "fixturenames", [])


def _laps(nodeid: str, result: dict[str, Any]) -> Iterator[Any]:
    """A benchmark for each lap: of a ``candidate``, or of a ``candidate[64]`` where sizes count."""
    test = nodeid.rpartition("::")[2]
    for lap, loops, seconds in result["budget"].get("laps") or ():
        contender, _, size = lap.rstrip("]").partition("[")
        param = f"{contender}-{size}" if size else contender
        yield benchmark(
            name=_with(test, param),
            fullname=_with(nodeid, param),
            group=f"{result['challenge']} {test.removeprefix('test_')}",
            param=param,
            params={"contender": contender, "size": size},
            extra_info=_figures(result["budget"]),
            loops=loops,
            seconds=seconds,
        )


def benchmark(*, loops: int, seconds: list[float], has_error: bool = False, **about: Any) -> Any:
    from pytest_benchmark import stats

    fixture = SimpleNamespace(cprofile_stats=None, has_error=has_error, **about)
    metadata: Any = stats.Metadata
    bench = metadata(fixture, iterations=loops, options={"timer": "perf_counter"})
    for lap in seconds:
        bench.update(lap * loops)
    return bench


def _placeholder() -> Any:
    """In no table and in no file; without any benchmark no file would be written at all."""
    about = dict.fromkeys(("name", "fullname", "group", "param", "params", "extra_info"))
    return benchmark(loops=1, seconds=[], has_error=True, **about)


def _with(test: str, param: str) -> str:
    """``test_x[3]`` and ``candidate`` as pytest writes parameters: ``test_x[3-candidate]``."""
    return f"{test[:-1]}-{param}]" if test.endswith("]") else f"{test}[{param}]"


def _about(result: dict[str, Any]) -> dict[str, Any]:
    return {key: result[key] for key in ("challenge", "stage", "rule", "solution")}


def _figures(budget: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in budget.items() if key != "laps"}


def _name_gpus(machine_info: dict[str, Any]) -> None:
    machine_info["gpus"] = list(hardware().gpus)
