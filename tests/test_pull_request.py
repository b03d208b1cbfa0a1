"""`llmgrind grade --base --head`, on real repositories: only solutions come from the head."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml
from click.testing import Result
from conftest import ID, REFERENCE, Suite

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="graded mode needs POSIX")
ROOT = Path(__file__).parents[1]
WRONG = REFERENCE.replace("a + b", "a - b")
RULE = "R1 failed: add adds. Saw: the sum came back as -1, which is not right"
ONE_TEST = """
from pytest_llmgrind import check, rule

@rule("R1")
def test_add(solution):
    check.equal(solution.add(1, 2), 3, what="the sum")
"""


class Repository:
    """A course in git. ``main`` is checked out in ``base``, the change of somebody in ``head``."""

    def __init__(self, suite: Suite) -> None:
        self.suite, self.path = suite, suite.path
        for id in (ID, "02_more"):
            suite.challenge(id, stages={"one": ONE_TEST}, rules={"R1": "add adds."}, home="base")
        self.write("base", f"submissions/bob/{ID}.py", REFERENCE)
        self.git("base", "init", "-q", "-b", "main")
        self.commit("base")
        self.git("base", "worktree", "add", "-q", "-b", "change", "../head")

    def write(self, tree: str, name: str, text: str) -> Path:
        return self.suite.write(f"{tree}/{name}", text)

    def git(self, tree: str, *words: str) -> None:
        identity = ("-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false")
        subprocess.run(["git", *identity, *words], cwd=self.path / tree, check=True)

    def commit(self, tree: str) -> None:
        self.git(tree, "add", "-A")
        self.git(tree, "commit", "-qm", "change", "--allow-empty")

    def checked_out_anew(self) -> None:
        """As CI does it: what is in the commit, and nothing else."""
        self.commit("head")
        self.git("base", "worktree", "remove", "--force", "../head")
        self.git("base", "worktree", "add", "-q", "../head", "change")

    def grade(self, *options: str) -> Result:
        self.checked_out_anew()
        return self.suite.llmgrind("grade", "--base", "base", "--head", "head", *options)


@pytest.fixture
def repository(suite: Suite) -> Repository:
    return Repository(suite)


def lines(result: Result) -> list[str]:
    """What is said below the leaderboard."""
    text = result.stdout.splitlines()
    return [line for line in text if not line.startswith("  ") or "R1" in line]


def test_what_differs_is_graded(repository: Repository) -> None:
    """New and changed solutions, of solutions/ and of every entrant; what is as it was is not."""
    repository.write("head", f"solutions/{ID}.py", REFERENCE)
    repository.write("head", f"submissions/ada/{ID}/__init__.py", WRONG)
    repository.write("head", "submissions/bob/02_more.py", REFERENCE)

    result = repository.grade()

    assert result.exit_code == 1
    assert lines(result) == [
        "solutions, 01_sums (new): passed",
        "submissions/ada, 01_sums (new): failed",
        f"  {RULE}",
        "submissions/bob, 02_more (new): passed",
    ]


def test_all_that_was_handed_in_passes(repository: Repository) -> None:
    """Then the exit code is 0, whatever else the base holds."""
    repository.write("base", f"submissions/eve/{ID}.py", WRONG)
    repository.commit("base")
    repository.git("head", "merge", "-q", "--ff-only", "main")
    repository.write("head", f"submissions/bob/{ID}.py", REFERENCE + "\n# by bob\n")

    result = repository.grade()

    assert (result.exit_code, lines(result)) == (0, ["submissions/bob, 01_sums (changed): passed"])


def test_nothing_of_it_changed(repository: Repository) -> None:
    """A pull request without a solution is told so, and is no failure."""
    repository.write("head", "notes/today.md", "Done.")

    result = repository.grade()

    assert (result.exit_code, result.stdout.splitlines()) == (
        0,
        [
            "no solution differs from the base: nothing was graded",
            "changed and not used (grader and challenges are those of the base): 1 file: "
            "notes/today.md",
        ],
    )


def test_a_solution_that_is_gone(repository: Repository) -> None:
    """It is told."""
    shutil.rmtree(repository.path / "head/submissions/bob")

    result = repository.grade()

    assert (result.exit_code, result.stdout.splitlines()) == (
        0,
        [
            "no solution differs from the base: nothing was graded",
            "removed: submissions/bob, 01_sums",
        ],
    )


def test_graders_and_challenges_are_those_of_the_base(repository: Repository) -> None:
    """A head that rewrites tests, reference, configuration and grader is judged as before."""
    passes = "import os\nos._exit(0)\n"
    repository.write("head", f"submissions/ada/{ID}.py", WRONG)
    for name in (
        f"challenges/{ID}/hidden/1_one.py",
        "conftest.py",
        "submissions/ada/conftest.py",
        "submissions/conftest.py",
        "sitecustomize.py",
        "submissions/ada/sitecustomize.py",
        "pytest_llmgrind/__init__.py",
        "pytest.py",
        f"reference/{ID}.py",
    ):
        repository.write("head", name, passes)
    for name in ("pytest.ini", "submissions/pytest.ini", "submissions/ada/pytest.ini"):
        repository.write("head", name, "[pytest]\naddopts = --collect-only\n")
    repository.write("head", f"challenges/{ID}/challenge.toml", "broken")

    result = repository.grade("--json")

    found = json.loads(result.stdout)
    assert result.exit_code == 1
    assert found["solutions"] == [
        {"entrant": "submissions/ada", "challenge": ID, "kind": "new", "passed": False}
    ]
    assert found["unused"] == [
        f"challenges/{ID}/challenge.toml",
        f"challenges/{ID}/hidden/1_one.py",
        "conftest.py",
        "pytest.ini",
        "pytest.py",
        "pytest_llmgrind/__init__.py",
        f"reference/{ID}.py",
        "sitecustomize.py",
    ]


@pytest.mark.parametrize(
    ("link", "target", "said"),
    [
        ("solutions", "../base/reference", "refused: solutions is a link"),
        ("submissions/eve", "../../base/reference", "refused: submissions/eve is a link"),
        (
            f"submissions/eve/{ID}.py",
            f"../../../base/reference/{ID}.py",
            "  submissions/eve, 01_sums: 01_sums.py is a link",
        ),
        (
            f"submissions/eve/{ID}",
            "../../../base/submissions/bob",
            "  submissions/eve, 01_sums: 01_sums is a link",
        ),
    ],
)
def test_a_link_is_not_followed(repository: Repository, link: str, target: str, said: str) -> None:
    """Wherever a link stands in the way to a solution, nothing is graded, and that is a failure."""
    place = repository.path / "head" / link
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(target)
    (repository.path / "base/submissions/bob/__init__.py").write_text(REFERENCE)

    result = repository.grade()

    assert result.exit_code == 1
    assert said in result.stdout.splitlines()
    assert "passed" not in result.stdout


def test_what_is_too_large_is_not_read(repository: Repository) -> None:
    """A solution of more than a mebibyte is refused; the others are graded."""
    repository.write("head", f"submissions/ada/{ID}.py", REFERENCE + "#" * 2**21)
    repository.write("head", "submissions/ada/02_more.py", REFERENCE)

    result = repository.grade()

    assert result.exit_code == 1
    assert lines(result)[0] == "submissions/ada, 01_sums (new): failed"
    assert lines(result)[-1] == "submissions/ada, 02_more (new): passed"


def test_what_went_into_the_base_meanwhile_is_not_graded(repository: Repository) -> None:
    """CI checks out the merge of the two, which holds what others have handed in since."""
    repository.write("head", f"submissions/ada/{ID}.py", REFERENCE)
    repository.commit("head")
    repository.write("base", f"submissions/eve/{ID}.py", WRONG)
    repository.commit("base")
    repository.git("head", "merge", "-q", "-m", "merge", "main")

    result = repository.grade()

    assert (result.exit_code, lines(result)) == (0, ["submissions/ada, 01_sums (new): passed"])


def test_the_page_holds_no_markup_of_theirs(repository: Repository) -> None:
    """Names and messages come from a stranger, and the page is the project's."""
    name = "<img src=x> [click](http:__x)"
    loud = (
        'def add(a, b):\n    raise ValueError("</details> **won** [x](y) `z` | @all \\x1b[31m")\n'
    )
    repository.write("head", f"submissions/{name}/{ID}.py", loud)

    page = repository.grade("--markdown").stdout

    assert "# llmgrind\n" in page
    for markup in ("<img", "</details>", "**won**", "[x](", "[click](", "\x1b"):
        assert markup not in page


