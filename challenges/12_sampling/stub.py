"""From logits to the next token: temperature, filters, penalties, beam search, and their chain.

Dimension key: B rows (requests or prompts), V vocabulary, N beams of all prompts together.

Logits are (B, V) arrays of float32 or float64, B and V at least 1. -inf rules a token out. Every
function that takes logits leaves them as they are and raises ValueError, naming ``logits``, for
NaN, for +inf, and for a row of nothing but -inf. A setting, where it says "one number or (B,)", is
a number for all rows or an array with a number for each; an array of another shape, and a number
that is not finite, raise ValueError, naming the setting. Integers are of Python or of NumPy: what
2.5 does as a ``top_k`` is not asked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class SamplingParams:
    """How one request wants its tokens drawn. Given.

    The defaults draw from the model's own distribution. Nothing is checked here, but where the
    settings are used.

    >>> SamplingParams(temperature=0.7, top_k=40).top_p
    1.0
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0


# Stage 1: from logits to ids.


def greedy(logits: np.ndarray) -> np.ndarray:
    """The id of each row's largest logit, of equals the lowest id.

    Parameters
    ----------
    logits : (B, V).

    Returns
    -------
    (B,) int64.

    >>> greedy(np.array([[0.0, 2.0, 1.0, 2.0]]))
    array([1])
    """
    # TODO stage 1.
    raise NotImplementedError("12_sampling, stage 1")


def softmax(logits: np.ndarray) -> np.ndarray:
    """exp(logit) / Σ exp, over each row.

    Parameters
    ----------
    logits : (B, V), of any size.

    Returns
    -------
    (B, V) in the dtype of the logits; exactly 0 where the logit is -inf.

    >>> softmax(np.log([[1.0, 3.0]]))
    array([[0.25, 0.75]])
    """
    # TODO stage 1.
    raise NotImplementedError("12_sampling, stage 1")


def apply_temperature(logits: np.ndarray, temperature: Any) -> np.ndarray:
    """(logit - largest logit of the row) / temperature; at 0 the greedy id alone is left.

    Parameters
    ----------
    logits : (B, V).
    temperature : one number or (B,), 0 or more.

    Returns
    -------
    (B, V) in the dtype of the logits, a new array. What is out of that dtype's range is -inf. In a
    row with temperature 0 the id that ``greedy`` returns has 0, all others have -inf.

    Raises
    ------
    ValueError
        Naming ``temperature`` if one is below 0.

    >>> apply_temperature(np.array([[1.0, 3.0], [1.0, 3.0]]), np.array([0.5, 0.0]))
    array([[ -4.,   0.],
           [-inf,   0.]])
    """
    # TODO stage 1.
    raise NotImplementedError("12_sampling, stage 1")


def sample(rng: np.random.Generator, probs: np.ndarray) -> np.ndarray:
    """An id for each row, drawn with a probability in proportion to its weight.

    Parameters
    ----------
    rng : the only source of chance; is moved on, unless the call raises.
    probs : (B, V) weights of 0 or more, float32 or float64, not all 0 in any row. They need not add
        up to 1. Not modified.

    Returns
    -------
    (B,) int64.

    Raises
    ------
    ValueError
        Naming ``probs`` for a weight that is negative, NaN or infinite, and for a row of zeros.

    >>> sample(np.random.default_rng(0), np.array([[0.0, 0.2, 0.0], [3.0, 0.0, 0.0]]))
    array([1, 0])
    """
    # TODO stage 1.
    raise NotImplementedError("12_sampling, stage 1")


# Stage 2: filters. Each returns a new array (B, V) in the dtype of the logits: what it keeps as it
# was, bit for bit, and -inf for what it removes.


