"""Small virtual challenges for the plugin's own tests, and inner runs of pytest over them."""

from __future__ import annotations

import importlib
import os
import pkgutil
import textwrap
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import pytest_llmgrind
from pytest_llmgrind import clock
from pytest_llmgrind.cli import main
from pytest_llmgrind.history import Attempt, History, open_history

pytest_plugins = ["pytester"]

# After an inner run in this process pytester drops the modules that it imported. NumPy refuses a
# second import, and ours must exist once: import them all before the first inner run.
EXTRAS = {"msgspec", "nbformat", "watchfiles"}  # tox -e oracles has neither
for _module in pkgutil.walk_packages(pytest_llmgrind.__path__, "pytest_llmgrind."):
    if not _module.name.endswith("__main__"):
        try:
            importlib.import_module(_module.name)
        except ModuleNotFoundError as _missing:
            if _missing.name not in EXTRAS:
                raise


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("filterwarnings", "error")


# What an outer run tells its processes, and an inner run must not hear: also whether this is CI.
OUTER = (
    "PYTEST_ADDOPTS",
    "PYTEST_XDIST_WORKER",
    "PYTEST_XDIST_TESTRUNUID",
    "LLMGRIND_LOCK",
    "CI",
    "BUILD_NUMBER",
    "GITHUB_STEP_SUMMARY",
)
collect_ignore = ["attack_target", "attacks"]  # the graders and solutions of test_attacks.py
ID = "01_sums"
STUB = '''
"""Sums."""

def add(a, b):
    """The sum of two arrays (N,), float64."""
    raise NotImplementedError("01_sums, stage 1")


def total(xs):
    """The sum of a list of numbers."""
    raise NotImplementedError("01_sums, stage 2")
'''
REFERENCE = '''
"""Sums."""

def add(a, b):
    """The sum of two arrays (N,), float64."""
    return a + b


def total(xs):
    """The sum of a list of numbers."""
    return sum(xs)
'''
RULES = {
    "R1": "`add` returns the sum of its arguments. [adding](#adding)",
    "R2": "`total` returns the sum of a list.",
}
STAGES = {
    "pairs": """
        import numpy as np
        from pytest_llmgrind import check, rule

        @rule("R1")
        def test_sum_of_a_pair(solution, rng):
            x = rng.normal(size=3)
            check.close(solution.add(x, x), 2 * x, what="sum", given="3 numbers, twice")
    """,
    "lists": """
        from pytest_llmgrind import check, given, rule, st

        @rule("R2")
        @given(n=st.integers(0, 9))
        def test_sum_of_a_list(solution, n):
            check.equal(solution.total([1] * n), n, what="total", given=f"{n} ones")
    """,
}


