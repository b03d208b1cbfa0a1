"""A stage that needs more than its challenge's kit, and ranks of a hidden test."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

from pytest_llmgrind import tiers

RANKS = {
    "alone": """
        from pytest_llmgrind import check, rule

        @rule("R1")
        def test_a_sum(solution):
            check.equal(solution.add(1, 2), 3, what="sum")
        """,
    "together": """
        from pytest_llmgrind import check, rule
        from pytest_llmgrind.rank import launch
        from . import ranks

        @rule("R2")
        def test_a_sum_on_each_rank(solution):
            results = launch(ranks.total, 2, [1, 2, 3], solution=solution)
            check.equal(results, [6, 6], what="totals", given="2 ranks")
        """,
}
RANK = """
def total(process, xs):
    return process.solution.total(xs)
"""
BROKEN = """
def add(a, b):
    return a + b


def total(xs):
    wanted = "the learner's own line"
    raise LookupError(f"nothing to add on {len(xs)} numbers")
"""


@pytest.fixture
def ranked(suite):
    """A challenge whose second stage needs torch."""
    root = suite.challenge(stages=RANKS)
    suite.write(f"{root.relative_to(suite.path)}/hidden/ranks.py", RANK)
    toml = root / "challenge.toml"
    toml.write_text(
        toml.read_text().replace('name = "together"', 'name = "together"\nkit = "torch"')
    )
    return suite


def test_a_stage_is_skipped_where_its_kit_is_missing(ranked, monkeypatch):
    """The other stages run, and the reason says what to install."""
    reasons = {"torch": "needs torch: pip install pytest-llmgrind[torch]"}
    monkeypatch.setattr(tiers, "missing_kit", lambda kit: reasons.get(kit, ""))
    ranked.solve()

    result = ranked.run("challenges", "-rs")

    result.assert_outcomes(passed=1, skipped=1)
    result.stdout.fnmatch_lines(["SKIPPED*needs torch: pip install pytest-llmgrind?torch?"])


@pytest.mark.parametrize("kit", ["jax", ""])
def test_an_unknown_kit_of_a_stage_is_named(ranked, kit):
    """The key says which stage, and what was wanted."""
    toml = ranked.path / "challenges/01_sums/challenge.toml"
    toml.write_text(toml.read_text().replace('kit = "torch"', f'kit = "{kit}"'))

    result = ranked.run("challenges")

    wanted = "wanted one of np, torch, triton, got 'jax'" if kit else "wanted a text, got str ''"
    result.stdout.fnmatch_lines([f"*challenge.toml: stage 2.kit: {wanted}*"])


@pytest.mark.skipif(find_spec("torch") is None, reason="needs torch")
def test_ranks_grade_the_solution(ranked):
    """A right solution passes over processes."""
    ranked.solve()

    ranked.run("challenges").assert_outcomes(passed=2)


@pytest.mark.skipif(find_spec("torch") is None, reason="needs torch")
def test_the_failure_of_a_rank_shows_the_learner_s_frames(ranked):
    """The exception of a rank is told like one of this process: own frames, no hidden line."""
    ranked.solve(BROKEN)

    result = ranked.run("challenges", "-k", "together")

    result.stdout.fnmatch_lines(
        [
            "  saw    raised LookupError: nothing to add on 3 numbers",
            "  solutions/01_sums.py:7: in total",
            '      raise LookupError(f"nothing to add on {len(xs)} numbers")',
        ]
    )
    result.stdout.no_fnmatch_line("*process.solution.total*")


@pytest.mark.skipif(find_spec("torch") is None, reason="needs torch")
def test_an_untouched_stub_is_todo_on_its_ranks(ranked):
    """NotImplementedError of a rank is the stub's own."""
    result = ranked.run("challenges/01_sums", "-k", "together")

    result.stdout.fnmatch_lines(["*1 todo*"])
