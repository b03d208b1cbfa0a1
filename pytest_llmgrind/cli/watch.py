"""llmgrind watch: grade at each save."""

from __future__ import annotations

from pathlib import Path

import click

from pytest_llmgrind.cli._params import ChallengeDir, NotDone, current, manifest_of, practised


@click.command()
@click.argument("root", metavar="[ID]", required=False, type=ChallengeDir())
def watch(root: Path | None) -> None:
    """Run the stage that you work at whenever you save.

    With ID it stays with that challenge. Without, it begins with the one whose solution was changed
    last and follows you when you save another. A green stage is followed by the next, and when all
    are green, by a run of all with budgets. Keys: h the next hint, n the next stage, r run all
    stages with budgets, q quit.

    \b
    Example:
      llmgrind watch 04_kv_cache
    """
    from pytest_llmgrind import watch as watching

    if watching.missing():
        raise NotDone("watch needs watchfiles: pip install 'pytest-llmgrind[watch]'")
    workspace = current(writable=True)
    if root is not None:
        id, alone = manifest_of(root).id, True
    else:
        with practised(workspace) as history:
            found = watching.latest(workspace, history.attempts())
        if found is None:
            raise NotDone("nothing is begun here; `llmgrind start ID` begins a challenge")
        id, alone = found, False

    def remark(text: str) -> None:
        click.echo(f"note  {text}", err=True)

    watching.Session(workspace, id, alone=alone, remark=remark).watch()
