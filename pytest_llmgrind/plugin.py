"""Entry point: options, markers, and the hooks that meet a challenge.

Everything else is imported when the first challenge is met, so that an installed plugin costs
nothing where there is none.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("llmgrind", "LLM systems challenges")
    group.addoption("--solutions", metavar="DIR", help="grade <DIR>/<id>.py (default: solutions)")
    group.addoption("--graded", action="store_true", help="run the solution behind walls")
    group.addoption(
        "--sandbox",
        choices=["auto", "none"],
        default="auto",
        help="none: --graded without walls, for authors",
    )
    group.addoption("--slow", action="store_true", help="run tests of the slow tier too")
    group.addoption(
        "--require-tier",
        action="append",
        default=[],
        choices=["gpu", "multi_gpu"],
        help="fail, and do not skip, where this hardware is missing",
    )
    group.addoption("--entrants", metavar="DIR", help="rank every <DIR>/<name>/ on the board too")
    group.addoption("--result", metavar="FILE", help="write the verdict on every test to FILE")
    group.addoption("--leaderboard-json", metavar="FILE", help="write the leaderboard to FILE")
    group.addoption("--show-hidden", action="store_true", help="for authors: full tracebacks")
    parser.addini(
        "llmgrind_solutions", "directory of your solutions (default: beside challenges)", default=""
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "rule(id): the rule of spec.md that a hidden test proves")
    config.addinivalue_line("markers", "cpu: runs on any machine")
    config.addinivalue_line("markers", "gpu: needs one GPU")
    config.addinivalue_line("markers", "multi_gpu: needs two GPUs or more")
    config.addinivalue_line("markers", "slow: takes minutes; runs under -m slow or --slow")
    option = config.getoption("solutions")
    if option is not None and not (config.invocation_params.dir / option).is_dir():
        raise pytest.UsageError(f"--solutions: there is no directory {option}")
    if config.getoption("graded"):
        _check_graded(config)
    if any(_concerns_challenges(argument, config) for argument in config.args):
        from pytest_llmgrind.arguments import meant

        config.args[:] = [meant(argument, config) for argument in config.args]
    if _has_suite(config):
        from pytest_llmgrind import bench_bridge

        bench_bridge.calm(config)
    config.pluginmanager.register(Front(config), "llmgrind-front")


class Front:
    """Waits for the first challenge."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config

    def pytest_report_header(self) -> str | None:
        if not _has_suite(self.config):
            return None
        from pytest_llmgrind.tiers import hardware

        return f"llmgrind: {hardware().shown}{_walls(self.config)}"

    def pytest_collect_directory(
        self, path: Path, parent: pytest.Collector
    ) -> pytest.Directory | None:
        if not _may_be_ours(path):
            return None
        from pytest_llmgrind import collect, grading

        grading.activate(self.config)
        return collect.directory_node(path, parent)

    def pytest_pycollect_makemodule(
        self, module_path: Path, parent: pytest.Collector
    ) -> pytest.Module | None:
        if not _may_be_ours(module_path.parent):
            return None
        from pytest_llmgrind import collect, grading

        grading.activate(self.config)
        return collect.module_node(module_path, parent)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: Any) -> None:
        """Reports of xdist's workers arrive where nothing was collected."""
        if hasattr(self.config, "workerinput"):
            return
        if report.when == "???":
            self._add_crash(report)
        if hasattr(report, "llmgrind"):
            from pytest_llmgrind.grading import activate

            activate(self.config).see(report)

    @pytest.hookimpl(optionalhook=True, tryfirst=True)
    def pytest_benchmark_compare_machine_info(
        self, machine_info: dict[str, Any], compared_benchmark: dict[str, Any]
    ) -> None:
        """pytest-benchmark loads the run of --benchmark-compare before anything is collected."""
        from pytest_llmgrind import bench_bridge

        bench_bridge.remember(self.config, machine_info, compared_benchmark)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """``-m gpu`` over challenges without a GPU test is no mistake."""
        names_a_tier = "gpu" in (self.config.getoption("markexpr", "") or "")
        on_worker = hasattr(self.config, "workerinput")
        if exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED and names_a_tier and not on_worker:
            from pytest_llmgrind import tiers

            tiers.settle(session)

    def _add_crash(self, report: Any) -> None:
        from pytest_llmgrind.outcomes import crashed

        data = crashed(self.config, report.nodeid)
        if data is not None:
            report.llmgrind = data


def _check_graded(config: pytest.Config) -> None:
    """Among all words of a command line pytest looks for an ini file, also at --solutions' own."""
    from importlib.util import find_spec

    option = config.getoption("solutions")
    solutions = config.invocation_params.dir / option if option else None
    if solutions and config.inipath and config.inipath.is_relative_to(solutions.resolve()):
        where = f"{option}/{config.inipath.name} belongs to who is graded"
        raise pytest.UsageError(f"--graded: {where}; write --solutions={option} in one word")
    if find_spec("msgspec") is None:
        raise pytest.UsageError("--graded needs msgspec: pip install pytest-llmgrind[graded]")


def _walls(config: pytest.Config) -> str:
    """What stands around the solution, for the header; nothing of it in practice mode."""
    if not config.getoption("graded"):
        return ""
    from pytest_llmgrind.graded.sandbox import walls

    found = walls(config.getoption("sandbox"))
    return f", graded, sandbox: {found.level}" + (f" ({found.why})" if found.why else "")


def _has_suite(config: pytest.Config) -> bool:
    return any(config.rootpath.glob("challenges/*/challenge.toml"))


def _concerns_challenges(argument: str, config: pytest.Config) -> bool:
    path = config.invocation_params.dir / argument.partition("::")[0]
    places = (path, *list(path.parents)[:3])
    return any((p / "challenge.toml").is_file() or (p / "challenges").is_dir() for p in places)


def _may_be_ours(directory: Path) -> bool:
    if (directory / "challenge.toml").is_file():
        return True
    return directory.name == "hidden" and (directory.parent / "challenge.toml").is_file()
