"""The reference of 08_speculative_decoding against transformers, and what its statistics can see.

The second half needs no library: from the exact law that a planted bug gives to the cells of a
hidden test, it bounds how often the bug slips through. spec.md quotes the table.
"""

from __future__ import annotations

import importlib
import itertools
import math
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from references import load

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
import transformers
from transformers.generation.candidate_generator import PromptLookupCandidateGenerator
from transformers.generation.utils import _speculative_sampling

transformers.logging.set_verbosity_error()
torch.set_num_threads(1)
SEEDS = range(8)
V = 61

spec = load("08_speculative_decoding")
kv = load("04_kv_cache")


def hidden(name: str) -> ModuleType:
    """A file of the hidden tests, for the numbers that it draws and the limit that it sets."""
    package = ModuleType("hidden_08")
    root = Path(__file__).parents[2] / "challenges/08_speculative_decoding/hidden"
    package.__path__ = [str(root)]
    sys.modules.setdefault("hidden_08", package)
    with warnings.catch_warnings():  # the mark "rule" is the plugin's, which need not be installed
        warnings.simplefilter("ignore", pytest.PytestUnknownMarkWarning)
        return importlib.import_module(f"hidden_08.{name}")


common, sampling, drafts = hidden("common"), hidden("2_sampling"), hidden("4_drafts")


def llama(seed: int, layers: int = 2) -> Any:
    torch.manual_seed(seed)
    config = transformers.LlamaConfig(
        vocab_size=V,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=layers,
        num_attention_heads=2,
        max_position_embeddings=256,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=0,
        attn_implementation="sdpa",
        initializer_range=0.4,
    )
    return transformers.LlamaForCausalLM(config).double().eval().requires_grad_(False)


def cached(model: Any) -> tuple[Any, list[tuple[int, int]]]:
    """The model as the spec's callable, over transformers' own cache, and the list of its calls."""
    cache, calls = transformers.DynamicCache(), []

    def call(tokens: Any, keep: int) -> Any:
        held = cache.get_seq_length()
        assert 0 <= keep <= held
        if keep < held:
            cache.crop(keep)
        calls.append((keep, len(tokens)))
        ids = torch.from_numpy(np.asarray(tokens, np.int64))[None]
        at = torch.arange(keep, keep + len(tokens))[None]
        return model(ids, past_key_values=cache, position_ids=at).logits[0].numpy()

    return call, calls


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("gamma", [1, 3, 5])
def test_the_text_is_that_of_assisted_generation(seed: int, gamma: int) -> None:
    """generate_greedy and generate_lookup give the tokens of transformers, alone and assisted."""
    target, draft = llama(seed), llama(seed if seed % 2 else seed + 100)
    prompt = np.random.default_rng(seed).integers(0, V, 9)
    ids = torch.from_numpy(prompt)[None]
    keys = {"attention_mask": torch.ones(ids.shape), "max_new_tokens": 24, "do_sample": False}
    draft.generation_config.num_assistant_tokens = gamma
    draft.generation_config.num_assistant_tokens_schedule = "constant"

    saw = spec.generate_greedy(cached(target)[0], cached(draft)[0], prompt, 24, gamma=gamma)
    looked_up = spec.generate_lookup(cached(target)[0], prompt, 24, gamma=gamma)

    alone = target.generate(ids, **keys)[0, 9:].numpy()
    assisted = target.generate(ids, assistant_model=draft, **keys)[0, 9:].numpy()
    by_lookup = target.generate(ids, prompt_lookup_num_tokens=gamma, **keys)[0, 9:].numpy()
    for want in (alone, assisted, by_lookup):
        np.testing.assert_array_equal(saw, want)
        np.testing.assert_array_equal(looked_up, want)


