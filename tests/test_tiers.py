"""What the machine has, and what becomes of tests that need more."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest

from pytest_llmgrind import tiers
from pytest_llmgrind.tiers import hardware

PLAIN = """
    from pytest_llmgrind import rule

    @rule("R1")
    def test_plain(): pass
"""
MARKED = """
    import pytest
    from pytest_llmgrind import rule

    @rule("R1")
    def test_plain(): pass

    @rule("R1")
    @pytest.mark.gpu
    def test_fast(): pass

    @rule("R1")
    @pytest.mark.multi_gpu
    def test_wide(): pass
"""
NONE = "none here (NVML counts none)"


class FakeNvml(ModuleType):
    """The module ``pynvml`` of a machine with the GPUs ``names``; notes what it is asked."""

    class NVMLError(Exception):
        pass

    def __init__(self, names: tuple[str | bytes, ...], failing: str = "") -> None:
        super().__init__("pynvml")
        self.names, self.failing = names, failing
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if not name.startswith("nvml"):
            raise AttributeError(name)

        def answer(index: int = 0) -> Any:
            self.calls.append(name)
            if name == self.failing:
                raise self.NVMLError("Driver Not Loaded")
            return {
                "nvmlDeviceGetCount": len(self.names),
                "nvmlDeviceGetHandleByIndex": index,
                "nvmlDeviceGetName": self.names[index] if self.names else None,
                "nvmlDeviceGetUUID": f"GPU-{index}{index}aa-bb",
            }.get(name)

        return answer


Machine = Callable[..., FakeNvml]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    """Call it with the names of GPUs to be on a machine that has them."""

    def build(*names: str | bytes, failing: str = "") -> FakeNvml:
        nvml = FakeNvml(names, failing)
        monkeypatch.setitem(sys.modules, "pynvml", nvml)
        hardware.cache_clear()
        return nvml

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    hardware.cache_clear()
    yield build
    hardware.cache_clear()


# -- what the machine has -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "gpus", "why"),
    [
        ((), (), "NVML counts none"),
        (("A",), ("A",), ""),
        (("A", "B"), ("A", "B"), ""),
        ((b"A",), ("A",), ""),
    ],
)
def test_gpus_are_those_that_nvml_counts(
    machine: Machine, names: tuple[str, ...], gpus: tuple[str, ...], why: str
) -> None:
    """No, one and two GPUs are found by name; old versions of NVML give bytes."""
    machine(*names)

    found = hardware()

    assert (found.gpus, found.why) == (gpus, why)


@pytest.mark.parametrize(
    ("setting", "gpus"),
    [
        ("0", ("A",)),
        ("1", ("B",)),
        ("1, 0", ("B", "A")),
        ("1,7,0", ("B",)),  # CUDA stops at the first entry that means nothing
        ("", ()),
        ("-1", ()),
        ("0,-1,1", ("A",)),
        ("no", ()),
        ("GPU-11aa-bb", ("B",)),
        ("GPU-11", ("B",)),
        ("GPU-", ()),  # means both
        ("GPU-ff,0", ()),
        ("MIG-GPU-00aa-bb/1/0", ("MIG-GPU-00aa-bb/1/0",)),
    ],
)
def test_cuda_visible_devices_is_read_as_cuda_reads_it(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, setting: str, gpus: tuple[str, ...]
) -> None:
    """Indices, beginnings of UUIDs and MIG names select; the rest is hidden."""
    machine("A", "B")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", setting)

    found = hardware()

    assert found.gpus == gpus
    assert found.why == ("" if gpus else "CUDA_VISIBLE_DEVICES hides all")


@pytest.mark.parametrize("failing", ["nvmlInit", "nvmlDeviceGetCount", "nvmlDeviceGetName"])
def test_an_error_of_nvml_means_no_gpu(machine: Machine, failing: str) -> None:
    """A driver that does not answer is said in its own words, and NVML is shut down."""
    nvml = machine("A", failing=failing)

    found = hardware()

    assert (found.gpus, found.why) == ((), "NVML: Driver Not Loaded")
    assert ("nvmlShutdown" in nvml.calls) == (failing != "nvmlInit")


def test_without_pynvml_the_cure_is_named(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine without nvidia-ml-py is told how to look for GPUs."""
    monkeypatch.setitem(sys.modules, "pynvml", None)

    found = hardware()

    assert (found.gpus, found.why) == ((), "pip install pytest-llmgrind[gpu] to look for one")


