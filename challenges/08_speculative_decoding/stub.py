"""Stub of 08_speculative_decoding: several tokens for one call of a large model.

Read spec.md beside this file. What is marked "Given" is complete; the rest is yours, stage by
stage. Add private helpers (``_name``) as you like.

Dimension key: B rows, T tokens of a call, V vocabulary, N nodes of a tree, γ drafted tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

Model = Callable[[np.ndarray, int], np.ndarray]
"""A model with a cache. Given.

``model(tokens, keep)`` cuts its cache back to the first ``keep`` tokens, appends ``tokens`` (T,)
int64, T at least 1, and returns the logits (T, V) of the token behind each of them. V is the same
for both models. It raises a ValueError if the cache holds less than ``keep``. ``keep=0`` starts a
text, whatever the cache holds.
"""

PLACEHOLDER = -1
"""What fills a row behind its last token. Given."""


# Stage 1: draft and verify, greedily.


def verify_greedy(logits: np.ndarray, draft: np.ndarray) -> np.ndarray:
    """The draft up to its first token that the target would not have taken, then the target's own.

    Parameters
    ----------
    logits : (γ + 1, V) floating, of the target: row i is that of draft[i], the last row that of
        the token behind the draft; not modified.
    draft : (γ,) integers in [0, V), γ at least 0; not modified.

    Returns
    -------
    (n + 1,) int64 with n tokens of the draft, 0 to γ. Of equal logits the target takes the lowest
    id.

    Raises
    ------
    ValueError
        Naming ``logits`` if it has not one row more than the draft has tokens.

    >>> logits = np.array([[0.0, 9.0, 1.0], [0.0, 1.0, 9.0], [9.0, 1.0, 0.0]])
    >>> verify_greedy(logits, np.array([1, 2])).tolist()
    [1, 2, 0]
    >>> verify_greedy(logits, np.array([1, 0])).tolist()
    [1, 2]
    """
    # TODO stage 1.
    raise NotImplementedError("08_speculative_decoding, stage 1")


def generate_greedy(
    target_model: Model,
    draft_model: Model,
    prompt: np.ndarray,
    max_new_tokens: int,
    *,
    gamma: int = 4,
    eos_id: int | None = None,
) -> np.ndarray:
    """The target's greedy tokens after the prompt, in fewer calls of the target than tokens.

    Parameters
    ----------
    target_model, draft_model : two different ones; nothing is known of what their caches hold.
    prompt : (T,) integers in [0, V), T at least 1; not modified.
    max_new_tokens : 0 or more.
    gamma : tokens of a draft at most, 0 or more. With 0 the target writes alone.
    eos_id : the text ends with the first such token behind the prompt; None: it does not end early.

    Returns
    -------
    (n,) int64: the new tokens alone, eos_id included, n at most max_new_tokens.

    Raises
    ------
    ValueError
        Naming ``prompt`` if it is empty, ``gamma`` if it is negative.

    >>> held = []
    >>> def count(tokens, keep):  # likes best the token after the last, of five
    ...     held[keep:] = tokens
    ...     return np.eye(5)[(np.asarray(tokens) + 1) % 5]
    >>> generate_greedy(count, lambda tokens, keep: np.eye(5)[tokens], np.array([2]), 4).tolist()
    [3, 4, 0, 1]
    """
    # TODO stage 1: draft, verify, and keep of either cache what is still true.
    raise NotImplementedError("08_speculative_decoding, stage 1")


# Stage 2: sample with the target's distribution.


def residual(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """norm(max(0, p − q)): what p has over q, made to add up to 1.

    Parameters
    ----------
    p, q : (..., V) floating, one shape and dtype, each row at least 0 and adding up to 1 as far as
        rounding goes; not modified.

    Returns
    -------
    (..., V) in the dtype of p. A row in which p is nowhere above q comes out as p has it.

    >>> residual(np.array([0.5, 0.5, 0.0]), np.array([0.0, 0.25, 0.75])).round(3).tolist()
    [0.667, 0.333, 0.0]
    """
    # TODO stage 2.
    raise NotImplementedError("08_speculative_decoding, stage 2")


def verify(
    rng: np.random.Generator, p: np.ndarray, q: np.ndarray, draft: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Speculative sampling, for B drafts at once that know nothing of each other.

    Parameters
    ----------
    rng : the only source of randomness; is advanced.
    p : (B, γ + 1, V) floating: the target's probabilities, p[:, i] for draft[:, i], p[:, γ] for
        the token behind the draft; not modified.
    q : (B, γ, V) in the dtype of p: the probabilities that draft[:, i] was drawn from, so that
        q is above 0 at each drafted token; not modified.
    draft : (B, γ) integers in [0, V), B at least 1, γ at least 0; not modified.

    Rows of p and q are at least 0 and add up to 1 as far as rounding goes.

    Returns
    -------
    tokens : (B, γ + 1) int64. Row b: the first n_accepted[b] tokens of its draft, one token that
        is drawn, PLACEHOLDER behind it.
    n_accepted : (B,) int64, 0 to γ.

    Raises
    ------
    ValueError
        Naming ``p`` or ``q`` if its first two sizes do not fit the draft.

    >>> p, q = np.array([[[0.0, 1.0], [1.0, 0.0]]]), np.array([[[0.5, 0.5]]])
    >>> tokens, n = verify(np.random.default_rng(0), p, q, np.array([[1]]))
    >>> tokens.tolist(), n.tolist()
    ([[1, 0]], [1])
    >>> tokens, n = verify(np.random.default_rng(0), p, q, np.array([[0]]))
    >>> tokens.tolist(), n.tolist()
    ([[1, -1]], [0])
    """
    # TODO stage 2.
    raise NotImplementedError("08_speculative_decoding, stage 2")


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
    """Tokens after the prompt that are distributed as if the target had sampled them by itself.

    Both models are sampled from, with the softmax of their logits as probabilities. Logits are
    floating, in the thousands or −inf for tokens that are ruled out, but not all −inf. Arguments,
    result and errors are those of ``generate_greedy``, and ``rng`` is the only source of
    randomness; it is advanced.

    >>> def count(tokens, keep):
    ...     return 1e4 * np.eye(5)[(np.asarray(tokens) + 1) % 5]
    >>> rng = np.random.default_rng(0)
    >>> generate(rng, count, lambda tokens, keep: np.eye(5)[tokens], np.array([2]), 4).tolist()
    [3, 4, 0, 1]
    """
    # TODO stage 2.
    raise NotImplementedError("08_speculative_decoding, stage 2")


