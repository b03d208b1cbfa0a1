"""The naive ways: sort whole rows, count in one-hot vectors, beams one by one, row after row."""

from types import SimpleNamespace as SamplingParams  # noqa: F401

import numpy as np


def apply_top_k(logits, top_k):
    """Sorts every row with its ids, cuts, and brings what is left back to its place."""
    order = np.argsort(logits, axis=1)  # (B, V), ascending
    falling = np.take_along_axis(logits, order, axis=1)
    V = logits.shape[1]
    k = np.where(np.asarray(top_k) > 0, np.minimum(top_k, V), V)
    k = np.broadcast_to(k, len(logits))[:, None]
    kth = np.take_along_axis(falling, V - k, axis=1)
    falling = np.where(falling < kth, -np.inf, falling)
    out = np.empty_like(logits)
    np.put_along_axis(out, order, falling, axis=1)
    return out


def apply_penalties(
    logits,
    prompts,
    outputs,
    *,
    repetition_penalty=1.0,
    frequency_penalty=0.0,
    presence_penalty=0.0,
):
    """A one-hot vector for every token that has occurred."""
    V = logits.shape[1]

    def one_hot(rows):
        length = max(map(len, rows))
        ids = np.array([np.pad(row, (0, length - len(row)), constant_values=-1) for row in rows])
        return ids[:, :, None] == np.arange(V)  # (B, T, V)

    new = one_hot(outputs).sum(axis=1)
    seen = one_hot(prompts).any(axis=1) | (new > 0)
    column = np.asarray(repetition_penalty).reshape(-1, 1)
    out = np.where(logits > 0, logits / column, logits * column)
    out = np.where(seen, out, logits)
    out = out - new * np.asarray(frequency_penalty).reshape(-1, 1)
    return out - (new > 0) * np.asarray(presence_penalty).reshape(-1, 1)


def beam_search(step, logits, *, num_beams, max_new_tokens, eos_id):
    """Every prompt has num_beams rows from its second token to the last of the longest."""
    B, V = logits.shape
    beams = [[((), 0.0, prompt)] for prompt in range(B)]  # tokens, sum, row of the last call
    finished = [[] for _ in range(B)]
    for length in range(1, max_new_tokens + 1):
        log_probs = _log_softmax(logits)  # (N, V)
        for prompt in range(B):
            over = len(finished[prompt]) >= num_beams
            grown = sorted(
                (
                    ((*tokens, token), total + log_probs[row, token], row)
                    for tokens, total, row in beams[prompt]
                    for token in range(V)
                ),
                key=lambda beam: -beam[1],
            )
            for tokens, total, _ in grown[:num_beams]:
                if not over and (tokens[-1] == eos_id or length == max_new_tokens):
                    finished[prompt].append((np.array(tokens), total / length))
            beams[prompt] = [beam for beam in grown if beam[0][-1] != eos_id][:num_beams]
        if length == max_new_tokens or min(map(len, finished)) >= num_beams:
            break
        running = [beam for prompt in beams for beam in prompt]
        tokens, parents = ([t[-1] for t, _, _ in running], [row for _, _, row in running])
        logits = step(np.array(tokens), np.array(parents))
        rows = iter(range(len(running)))
        beams = [[(t, total, next(rows)) for t, total, _ in prompt] for prompt in beams]
    return [sorted(found, key=lambda beam: -beam[1])[:num_beams] for found in finished]


def process_logits(logits, params, prompts, outputs):
    """One row after another, each as a batch of one."""
    rows = zip(np.split(logits, len(logits)), params, prompts, outputs, strict=True)
    return np.concatenate([_process_row(row, p, [a], [b]) for row, p, a, b in rows])


def _process_row(logits, params, prompts, outputs):
    logits = apply_penalties(
        logits,
        prompts,
        outputs,
        repetition_penalty=params.repetition_penalty,
        frequency_penalty=params.frequency_penalty,
        presence_penalty=params.presence_penalty,
    )
    logits = (logits - logits.max(axis=1, keepdims=True)) / params.temperature
    logits = apply_top_k(logits, params.top_k)
    order = np.argsort(logits, axis=1)[:, ::-1]
    falling = np.exp(_log_softmax(np.take_along_axis(logits, order, axis=1)))
    gone = np.cumsum(falling, axis=1) - falling >= params.top_p
    out = np.empty_like(gone)
    np.put_along_axis(out, order, gone, axis=1)
    logits = np.where(out, -np.inf, logits)
    probs = np.exp(_log_softmax(logits))
    return np.where(probs < params.min_p * probs.max(axis=1, keepdims=True), -np.inf, logits)


def _log_softmax(logits):
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