def test_no_cuda_context_is_made(machine: Machine) -> None:
    """NVML is asked for count, names and UUIDs, and for nothing else."""
    nvml = machine("A", "B")

    hardware()

    asked = {"Init", "Shutdown", "DeviceGetCount", "DeviceGetHandleByIndex"}
    asked |= {"DeviceGetName", "DeviceGetUUID"}
    assert set(nvml.calls) == {f"nvml{name}" for name in asked}


def test_torch_is_never_imported() -> None:
    """Neither to look at the hardware nor to find out that torch is there."""
    script = (
        "import sys; from pytest_llmgrind.tiers import hardware, missing_kit;"
        "hardware(); missing_kit('triton'); print('torch' in sys.modules)"
    )

    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)

    assert (result.stdout, result.stderr) == ("False\n", "")


def test_the_header_says_what_was_found(
    suite: Any, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cores and GPUs stand in the header of a project with challenges."""
    machine("NVIDIA H200")
    monkeypatch.setattr(tiers, "_cores", lambda: 2)
    suite.challenge()

    result = suite.run("--co")

    result.stdout.fnmatch_lines(["llmgrind: 2 cores, NVIDIA H200"])


# -- missing hardware -----------------------------------------------------------------------------


def test_a_stage_of_the_gpu_tier_is_skipped_with_one_reason(suite: Any, machine: Machine) -> None:
    """However many tests and challenges there are, -rs says it in one line."""
    machine()
    for id in ("01_sums", "02_more"):
        suite.challenge(id, stages={"fast": PLAIN, "faster": PLAIN}, tiers={"fast": ["gpu"]})
        suite.solve(id=id)

    result = suite.run("-rs")

    result.assert_outcomes(passed=2, skipped=2)
    said = [line for line in result.outlines if line.startswith("SKIPPED")]
    assert said == [f"SKIPPED [2] challenges: gpu: needs 1 GPU, {NONE}"]
    assert result.ret == pytest.ExitCode.OK


@pytest.mark.parametrize(
    ("gpus", "passed", "reasons"),
    [
        ((), 1, [f"gpu: needs 1 GPU, {NONE}", f"multi_gpu: needs 2 GPUs, {NONE}"]),
        (("A",), 2, ["multi_gpu: needs 2 GPUs, 1 here"]),
        (("A", "B"), 3, []),
    ],
)
def test_a_single_test_may_need_more_than_its_stage(
    suite: Any, machine: Machine, gpus: tuple[str, ...], passed: int, reasons: list[str]
) -> None:
    """``@pytest.mark.gpu`` on one test of a cpu stage skips that test alone."""
    machine(*gpus)
    suite.challenge(stages={"mixed": MARKED})
    suite.solve()

    result = suite.run("-rs")

    result.assert_outcomes(passed=passed, skipped=3 - passed)
    said = [line for line in result.outlines if line.startswith("SKIPPED")]
    assert said == [f"SKIPPED [1] challenges: {reason}" for reason in reasons]


def test_other_peoples_gpu_tests_are_left_alone(suite: Any, machine: Machine) -> None:
    """A marker ``gpu`` in a user's own test file means what the user wants."""
    machine()
    suite.write("test_own.py", "import pytest\n@pytest.mark.gpu\ndef test_own(): pass\n")
    suite.challenge()

    suite.run("test_own.py", "challenges", "-m", "gpu").assert_outcomes(passed=1, deselected=2)


def test_require_tier_makes_missing_hardware_a_failure(suite: Any, machine: Machine) -> None:
    """--require-tier gpu fails every test that needs one, and says why once."""
    machine()
    suite.challenge(stages={"a": PLAIN, "b": PLAIN}, tiers={"a": ["gpu"], "b": ["gpu"]})
    suite.solve()

    result = suite.run("--require-tier", "gpu", "-q")

    text = f"01_sums  gpu: needs 1 GPU, {NONE}; --require-tier gpu makes that a failure"
    assert result.outlines.count(text) == 1
    assert result.outlines[-1].startswith("1 failed, 1 no hardware in ")
    assert result.ret == pytest.ExitCode.TESTS_FAILED


def test_a_tier_that_is_not_required_is_still_skipped(suite: Any, machine: Machine) -> None:
    """--require-tier gpu asks nothing of tests that need two."""
    machine("A")
    suite.challenge(stages={"mixed": MARKED})
    suite.solve()

    result = suite.run("--require-tier", "gpu")

    result.assert_outcomes(passed=2, skipped=1)


def test_require_tier_knows_hardware_tiers_only(suite: Any) -> None:
    """A tier that no machine can lack is a usage error."""
    result = suite.run_process("--require-tier", "slow")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--require-tier: invalid choice: 'slow'*"])


# -- slow -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "outcome"),
    [
        ((), {"passed": 1, "skipped": 1}),
        (("--slow",), {"passed": 2}),
        (("-m", "slow"), {"passed": 1, "deselected": 1}),
        (("-m", "cpu or slow"), {"passed": 2}),
        (("-m", "not slow"), {"passed": 1, "deselected": 1}),
        (("-m", "not gpu"), {"passed": 1, "skipped": 1}),
        (("-m", "not slow", "--slow"), {"passed": 1, "deselected": 1}),
        (("-m", "slow_path or cpu or not gpu"), {"passed": 1, "skipped": 1}),
    ],
)
def test_slow_tests_run_when_they_are_named(
    suite: Any, machine: Machine, options: tuple[str, ...], outcome: dict[str, int]
) -> None:
    """The slow tier needs --slow or its name in -m."""
    machine()
    suite.challenge(stages={"fast": PLAIN, "long": PLAIN}, tiers={"long": ["slow"]})
    suite.solve()

    assert suite.run(*options).parseoutcomes() == outcome