def apply_top_k(logits: np.ndarray, top_k: Any) -> np.ndarray:
    """Keep the tokens with fewer than top_k larger logits in their row.

    Parameters
    ----------
    logits : (B, V).
    top_k : one integer or (B,), 0 or more. 0, and V or more, remove nothing.

    Raises
    ------
    ValueError
        Naming ``top_k`` if one is below 0.

    >>> apply_top_k(np.array([[3.0, 2.0, 1.0, 2.0]]), 2)
    array([[  3.,   2., -inf,   2.]])
    """
    # TODO stage 2.
    raise NotImplementedError("12_sampling, stage 2")


def apply_top_p(logits: np.ndarray, top_p: Any, *, min_tokens_to_keep: int = 1) -> np.ndarray:
    """Keep the tokens whose larger ones have, together, a probability below top_p.

    Parameters
    ----------
    logits : (B, V).
    top_p : one number or (B,), above 0 and at most 1. 1 removes nothing.
    min_tokens_to_keep : 1 or more, for all rows; tokens with fewer larger ones than that stay.

    Raises
    ------
    ValueError
        Naming ``top_p`` if one is out of range; naming ``min_tokens_to_keep`` if it is below 1.

    >>> np.exp(apply_top_p(np.log([[0.15, 0.5, 0.25, 0.1]]), 0.55)).round(2)
    array([[0.  , 0.5 , 0.25, 0.  ]])
    """
    # TODO stage 2.
    raise NotImplementedError("12_sampling, stage 2")


def apply_min_p(logits: np.ndarray, min_p: Any, *, min_tokens_to_keep: int = 1) -> np.ndarray:
    """Keep the tokens whose probability is min_p times the largest of the row, or more.

    Parameters
    ----------
    logits : (B, V).
    min_p : one number or (B,), from 0 to 1. 0 removes nothing.
    min_tokens_to_keep : 1 or more, for all rows; tokens with fewer larger ones than that stay.

    Raises
    ------
    ValueError
        Naming ``min_p`` if one is out of range; naming ``min_tokens_to_keep`` if it is below 1.

    >>> np.exp(apply_min_p(np.log([[0.15, 0.5, 0.25, 0.1]]), 0.25)).round(2)
    array([[0.15, 0.5 , 0.25, 0.  ]])
    """
    # TODO stage 2.
    raise NotImplementedError("12_sampling, stage 2")


# Stage 3: penalties.


def apply_penalties(
    logits: np.ndarray,
    prompts: Sequence[np.ndarray],
    outputs: Sequence[np.ndarray],
    *,
    repetition_penalty: Any = 1.0,
    frequency_penalty: Any = 0.0,
    presence_penalty: Any = 0.0,
) -> np.ndarray:
    """Change the logits of tokens that have occurred.

    Parameters
    ----------
    logits : (B, V).
    prompts, outputs : B integer arrays each, (n_b,) with n_b 0 or more, ids in [0, V): each row's
        prompt, and the tokens that it has generated. Not modified.
    repetition_penalty : one number or (B,), above 0. For tokens of prompt or output: positive
        logits are divided by it, the others multiplied, once. 1 changes nothing. Of penalties so
        far from 1, or from 0, that a logit leaves the range of its dtype, nothing is asked.
    frequency_penalty : one number or (B,). Taken off then, times the count in the output.
    presence_penalty : one number or (B,). Taken off if the token is in the output.

    Returns
    -------
    (B, V) in the dtype of the logits, a new array. A token that none of this concerns has its logit
    bit for bit, -inf stays -inf.

    Raises
    ------
    ValueError
        Naming ``prompts`` or ``outputs`` if it has not B rows or an id is out of range; naming
        ``repetition_penalty`` if one is 0 or less.

    >>> logits, prompts, outputs = np.array([[2.0, -2.0, 2.0]]), [np.array([0])], [np.array([1, 1])]
    >>> apply_penalties(logits, prompts, outputs, repetition_penalty=1.25, frequency_penalty=0.5)
    array([[ 1.6, -3.5,  2. ]])
    """
    # TODO stage 3.
    raise NotImplementedError("12_sampling, stage 3")


