"""Speculative decoding: draft tokens cheaply, verify them together, keep the target's distribution.

Leviathan et al. 2023, "Fast Inference from Transformers via Speculative Decoding",
arXiv 2211.17192, Algorithm 1, equation 1 and Theorem 3.8; Chen et al. 2023, arXiv 2302.01318,
Algorithm 2. Trees: Miao et al. 2024, "SpecInfer", arXiv 2305.09781, with children drawn without
replacement as in Jeon et al. 2024, arXiv 2402.14160. Differs from the papers in that models have a
cache that can be cut back, and in that verification takes many rows at once.

Dimension key: B rows, T tokens of a call, V vocabulary, N nodes of a tree, γ drafted tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

Model = Callable[[np.ndarray, int], np.ndarray]
PLACEHOLDER = -1
_Propose = Callable[[np.ndarray, int], np.ndarray]  # text, at most so many -> draft
_Accept = Callable[[np.ndarray, np.ndarray], np.ndarray]  # logits, draft -> new tokens


def verify_greedy(logits: np.ndarray, draft: np.ndarray) -> np.ndarray:
    """The draft up to its first token that is not the target's, then the target's. (n + 1,)"""
    _check(len(logits) == len(draft) + 1, f"logits: {len(logits)} rows for {len(draft)} tokens")
    best = logits.argmax(axis=-1)  # (γ + 1,)
    n = int(np.logical_and.accumulate(best[:-1] == draft).sum())
    return best[: n + 1].astype(np.int64)  # of accepted tokens the two agree


def generate_greedy(
    target_model: Model,
    draft_model: Model,
    prompt: np.ndarray,
    max_new_tokens: int,
    *,
    gamma: int = 4,
    eos_id: int | None = None,
) -> np.ndarray:
    """The target's greedy tokens after prompt, drafted by the draft model. (n,) int64"""
    draft = _drafter(draft_model, np.argmax)
    return _generate(target_model, draft, verify_greedy, prompt, max_new_tokens, gamma, eos_id)