def test_the_reason_of_a_slow_skip_says_what_to_give(suite: Any) -> None:
    """-rs tells how to run what was left out."""
    suite.challenge(stages={"long": PLAIN}, tiers={"long": ["slow"]})
    suite.solve()

    result = suite.run("-rs")

    result.stdout.fnmatch_lines(
        ["SKIPPED [[]1] challenges: slow: give --slow or -m slow to run it"]
    )


# -- nothing but a tier ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stage_tiers", "options", "code", "line"),
    [
        (["gpu"], (), 0, "SKIPPED [2] challenges: gpu: needs 1 GPU, none here ("),
        (["gpu"], ("--require-tier=gpu",), 1, "01_sums  gpu: needs 1 GPU, none here ("),
        (["cpu"], (), 0, "llmgrind: no test here has the gpu tier"),
        (["cpu"], ("--require-tier=gpu",), 1, "llmgrind: gpu: needs 1 GPU, none here ("),
        (["gpu"], ("-n2",), 0, "SKIPPED [2] challenges: gpu: needs 1 GPU, none here ("),
        (["cpu"], ("-n2",), 0, "llmgrind: no test here has the gpu tier"),
    ],
)
def test_gpu_tests_of_a_machine_without_one(
    suite: Any,
    monkeypatch: pytest.MonkeyPatch,
    stage_tiers: list[str],
    options: tuple[str, ...],
    code: int,
    line: str,
) -> None:
    """``-m gpu --benchmark-compare`` without a GPU and a saved run exits 0, or 1 if one is
    required; it says one reason and shows no traceback."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    stages = {"fast": PLAIN, "faster": PLAIN}
    suite.challenge(stages=stages, tiers=dict.fromkeys(stages, stage_tiers))

    result = suite.run_process(
        *("-m", "gpu", "--benchmark-compare", "-W", "error", "-rs", *options),
        plugins=("timeout", "pytest_benchmark.plugin"),
    )

    assert result.ret == code
    assert len([text for text in result.outlines if text.startswith(line)]) == 1
    assert result.stderr.str().count("Can't compare. No benchmark files in") == 1
    assert "Traceback" not in result.stdout.str() + result.stderr.str()
    assert "INTERNALERROR" not in result.stdout.str()


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (("-m", "gpu"), "llmgrind: no test here has the gpu tier"),
        (("-m", "gpu and not slow"), "llmgrind: no test here has the gpu tier"),
        (("-m", "gpu or multi_gpu"), "llmgrind: no test here has the gpu or multi_gpu tier"),
        (
            ("-m", "multi_gpu", "--require-tier", "multi_gpu"),
            f"llmgrind: multi_gpu: needs 2 GPUs, {NONE}; "
            "--require-tier multi_gpu makes that a failure",
        ),
    ],
)
def test_a_tier_that_no_test_has_is_said(
    suite: Any, machine: Machine, options: tuple[str, ...], line: str
) -> None:
    """Where -m deselects everything because nothing needs the tier, one line says so."""
    machine()
    suite.challenge()

    result = suite.run(*options)

    assert [text for text in result.outlines if text.startswith("llmgrind: ")][1:] == [line]
    assert result.ret == int("--require-tier" in options)


@pytest.mark.parametrize(
    "options",
    [
        ("-m", "slow"),
        ("-m", "not cpu", "challenges"),
        ("-m", "gpu", "-k", "nothing"),
        ("-k", "nothing"),
        ("-m", "gpu", "own"),
    ],
)
def test_other_empty_runs_keep_their_exit_code(
    suite: Any, machine: Machine, options: tuple[str, ...]
) -> None:
    """pytest's own answer to "no tests ran" stays, and outside of challenges always."""
    machine()
    suite.write("own/test_own.py", "def test_own(): pass\n")
    suite.challenge()

    result = suite.run(*options)

    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED
    assert "no test here" not in result.stdout.str()