@pytest.mark.parametrize("seed", range(40))
def test_an_ngram_is_looked_up_as_transformers_does(seed: int) -> None:
    """propose_ngram gives the candidate of PromptLookupCandidateGenerator."""
    rng = np.random.default_rng(seed)
    most, gamma = (int(n) for n in rng.integers(1, 6, 2))
    tokens = rng.integers(0, int(rng.integers(2, 6)), int(rng.integers(2, 40)))

    saw = spec.propose_ngram(tokens, gamma=gamma, max_ngram=most)

    theirs = PromptLookupCandidateGenerator(
        num_output_tokens=gamma, max_matching_ngram_size=most, max_length=10_000
    )
    want, _ = theirs.get_candidates(torch.from_numpy(tokens)[None])
    np.testing.assert_array_equal(saw, want[0, len(tokens) :].numpy())


@pytest.mark.parametrize("seed", SEEDS)
def test_verify_accepts_as_often_as_transformers(seed: int) -> None:
    """The counts of what came out differ by less than 1e-10 allows between two samples."""
    rng, runs, n = np.random.default_rng(seed), 3_000, 3
    p, q = rng.dirichlet(np.ones(4), n + 1), rng.dirichlet(np.ones(4), n)
    draft = np.stack([rng.choice(4, runs, p=row) for row in q], axis=1)
    torch.manual_seed(seed)

    tokens, accepted = spec.verify(rng, np.tile(p, (runs, 1, 1)), np.tile(q, (runs, 1, 1)), draft)

    mine = np.bincount(accepted * 4 + tokens[np.arange(runs), accepted], minlength=16)
    theirs = np.zeros(16, int)
    for row in draft:
        valid, matches = _speculative_sampling(
            torch.from_numpy(row)[None],
            torch.from_numpy(q).log()[None],
            n,
            torch.from_numpy(p).log()[None],
            False,
        )
        theirs[int(matches) * 4 + int(valid[0, -1])] += 1
    # Hoeffding: each share of 3,000 is off by more than 0.069 less than once in 1e12 runs.
    assert abs(mine - theirs).max() / runs < 2 * 0.069
    assert abs(mine[12:].sum() - theirs[12:].sum()) / runs < 2 * 0.069


