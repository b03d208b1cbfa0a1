"""Beams are tuples in a heap, several prompts in one dictionary, rows of step in any order."""

import heapq


def beam_search(
    step,
    logits,
    *,
    num_beams,
    max_new_tokens,
    eos_id=None,
    length_penalty=1.0,
    early_stopping=False,
):
    if num_beams < 1:
        raise ValueError(f"num_beams is {num_beams}")
    if max_new_tokens < 1:
        raise ValueError(f"max_new_tokens is {max_new_tokens}")
    if not (early_stopping == "never" or isinstance(early_stopping, bool)):
        raise ValueError(f"early_stopping is {early_stopping}")
    log_probs = _scores(logits)
    running = {prompt: [(0.0, (), prompt)] for prompt in range(len(logits))}
    finished = {prompt: [] for prompt in running}
    for length in range(1, max_new_tokens + 1):
        for prompt in list(running):
            going, ended = _split(running[prompt], log_probs, num_beams, eos_id)
            if length == max_new_tokens:
                ended = sorted(ended + going, key=lambda beam: beam[3])
            last = [beam for beam in ended if beam[3] < num_beams]
            finished[prompt] += [(total / length**length_penalty, t) for total, t, *_ in last]
            finished[prompt] = sorted(finished[prompt], key=lambda pair: pair[0], reverse=True)
            finished[prompt] = finished[prompt][:num_beams]
            running[prompt] = going[:num_beams]
            n = max_new_tokens if early_stopping == "never" and length_penalty > 0 else length
            over = not going or length == max_new_tokens
            if not over and len(finished[prompt]) == num_beams:
                bound = going[0][0] / n**length_penalty
                over = early_stopping is True or bound <= finished[prompt][-1][0]
            if over:
                del running[prompt]
        if not running:
            break
        # The worst beam of the last prompt first: any order of rows will do.
        rows = [(p, i) for p, beams in running.items() for i in range(len(beams))][::-1]
        tokens = np.array([running[p][i][1][-1] for p, i in rows], np.int32)
        parents = np.array([running[p][i][2] for p, i in rows], np.int32)
        log_probs = _scores(step(tokens, parents))
        for row, (p, i) in enumerate(rows):
            total, seen, *_ = running[p][i]
            running[p][i] = (total, seen, row)
    return [
        [(np.array(seen, dtype=np.int64), np.float64(score)) for score, seen in finished[prompt]]
        for prompt in finished
    ]


def _scores(logits):
    _top(logits)
    wide = np.asarray(logits, np.float64)
    return wide - np.logaddexp.reduce(wide, axis=1)[:, None]


def _split(beams, log_probs, num_beams, eos_id):
    """The best continuations, (total, tokens, row of the parent, rank), that go on and that end."""
    grown = (
        (-(total + value), rank, token, seen, row)
        for rank, (total, seen, row) in enumerate(beams)
        for token, value in enumerate(log_probs[row].tolist())
        if value > -math.inf
    )
    best = heapq.nsmallest(2 * num_beams, grown, key=lambda item: item[:3])
    made = [(-t, (*seen, tok), row, i) for i, (t, _, tok, seen, row) in enumerate(best)]
    going = [beam for beam in made if beam[1][-1] != eos_id]
    return going, [beam for beam in made if beam[1][-1] == eos_id]
