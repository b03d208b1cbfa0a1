"""The reference of 12_sampling against transformers' processors and its beam search, and torch."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest
from references import load

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
import transformers
from transformers import LogitsProcessorList
from transformers.generation import logits_process as hf

transformers.logging.set_verbosity_error()
SEEDS = range(12)
DTYPES = [np.float32, np.float64]

ours = load("12_sampling")


def draw(seed: int, dtype: Any, *, tied: bool = False) -> tuple[np.random.Generator, Any]:
    """Random logits, some of them -inf, and where asked for many of them equal."""
    rng = np.random.default_rng(seed)
    shape = int(rng.integers(1, 6)), int(rng.integers(2, 200))
    logits = rng.normal(0, 3, shape)
    if tied:
        logits = logits.round()
    logits[rng.random(shape) < 0.2] = -np.inf
    logits[:, -1] = 1.0
    return rng, logits.astype(dtype)


def theirs(processor: Any, logits: Any, ids: Any = None) -> Any:
    """What a processor of transformers makes of the logits; most do not look at the ids."""
    ids = np.zeros((len(logits), 1), np.int64) if ids is None else ids
    return processor(torch.from_numpy(ids), torch.from_numpy(logits.copy())).numpy()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seed", SEEDS)
def test_softmax_is_torch_softmax(seed: int, dtype: Any) -> None:
    """The probabilities equal torch's, 0 where the logit is -inf."""
    _, logits = draw(seed, dtype)

    saw = ours.softmax(logits)

    want = torch.softmax(torch.from_numpy(logits), dim=-1).numpy()
    np.testing.assert_allclose(saw, want, rtol=0, atol=16 * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seed", SEEDS)
def test_temperature_is_theirs_up_to_the_shift(seed: int, dtype: Any) -> None:
    """A warper's logits, less their largest; a constant a row changes no probability."""
    rng, logits = draw(seed, dtype)
    temperature = float(rng.uniform(0.1, 3))

    saw = ours.apply_temperature(logits, temperature)

    want = theirs(hf.TemperatureLogitsWarper(temperature), logits)
    want = want - want.max(axis=1, keepdims=True)
    tolerance = 16 * np.finfo(dtype).eps * np.abs(want[np.isfinite(want)]).max()
    np.testing.assert_allclose(saw, want, rtol=0, atol=max(tolerance, np.finfo(dtype).eps * 64))


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seed", SEEDS)
def test_top_k_is_theirs(seed: int, dtype: Any, tied: bool) -> None:
    """Bit for bit, ties at the k-th logit, -inf and k above V included."""
    rng, logits = draw(seed, dtype, tied=tied)
    for k in (1, 2, int(rng.integers(1, logits.shape[1] + 1)), logits.shape[1] + 3):
        saw = ours.apply_top_k(logits, k)

        np.testing.assert_array_equal(saw, theirs(hf.TopKLogitsWarper(k), logits))


@pytest.mark.parametrize("keep", [1, 2, 7])
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seed", SEEDS)
def test_top_p_is_theirs_and_the_ties_of_its_last_token(
    seed: int, dtype: Any, tied: bool, keep: int
) -> None:
    """Without ties the same tokens; with ties theirs, and all that equal the smallest of theirs.

    Theirs keeps as many of equal logits as it needs, those that its sort happens to put last.
    """
    rng, logits = draw(seed, dtype, tied=tied)
    for p in (0.01, float(rng.uniform(0.02, 0.98)), 0.99):
        saw = ours.apply_top_p(logits, p, min_tokens_to_keep=keep)

        kept = theirs(hf.TopPLogitsWarper(p, min_tokens_to_keep=keep), logits)
        finite = np.where(np.isneginf(kept), np.inf, kept)
        smallest = finite.min(axis=1, keepdims=True)
        np.testing.assert_array_equal(saw, np.where(logits >= smallest, logits, -np.inf))
        if not tied:
            np.testing.assert_array_equal(saw, kept)


@pytest.mark.parametrize("keep", [1, 2, 7])
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seed", SEEDS)
def test_min_p_is_theirs_and_the_ties_of_its_last_token(
    seed: int, dtype: Any, tied: bool, keep: int
) -> None:
    """Equal tokens share a probability, so that only min_tokens_to_keep can part them in theirs."""
    rng, logits = draw(seed, dtype, tied=tied)
    for p in (0.001, float(rng.uniform(0.01, 0.9)), 1.0):
        saw = ours.apply_min_p(logits, p, min_tokens_to_keep=keep)

        kept = theirs(hf.MinPLogitsWarper(p, min_tokens_to_keep=keep), logits)
        finite = np.where(np.isneginf(kept), np.inf, kept)
        smallest = finite.min(axis=1, keepdims=True)
        np.testing.assert_array_equal(saw, np.where(logits >= smallest, logits, -np.inf))
        if not tied or keep == 1:
            np.testing.assert_array_equal(saw, kept)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seed", SEEDS)
def test_the_repetition_penalty_is_theirs(seed: int, dtype: Any) -> None:
    """Over prompt and output together, once however often, negative logits multiplied."""
    rng, logits = draw(seed, dtype)
    B, V = logits.shape
    ids = rng.integers(0, V, (B, 30))
    penalty = float(rng.uniform(0.5, 2))

    saw = ours.apply_penalties(
        logits, list(ids[:, :12]), list(ids[:, 12:]), repetition_penalty=penalty
    )

    want = theirs(hf.RepetitionPenaltyLogitsProcessor(penalty), logits, ids)
    np.testing.assert_allclose(saw, want, rtol=4 * np.finfo(dtype).eps, atol=0)


@pytest.mark.parametrize("seed", SEEDS)
def test_frequency_and_presence_are_the_formula_of_the_api(seed: int) -> None:
    """mu[j] - c[j] · frequency - [c[j] > 0] · presence, token by token, c from the output alone."""
    rng, logits = draw(seed, np.float64)
    B, V = logits.shape
    prompts = [rng.integers(0, V, n) for n in rng.integers(0, 20, B)]
    outputs = [rng.integers(0, V, n) for n in rng.integers(0, 20, B)]
    frequency, presence = rng.uniform(-2, 2, (2, B))

    saw = ours.apply_penalties(
        logits, prompts, outputs, frequency_penalty=frequency, presence_penalty=presence
    )

    for b in range(B):
        for j in range(V):
            c = outputs[b].tolist().count(j)
            want = logits[b, j] - c * frequency[b] - (c > 0) * presence[b]
            np.testing.assert_allclose(saw[b, j], want, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seed", SEEDS)
def test_the_chain_is_the_list_of_their_processors(seed: int, dtype: Any) -> None:
    """In the order of generate: penalty, temperature, top-k, top-p, min-p; the rows each alone."""
    rng, logits = draw(seed, dtype)
    B, V = logits.shape
    prompts = [rng.integers(0, V, n) for n in rng.integers(1, 20, B)]
    outputs = [rng.integers(0, V, n) for n in rng.integers(0, 20, B)]
    params = [
        ours.SamplingParams(
            temperature=float(rng.uniform(0.3, 2)),
            top_k=int(rng.integers(1, V + 1)),
            top_p=float(rng.uniform(0.3, 1)),
            min_p=float(rng.uniform(0, 0.2)),
            repetition_penalty=float(rng.uniform(0.7, 1.5)),
        )
        for _ in range(B)
    ]

    saw = ours.softmax(ours.process_logits(logits, params, prompts, outputs))

    for b, row in enumerate(params):
        chain = LogitsProcessorList(
            [
                hf.RepetitionPenaltyLogitsProcessor(row.repetition_penalty),
                hf.TemperatureLogitsWarper(row.temperature),
                hf.TopKLogitsWarper(row.top_k),
                hf.TopPLogitsWarper(row.top_p),
                hf.MinPLogitsWarper(row.min_p),
            ]
        )
        ids = np.concatenate([prompts[b], outputs[b]])[None]
        want = torch.softmax(torch.from_numpy(theirs(chain, logits[b : b + 1], ids)), dim=-1)
        np.testing.assert_allclose(saw[b], want[0].numpy(), rtol=0, atol=64 * np.finfo(dtype).eps)


def llama(seed: int, vocab_size: int) -> Any:
    """A tiny random model whose distributions are neither flat nor certain."""
    torch.manual_seed(seed)
    config = transformers.LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=64,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
    )
    model = transformers.LlamaForCausalLM(config).eval().requires_grad_(False)
    model.lm_head.weight.mul_(25.0)
    return model


def cached(model: Any, ids: Any) -> tuple[Any, Any]:
    """The prompts' logits, and a step that keeps keys and values in transformers' own cache."""
    cache = transformers.DynamicCache(config=model.config)
    logits = model(torch.from_numpy(ids), past_key_values=cache).logits[:, -1]

    def step(tokens: Any, parents: Any) -> Any:
        cache.reorder_cache(torch.from_numpy(parents))
        return model(torch.from_numpy(tokens[:, None]), past_key_values=cache).logits[:, -1].numpy()

    return logits.numpy(), step


@pytest.mark.parametrize("length_penalty", [1.0, 0.0, 2.0, -1.0])
@pytest.mark.parametrize("early_stopping", [False, True, "never"])
@pytest.mark.parametrize("seed", SEEDS)
def test_beam_search_is_generate(seed: int, early_stopping: Any, length_penalty: float) -> None:
    """All returned beams and scores of generate(num_beams), for prompts of one batch."""
    rng = np.random.default_rng(seed)
    V, num_beams = int(rng.integers(12, 20)), int(rng.integers(2, 6))
    model = llama(seed, V)
    ids = rng.integers(0, V, (3, 5))
    # An id that many beams come to, so that they end at many lengths.
    logits, step = cached(model, ids)
    free = ours.beam_search(step, logits, num_beams=num_beams, max_new_tokens=12)
    eos_id = int(np.bincount([t for beams in free for beam in beams for t in beam[0]]).argmax())
    logits, step = cached(model, ids)

    saw = ours.beam_search(
        step,
        logits,
        num_beams=num_beams,
        max_new_tokens=12,
        eos_id=eos_id,
        length_penalty=length_penalty,
        early_stopping=early_stopping,
    )

    want = model.generate(
        torch.from_numpy(ids),
        attention_mask=torch.ones(ids.shape),
        num_beams=num_beams,
        num_return_sequences=num_beams,
        max_new_tokens=12,
        do_sample=False,
        eos_token_id=eos_id,
        pad_token_id=V - 1 if eos_id != V - 1 else 0,
        length_penalty=length_penalty,
        early_stopping=early_stopping,
        return_dict_in_generate=True,
        output_scores=True,
    )
    sequences = want.sequences.reshape(3, num_beams, -1)[:, :, 5:].numpy()
    scores = want.sequences_scores.reshape(3, num_beams).numpy()
    for b in range(3):
        assert len(saw[b]) == num_beams
        for (tokens, score), other, right in zip(saw[b], sequences[b], scores[b], strict=True):
            np.testing.assert_array_equal(tokens, other[: len(tokens)])
            assert len(tokens) == 12 or tokens[-1] == eos_id
            np.testing.assert_allclose(score, right, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("seed", SEEDS)
def test_samples_have_the_distribution_of_torch_multinomial(seed: int) -> None:
    """Both stay within Hoeffding's bound of the weights; it fails a right one once in 1e9 times."""
    rng = np.random.default_rng(seed)
    weights = rng.random(6) * (rng.random(6) < 0.8) + np.eye(6)[0]
    n, within = 100_000, np.sqrt(np.log(2 * 12 * len(SEEDS) / 1e-9) / 2 / 100_000)
    torch.manual_seed(seed)

    saw = ours.sample(rng, np.tile(weights, (n, 1)))
    want = torch.multinomial(torch.from_numpy(weights), n, replacement=True).numpy()

    for ids in (saw, want):
        share = np.bincount(ids, minlength=6) / n
        np.testing.assert_allclose(share, weights / weights.sum(), rtol=0, atol=within)