def test_junit_holds_every_test(repository: Repository) -> None:
    """A suite for each solution, a case for each test, the failure with what was seen."""
    repository.write("head", f"submissions/ada/{ID}.py", WRONG)
    repository.write("head", "submissions/ada/02_more.py", "while True: pass\n" * 200_000)

    repository.grade("--junit", "out/junit.xml", "--results", "results")

    root = ElementTree.parse(repository.path / "out/junit.xml").getroot()
    one, two = root
    assert one.attrib | {"time": ""} == {
        "name": "submissions/ada/01_sums",
        "tests": "1",
        "failures": "1",
        "errors": "0",
        "skipped": "0",
        "time": "",
    }
    (case,) = one
    assert (case.get("classname"), case.get("name")) == (
        "submissions/ada/01_sums.one",
        "R1 test_add",
    )
    assert (
        case.find("failure").get("message") == "failed: the sum came back as -1, which is not right"
    )  # type: ignore[union-attr]
    assert (two.get("errors"), two[0].find("error") is not None) == ("1", True)
    assert (repository.path / "results/submissions/ada/01_sums.json").is_file()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--base", "base"), "--base and --head belong together"),
        (("--head", "head"), "--base and --head belong together"),
        (
            ("submissions", "--base", "base", "--head", "head"),
            "SUBMISSIONS, or --base and --head: one of them",
        ),
        (("--base", "base", "--head", "nowhere"), "there is no directory nowhere"),
        (("--base", "head/challenges", "--head", "head"), "head/challenges has no challenges/"),
        (("base", "--junit", "x.xml"), "--junit belongs to --base and --head"),
    ],
)
def test_bad_input(repository: Repository, options: tuple[str, ...], said: str) -> None:
    """One line, and a failing exit code."""
    result = repository.suite.llmgrind("grade", *options)

    assert result.exit_code in (1, 2)
    assert result.stderr.splitlines()[-1].endswith(said)


