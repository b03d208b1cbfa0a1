"""A dataclass with slots holds each cache, tokens are yielded, a draft ends at its eos_id."""

from dataclasses import dataclass, field


@dataclass(slots=True)
class _Side:
    model: object
    known: list = field(default_factory=list)

    def rows(self, text, *, last):
        """Logits of the last so many tokens of the text."""
        keep = 0
        for a, b in zip(self.known, text[: len(text) - last], strict=False):
            if a != b:
                break
            keep += 1
        self.known = list(text)
        return self.model(np.array(text[keep:]), keep)[len(text) - keep - last :]


def _written(target, propose, accept, prompt, new, eos_id):
    text, end = [int(t) for t in prompt], len(prompt) + new
    while len(text) < end:
        draft = []
        for token in propose(text, end - len(text) - 1):
            draft.append(token)
            if token == eos_id:
                break
        for token in accept(target.rows(text + draft, last=len(draft) + 1), draft):
            text.append(int(token))
            yield text[-1]
            if text[-1] == eos_id:
                return


def _all(tokens):
    return np.fromiter(tokens, np.int64)


def _good(prompt, gamma):
    if not len(prompt):
        raise ValueError("prompt has no token")
    if gamma < 0:
        raise ValueError("gamma is below 0")


def generate_greedy(target_model, draft_model, prompt, max_new_tokens, *, gamma=4, eos_id=None):
    _good(prompt, gamma)
    cheap = _Side(draft_model)

    def propose(text, room):
        text = list(text)
        for _ in range(min(gamma, room)):
            text.append(int(cheap.rows(text, last=1)[0].argmax()))
            yield text[-1]

    def accept(logits, draft):
        for row, token in zip(logits, [*draft, None], strict=True):
            best = int(row.argmax())
            yield best
            if best != token:
                return

    return _all(_written(_Side(target_model), propose, accept, prompt, max_new_tokens, eos_id))


def generate(rng, target_model, draft_model, prompt, max_new_tokens, *, gamma=4, eos_id=None):
    _good(prompt, gamma)
    cheap, qs = _Side(draft_model), []

    def propose(text, room):
        text = list(text)
        qs.clear()
        for _ in range(min(gamma, room)):
            qs.append(_softmax(cheap.rows(text, last=1))[0])
            text.append(int(rng.multinomial(1, qs[-1] / qs[-1].sum()).argmax()))
            yield text[-1]

    def accept(logits, draft):
        for p, q, token in zip(_softmax(logits), qs, draft, strict=False):
            if rng.random() >= p[token] / q[token]:
                rest = np.maximum(p - q, 0)
                yield rng.choice(len(rest), p=rest / rest.sum()) if rest.any() else token
                return
            yield token
        last = _softmax(logits)[-1]
        yield rng.choice(len(last), p=last / last.sum())

    return _all(_written(_Side(target_model), propose, accept, prompt, max_new_tokens, eos_id))