@pytest.mark.parametrize("seed", SEEDS)
def test_the_nodes_of_a_tree_see_their_own_text(seed: int) -> None:
    """With tree_mask and tree_positions, one pass of Llama gives a node the logits of its text."""
    rng, model = np.random.default_rng(seed), llama(seed)
    prompt, root = rng.integers(0, V, int(rng.integers(1, 9))), int(rng.integers(0, V))
    candidates = [rng.integers(0, 3, int(rng.integers(1, 5))) for _ in range(5)]
    tokens, parents = spec.build_tree(root, candidates)
    cache = transformers.DynamicCache()
    model(torch.from_numpy(prompt)[None], past_key_values=cache)

    saw = model(
        torch.from_numpy(tokens)[None],
        past_key_values=cache,
        attention_mask=torch.from_numpy(spec.tree_mask(parents, cached=len(prompt)))[None, None],
        position_ids=torch.from_numpy(spec.tree_positions(parents, cached=len(prompt)))[None],
    ).logits[0]

    for node in range(len(tokens)):
        path, at = [], node
        while at >= 0:
            path, at = [int(tokens[at]), *path], int(parents[at])
        text = torch.from_numpy(np.concatenate([prompt, path]))[None]
        want = model(text).logits[0, -1]
        np.testing.assert_allclose(saw[node].numpy(), want.numpy(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_speedup_is_that_of_a_simulated_clock(seed: int) -> None:
    """A long run of steps takes the time, and returns the tokens, that the formula expects."""
    rng = np.random.default_rng(seed)
    alpha, c = rng.uniform(0.2, 0.95), rng.uniform(0, 0.3)
    gamma, steps = int(rng.integers(1, 9)), 200_000
    flips = rng.random((steps, gamma)) < alpha
    n = np.logical_and.accumulate(flips, axis=1).sum(axis=1)

    saw = (n + 1).sum() / (steps * (gamma * c + 1))

    # Hoeffding: the mean of n is off by more than 0.01 γ less than once in 1e17 runs.
    assert abs(saw - spec.speedup(alpha, gamma, c)) < 0.01 * gamma
    # The variance of the estimate is at most 1 / (4 · tested), tested at least steps: 8 sigma.
    assert abs(spec.estimate_alpha(n, gamma) - alpha) < 8 / (2 * math.sqrt(steps))


# -- what the statistical tests can see ---------------------------------------------------------

Law = Any  # (cells,) of probabilities


def region(n: int, p: float, cells: int) -> tuple[int, int]:
    """The counts of a cell of probability p that `unlikely` lets pass, found by bisection."""
    limit = math.log(2 * cells / common.ALPHA)

    def edge(inside: int, outside: int) -> int:
        while abs(inside - outside) > 1:
            middle = (inside + outside) // 2
            passes = n * common.kl(middle / n, p) <= limit
            inside, outside = (middle, outside) if passes else (inside, middle)
        return inside

    return edge(round(n * p), -1), edge(round(n * p), n + 1)


def slips(n: int, law: Law, bug: Law) -> float:
    """At most this often a sample from ``bug`` passes the test of ``law``: Chernoff, best cell."""
    best = 1.0
    for p, b in zip(law, bug, strict=True):
        low, high = region(n, p, len(law))
        if b * n > high:  # it has to come out at `high` or below
            best = min(best, math.exp(-n * common.kl(high / n, b)))
        elif b * n < low:
            best = min(best, math.exp(-n * common.kl(low / n, b)))
    return best


def step(p: Any, q: Any, accept: Any, rest: Any) -> tuple[Any, Any]:
    """How often each token of a draft from q is accepted, and how often it replaces another."""
    taken = q * np.minimum(1, accept)
    return taken, (1 - taken.sum()) * rest


def norm(x: Any) -> Any:
    return x / x.sum()


def right(p: Any, q: Any) -> tuple[Any, Any]:
    with np.errstate(divide="ignore", invalid="ignore"):
        return step(p, q, np.where(q > 0, p / q, 0), norm(np.maximum(p - q, 0)))


def everything(p: Any, q: Any) -> tuple[Any, Any]:
    return step(p, q, np.ones_like(q), p)


def from_the_target(p: Any, q: Any) -> tuple[Any, Any]:
    taken, _ = right(p, q)
    return taken, (1 - taken.sum()) * p


def from_the_draft(p: Any, q: Any) -> tuple[Any, Any]:
    taken, _ = right(p, q)
    return taken, (1 - taken.sum()) * norm(np.maximum(q - p, 0))


def turned_ratio(p: Any, q: Any) -> tuple[Any, Any]:
    with np.errstate(divide="ignore"):
        return step(p, q, np.where(p > 0, q / p, np.inf), norm(np.maximum(p - q, 0)))


def likelier_only(p: Any, q: Any) -> tuple[Any, Any]:
    return step(p, q, p >= q, norm(np.maximum(p - q, 0)))


def nothing(p: Any, q: Any) -> tuple[Any, Any]:
    return np.zeros_like(q), p


def first_tokens(way: Callable[..., Any]) -> tuple[int, Law, Law]:
    """The cells of test_tokens_are_accepted_and_replaced_in_their_shares."""
    p, q = sampling.P, sampling.Q
    return sampling.ROWS, np.concatenate(right(p, q)), np.concatenate(way(p, q))


def bonus(row: Any) -> tuple[int, Law, Law]:
    """The cells of test_the_bonus_token_has_the_last_row_of_p."""
    return sampling.ROWS, sampling.P, row


def joint(way: Callable[..., Any], bonus_before: bool = False) -> tuple[int, Law, Law]:
    """The cells of test_rows_have_the_joint_distribution_of_the_target, rows being completed."""
    p, q = sampling.P3, sampling.Q3
    taken, replaced = way(p, q)
    bug = np.zeros((3, 3, 3))
    for a, b, c in itertools.product(range(3), repeat=3):
        last = p[(c + b) % 3] if bonus_before else p[c]  # the row of the token before the last
        bug[a, b, c] = replaced[a] * p[b] * p[c] + taken[a] * (replaced[b] * p[c] + taken[b] * last)
    return sampling.CELLS, np.einsum("a,b,c->abc", p, p, p).ravel(), bug.ravel()


def one_number_a_draft() -> tuple[int, Law, Law]:
    """The same cells, if one random number decides about both tokens of a draft."""
    p, q = sampling.P3, sampling.Q3
    _, replaced = right(p, q)
    rest, take, bug = norm(replaced), np.minimum(1, p / q), np.zeros((3, 3, 3))
    for a, b in itertools.product(range(3), repeat=2):
        chance, both = q[a] * q[b], min(take[a], take[b])
        bug[a, b] += chance * both * p
        bug[a] += chance * (take[a] - both) * np.outer(rest, p)
        bug += chance * (1 - take[a]) * np.einsum("a,b,c->abc", rest, p, p)
    return sampling.CELLS, np.einsum("a,b,c->abc", p, p, p).ravel(), bug.ravel()


def generated(offset: float, way: str) -> tuple[int, Law, Law]:
    """The first tokens of test_a_step_of_generation_has_the_targets_distribution."""
    p, q = sampling.P3, sampling.Q3
    lp, lq = np.log(p) + offset, np.log(q) + offset
    if way == "ratio of logits":
        taken, replaced = step(p, q, np.maximum(lp / lq, 0), norm(np.maximum(p - q, 0)))
    elif way == "logits in verify":  # u · lq < lp, then what lp has over lq
        accept = np.where(lq > 0, np.maximum(lp / lq, 0), 1 - np.minimum(1, lp / lq))
        taken, replaced = step(p, q, accept, norm(np.maximum(lp - lq, 0)))
    else:  # greedy drafts, verified as if they had been sampled
        draft = np.eye(3)[q.argmax()]
        taken, replaced = step(p, draft, p / q, norm(np.maximum(p - q, 0)))
    return sampling.RUNS, p, taken + replaced


def long_text(power: float) -> tuple[int, Law, Law]:
    """The tokens of a long text of p = q, all accepted, if they are drawn from a power of q.

    Four in five are. They are independent, and Chernoff's bound holds for the mean of their laws.
    """
    p = sampling.EQUAL
    bug = 0.8 * norm(p**power) + 0.2 * p
    return sampling.LONG, sampling.folded(p), sampling.folded(bug)


def bonus_by_the_same_number() -> tuple[int, Law, Law]:
    """The cells of test_the_bonus_token_does_not_depend_on_how_the_draft_was_accepted.

    The number that accepted the draft draws the bonus token too. Of 8,000 drafts, 5,600 are
    accepted, and fewer than 5,000 less than once in 1e40 runs.
    """
    taken, edges = np.minimum(sampling.Q / 0.2, 1), np.append(0, sampling.P.cumsum())
    below = np.minimum(edges[None], taken[:, None])  # (5, 6)
    return 5_000, sampling.law_of_a_bonus(), (np.diff(below) / taken.sum()).ravel()


def siblings_by_one_number() -> tuple[int, Law, Law]:
    """Two children of a node, of the last of LAWS, that one random number decides about."""
    p, q = drafts.LAWS[-1]
    bug, left = np.zeros(10), norm(np.maximum(p - q, 0))
    for x in np.flatnonzero(q):
        take = min(1.0, p[x] / q[x])
        bug[x] += q[x] * take
        rest = norm(np.where(np.arange(5) == x, 0, q))
        for y in np.flatnonzero(rest) if take < 1 else ():
            # The number is above `take` by now.
            more = max(min(1.0, left[y] / rest[y]) - take, 0)
            bug[y] += q[x] * rest[y] * more
            bug[5:] += q[x] * rest[y] * (1 - take - more) * norm(np.maximum(left - rest, 0))
    return drafts.ROWS, np.asarray(drafts.law_of_children(p, q, 2)), bug


def children(count: int, way: str) -> tuple[int, Law, Law]:
    """The cells of test_children_are_tried_in_turn_each_in_its_share."""
    p, q, bug = drafts.P5, drafts.Q5, np.zeros(10)

    def down(left: Any, drafted: Any, believed: Any, chance: float, n: int) -> None:
        """``drafted`` is what a child is drawn from, ``believed`` what the bug takes that for."""
        if n == 0 or (way == "first child alone" and n < count):
            bug[5:] += chance * (p if way == "drawn from the target" else left)
            return
        for x in np.flatnonzero(drafted):
            take = min(1.0, left[x] / believed[x]) if believed[x] > 0 else float(left[x] > 0)
            take = 1.0 if way == "accepts everything" else take
            bug[x] += chance * drafted[x] * take
            if take < 1:
                over, rest = np.maximum(left - believed, 0), np.arange(5) != x
                thinks = {"with replacement": believed, "q not divided by its sum": believed * rest}
                down(
                    left if way == "target as it was" or over.sum() == 0 else norm(over),
                    norm(drafted * rest),
                    thinks.get(way, norm(believed * rest)),
                    chance * drafted[x] * (1 - take),
                    n - 1,
                )

    down(p, q, q, 1.0, count)
    return drafts.ROWS, np.asarray(drafts.law_of_children(p, q, count)), bug


POWER: dict[str, tuple[int, Law, Law]] = {
    "accepts everything, one step": first_tokens(everything),
    "accepts everything, joint": joint(everything),
    "draws from the target, one step": first_tokens(from_the_target),
    "draws from the target, joint": joint(from_the_target),
    "bonus from the row before, alone": bonus(sampling.Q),
    "bonus from the row before, joint": joint(right, bonus_before=True),
    "one number a draft, joint": one_number_a_draft(),
    "compares logits, offset 5": generated(5.0, "ratio of logits"),
    "compares logits, offset -3": generated(-3.0, "ratio of logits"),
    "verifies logits, offset 5": generated(5.0, "logits in verify"),
    "verifies logits, offset -3": generated(-3.0, "logits in verify"),
    "drafts from q squared, long text": long_text(2.0),
    "drafts at temperature 1.1, long text": long_text(1 / 1.1),
    "bonus by the number that accepted the draft": bonus_by_the_same_number(),
    "siblings by one number": siblings_by_one_number(),
    "drafts greedily, generation": generated(5.0, "greedy drafts"),
    "residual of q over p, one step": first_tokens(from_the_draft),
    "ratio upside down, one step": first_tokens(turned_ratio),
    "accepts only where p >= q, one step": first_tokens(likelier_only),
    "accepts nothing, one step": first_tokens(nothing),
    **{
        f"{way}, {count} children": children(count, way)
        for count in (2, 3)
        for way in (
            "accepts everything",
            "drawn from the target",
            "target as it was",
            "with replacement",
            "q not divided by its sum",
            "first child alone",
        )
    },
}


@pytest.mark.parametrize("name", POWER)
def test_a_bug_slips_through_less_than_once_in_a_thousand(name: str) -> None:
    """From its exact law: the power of the test is 0.999 or more."""
    n, law, bug = POWER[name]
    assert abs(law.sum() - 1) < 1e-12
    assert abs(bug.sum() - 1) < 1e-12

    missed = slips(n, law, bug)

    far = np.abs(bug - law)
    print(f"{name}: n={n}, largest difference {far.max():.3f}, slips through {missed:.0e}")
    assert missed <= 1e-3


@pytest.mark.parametrize("way", [right])
def test_a_right_solution_is_no_bug(way: Callable[..., Any]) -> None:
    """The laws of the right steps are those that the tests expect, and nothing is to be seen."""
    for n, law, bug in (first_tokens(way), joint(way), children(2, ""), children(3, "")):
        np.testing.assert_allclose(bug, law, atol=1e-12)
        assert slips(n, law, bug) == 1.0


@pytest.mark.parametrize(("n", "p"), [(700, 0.3), (8_000, 0.1), (12_000, 0.216), (12_000, 0.001)])
def test_a_right_solution_is_accused_less_than_once_in_1e11(n: int, p: float) -> None:
    """The exact binomial tails outside of the region, times the cells, stay below ALPHA."""
    low, high = region(n, p, cells := 27)

    def tail(counts: range) -> float:
        logs = [
            math.lgamma(n + 1)
            - math.lgamma(k + 1)
            - math.lgamma(n - k + 1)
            + k * math.log(p)
            + (n - k) * math.log(1 - p)
            for k in counts
        ]
        return math.fsum(math.exp(x) for x in logs)

    outside = tail(range(low)) + tail(range(high + 1, n + 1))
    assert outside * cells <= common.ALPHA == 1e-11
