"""The process that runs tests for the gate: requests come in as lines of JSON, events go out.

A planted bug may hang or kill this process, so the gate (worker.py) watches it from outside.
"""

from __future__ import annotations

import ast
import doctest
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, TextIO, cast

import pytest

from pytest_llmgrind import manifest as manifests
from pytest_llmgrind import solution as solutions
from pytest_llmgrind.collect import BrokenManifest, Stage
from pytest_llmgrind.diagnose import Diagnosis
from pytest_llmgrind.grading import is_timed
from pytest_llmgrind.manifest import TIERS, Manifest
from pytest_llmgrind.redact import LOOKS_LIKE
from pytest_llmgrind.tiers import KIT_MODULES, WithoutKit, missing_kit

Send = Callable[[dict[str, Any]], None]
PLUGINS = ("timeout", "benchmark", "hypothesispytest", "llmgrind")
WITHOUT = ("cacheprovider", "terminal", "unraisableexception")  # the last collects garbage, 0.1 s
GRACE_S = 10.0
"""A test that outlives its time-out by this much is killed with its process."""


class Recorder:
    """Tells the gate what is collected, begun and ended; keeps the tests of one rule."""

    def __init__(self, send: Send, request: dict[str, Any]) -> None:
        self.send, self.rule, self.limit_s = send, request["rule"], request["limit_s"]
        self.alone, self.timed = request["alone"], not request["diagnose"]
        self.bytecode = f"{request['scratch']}/bytecode"
        self.result: dict[str, Any] = {}

    def pytest_configure(self, config: pytest.Config) -> None:
        config.option.tbstyle = "native"  # quick to make: a failure text of ours takes its place

    def pytest_internalerror(self, excrepr: Any) -> None:
        lines = str(excrepr).splitlines()
        self.send({"event": "broken", "path": "", "text": lines[-1] if lines else "?"})

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(self, collector: pytest.Collector) -> Iterator[None]:
        """Hidden files are compiled once for all runs, and leave nothing beside them."""
        before = sys.pycache_prefix, sys.dont_write_bytecode
        if isinstance(collector, Stage):
            sys.pycache_prefix, sys.dont_write_bytecode = self.bytecode, False
        try:
            return (yield)
        finally:
            sys.pycache_prefix, sys.dont_write_bytecode = before

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> None:
        for item in items:
            if isinstance(item, BrokenManifest):  # stands for a file that cannot be used
                self.send({"event": "broken", "path": str(item.path), "text": item.text})
        items[:] = [item for item in items if isinstance(item, pytest.Function | WithoutKit)]
        if self.rule:
            items[:] = [item for item in items if self.rule in _rules(item)]
        if not self.timed:
            items[:] = [item for item in items if not is_timed(item)]
        for item in items:
            if self.limit_s is not None:
                item.add_marker(pytest.mark.timeout(self.limit_s))
        self.send({"event": "collected", "tests": [_told(item) for item in items]})

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        lock: Any = session.config.pluginmanager.get_plugin("llmgrind-alone")
        if lock is not None and not self.alone:
            lock.measuring = False

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.send({"event": "broken", "path": report.nodeid, "text": str(report.longrepr)})

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self.result, before = {}, _cpu_s()
        try:
            return (yield)
        finally:
            used = _cpu_s() - before
            self.send({"event": "result", "test": item.nodeid, **self.result, "cpu_s": used})
            if self.rule and LOOKS_LIKE in self.result.get("text", ""):
                item.session.shouldstop = "one failure has been diagnosed"

    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        mark = item.get_closest_marker("timeout")
        limit_s = float(mark.args[0]) if mark else 0.0
        self.send({"event": "begun", "test": item.nodeid, "limit_s": limit_s + GRACE_S})

    def pytest_runtest_logreport(self, report: Any) -> None:
        data = getattr(report, "llmgrind", None)
        if data is not None and self.result.get("outcome", "passed") == "passed":
            keys = ("outcome", "saw", "budget", "notes")
            self.result = {key: data[key] for key in keys}
            self.result["text"] = str(report.longrepr) if report.failed else ""


def _cpu_s() -> float:
    """Seconds of processor time: of this process, and of those that it started and outlived."""
    times = os.times()
    return time.process_time() + times.children_user + times.children_system


def _silent(*_: Any, **__: Any) -> str:
    return ""


DIAGNOSE = Diagnosis.looks_like


def run_tests(request: dict[str, Any], send: Send) -> None:
    """Grade ``request["solutions"]`` by the tests of one challenge, or of one of its rules."""
    args = [request["root"], "--solutions", request["solutions"], "--slow", "--noconftest"]
    args += ["-c", f"{request['scratch']}/pytest.ini"]
    args += ["--rootdir", str(Path(request["root"]).parent.parent)]
    args += [text for name in PLUGINS for text in ("-p", name)]
    args += [text for name in WITHOUT for text in ("-p", f"no:{name}")]
    args += [f"--benchmark-storage=file://{request['scratch']}"]
    args += [] if request["measured"] else ["--benchmark-disable"]
    args += ["-x"] if request["rule"] and not request["diagnose"] else []
    _import_kits(manifests.load(Path(request["root"])))
    _functions.cache_clear()
    # Other bugs are no business of the gate's: they may hang, or end the process.
    Diagnosis.looks_like = DIAGNOSE if request["diagnose"] else _silent  # type: ignore[method-assign]
    code = pytest.main(args, plugins=[Recorder(send, request)])
    if code in (pytest.ExitCode.USAGE_ERROR, pytest.ExitCode.INTERNAL_ERROR):
        text = f"pytest ended with {pytest.ExitCode(code).name}"
        send({"event": "broken", "path": request["root"], "text": text})


