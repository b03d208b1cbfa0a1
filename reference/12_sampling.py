"""From logits to the next token: temperature, filters, penalties, beam search, and their chain.

Nucleus sampling (top-p): Holtzman et al. 2019, "The Curious Case of Neural Text Degeneration",
arXiv 1904.09751, section 3.1. Min-p: Nguyen et al. 2024, "Turning Up the Heat: Min-p
Sampling", arXiv 2407.01082. Repetition penalty: Keskar et al. 2019, "CTRL", arXiv 1909.05858,
section 4.1. Frequency and presence penalties: OpenAI's API. Beam search with a length penalty:
Wu et al. 2016, "Google's Neural Machine Translation System", arXiv 1609.08144, section 7.
Differs from them in that a filter never separates equal logits, that the repetition penalty
multiplies negative logits, and that the length penalty is the plain power of the length.

Dimension key: B rows (requests or prompts), V vocabulary, N beams of all prompts together,
n beams of one prompt.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

_POSITIVE = math.ulp(0.0)  # the smallest number above 0


@dataclass(frozen=True)
class SamplingParams:
    """How one request wants its tokens drawn. The defaults draw from the model's distribution."""

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0


def greedy(logits: np.ndarray) -> np.ndarray:
    """The id of each row's largest logit, of equals the lowest. (B, V) -> (B,) int64"""
    _top(logits)
    return logits.argmax(axis=1).astype(np.int64)


def softmax(logits: np.ndarray) -> np.ndarray:
    """exp(logit) / Σ exp over each row; 0 where the logit is -inf. (B, V) -> (B, V)"""
    e = np.exp(logits - _top(logits))
    return e / e.sum(axis=1, keepdims=True)


def apply_temperature(logits: np.ndarray, temperature: Any) -> np.ndarray:
    """(logits - largest) / temperature; at 0 only the greedy id is left. (B, V) -> (B, V)"""
    t = _column("temperature", temperature, logits, 0)  # (B, 1) float64
    # Shifted before it is divided, so that nothing overflows upwards, however small t is.
    with np.errstate(over="ignore"):
        warm = ((logits - _top(logits)) / np.where(t > 0, t, 1.0)).astype(logits.dtype)
    cold = np.full_like(logits, -np.inf)
    cold[np.arange(len(cold)), greedy(logits)] = 0.0
    return np.where(t > 0, warm, cold)


def sample(rng: np.random.Generator, probs: np.ndarray) -> np.ndarray:
    """An id for each row, with a probability in proportion to its weight. (B, V) -> (B,) int64"""
    total = np.cumsum(probs, axis=1, dtype=np.float64)  # (B, V)
    if not (probs.min() >= 0 and np.isfinite(total).all() and total[:, -1].min() > 0):
        raise ValueError("probs: wanted finite weights of 0 or more, not all 0 in any row")
    u = rng.random((len(probs), 1)) * total[:, -1:]  # (B, 1), each below its row's total
    return (total > u).argmax(axis=1).astype(np.int64)  # the first: its own weight is above 0


def apply_top_k(logits: np.ndarray, top_k: Any) -> np.ndarray:
    """Keep the tokens with fewer than top_k larger ones in their row. (B, V) -> (B, V)"""
    k = _column("top_k", top_k, logits, 0).astype(np.int64)  # (B, 1)
    _top(logits)
    on = (k > 0) & (k < logits.shape[1])
    threshold = np.where(on, _kth_largest(logits, np.where(on, k, 1)), -np.inf)  # (B, 1)
    return np.where(logits >= threshold, logits, -np.inf)


def apply_top_p(logits: np.ndarray, top_p: Any, *, min_tokens_to_keep: int = 1) -> np.ndarray:
    """Keep the tokens whose larger ones have less than top_p together. (B, V) -> (B, V)"""
    p = _column("top_p", top_p, logits, _POSITIVE, 1)  # (B, 1)
    falling = -np.sort(-logits.astype(np.float64), axis=1)  # (B, V)
    probs = softmax(falling)
    before = np.cumsum(probs, axis=1) - probs  # (B, V), what the tokens ahead have together
    last = np.maximum((before < p).sum(axis=1, keepdims=True), 1) - 1  # (B, 1)
    threshold = np.where(p < 1, np.take_along_axis(falling, last, axis=1), -np.inf)
    return _at_least(logits, threshold, min_tokens_to_keep)


def apply_min_p(logits: np.ndarray, min_p: Any, *, min_tokens_to_keep: int = 1) -> np.ndarray:
    """Keep the tokens with min_p times the largest probability or more. (B, V) -> (B, V)"""
    p = _column("min_p", min_p, logits, 0, 1)  # (B, 1)
    # The sum of the softmax cancels: prob >= p · largest  <=>  logit >= largest logit + log p.
    with np.errstate(divide="ignore"):
        threshold = _top(logits) + np.log(p)
    return _at_least(logits, threshold, min_tokens_to_keep)