def test_to_leave_a_tier_out_is_not_to_ask_for_one(suite: Any, machine: Machine) -> None:
    """``-m "not multi_gpu"`` over nothing else keeps pytest's exit code."""
    machine()
    suite.challenge(stages={"wide": PLAIN}, tiers={"wide": ["multi_gpu"]})

    result = suite.run("-m", "not multi_gpu")

    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED
    assert "no test here" not in result.stdout.str()


# -- kits -----------------------------------------------------------------------------------------

NEEDS_TORCH = """
    import torch
    import pytest
    from pytest_llmgrind import rule

    @rule("R1")
    def test_plain(): pass

    @rule("R1")
    @pytest.mark.gpu
    def test_fast(): pass
"""


@pytest.fixture
def without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(tiers.KIT_MODULES, "torch", {"no_such_torch": "torch"})


@pytest.mark.usefixtures("without_torch")
def test_a_torch_challenge_without_torch_is_skipped(suite: Any, machine: Machine) -> None:
    """Its tests keep their ids and tiers, and the reason is the command that helps."""
    machine()
    root = suite.challenge(stages={"tensors": NEEDS_TORCH}, top='kit = "torch"')
    suite.solve()

    result = suite.run("-rs", f"{root}/hidden/1_tensors.py::test_plain")

    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(
        ["SKIPPED [[]1] challenges: needs no_such_torch: pip install pytest-llmgrind[[]torch]"]
    )


@pytest.mark.usefixtures("without_torch")
def test_hardware_comes_before_the_kit(suite: Any, machine: Machine) -> None:
    """Where the GPU is missing too, to install torch would not help."""
    machine()
    suite.challenge(stages={"tensors": NEEDS_TORCH}, top='kit = "torch"')
    suite.solve()

    result = suite.run("-rs", "-m", "gpu")

    result.assert_outcomes(skipped=1, deselected=1)
    result.stdout.fnmatch_lines([f"SKIPPED [[]1] challenges: gpu: needs 1 GPU, {NONE}"])


@pytest.mark.usefixtures("without_torch")
def test_a_missing_kit_fails_a_tier_that_is_required(suite: Any, machine: Machine) -> None:
    """A runner with a GPU and without torch does not stay green under --require-tier gpu."""
    machine("A")
    suite.challenge(stages={"tensors": NEEDS_TORCH}, top='kit = "torch"')
    suite.solve()

    result = suite.run("--require-tier", "gpu", "-q")

    result.assert_outcomes(failed=1, skipped=1)
    text = "01_sums  needs no_such_torch: pip install pytest-llmgrind[torch]; "
    assert f"{text}--require-tier gpu makes that a failure" in result.outlines


@pytest.mark.parametrize(
    ("installed", "reason"),
    [
        (set(), "needs torch: pip install pytest-llmgrind[torch]"),
        ({"torch"}, "needs triton: pip install pytest-llmgrind[gpu]"),
        ({"torch", "triton"}, ""),
    ],
)
def test_a_triton_challenge_needs_both(
    monkeypatch: pytest.MonkeyPatch, installed: set[str], reason: str
) -> None:
    """triton without torch is of no use; NumPy challenges need neither."""

    def find_spec(name: str) -> object:
        return name if name in installed else None

    monkeypatch.setattr("importlib.util.find_spec", find_spec)

    assert tiers.missing_kit("triton") == reason
    assert tiers.missing_kit("np") == ""
