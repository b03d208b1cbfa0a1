"""A result is kept once, found again, and made anew where what it was made from has changed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import ID, REFERENCE, Suite

from pytest_llmgrind import manifest as manifests
from pytest_llmgrind.cohort import job as jobs
from pytest_llmgrind.cohort import ledger as ledgers
from pytest_llmgrind.cohort.job import Exam, Job, Settings
from pytest_llmgrind.cohort.ledger import Ledger, LedgerError
from pytest_llmgrind.cohort.run import Outcome

TEST = {"name": "test_it", "stage": "pairs", "rule": "R1", "verdict": "passed", "saw": ""}
RESULT = {
    "schema": "llmgrind-result/1",
    "sandbox": "bubblewrap",
    "challenges": [{"id": ID, "tests": [{**TEST, "budget": None}]}],
}
WHOLE = Outcome(result=RESULT, seconds=1.5, final=True)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(tmp_path / "new/results") as made:
        yield made


def one(suite: Suite, text: str = REFERENCE) -> tuple[Job, Exam]:
    suite.write(f"submissions/ada/{ID}.py", text)
    root = suite.path / "challenges" / ID
    found = jobs.call(suite.path / "submissions", [manifests.load(root)], named=True)
    return found.jobs[0], found.exams[ID]


@pytest.fixture
def kept(suite: Suite, ledger: Ledger) -> tuple[Job, Exam]:
    """A job that was graded under the usual settings."""
    suite.challenge()
    job, exam = one(suite)
    ledger.write(job, exam, Settings(), WHOLE)
    return job, exam


class TestDone:
    def test_the_same_job_is_done(self, ledger: Ledger, kept: Any) -> None:
        """What is read is what was written."""
        record = ledger.done(*kept, Settings())

        assert record is not None
        assert (record.entrant, record.challenge, record.seconds) == ("ada", ID, 1.5)
        assert record.result is not None
        assert record.result.challenges[0].tests[0].verdict == "passed"
        assert record == ledger.write(*kept, Settings(), WHOLE)

    def test_another_solution_is_not(self, suite: Suite, ledger: Ledger, kept: Any) -> None:
        """One character of it is enough."""
        assert ledger.done(*one(suite, REFERENCE + "#"), Settings()) is None

    @pytest.mark.parametrize(
        "file",
        [f"challenges/{ID}/hidden/1_pairs.py", f"challenges/{ID}/spec.md", f"reference/{ID}.py"],
    )
    def test_another_challenge_is_not(
        self, suite: Suite, ledger: Ledger, kept: Any, file: str
    ) -> None:
        """Tests, spec and reference belong to it."""
        with (suite.path / file).open("a") as stream:
            stream.write("\n# changed\n")

        assert ledger.done(*one(suite), Settings()) is None

    def test_another_seed_is_not(self, ledger: Ledger, kept: Any) -> None:
        """Its inputs are others; the file holds no more than its hash."""
        assert ledger.done(*kept, Settings(seed="s3cret")) is None

        ledger.write(*kept, Settings(seed="s3cret"), WHOLE)
        assert "s3cret" not in ledger.file(kept[0]).read_text("utf-8")

    def test_another_release_is_not(
        self, ledger: Ledger, kept: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Of this package, or of one that a verdict may hang on."""
        monkeypatch.setattr(ledgers, "_versions", lambda: {"pytest-llmgrind": "99"})

        assert ledger.done(*kept, Settings()) is None

    def test_what_has_no_result_is_not(self, ledger: Ledger, kept: Any) -> None:
        """A grader that died is no verdict, but what is refused is one."""
        ledger.write(*kept, Settings(), Outcome(reason="its grader died of SIGKILL"))
        assert ledger.done(*kept, Settings()) is None

        ledger.write(*kept, Settings(), Outcome(reason="it is a link", final=True))
        assert ledger.done(*kept, Settings()) is not None

    @pytest.mark.parametrize(("limit_s", "is_done"), [(5, True), (10, True), (11, False)])
    def test_what_was_cut_off_is_done_until_there_is_more_time(
        self, ledger: Ledger, kept: Any, limit_s: float, is_done: bool
    ) -> None:
        """A rerun with --limit gives it that."""
        cut = replace(WHOLE, reason="stopped after 10 s", cut_s=10.0)
        ledger.write(*kept, Settings(limit_s=10), cut)

        assert (ledger.done(*kept, Settings(limit_s=limit_s)) is not None) is is_done


class TestFiles:
    @pytest.mark.parametrize(
        ("text", "why"),
        [
            ("", "Input data was truncated"),
            ("{", "Input data was truncated"),
            ("[]", "Expected `object`, got `array`"),
            ("\xff", "JSON is malformed: invalid character (byte 0)"),
        ],
    )
    def test_a_broken_file_is_set_aside(
        self, ledger: Ledger, kept: Any, text: str, why: str
    ) -> None:
        """It is said, kept for who wants to look, and graded again."""
        file = ledger.file(kept[0])
        file.write_text(text, "latin-1")

        assert ledger.done(*kept, Settings()) is None
        assert ledger.remarks == [f"ada/{ID}.json is no result ({why}): now {ID}.json.broken"]
        assert not file.exists()
        assert file.with_name(f"{ID}.json.broken").read_text("latin-1") == text

    @pytest.mark.parametrize("change", [{"schema": "x/1"}, {"entrant": "bob"}, {"result": {}}])
    def test_the_file_of_another_is_broken(
        self, ledger: Ledger, kept: Any, change: dict[str, Any]
    ) -> None:
        """A copied file is nobody's result."""
        file = ledger.file(kept[0])
        file.write_text(json.dumps({**json.loads(file.read_text("utf-8")), **change}))

        assert ledger.done(*kept, Settings()) is None
        assert len(ledger.remarks) == 1

    def test_what_a_kill_left_half_written_is_cleared_away(self, ledger: Ledger, kept: Any) -> None:
        """By the next that opens it; results stay."""
        half = ledger.file(kept[0]).with_name(f".{ID}.json.x1y2")
        half.write_text("{")
        ledger.close()

        with Ledger.open(ledger.root) as again:
            assert again.done(*kept, Settings()) is not None
        assert not half.exists()

    def test_two_at_once_are_kept_apart(self, ledger: Ledger) -> None:
        """The second is told; when the first is gone, it may."""
        with pytest.raises(LedgerError) as told:
            Ledger.open(ledger.root)
        assert str(told.value) == f"{ledger.root}: another llmgrind grade writes there"

        ledger.close()
        Ledger.open(ledger.root).close()

    def test_a_place_that_cannot_be_written_is_named(self, tmp_path: Path) -> None:
        """With what to do."""
        (tmp_path / "file").write_text("x")

        with pytest.raises(LedgerError) as told:
            Ledger.open(tmp_path / "file/results")

        assert str(told.value) == (
            f"{tmp_path}/file/results cannot be used: Not a directory; "
            "give another directory with --results"
        )

    @pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
    def test_a_place_that_is_read_only_is_named(self, tmp_path: Path) -> None:
        """Before anything is graded."""
        tmp_path.chmod(0o555)

        with pytest.raises(LedgerError, match=r"cannot be used: Permission denied; give another"):
            Ledger.open(tmp_path / "results")
        tmp_path.chmod(0o755)