def apply_penalties(
    logits: np.ndarray,
    prompts: Sequence[np.ndarray],
    outputs: Sequence[np.ndarray],
    *,
    repetition_penalty: Any = 1.0,
    frequency_penalty: Any = 0.0,
    presence_penalty: Any = 0.0,
) -> np.ndarray:
    """Lower the logits of tokens that have occurred. (B, V) -> (B, V)"""
    _top(logits)
    repetition = _column("repetition_penalty", repetition_penalty, logits, _POSITIVE)
    frequency = _column("frequency_penalty", frequency_penalty, logits)
    presence = _column("presence_penalty", presence_penalty, logits)
    new = _counts("outputs", outputs, logits)  # (B, V)
    seen = (_counts("prompts", prompts, logits) > 0) | (new > 0)
    # A negative logit divided by more than 1 would rise.
    r = np.where(seen, repetition, 1.0).astype(logits.dtype)
    out = np.where(logits > 0, logits / r, logits * r)
    return out - (new * frequency + (new > 0) * presence).astype(logits.dtype)


def beam_search(
    step: Callable[[np.ndarray, np.ndarray], np.ndarray],
    logits: np.ndarray,
    *,
    num_beams: int,
    max_new_tokens: int,
    eos_id: int | None = None,
    length_penalty: float = 1.0,
    early_stopping: bool | str = False,
) -> list[list[tuple[np.ndarray, float]]]:
    """The best hypotheses of each prompt, (tokens, score) each, the best first."""
    for name, number in (("num_beams", num_beams), ("max_new_tokens", max_new_tokens)):
        if number < 1:
            raise ValueError(f"{name}: wanted 1 or more, got {number}")
    if early_stopping not in (False, True, "never"):
        raise ValueError(f"early_stopping: wanted False, True or 'never', got {early_stopping!r}")
    options = (num_beams, max_new_tokens, eos_id, length_penalty, early_stopping)
    live = searches = [_Search(*options) for _ in logits]
    while True:
        log_probs = _log_softmax(logits)  # (N, V)
        parents, start = [], 0
        for search in live:
            stop = start + len(search.scores)
            parents.append(start + search.advance(log_probs[start:stop]))  # (n,)
            start = stop
        live = [search for search in live if len(search.scores)]
        if not live:
            return [search.finished for search in searches]
        tokens = np.concatenate([search.tokens[:, -1] for search in live])  # (N,)
        logits = step(tokens, np.concatenate(parents))


@dataclass(eq=False)
class _Search:
    """The beams of one prompt that run, best first, and the finished ones, kept apart."""

    num_beams: int
    max_new_tokens: int
    eos_id: int | None
    length_penalty: float
    early_stopping: bool | str
    tokens: np.ndarray = field(default_factory=lambda: np.zeros((1, 0), np.int64))  # (n, t)
    scores: np.ndarray = field(default_factory=lambda: np.zeros(1))  # (n,)
    finished: list[tuple[np.ndarray, float]] = field(default_factory=list)

    def advance(self, log_probs: np.ndarray) -> np.ndarray:
        """One token more, from log_probs (n, V); the beams that the running ones continue."""
        V, length = log_probs.shape[1], self.tokens.shape[1] + 1
        totals = (self.scores[:, None] + log_probs).ravel()  # (n·V,)
        # A beam ends in one way only, so at least half of these go on.
        best = _largest(totals, 2 * self.num_beams)
        beam, token = np.divmod(best, V)
        tokens, totals = np.column_stack([self.tokens[beam], token]), totals[best]
        is_eos = token == (-1 if self.eos_id is None else self.eos_id)
        ends = is_eos | (length == self.max_new_tokens)
        for i in np.flatnonzero(ends[: self.num_beams]):
            self.finished.append((tokens[i], self._final(totals[i], length)))
        self.finished.sort(key=lambda hypothesis: -hypothesis[1])  # stable: the earlier first
        del self.finished[self.num_beams :]
        going = np.flatnonzero(~ends)[: self.num_beams]
        if len(going) and self._is_over(totals[going[0]], length):
            going = going[:0]
        self.tokens, self.scores = tokens[going], totals[going]
        return beam[going]

    def _final(self, total: float, length: int) -> float:
        return float(total / length**self.length_penalty)

    def _is_over(self, best: float, length: int) -> bool:
        """Whether the search ends while the best running beam has this sum."""
        if len(self.finished) < self.num_beams or self.early_stopping is True:
            return len(self.finished) == self.num_beams
        if self.early_stopping == "never" and self.length_penalty > 0:
            length = self.max_new_tokens
        return self._final(best, length) <= self.finished[-1][1]


