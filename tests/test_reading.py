"""llmgrind reading: papers out of specs, and how far you are with each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from pytest_llmgrind import papers, workspace
from pytest_llmgrind.cli import main
from pytest_llmgrind.papers import Paper

FIRST = """
# Sums

## References

- Vaswani et al., *Attention Is All You Need*, 2017, arXiv:1706.03762: equation 1,
  section 3.2.1.
- Rumelhart, Hinton and Williams, *Learning representations*, Nature 323, 1986: equations 4 to 7.
- pytorch/pytorch#41508 and #131060: what a row without keys did, in 2020.
- Read afterwards: `SoftMax.cpp` in pytorch/pytorch.

## Out of scope

- Hopper, *Compilers*, 1952.
"""
SECOND = """
# Dots

## References

- Su et al. 2021, "RoFormer", arXiv 2104.09864, equation 34.
- Vaswani et al. 2017, "Attention", arXiv 1706.03762.
- Rumelhart and others, *Learning Representations.*, 1986.
"""


@pytest.fixture
def suite(suite: Any) -> Any:
    for id, text in (("01_sums", FIRST), ("02_dots", SECOND)):
        suite.challenge(id)
        suite.write(f"challenges/{id}/spec.md", text)
    return suite


def lines(suite: Any, *args: str) -> list[str]:
    result = suite.llmgrind("reading", *args)
    assert result.exit_code == 0, result.output
    return [str(line) for line in result.stdout.splitlines()]


def parsed(item: str) -> list[Paper]:
    return list(papers.of_text(f"## References\n\n- {item}\n"))


class TestParser:
    @pytest.mark.parametrize(
        ("item", "title", "authors", "year", "arxiv"),
        [
            ("He et al., *Delving*, 2015, arXiv:1502.01852: equation 10",
             "Delving", "He et al.", "2015", "1502.01852"),
            ('Pope et al. 2022, "Scaling", arXiv 2211.05102: prefill',
             "Scaling", "Pope et al.", "2022", "2211.05102"),
            ("[FlashAttention](https://arxiv.org/abs/2205.14135v2), Dao et al. 2022",
             "FlashAttention", "", "2022", "2205.14135"),
            ("Hochreiter & Schmidhuber (1997). “Long Short-Term Memory”.",
             "Long Short-Term Memory", "Hochreiter & Schmidhuber", "1997", ""),
            ("Dao 2022, arXiv:2205.14135", "Dao 2022", "Dao", "2022", "2205.14135"),
            ("arXiv:hep-th/9901001", "arXiv:hep-th/9901001", "", "", "hep-th/9901001"),
        ],
    )  # fmt: skip
    def test_what_is_a_paper(
        self, item: str, title: str, authors: str, year: str, arxiv: str
    ) -> None:
        """An arXiv id, or authors, a title and a year, in any of the usual forms."""
        assert parsed(item) == [Paper(title=title, authors=authors, year=year, arxiv=arxiv)]

    @pytest.mark.parametrize(
        "item",
        [
            "Read afterwards: `cache_utils.py` of 2023, *DynamicCache*.",
            "Then read `src/cache_utils.py` of huggingface/transformers: `DynamicCache`.",
            "huggingface/transformers#29285 and EleutherAI/gpt-neox#1016: *rounded* angles, 2024.",
            "ggml-org/llama.cpp#2376: what a conversion looks like.",
            "RFC 2045",
            "Knuth, *The Art of Computer Programming*",
        ],
    )
    def test_what_is_none(self, item: str) -> None:
        """Issues, files, and books without a year."""
        assert parsed(item) == []

    def test_a_paper_is_known_again(self, suite: Any) -> None:
        """By its arXiv id, else by its title; the longest title and both challenges stay."""
        found = papers.cited({id: suite.path / f"challenges/{id}/spec.md"
                              for id in ("01_sums", "02_dots", "03_gone")})  # fmt: skip

        assert [(paper.title, paper.arxiv, paper.challenges) for paper in found] == [
            ("Attention Is All You Need", "1706.03762", ("01_sums", "02_dots")),
            ("Learning representations", "", ("01_sums", "02_dots")),
            ("RoFormer", "2104.09864", ("02_dots",)),
        ]

    def test_every_spec_of_the_suite_is_understood(self) -> None:
        """Each item with an arXiv id is a paper, with a title and authors."""
        whole = workspace.suite()
        for id in whole.ids:
            path = whole.challenges / id / "spec.md"
            found = papers.cited({id: path})

            assert len([p for p in found if p.arxiv]) == path.read_text("utf-8").count("arXiv")
            assert all(paper.authors and paper.year for paper in found)


class TestList:
    def test_each_paper_has_a_number_and_a_state(self, suite: Any) -> None:
        """Nothing is read yet, and to look makes no history."""
        assert lines(suite) == [
            "   state     year  paper                      arXiv       cited by",
            "1  not read  2017  Attention Is All You Need  1706.03762  01 02",
            "2  not read  1986  Learning representations               01 02",
            "3  not read  2021  RoFormer                   2104.09864  02",
        ]
        assert not (suite.path / ".llmgrind").exists()

    def test_one_state_keeps_the_numbers(self, suite: Any) -> None:
        """A number means the same paper in every list."""
        lines(suite, "3", "reading")

        assert lines(suite, "--state", "reading") == [
            "   state    year  paper     arXiv       cited by",
            "3  reading  2021  RoFormer  2104.09864  02",
        ]
        assert [line[0] for line in lines(suite, "--state", "not-read")] == [" ", "1", "2"]
        result = suite.llmgrind("reading", "--state", "done")
        assert (result.exit_code, result.stdout) == (0, "")
        assert result.stderr == "no paper is in the state done\n"

    def test_json_gives_every_key(self, suite: Any) -> None:
        """What a paper does not have is null."""
        lines(suite, "2", "done")

        [paper] = json.loads("\n".join(lines(suite, "--state", "done", "--json")))["papers"]

        assert paper == {
            "number": 2,
            "title": "Learning representations",
            "authors": "Rumelhart, Hinton and Williams",
            "year": "1986",
            "arxiv": None,
            "url": None,
            "state": "done",
            "challenges": ["01_sums", "02_dots"],
        }

    def test_a_suite_without_papers_says_so(self, suite: Any) -> None:
        """No empty table."""
        for id in ("01_sums", "02_dots"):
            suite.write(f"challenges/{id}/spec.md", "# Sums\n")

        result = suite.llmgrind("reading")

        assert (result.exit_code, result.stdout) == (0, "")
        assert result.stderr == "no paper is cited\n"

    def test_the_installed_suite_can_be_looked_at(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Outside of a workspace there are papers; to note one, a workspace is needed."""
        monkeypatch.chdir(tmp_path)

        assert "Attention Is All You Need" in CliRunner().invoke(main, ["reading"]).stdout
        result = CliRunner().invoke(main, ["reading", "1", "done"])
        assert result.exit_code == 2
        assert result.stderr == (
            f"Error: no challenges/ in {tmp_path} or above; `llmgrind init DIR` lays out a"
            " workspace\n"
        )
        assert list(tmp_path.iterdir()) == []


