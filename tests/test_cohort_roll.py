"""Who hands in what: the jobs of a directory of submissions."""

from __future__ import annotations

import os

import pytest
from conftest import ID, REFERENCE, Suite

from pytest_llmgrind import manifest as manifests
from pytest_llmgrind.cohort import job as jobs
from pytest_llmgrind.cohort.job import Roll

WRONG = REFERENCE.replace("a + b", "a - b")


def handed_in(suite: Suite, **texts: str) -> None:
    for name, text in texts.items():
        suite.write(f"submissions/{name}/{ID}.py", text)


def roll(suite: Suite) -> Roll:
    roots = sorted((suite.path / "challenges").iterdir())
    return jobs.call(suite.path / "submissions", list(map(manifests.load, roots)), named=False)


class TestRoll:
    def test_who_is_there_and_who_is_left_out(self, suite: Suite) -> None:
        """Files, links and who has nothing are named; what is hidden is nobody."""
        suite.challenge()
        handed_in(suite, ada=REFERENCE)
        suite.write("submissions/notes.txt", "x")
        suite.write("submissions/.git/x", "x")
        suite.write("submissions/bob\x1b[31m/other.py", "x")
        (suite.path / "submissions/link").symlink_to("ada")

        found = roll(suite)

        assert [(job.entrant, job.challenge) for job in found.jobs] == [("ada", ID)]
        assert found.remarks == [
            "bob [31m: left out: has a solution of none of the challenges",
            "link: left out: it is a link",
            "notes.txt: left out: it is no directory",
        ]

    def test_a_name_that_is_no_text_is_left_out(self, suite: Suite) -> None:
        """Its result could not be written."""
        suite.challenge()
        handed_in(suite, ada=REFERENCE)
        try:
            os.mkdir(os.fsencode(suite.path / "submissions") + b"/\xff")
        except OSError:
            pytest.skip("this file system takes UTF-8 alone")

        assert roll(suite).remarks == ["?: left out: its name is not UTF-8"]

    @pytest.mark.parametrize(
        ("file", "why"),
        [
            ("01_sums/a.py", "01_sums/ has no __init__.py, so it is no package"),
            ("01_sums.py/x", "01_sums.py is not a file"),
        ],
    )
    def test_what_cannot_be_a_solution_is_refused(self, suite: Suite, file: str, why: str) -> None:
        """With the reason that the board shows."""
        suite.challenge()
        suite.write(f"submissions/ada/{file}", "x = 1\n")

        (job,) = roll(suite).jobs

        assert job.refused == why

    def test_a_package_with_a_link_is_refused(self, suite: Suite) -> None:
        """Nothing outside the submission is read."""
        suite.challenge()
        suite.write("submissions/ada/01_sums/__init__.py", REFERENCE)
        (suite.path / "submissions/ada/01_sums/data").symlink_to("/etc")

        (job,) = roll(suite).jobs

        assert job.refused == "01_sums/data is a link"

    def test_a_job_holds_what_is_graded(self, suite: Suite) -> None:
        """What changes afterwards is another job."""
        suite.challenge()
        handed_in(suite, ada=REFERENCE)
        (before,) = roll(suite).jobs
        handed_in(suite, ada=WRONG)
        (after,) = roll(suite).jobs

        assert before.solution.files["01_sums.py"].decode() == REFERENCE.lstrip("\n")
        assert before.solution.digest != after.solution.digest