def process_logits(
    logits: np.ndarray,
    params: Sequence[SamplingParams],
    prompts: Sequence[np.ndarray],
    outputs: Sequence[np.ndarray],
) -> np.ndarray:
    """The logits to draw from, each row by its own params. (B, V) -> (B, V)"""
    if len(params) != len(logits):
        raise ValueError(f"params: wanted one for each of {len(logits)} rows, got {len(params)}")

    def column(name: str) -> np.ndarray:
        return np.array([getattr(row, name) for row in params])  # (B,)

    penalties = ("repetition_penalty", "frequency_penalty", "presence_penalty")
    logits = apply_penalties(logits, prompts, outputs, **{name: column(name) for name in penalties})
    logits = apply_temperature(logits, column("temperature"))
    logits = apply_top_k(logits, column("top_k"))
    logits = apply_top_p(logits, column("top_p"))
    return apply_min_p(logits, column("min_p"))


def next_tokens(
    rngs: Sequence[np.random.Generator],
    logits: np.ndarray,
    params: Sequence[SamplingParams],
    prompts: Sequence[np.ndarray],
    outputs: Sequence[np.ndarray],
) -> np.ndarray:
    """A token for each row, drawn with its own generator. (B, V) -> (B,) int64"""
    if len(rngs) != len(logits):
        raise ValueError(f"rngs: wanted one for each of {len(logits)} rows, got {len(rngs)}")
    probs = softmax(process_logits(logits, params, prompts, outputs))
    return np.concatenate([sample(rng, row[None]) for rng, row in zip(rngs, probs, strict=True)])


def _top(logits: np.ndarray) -> np.ndarray:
    """The largest of each row, (B, V) -> (B, 1). NaN, inf, or nothing but -inf shows in it."""
    top = logits.max(axis=1, keepdims=True)
    if not np.isfinite(top).all():
        row = int(np.flatnonzero(~np.isfinite(top))[0])
        raise ValueError(f"logits: wanted a finite largest in each row, row {row} has {top[row]}")
    return top


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    """log softmax in float64, for sums over many steps. (N, V) -> (N, V)"""
    shifted = logits.astype(np.float64) - _top(logits)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def _largest(values: np.ndarray, k: int) -> np.ndarray:
    """Indices of the k largest above -inf, of equals the lowest first. (M,) -> (k,) or fewer"""
    threshold = np.partition(values, -k)[-k] if k < len(values) else -np.inf
    found = np.flatnonzero((values >= threshold) & (values > -np.inf))
    return found[np.argsort(-values[found], kind="stable")][:k]


def _kth_largest(logits: np.ndarray, k: np.ndarray) -> np.ndarray:
    """Each row's k-th largest, by one selection and a sort of what it leaves. (B, 1) -> (B, 1)"""
    widest = int(k.max())
    start = logits.shape[1] - widest
    top = np.sort(np.partition(logits, start, axis=1)[:, start:], axis=1)  # (B, widest)
    return np.take_along_axis(top, widest - k, axis=1)


def _at_least(logits: np.ndarray, threshold: np.ndarray, min_tokens_to_keep: int) -> np.ndarray:
    """The logits from a threshold (B, 1) on, and so many of the largest whatever they are."""
    if min_tokens_to_keep < 1:
        raise ValueError(f"min_tokens_to_keep: wanted 1 or more, got {min_tokens_to_keep}")
    k = np.full(threshold.shape, min(min_tokens_to_keep, logits.shape[1]))
    threshold = np.minimum(threshold, _kth_largest(logits, k))
    return np.where(logits >= threshold, logits, -np.inf)


def _column(
    name: str, value: Any, logits: np.ndarray, low: float = -math.inf, high: float = math.inf
) -> np.ndarray:
    """A setting for all rows, or (B,) for each, finite and from low to high. -> (B, 1) float64"""
    B, setting = len(logits), np.asarray(value, np.float64)
    if not (np.isfinite(setting) & (setting >= low) & (setting <= high)).all():
        raise ValueError(f"{name}: wanted finite numbers from {low} to {high}, got {value}")
    if setting.shape not in ((), (B,)):
        raise ValueError(f"{name}: wanted one number or ({B},), got {setting.shape}")
    return np.broadcast_to(setting, B)[:, None]


def _counts(name: str, rows: Sequence[np.ndarray], logits: np.ndarray) -> np.ndarray:
    """How often each id occurs in each row of ids. -> (B, V) int64"""
    B, V = logits.shape
    if len(rows) != B:
        raise ValueError(f"{name}: wanted one for each of {B} rows, got {len(rows)}")
    ids = np.concatenate([np.asarray(row, np.int64) for row in rows])
    if ids.size and not (ids.min() >= 0 and ids.max() < V):
        raise ValueError(f"{name}: wanted ids from 0 to {V - 1}, got {ids.min()} to {ids.max()}")
    row = np.repeat(np.arange(B), [len(row) for row in rows])
    return np.bincount(row * V + ids, minlength=B * V).reshape(B, V)
