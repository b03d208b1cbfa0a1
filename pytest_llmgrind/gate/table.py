"""The table of budgets in spec.md, generated from challenge.toml."""

from __future__ import annotations

from collections.abc import Iterator

from pytest_llmgrind.gate.finding import Finding, line_of
from pytest_llmgrind.manifest import Budget, Manifest

OPEN, CLOSE = "<!-- budgets -->", "<!-- /budgets -->"
NONE = "This challenge has no budget."


def table(manifest: Manifest) -> str:
    """What has to stand between the two comments."""
    if not manifest.budgets:
        return NONE
    rows = ["| what is measured | stage | kind | at most |", "|---|---|---|---|"]
    for budget in manifest.budgets:
        what = budget.what.replace("|", "\\|")
        rows.append(f"| {what} | {budget.stage} | {budget.kind} | {_limit(budget)} |")
    return "\n".join(rows)


def check(manifest: Manifest) -> Iterator[Finding]:
    """The two comments are there, and the table between them is up to date."""
    text = manifest.spec.read_text("utf-8")
    if _split(text) is None:
        line = line_of(manifest.spec, "## Budgets")
        what = f"wanted {OPEN} and after it {CLOSE}, once each"
        yield Finding(manifest.spec, line, what, "write the two comments under ## Budgets")
    elif text != _with_table(text, manifest):
        line = line_of(manifest.spec, OPEN)
        what = "the table of budgets is not what challenge.toml says"
        yield Finding(manifest.spec, line, what, f"llmgrind check --fix {manifest.id}")


def fix(manifest: Manifest) -> bool:
    """Write the table; whether the file changed."""
    try:
        text = manifest.spec.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return False
    new = _with_table(text, manifest)
    if new != text:
        manifest.spec.write_text(new, "utf-8")
    return new != text


def _with_table(text: str, manifest: Manifest) -> str:
    parts = _split(text)
    if parts is None:
        return text
    before, after = parts
    return f"{before}{OPEN}\n{table(manifest)}\n{CLOSE}{after}"


def _split(text: str) -> tuple[str, str] | None:
    if text.count(OPEN) != 1 or text.count(CLOSE) != 1 or text.index(OPEN) > text.index(CLOSE):
        return None
    return text.partition(OPEN)[0], text.partition(CLOSE)[2]


def _limit(budget: Budget) -> str:
    whole = float(budget.limit).is_integer()
    number = f"{int(budget.limit):,}" if whole else f"{budget.limit:g}"
    if not budget.unit:
        return number
    return f"{number}{budget.unit}" if budget.unit == "x" else f"{number} {budget.unit}"