class TestState:
    @pytest.mark.parametrize(
        "name", ["3", "RoFormer", "roformer", "form", "Su et al.", "2104.09864", "arXiv:2104.09864"]
    )
    def test_a_paper_has_several_names(self, suite: Any, name: str) -> None:
        """Its number, its title or a part of it, its authors, its arXiv id."""
        assert lines(suite, name, "done") == ["done: RoFormer"]

    def test_a_state_is_kept_and_can_be_taken_back(self, suite: Any) -> None:
        """reading, done and not-read again."""
        seen = []
        for state in ("reading", "done", "not-read"):
            lines(suite, "1", state)
            seen.append(lines(suite)[1].split("  ")[1])

        assert seen == ["reading", "done", "not read"]

    def test_a_state_survives_another_wording(self, suite: Any) -> None:
        """The arXiv id is what is remembered: a title may be corrected, a spec removed."""
        lines(suite, "1", "done")
        suite.write("challenges/01_sums/spec.md", "# Sums\n")

        assert lines(suite, "--state", "done")[1:] == ["2  done   2017  Attention  1706.03762  02"]

    def test_json_is_the_paper(self, suite: Any) -> None:
        """Its new state, with all else that is known of it."""
        data = json.loads("\n".join(lines(suite, "3", "done", "--json")))

        assert (data["number"], data["title"], data["state"]) == (3, "RoFormer", "done")

    @pytest.mark.parametrize(
        ("args", "text"),
        [
            (["e", "done"], "'e' may be several: 1 Attention Is All You Need; 2 Learning"
             " representations; 3 RoFormer"),
            (["GPT", "done"], "no paper is called 'GPT'; `llmgrind reading` lists them"),
            (["4", "done"], "there is no paper 4; they are 1 to 3"),
            (["0", "done"], "there is no paper 0; they are 1 to 3"),
            (["", "done"], "no paper is called ''; `llmgrind reading` lists them"),
            (["3"], "what about '3'? add a state: not-read, reading, done"),
        ],
    )  # fmt: skip
    def test_a_name_that_means_no_one_paper(self, suite: Any, args: list[str], text: str) -> None:
        """A wrong command line says what to choose from, and notes nothing."""
        result = suite.llmgrind("reading", *args)

        assert result.exit_code == 2
        assert result.output == f"Error: {text}\n"
        assert not (suite.path / ".llmgrind").exists()

    def test_a_state_that_is_none(self, suite: Any) -> None:
        """The three that there are, are named."""
        result = suite.llmgrind("reading", "3", "read")

        assert result.exit_code == 2
        assert "'read' is not one of 'not-read', 'reading', 'done'" in result.output

    def test_a_history_that_cannot_be_used_is_one_line(self, suite: Any) -> None:
        """Nothing is said to be noted that was not."""
        suite.write(".llmgrind", "")

        result = suite.llmgrind("reading", "3", "done")

        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr.startswith("Error: ")
        assert result.stderr.endswith("; nothing is recorded\n")
        assert result.stderr.count("\n") == 1