def residual(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """norm(max(0, p − q)) over the last axis, and p itself where that is 0. (..., V)"""
    left = np.maximum(p - q, 0)
    total = left.sum(axis=-1, keepdims=True)
    return np.where(total > 0, left / np.where(total > 0, total, 1), p).astype(p.dtype)


def verify(
    rng: np.random.Generator, p: np.ndarray, q: np.ndarray, draft: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Algorithm 1 on B rows: tokens (B, γ + 1) and how many were accepted (B,), int64 both."""
    B, gamma = draft.shape
    _check(p.shape[:2] == (B, gamma + 1), f"p: wanted ({B}, {gamma + 1}, V), got {p.shape}")
    _check(q.shape[:2] == (B, gamma), f"q: wanted ({B}, {gamma}, V), got {q.shape}")
    p_x, q_x = (np.take_along_axis(a[:, :gamma], draft[..., None], -1)[..., 0] for a in (p, q))
    accepted = rng.random((B, gamma)) * q_x < p_x  # with probability min(1, p / q)
    n = np.logical_and.accumulate(accepted, axis=1).sum(axis=1)  # (B,)
    # Behind the last token nothing was drafted: q = 0 there, and the residual is p itself.
    q = np.concatenate([q, np.zeros_like(p[:, :1])], axis=1)  # (B, γ + 1, V)
    rows = np.arange(B)
    tokens = np.full((B, gamma + 1), PLACEHOLDER, np.int64)
    tokens[:, :gamma] = np.where(np.arange(gamma) < n[:, None], draft.astype(np.int64), PLACEHOLDER)
    tokens[rows, n] = _draw(rng, residual(p[rows, n], q[rows, n]))
    return tokens, n.astype(np.int64)


def generate(
    rng: np.random.Generator,
    target_model: Model,
    draft_model: Model,
    prompt: np.ndarray,
    max_new_tokens: int,
    *,
    gamma: int = 4,
    eos_id: int | None = None,
) -> np.ndarray:
    """Tokens sampled from the target's distribution, drafted by the draft model. (n,) int64"""
    drawn: list[np.ndarray] = []  # the rows of q, each the very one that a token was drawn from

    def pick(logits: np.ndarray) -> np.ndarray:
        drawn.append(_softmax(logits[None]))
        return _draw(rng, drawn[-1])

    def accept(logits: np.ndarray, draft: np.ndarray) -> np.ndarray:
        p = _softmax(logits)  # (n + 1, V)
        q, drawn[:] = np.concatenate([p[:0], *drawn]), []  # (n, V)
        tokens, n = verify(rng, p[None], q[None], draft[None])
        return tokens[0, : n[0] + 1]

    draft = _drafter(draft_model, pick)
    return _generate(target_model, draft, accept, prompt, max_new_tokens, gamma, eos_id)


def acceptance_rate(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """β = Σ min(p, q), Theorem 3.5: how often a token drawn from q is accepted. (...)"""
    return np.minimum(p, q).sum(axis=-1)


def expected_tokens(alpha: float, gamma: int) -> float:
    """Equation 1, (1 − α^(γ+1)) / (1 − α), as the sum 1 + α + … + α^γ: exact near α = 1."""
    _check(0 <= alpha <= 1, f"alpha: wanted a number from 0 to 1, got {alpha}")
    _check(gamma >= 0, f"gamma: wanted 0 or more, got {gamma}")
    return float(sum(alpha**i for i in range(gamma + 1)))


def speedup(alpha: float, gamma: int, c: float) -> float:
    """Theorem 3.8: tokens a step over its cost, γ draft calls of c and one target call of 1."""
    _check(c >= 0, f"c: wanted 0 or more, got {c}")
    return expected_tokens(alpha, gamma) / (gamma * c + 1)


def best_gamma(alpha: float, c: float, max_gamma: int) -> int:
    """The γ from 0 to max_gamma with the largest speed-up, of equals the smallest."""
    return max(range(max_gamma + 1), key=lambda gamma: speedup(alpha, gamma, c))


def estimate_alpha(n_accepted: np.ndarray, gamma: int) -> float:
    """Accepted over tested: a step tests its accepted tokens and the one it rejects, if any."""
    _check(gamma >= 1, f"gamma: wanted 1 or more, got {gamma}")
    ok = len(n_accepted) > 0 and n_accepted.min() >= 0 and n_accepted.max() <= gamma
    _check(ok, f"n_accepted: wanted one step or more of 0 to {gamma}, got {n_accepted}")
    n = n_accepted.astype(np.int64)
    return float(n.sum() / np.minimum(n + 1, gamma).sum())


def propose_ngram(
    tokens: np.ndarray, *, gamma: int, max_ngram: int, min_ngram: int = 1
) -> np.ndarray:
    """What followed the longest n-gram at the end when it first occurred. (0 to γ,) int64"""
    _check_ngram(max_ngram, min_ngram)
    for n in range(min(max_ngram, len(tokens) - 1), min_ngram - 1, -1):
        windows = np.lib.stride_tricks.sliding_window_view(tokens[:-1], n)  # (T - n, n)
        found = np.flatnonzero((windows == tokens[-n:]).all(axis=1))
        if len(found):
            start = int(found[0]) + n
            return tokens[start : start + gamma].astype(np.int64)
    return np.empty(0, np.int64)


def generate_lookup(
    target_model: Model,
    prompt: np.ndarray,
    max_new_tokens: int,
    *,
    gamma: int = 4,
    max_ngram: int = 3,
    min_ngram: int = 1,
    eos_id: int | None = None,
) -> np.ndarray:
    """The target's greedy tokens after prompt, drafted from the text itself. (n,) int64"""
    _check_ngram(max_ngram, min_ngram)

    def propose(tokens: np.ndarray, n: int) -> np.ndarray:
        return propose_ngram(tokens, gamma=n, max_ngram=max_ngram, min_ngram=min_ngram)

    return _generate(target_model, propose, verify_greedy, prompt, max_new_tokens, gamma, eos_id)


def build_tree(root: int, candidates: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Candidates after root as a tree of shared prefixes: tokens (N,), parents (N,), int64."""
    tokens, parents, child = [root], [-1], {}
    for candidate in candidates:
        node = 0
        for token in candidate:
            key = (node, int(token))
            if key not in child:
                child[key] = len(tokens)
                tokens.append(int(token))
                parents.append(node)
            node = child[key]
    return np.array(tokens, np.int64), np.array(parents, np.int64)


def tree_mask(parents: np.ndarray, *, cached: int = 0) -> np.ndarray:
    """True where node i sees column j: the cache, its ancestors, itself. (N, cached + N) bool"""
    later = parents[1:] >= np.arange(1, len(parents))
    ok = parents[0] == -1 and parents[1:].min(initial=0) == 0 and not later.any()
    _check(ok, f"parents: wanted -1, then earlier nodes, got {parents}")
    mask = np.eye(len(parents), dtype=bool)
    for node, parent in enumerate(parents[1:], start=1):
        mask[node] |= mask[parent]
    return np.concatenate([np.ones((len(parents), cached), bool), mask], axis=1)


def tree_positions(parents: np.ndarray, *, cached: int = 0) -> np.ndarray:
    """The position of each node in its own sequence, the root's being cached. (N,) int64"""
    return cached - 1 + tree_mask(parents).sum(axis=1)


def verify_tree(
    rng: np.random.Generator, p: np.ndarray, q: np.ndarray, tokens: np.ndarray, parents: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Walk down from the root, on B rows: tokens (B, depth + 1), accepted (B,), int64 both."""
    B, N = tokens.shape
    _check(len(parents) == N, f"parents: wanted {N}, got {len(parents)}")
    out = np.full((B, tree_positions(parents).max() + 1), PLACEHOLDER, np.int64)
    rows, at, n = np.arange(B), np.zeros(B, np.int64), np.zeros(B, np.int64)
    left, drafted = p[:, 0].copy(), q[:, 0].copy()  # (B, V) of the node that a row has reached
    for node in range(1, N):
        ask = np.flatnonzero(at == parents[node])
        x = tokens[ask, node]
        yes = rng.random(len(ask)) * drafted[ask, x] < left[ask, x]
        went, no, x_no = ask[yes], ask[~yes], x[~yes]
        at[went], out[went, n[went]] = node, x[yes]
        n[went] += 1
        left[went], drafted[went] = p[went, node], q[went, node]
        left[no] = residual(left[no], drafted[no])
        drafted[no, x_no] = 0  # the next child was drawn from what remains
        drafted[no] /= np.maximum(drafted[no].sum(axis=1, keepdims=True), np.finfo(q.dtype).tiny)
    out[rows, n] = _draw(rng, left)
    return out, n


def _drafter(model: Model, pick: Callable[[np.ndarray], np.ndarray]) -> _Propose:
    """Drafts one token after another, each picked from the model's logits (V,)."""
    held = 0  # tokens in the model's cache

    def propose(tokens: np.ndarray, n: int) -> np.ndarray:
        nonlocal held
        # The last token is new to it, and so is the one before it if the whole draft was accepted.
        held, text = min(held, len(tokens) - 1), tokens
        for _ in range(n):
            token = pick(model(text[held:], held)[-1])
            held, text = len(text), np.append(text, token)
        return text[len(tokens) :]

    return propose


def _generate(
    target_model: Model,
    propose: _Propose,
    accept: _Accept,
    prompt: np.ndarray,
    max_new_tokens: int,
    gamma: int,
    eos_id: int | None,
) -> np.ndarray:
    """Draft with propose, verify with accept, until max_new_tokens or eos_id. (n,) int64"""
    _check(len(prompt) > 0, "prompt: wanted one token or more, got none")
    _check(gamma >= 0, f"gamma: wanted 0 or more, got {gamma}")
    tokens, held = np.asarray(prompt, np.int64), 0
    end = len(prompt) + max_new_tokens
    while len(tokens) < end:
        # A step returns one token more than it drafts, and none may lie beyond the end.
        draft = propose(tokens, min(gamma, end - len(tokens) - 1))
        logits = target_model(np.concatenate([tokens[held:], draft]), held)
        new = accept(logits[-len(draft) - 1 :], draft)
        if eos_id in new:
            new, end = new[: new.tolist().index(eos_id) + 1], 0
        tokens = np.concatenate([tokens, new])
        held = len(tokens) - 1  # what is accepted is in the cache, the last token is not
    return tokens[len(prompt) :]


def _softmax(logits: np.ndarray) -> np.ndarray:
    """(..., V) in float64, whatever the models compute in."""
    logits = logits.astype(np.float64)
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


def _draw(rng: np.random.Generator, p: np.ndarray) -> np.ndarray:
    """One token a row of p (B, V), which need not add up to 1 exactly. -> (B,)"""
    cdf = p.cumsum(axis=-1, dtype=np.float64)
    return (cdf <= rng.random((len(p), 1)) * cdf[:, -1:]).sum(axis=-1)


def _check_ngram(most: int, least: int) -> None:
    _check(1 <= least <= most, f"min_ngram: wanted 1 to {most}, got {least}")


def _check(ok: bool, text: str) -> None:
    if not ok:
        raise ValueError(text)
