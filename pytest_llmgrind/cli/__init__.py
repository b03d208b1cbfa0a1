"""llmgrind: the command line. One file a group of verbs; a new file is found by itself."""

from __future__ import annotations

import os
import pkgutil
from importlib import import_module
from typing import Any

import click

INTERRUPTED = 130


class Verbs(click.Group):
    """The click commands that the modules of this package define."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        self._load()
        return super().list_commands(ctx)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        self._load()
        return super().get_command(ctx, cmd_name)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            click.echo("Interrupted", err=True)
            ctx.exit(INTERRUPTED)

    def _load(self) -> None:
        if self.commands:
            return
        for info in pkgutil.iter_modules(__path__):
            if info.name.startswith("_"):
                continue
            module = import_module(f"{__name__}.{info.name}")
            for value in vars(module).values():
                if isinstance(value, click.Command) and value.name:
                    self.add_command(value)


@click.command(
    cls=Verbs,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 done, 1 not done or findings, 2 wrong command line.",
)
@click.version_option(package_name="pytest-llmgrind", message="llmgrind %(version)s")
@click.pass_context
def main(ctx: click.Context) -> None:
    """Practise building LLM systems, graded by pytest.

    \b
    Example:
      llmgrind start 04_kv_cache
      pytest challenges/04_kv_cache
    """
    if os.environ.get("NO_COLOR"):
        ctx.color = False
