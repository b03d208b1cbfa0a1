"""docs/cli.md and the command line say the same."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from pytest_llmgrind.cli import main

PAGE = (Path(__file__).parent.parent / "docs/cli.md").read_text("utf-8")
SHARED = {"--help"}
# They do something, or show a page to read, and print no data.
WITHOUT_DATA = {
    "init", "new", "start", "debug", "reset", "undo", "reveal", "show", "watch", "notebook",
}  # fmt: skip
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*")


def verbs() -> dict[str, click.Command]:
    context = click.Context(main)
    found = {name: main.get_command(context, name) for name in main.list_commands(context)}
    return {name: command for name, command in found.items() if command is not None}


def sections(page: str) -> dict[str, str]:
    """The text under each ``## llmgrind VERB``; a section twice is a mistake."""
    _, *parts = re.split(r"^## llmgrind (\S+)", page, flags=re.MULTILINE)
    names, texts = parts[::2], parts[1::2]
    assert len(names) == len(set(names)), f"twice in docs/cli.md: {names}"
    ends = (re.split(r"^## ", text, flags=re.MULTILINE)[0] for text in texts)
    return dict(zip(names, ends, strict=True))


def options(command: click.Command) -> set[str]:
    """All long options that a verb takes."""
    return {
        name
        for option in command.params
        if isinstance(option, click.Option)
        for name in (*option.opts, *option.secondary_opts)
        if name.startswith("--")
    }


def named(verb: str, text: str) -> Iterator[tuple[str, str]]:
    """The verb and the option of each option that a section names.

    In `` `--json` `` it is the section's own verb; in an example or in `` `llmgrind log --new` ``
    the verb that stands there. Options of other programs (`` `pytest -q --lf` ``) are theirs.
    """
    code = re.findall(r"`([^`]+)`", text)
    code += [line.strip().removeprefix("$ ") for line in re.findall(r"^    (\$ .+)$", text, re.M)]
    for each in (part.strip() for one in code for part in re.split(r"&&|\|\||[|;]", one)):
        called = re.match(r"llmgrind (\S+)", each)
        if called or each.startswith("--"):
            for option in OPTION.findall(each):
                yield (called[1] if called else verb), option


class TestReading:
    """What this file holds the page against is read rightly."""

    def test_options_are_those_of_the_verb_that_is_called(self) -> None:
        """Of another verb, of another program, after a pipe, in an example."""
        text = (
            "Takes `--json`, see `llmgrind log --new ID` and `pytest --lf`.\n\n"
            "    $ cd x && llmgrind start 4 --solutions DIR | tee --append\n"
            "    --not an option, but what it printed\n"
        )

        assert list(named("list", text)) == [
            ("list", "--json"), ("log", "--new"), ("start", "--solutions"),
        ]  # fmt: skip

    def test_a_section_ends_with_the_next(self) -> None:
        """Also where the next is about no verb; a name is no beginning of another."""
        page = "# x\n## llmgrind log [ID]\n\nnotes\n\n## More\n\nno\n## llmgrind logs\n\nyes\n"

        assert sections(page) == {"log": " [ID]\n\nnotes\n\n", "logs": "\n\nyes\n"}


def test_every_verb_has_a_section_and_every_section_a_verb() -> None:
    """Nothing is left undocumented, and nothing documented that is not there."""
    assert set(sections(PAGE)) == set(verbs())


@pytest.mark.parametrize("verb", verbs())
class TestEveryVerb:
    def test_each_option_is_named(self, verb: str) -> None:
        """Its section names all options of a verb, an option of two forms by one of them."""
        found = {option for of, option in named(verb, sections(PAGE).get(verb, "")) if of == verb}

        missing = [
            option.opts
            for option in verbs()[verb].params
            if isinstance(option, click.Option)
            and not {*option.opts, *option.secondary_opts} & found
        ]

        assert missing == []

    def test_no_option_is_named_that_does_not_exist(self, verb: str) -> None:
        """Neither of its own nor of the verbs that its section calls."""
        there = {name: options(command) | SHARED for name, command in verbs().items()}

        unknown = [
            f"llmgrind {of} {option}"
            for of, option in named(verb, sections(PAGE).get(verb, ""))
            if option not in there.get(of, set())
        ]

        assert unknown == []

    def test_arguments_are_those_of_the_heading(self, verb: str) -> None:
        """A heading has as many arguments as the usage line."""
        context = click.Context(verbs()[verb], info_name=verb)
        usage = " ".join(verbs()[verb].collect_usage_pieces(context)).replace("[OPTIONS]", "")
        heading = sections(PAGE).get(verb, "").partition("\n")[0]

        assert re.findall(r"\w+", heading) == re.findall(r"\w+", usage)

    def test_help_has_an_example(self, verb: str) -> None:
        """--help shows a command that can be typed."""
        result = CliRunner().invoke(main, [verb, "--help"], prog_name="llmgrind")

        assert result.exit_code == 0
        assert f"Example:\n    llmgrind {verb}" in result.output

    def test_examples_are_commands_that_there_are(self, verb: str) -> None:
        """What --help shows names options that exist."""
        result = CliRunner().invoke(main, [verb, "--help"], prog_name="llmgrind")
        example = result.output.partition("Example:\n")[2].partition("\n\n")[0]
        shown = "\n".join(f"    $ {line.strip()}" for line in example.splitlines())

        called = list(named(verb, shown))

        assert {option for of, option in called if of == verb} <= options(verbs()[verb])

    def test_what_prints_data_takes_json(self, verb: str) -> None:
        """A script can read whatever is printed as a table or a list."""
        assert "--json" in options(verbs()[verb]) or verb in WITHOUT_DATA