def test_a_file_that_cannot_be_written(repository: Repository) -> None:
    """The line names it."""
    repository.write("head", f"submissions/ada/{ID}.py", REFERENCE)
    os.mkdir(repository.path / "there")

    result = repository.grade("--junit", "there")

    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1].endswith("there: Is a directory")


def test_the_action_grades_as_the_verb_does(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The step of action.yml, run as GitHub runs it: summary, JUnit, results and exit code."""
    action = yaml.safe_load((ROOT / "action.yml").read_text("utf-8"))
    (step,) = (step for step in action["runs"]["steps"] if step.get("name") == "Grade")
    repository.write("head", f"submissions/ada/{ID}.py", WRONG)
    repository.checked_out_anew()
    defaults = {name: each.get("default", "") for name, each in action["inputs"].items()}
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(repository.path / "page.md"))
    for name, text in step["env"].items():
        monkeypatch.setenv(name, defaults[text.removeprefix("${{ inputs.").removesuffix(" }}")])
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")

    script = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]]
    run = subprocess.run(script, cwd=repository.path, capture_output=True, text=True, check=False)

    assert (run.returncode, run.stderr) == (1, "submissions/ada, 01_sums: 0/1 rules\n")
    page = (repository.path / "page.md").read_text("utf-8")
    assert "## submissions/ada, 01\\_sums (new): failed\n" in page
    kept = sorted(path.name for path in (repository.path / "results").rglob("*.*"))
    assert kept == [".lock", "01_sums.json", "junit.xml", "summary.md"]


def test_the_workflow_reads_no_secret_and_runs_nothing_of_the_head() -> None:
    """Under pull_request, with a token that may only read, and no step that runs in the head."""
    workflow = yaml.safe_load((ROOT / ".github/workflows/grade.yml").read_text("utf-8"))
    (job,) = workflow["jobs"].values()
    checkout, lay_out, use = job["steps"]

    assert list(workflow[True]) == ["pull_request"]  # YAML reads `on` as true
    assert workflow["permissions"] == {"contents": "read"}
    assert "secrets." not in (ROOT / ".github/workflows/grade.yml").read_text("utf-8")
    assert checkout["with"]["persist-credentials"] is False
    assert lay_out["run"] == "git -C head worktree add --detach ../base HEAD^1"
    assert (use["uses"], use["with"]["package"]) == ("./base", "./base[graded]")
