"""spec.md: rules, sections and the anchors that failures point to."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_llmgrind.spec import Rule, Spec, load, slug

TEXT = """\
# KV cache

## Background

### Rotary position: `RoPE`, once

```python
# not a heading
- **R9** not a rule
```

## Rules

- **R1** `forward` gives the *logits* of the decoder. [rope](#rotary-position-rope-once)
- **R2** A sentence
  over two lines.
- **R3** Last one. [a](#rules).

Allowed: numpy.

## Budgets
"""


@pytest.fixture
def spec(tmp_path: Path) -> Spec:
    (tmp_path / "spec.md").write_text(TEXT, "utf-8")
    return load(tmp_path / "spec.md")


def test_rules_are_sentences_without_markup(spec: Spec) -> None:
    """A rule's sentence is what failures quote: no backticks, no stars, one line, no link."""
    assert spec.rules == (
        Rule("R1", "forward gives the logits of the decoder.", "#rotary-position-rope-once"),
        Rule("R2", "A sentence over two lines.", "#rules"),
        Rule("R3", "Last one.", "#rules"),
    )


def test_a_rule_is_found_by_its_id(spec: Spec) -> None:
    """An unknown id is no rule."""
    assert spec.rule("R2") is spec.rules[1]
    assert spec.rule("R9") is None


def test_sections_are_the_second_level(spec: Spec) -> None:
    """What stands in a code block is no heading."""
    assert spec.title == "KV cache"
    assert spec.sections == ("Background", "Rules", "Budgets")
    assert "#rotary-position-rope-once" in spec.anchors


@pytest.mark.parametrize(
    ("heading", "anchor"),
    [
        ("Out of scope", "out-of-scope"),
        ("`RoPE`, and *why*", "rope-and-why"),
        ("n_kv_heads", "n_kv_heads"),
        ("Key/value heads (GQA)", "keyvalue-heads-gqa"),
        ("A – b", "a--b"),
    ],
)
def test_anchors_are_those_of_github(heading: str, anchor: str) -> None:
    """A link in a failure text has to lead to the heading in a browser too."""
    assert slug(heading) == anchor


def test_a_missing_spec_has_no_rules(tmp_path: Path) -> None:
    """The gate complains about it; a failure text goes without the sentence."""
    assert load(tmp_path / "spec.md").rules == ()


@pytest.mark.parametrize("junk", [b"\xff\xfe- **R1** x", b"", b"\xef\xbb\xbf# T\n- **R1** x\n"])
def test_junk_is_read_without_an_error(tmp_path: Path, junk: bytes) -> None:
    """A failure text is written from any file, whatever its encoding."""
    (tmp_path / "spec.md").write_bytes(junk)

    assert load(tmp_path / "spec.md").path == tmp_path / "spec.md"


def test_an_edited_spec_is_read_again(tmp_path: Path) -> None:
    """An edit counts in the same process."""
    file = tmp_path / "spec.md"
    file.write_text("- **R1** Old.\n")
    load(file)
    file.write_text("- **R1** Newer.\n")

    assert load(file).rules[0].sentence == "Newer."