# Stage 3: what a draft is worth.


def acceptance_rate(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """The probability that a token drawn from q is accepted: β of the paper.

    Parameters
    ----------
    p, q : (..., V) floating, one shape and dtype, rows that add up to 1; not modified.

    Returns
    -------
    (...) in the dtype of p; a number where p and q are (V,).

    >>> float(acceptance_rate(np.array([0.5, 0.5, 0.0]), np.array([0.0, 0.25, 0.75])))
    0.25
    """
    # TODO stage 3.
    raise NotImplementedError("08_speculative_decoding, stage 3")


def expected_tokens(alpha: float, gamma: int) -> float:
    """Tokens that a step returns on average, if each drafted token is accepted with chance alpha.

    Right to the last digits for every alpha from 0 to 1, both included.

    Raises
    ------
    ValueError
        Naming ``alpha`` if it is not from 0 to 1, ``gamma`` if it is negative.

    >>> expected_tokens(0.5, 2)
    1.75
    """
    # TODO stage 3.
    raise NotImplementedError("08_speculative_decoding, stage 3")


def speedup(alpha: float, gamma: int, c: float) -> float:
    """How many times faster than the target alone, if a call of the draft model takes c of one of
    the target.

    Raises
    ------
    ValueError
        As ``expected_tokens``; naming ``c`` if it is negative.

    >>> speedup(0.5, 2, 0.125)
    1.4
    """
    # TODO stage 3.
    raise NotImplementedError("08_speculative_decoding, stage 3")


def best_gamma(alpha: float, c: float, max_gamma: int) -> int:
    """The γ from 0 to max_gamma with the largest speed-up, of equals the smallest.

    >>> best_gamma(0.5, 0.125, 8), best_gamma(0.5, 0.75, 8)
    (2, 0)
    """
    # TODO stage 3.
    raise NotImplementedError("08_speculative_decoding, stage 3")


def estimate_alpha(n_accepted: np.ndarray, gamma: int) -> float:
    """The alpha under which the steps that were seen are likeliest.

    Parameters
    ----------
    n_accepted : (S,) integers from 0 to gamma, how many tokens each of S steps has accepted of a
        draft of gamma tokens; not modified.

    Raises
    ------
    ValueError
        Naming ``gamma`` if it is less than 1; ``n_accepted`` if it is empty or has a number that
        is not from 0 to gamma.

    >>> round(estimate_alpha(np.array([4, 1, 0]), 4), 3)  # not 5/12
    0.714
    """
    # TODO stage 3.
    raise NotImplementedError("08_speculative_decoding, stage 3")


# Stage 4: drafts without a draft model, and drafts that branch.


def propose_ngram(
    tokens: np.ndarray, *, gamma: int, max_ngram: int, min_ngram: int = 1
) -> np.ndarray:
    """A draft that is copied from where the end of the text has occurred before.

    Parameters
    ----------
    tokens : (T,) integers, T at least 1; not modified.
    gamma : tokens of the draft at most, 0 or more.
    max_ngram, min_ngram : how many tokens at the end are looked up, at most and at least.

    Returns
    -------
    (k,) int64, k from 0 to gamma: the tokens behind the match, as many as the text has. Empty if
    nothing matches.

    Raises
    ------
    ValueError
        Naming ``min_ngram`` if it is not from 1 to max_ngram.

    >>> propose_ngram(np.array([7, 8, 9, 5, 7, 8]), gamma=2, max_ngram=3).tolist()
    [9, 5]
    """
    # TODO stage 4.
    raise NotImplementedError("08_speculative_decoding, stage 4")


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
    """``generate_greedy`` with the drafts of ``propose_ngram``. Same result, the errors of both.

    >>> def count(tokens, keep):
    ...     return np.eye(5)[(np.asarray(tokens) + 1) % 5]
    >>> generate_lookup(count, np.array([2]), 4).tolist()
    [3, 4, 0, 1]
    """
    # TODO stage 4.
    raise NotImplementedError("08_speculative_decoding, stage 4")


def build_tree(root: int, candidates: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Several candidates for what follows a token, as a tree in which common beginnings are one.

    Parameters
    ----------
    root : the last token of the text.
    candidates : any number of arrays (n,) of integers, n at least 0; not modified.

    Returns
    -------
    tokens : (N,) int64, the root's first, then those of the candidates in their order, each token
        behind the one before it, where the tree does not have them yet.
    parents : (N,) int64, the index of the node before each; -1 for the root.

    >>> tokens, parents = build_tree(3, [np.array([5, 6]), np.array([5, 7]), np.array([8])])
    >>> tokens.tolist(), parents.tolist()
    ([3, 5, 6, 7, 8], [-1, 0, 1, 1, 0])
    """
    # TODO stage 4.
    raise NotImplementedError("08_speculative_decoding, stage 4")


def tree_mask(parents: np.ndarray, *, cached: int = 0) -> np.ndarray:
    """Which columns each node attends to, if all nodes go through the model at once.

    Parameters
    ----------
    parents : (N,) integers, N at least 1: -1, then for each node the index of an earlier one; not
        modified.
    cached : tokens in the cache, which come before the root; 0 or more.

    Returns
    -------
    (N, cached + N) bool, True where row i sees column j: first the cache, then the nodes.

    Raises
    ------
    ValueError
        Naming ``parents`` if it is not as above.

    >>> tree_mask(np.array([-1, 0, 0])).astype(int).tolist()
    [[1, 0, 0], [1, 1, 0], [1, 0, 1]]
    """
    # TODO stage 4.
    raise NotImplementedError("08_speculative_decoding, stage 4")


def tree_positions(parents: np.ndarray, *, cached: int = 0) -> np.ndarray:
    """The position of each node's token in the text that it belongs to; that of the root is cached.

    Arguments and errors are those of ``tree_mask``. Returns (N,) int64.

    >>> tree_positions(np.array([-1, 0, 0, 2]), cached=5).tolist()
    [5, 6, 6, 7]
    """
    # TODO stage 4.
    raise NotImplementedError("08_speculative_decoding, stage 4")


def verify_tree(
    rng: np.random.Generator, p: np.ndarray, q: np.ndarray, tokens: np.ndarray, parents: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Speculative sampling along a tree, for B rows at once whose trees have one form.

    Parameters
    ----------
    rng : the only source of randomness; is advanced.
    p : (B, N, V) floating: the target's probabilities of the token behind each node; not modified.
    q : (B, N, V) in the dtype of p: the children of node i were drawn from q[:, i] one after
        another without replacement, in the order of their indices. A node without children has
        any row. Not modified.
    tokens : (B, N) integers in [0, V), tokens[:, 0] the root's; not modified.
    parents : (N,) as in ``tree_mask``; not modified.

    Returns
    -------
    tokens : (B, depth + 1) int64, where depth is that of the deepest node, the root's being 0.
        Row b: the tokens of the n_accepted[b] accepted nodes below the root, one token that is
        drawn, PLACEHOLDER behind it.
    n_accepted : (B,) int64, 0 to depth.

    Raises
    ------
    ValueError
        Naming ``parents`` if it is not as in ``tree_mask`` or has not N entries.

    >>> p = np.array([[[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]])
    >>> args = p, np.full((1, 3, 3), 1 / 3), np.array([[0, 1, 2]]), np.array([-1, 0, 0])
    >>> tokens, n = verify_tree(np.random.default_rng(0), *args)
    >>> tokens.tolist(), n.tolist()
    ([[2, 0]], [1])
    """
    # TODO stage 4.
    raise NotImplementedError("08_speculative_decoding, stage 4")