# Stage 4: beam search.


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
    """The best hypotheses of each prompt.

    Parameters
    ----------
    step : the model. ``step(tokens, parents)`` takes two integer arrays (N,), N at least 1: row i
        continues row ``parents[i]`` of the call before with ``tokens[i]``. It returns the logits of
        the token after, (N, V). Before the first call the rows are the B prompts. What it returns
        is not to be modified.
    logits : (B, V), the logits after each prompt.
    num_beams : 1 or more.
    max_new_tokens : 1 or more.
    eos_id : ends a hypothesis; with None, or a number that is no id, only max_new_tokens does.
    length_penalty : any number for which the power is finite and not 0; the exponent of the length
        that a score is divided by.
    early_stopping : False, True or "never", see the spec.

    Returns
    -------
    For each prompt a list of at most num_beams pairs (tokens, score), the best score first: tokens
    (n,) int64, the new ones with eos_id included, and score a float.

    Raises
    ------
    ValueError
        Naming ``num_beams`` or ``max_new_tokens`` if it is below 1; naming ``early_stopping`` if it
        is none of the three; naming ``logits`` if those of the prompts or of a step are as above.

    >>> after = np.array([[0.1, 0.5, 0.4], [0.0, 0.1, 0.9]]) + 1e-9  # the next token, by the last
    >>> def step(tokens, parents):
    ...     return np.log(after[tokens])
    >>> first = np.log(np.array([[0.6, 0.4, 1e-9]]))
    >>> ((best, second),) = beam_search(step, first, num_beams=2, max_new_tokens=2, eos_id=2)
    >>> best[0], round(best[1], 3)  # log 0.36 / 2
    (array([1, 2]), -0.511)
    >>> second[0], round(second[1], 3)  # log 0.30 / 2
    (array([0, 1]), -0.602)
    """
    # TODO stage 4.
    raise NotImplementedError("12_sampling, stage 4")


# Stage 5: everything, for a batch of requests.


def process_logits(
    logits: np.ndarray,
    params: Sequence[SamplingParams],
    prompts: Sequence[np.ndarray],
    outputs: Sequence[np.ndarray],
) -> np.ndarray:
    """Penalties, temperature, top-k, top-p and min-p, each row by its own params.

    Parameters
    ----------
    logits : (B, V).
    params : B of them.
    prompts, outputs : as in ``apply_penalties``.

    Returns
    -------
    (B, V) in the dtype of the logits, a new array.

    Raises
    ------
    ValueError
        Naming ``params`` if there are not B; naming the setting, or ``prompts`` or ``outputs``, as
        the functions of the steps do.

    >>> none = [np.array([], np.int64)]
    >>> process_logits(np.array([[1.0, 3.0, 2.0]]), [SamplingParams(top_k=2)], none, none)
    array([[-inf,   0.,  -1.]])
    """
    # TODO stage 5.
    raise NotImplementedError("12_sampling, stage 5")


def next_tokens(
    rngs: Sequence[np.random.Generator],
    logits: np.ndarray,
    params: Sequence[SamplingParams],
    prompts: Sequence[np.ndarray],
    outputs: Sequence[np.ndarray],
) -> np.ndarray:
    """A token for each row, from the softmax of the processed logits, by the row's own generator.

    Parameters
    ----------
    rngs : B generators, no two of them the same one; each is moved on as if its row were alone.
        Whether a row with temperature 0 moves its own is yours. If the call raises, none has moved.
    logits, params, prompts, outputs : as in ``process_logits``.

    Returns
    -------
    (B,) int64.

    Raises
    ------
    ValueError
        Naming ``rngs`` if there are not B; else as ``process_logits``.

    >>> none, rngs = [np.array([], np.int64)], [np.random.default_rng(0)]
    >>> next_tokens(rngs, np.array([[1.0, 3.0, 2.0]]), [SamplingParams(temperature=0)], none, none)
    array([1])
    """
    # TODO stage 5.
    raise NotImplementedError("12_sampling, stage 5")
