"""What a path on pytest's command line means, where it names a file of a challenge."""

from __future__ import annotations

import difflib
import os
from pathlib import Path

import pytest

from pytest_llmgrind import manifest as manifests
from pytest_llmgrind.candidates import directory_of
from pytest_llmgrind.collect import OURS, challenges_below
from pytest_llmgrind.manifest import MANIFEST, ManifestError


def meant(argument: str, config: pytest.Config) -> str:
    """The argument, or the challenge that it stands for.

    ``challenges/04_kv_cache/spec.md`` and ``solutions/04_kv_cache.py`` are what an editor has
    open when it runs pytest on "this file". Nothing else is changed.

    Raises
    ------
    pytest.UsageError
        For a challenge that does not exist, with the nearest ids; for a solution that another
        file would be graded instead of.
    """
    name, separator, _ = argument.partition("::")
    path = Path(os.path.abspath(config.invocation_params.dir / name))
    if not path.exists():
        return _missing(argument, path)
    if root := manifests.enclosing(path):
        return _in_challenge(argument, path, root)
    if separator or path.suffix not in ("", ".py"):
        return argument
    return _solution(argument, path, config)


def _missing(argument: str, path: Path) -> str:
    known = [challenge.name for challenge in challenges_below(path.parent)]
    near = difflib.get_close_matches(path.name, known, n=3, cutoff=0.6)
    if near:
        raise pytest.UsageError(f"no challenge {argument}; did you mean {', '.join(near)}?")
    return argument


def _in_challenge(argument: str, path: Path, root: Path) -> str:
    try:
        stage = manifests.load(root).stage_at(path)
    except ManifestError:
        return str(root)
    hidden = root / "hidden"
    if stage or path in (root, hidden):
        return argument
    ours = hidden in path.parents or path in [root / name for name in OURS]
    return str(root) if ours else argument


def _solution(argument: str, path: Path, config: pytest.Config) -> str:
    homes = (path.parent.parent, config.rootpath, config.invocation_params.dir)
    challenges = (home / "challenges" / path.stem for home in homes)
    challenge = next((c for c in challenges if (c / MANIFEST).is_file()), None)
    if challenge is None:
        return argument
    if directory_of(config, challenge).resolve() == path.parent.resolve():
        return str(challenge)
    raise pytest.UsageError(
        f"{argument} is a solution of {challenge.name}; to grade it: "
        f"pytest {os.path.relpath(challenge, config.invocation_params.dir)} "
        f"--solutions {os.path.relpath(path.parent, config.invocation_params.dir)}"
    )