class Suite:
    """A workspace in pytester's directory: ``challenges/``, ``reference/``, ``solutions/``."""

    def __init__(self, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
        self.pytester = pytester
        self.path = pytester.path
        monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # 0.2 s instead of 0.9 s
        for name in OUTER:
            monkeypatch.delenv(name, raising=False)
        self.write("pyproject.toml", "[tool.pytest.ini_options]\n")

    def write(self, path: str, text: str) -> Path:
        """A file below the workspace; ``text`` is dedented."""
        file = self.path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(text).lstrip("\n"), "utf-8")
        return file

    def challenge(
        self,
        id: str = ID,
        *,
        stages: dict[str, str] | None = None,
        stub: str = STUB,
        reference: str = REFERENCE,
        rules: dict[str, str] | None = None,
        imports: tuple[str, ...] = ("numpy",),
        forbid: tuple[str, ...] = (),
        tiers: dict[str, list[str]] | None = None,
        top: str = "",
        more: str = "",
        baseline: str = "",
        bugs: str = "",
        home: str = ".",
    ) -> Path:
        """A challenge and its reference; returns its directory.

        ``stages`` maps names to the text of hidden files. ``top`` is TOML for the top of the
        manifest (``timeout = 1``), ``more`` is TOML for its end (``[[budget]]`` tables). ``home``
        is the directory of a second workspace.
        """
        stages, tiers = STAGES if stages is None else stages, tiers or {}
        root = f"{home}/challenges/{id}"
        manifest = [f'title = "{id}"', 'track = "core"', 'summary = "Add."', top]
        manifest += ["[solution]", f"imports = {list(imports)}", f"forbid = {list(forbid)}"]
        for number, (name, text) in enumerate(stages.items(), start=1):
            file = f"hidden/{number}_{name}.py"
            self.write(f"{root}/{file}", text)
            manifest += ["[[stage]]", f'name = "{name}"', f'file = "{file}"', f'title = "{name}"']
            manifest += [f"tiers = {tiers.get(name, ['cpu'])}", 'hints = ["a", "b", "c"]']
        self.write(f"{root}/challenge.toml", "\n".join([*manifest, textwrap.dedent(more)]))
        self.write(f"{root}/spec.md", _spec(RULES if rules is None else rules))
        self.write(f"{root}/stub.py", stub.replace(ID, id))
        self.write(f"{home}/reference/{id}.py", reference)
        if baseline:
            self.write(f"{root}/hidden/baseline.py", baseline)
        if bugs:
            self.write(f"{root}/hidden/bugs.toml", bugs)
        return self.path / root

    def solve(self, text: str = REFERENCE, id: str = ID) -> Path:
        """Write ``solutions/<id>.py``: the reference, or ``text``."""
        return self.write(f"solutions/{id}.py", text)

    def run(self, *args: str, plugins: tuple[str, ...] = ("timeout",)) -> pytest.RunResult:
        """pytest in this process, with our plugin and ``plugins``, and xdist where ``-n`` asks.

        This process's warning filters do not reach the inner run.
        """
        with warnings.catch_warnings():
            warnings.resetwarnings()
            return self.pytester.runpytest_inprocess(*_plugins(args, plugins), *args)

    def run_process(
        self, *args: str, plugins: tuple[str, ...] = ("timeout",), timeout_s: float = 60
    ) -> pytest.RunResult:
        """The same in a process of its own: what must not leak, hangs, or may kill pytest."""
        return self.pytester.runpytest_subprocess(
            *_plugins(args, plugins), *args, timeout=timeout_s
        )

    def llmgrind(self, *args: str) -> Result:
        """A verb in this workspace, called from its directory."""
        result = CliRunner().invoke(main, args, prog_name="llmgrind")
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    def history(self) -> History:
        return open_history(self.path)

    def passed(self, id: str = ID) -> Attempt:
        """The current attempt at a challenge, or a new one, as if a run had passed it now."""
        with self.history() as history:
            attempt = history.current(id) or history.begin(id, clock.now())
            history.mark(attempt, "passed", clock.now())
            return history.attempt(attempt.id)

    def ids(self, *args: str) -> list[str]:
        """The node ids that pytest would run."""
        result = self.run("--co", "-q", *args)
        return [line for line in result.outlines if "::" in line and " " not in line]

    def reports(self, *args: str, **options: Any) -> list[dict[str, Any]]:
        """``report.llmgrind`` of each graded test of a run in this process, in order."""
        seen: list[dict[str, Any]] = []
        keep = _Keep(seen)
        with warnings.catch_warnings():
            warnings.resetwarnings()
            all_args = (*_plugins(args, options.get("plugins", ("timeout",))), *args)
            self.pytester.inline_run(*all_args, plugins=[keep])
        return seen


class _Keep:
    def __init__(self, seen: list[dict[str, Any]]) -> None:
        self.seen = seen

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report: Any) -> None:
        if hasattr(report, "llmgrind"):
            self.seen.append({**report.llmgrind, "nodeid": report.nodeid})


def _plugins(args: tuple[str, ...], plugins: tuple[str, ...]) -> list[str]:
    wanted = ["llmgrind", *plugins]
    if any(arg.startswith("-n") for arg in args) and "xdist" not in wanted:
        wanted.append("xdist")
    return [text for name in wanted for text in ("-p", name)]


def _spec(rules: dict[str, str]) -> str:
    items = [f"- **{id}** {text}" for id, text in rules.items()]
    lines = ["# Sums", "", "## Background", "", "### Adding", "", "## Rules", "", *items]
    return "\n".join(lines) + "\n"


@pytest.fixture
def suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Suite:
    return Suite(pytester, monkeypatch)


@pytest.fixture
def zone() -> Iterator[Callable[[str], None]]:
    """Sets the local time zone; it is UTC until then, and afterwards what it was."""
    before = os.environ.get("TZ")

    def set_to(name: str | None) -> None:
        os.environ.pop("TZ", None) if name is None else os.environ.update(TZ=name)
        time.tzset()

    set_to("UTC")
    yield set_to
    set_to(before)