def _import_kits(manifest: Manifest) -> None:
    """Before any hidden file does: their bytecode goes to a place of its own."""
    for kit in {manifest.kit, *(stage.kit for stage in manifest.stages)}:
        for name in KIT_MODULES.get(kit, ()) if not missing_kit(kit) else ():
            import_module(name)


def run_examples(request: dict[str, Any], send: Send) -> None:
    """Run the examples of the docstrings of stub and reference against the reference."""
    manifest = manifests.load(Path(request["root"]))
    reference = manifest.reference / f"{manifest.id}.py"
    send({"event": "begun", "test": "", "limit_s": manifest.timeout + GRACE_S})
    names = vars(solutions.import_fresh(manifest.stub, None)).copy()
    names.update(vars(solutions.import_fresh(reference, None)))
    for path in (manifest.stub, reference):
        for test in _examples(path, names):
            _run_example(test, send)


def _examples(path: Path, names: dict[str, Any]) -> Iterator[doctest.DocTest]:
    parser = doctest.DocTestParser()
    source = path.read_text("utf-8")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node, clean=False)
            if text is not None:
                name = getattr(node, "name", "the module")
                line = node.body[0].lineno - 1
                yield parser.get_doctest(text, dict(names), name, str(path), line)


class _Runner(doctest.DocTestRunner):
    """Sends what an example gave in place of what the docstring says."""

    def __init__(self, send: Send) -> None:
        flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
        super().__init__(verbose=False, optionflags=flags)
        self.send = send

    def report_failure(
        self, out: Any, test: doctest.DocTest, example: doctest.Example, got: str
    ) -> None:
        self._tell(test, example, f"gives {' '.join(got.split()) or 'nothing'}")

    def report_unexpected_exception(
        self, out: Any, test: doctest.DocTest, example: doctest.Example, exc_info: Any
    ) -> None:
        self._tell(test, example, f"raises {exc_info[0].__name__}: {exc_info[1]}")

    def _tell(self, test: doctest.DocTest, example: doctest.Example, text: str) -> None:
        line = (test.lineno or 0) + example.lineno + 1
        source = " ".join(example.source.split())
        data = {"path": test.filename, "line": line, "source": source, "text": text}
        self.send({"event": "example", **data})


def _run_example(test: doctest.DocTest, send: Send) -> None:
    _Runner(send).run(test, out=lambda text: None, clear_globs=True)


def _told(item: pytest.Item) -> dict[str, Any]:
    """What the gate knows of a test, as builtins."""
    stage: Any = getattr(item.parent, "stage", None)
    return {
        "id": item.nodeid,
        "name": _function(item).name,
        "path": str(item.path),
        "line": _function(item).lineno,
        "stage": stage.name if stage is not None else "",
        "rules": _rules(item),
        "fixtures": list(getattr(item, "fixturenames", None) or _arguments(item)),
        "tiers": [tier for tier in TIERS if item.get_closest_marker(tier)],
    }


def _rules(item: pytest.Item) -> list[str]:
    if isinstance(item, WithoutKit):
        return re.findall(r"^rule\(['\"](R\d+)['\"]\)", _decorators(item), re.MULTILINE)
    return [str(mark.args[0]) for mark in item.iter_markers("rule")]


def _decorators(item: WithoutKit) -> str:
    node = _function(item)
    return "\n".join(ast.unparse(decorator) for decorator in node.decorator_list)


def _arguments(item: pytest.Item) -> list[str]:
    """The fixtures of a test whose file cannot be imported here."""
    if not isinstance(item, WithoutKit):
        return []
    arguments = _function(item).args
    return [arg.arg for arg in [*arguments.args, *arguments.kwonlyargs]]


def _function(item: pytest.Item) -> ast.FunctionDef:
    """The text of a test: what pytest calls may be a wrapper from another file."""
    name = getattr(item, "originalname", None) or item.name
    imported = ast.parse(f"def {name}(): ...").body[0]
    return _functions(item.path).get(name, cast("ast.FunctionDef", imported))


@cache
def _functions(path: Path) -> dict[str, ast.FunctionDef]:
    tree = ast.parse(path.read_bytes())
    return {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}


KINDS: dict[str, Callable[[dict[str, Any], Send], None]] = {
    "tests": run_tests,
    "examples": run_examples,
}


def main() -> None:
    """Answer requests until the gate closes the pipe."""
    requests, events = _channels()
    sys.dont_write_bytecode = True

    def send(event: dict[str, Any]) -> None:
        events.write(json.dumps(event) + "\n")
        events.flush()

    for line in requests:
        request = json.loads(line)
        try:
            KINDS[request["kind"]](request, send)
        except Exception as error:
            send({"event": "broken", "path": "", "text": f"{type(error).__name__}: {error}"})
        send({"event": "end"})


def _channels() -> tuple[TextIO, TextIO]:
    """Standard input and output, under other numbers: tests print to the usual ones."""
    requests, events = os.fdopen(os.dup(0), "r"), os.fdopen(os.dup(1), "w")
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1):
        os.dup2(nothing, number)
    sys.stdin, sys.stdout = os.fdopen(0, "r"), os.fdopen(1, "w")
    return requests, events


if __name__ == "__main__":
    main()
