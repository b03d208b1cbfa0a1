"""As engines do: the prompt goes through both models first, and gives a token of its own.

The draft model is called once more behind a draft that may be accepted whole, so that its cache
has no hole; lists of ints, no closures.
"""


class _Cached:
    __slots__ = ("held", "model")

    def __init__(self, model):
        self.model, self.held = model, []

    def __call__(self, text):
        """Logits behind every token of the text that was not there in the last call."""
        same = 0
        while same < len(self.held) and same < len(text) and self.held[same] == text[same]:
            same += 1
        self.held = list(text)
        return self.model(np.array(text[same:], np.int32), same)


def _until(text, start, end, eos_id):
    new = text[start:end]
    return np.array(new[: new.index(eos_id) + 1] if eos_id in new else new, np.int64)


def _checked(prompt, gamma):
    if len(prompt) == 0:
        raise ValueError("prompt is empty")
    if gamma < 0:
        raise ValueError("gamma is negative")
    return [int(token) for token in prompt]


def generate_greedy(target_model, draft_model, prompt, max_new_tokens, *, gamma=4, eos_id=None):
    text, T = _checked(prompt, gamma), len(prompt)
    end, target, draft = T + max_new_tokens, _Cached(target_model), _Cached(draft_model)
    if max_new_tokens:
        text.append(int(target(text)[-1].argmax()))
    while len(text) < end and eos_id not in text[T:]:
        wish = list(text)
        for _ in range(min(gamma, end - len(text) - 1)):
            wish.append(int(draft(wish)[-1].argmax()))
        best = target(wish)[-1 - len(wish) + len(text) :].argmax(axis=1)
        for place, token in enumerate(map(int, best), start=len(text)):
            text.append(token)
            if place == len(wish) or wish[place] != token:
                break
    return _until(text, T, end, eos_id)


def generate(rng, target_model, draft_model, prompt, max_new_tokens, *, gamma=4, eos_id=None):
    text, T = _checked(prompt, gamma), len(prompt)
    end, target, draft = T + max_new_tokens, _Cached(target_model), _Cached(draft_model)
    if max_new_tokens:
        text.append(int(_draw(rng, _softmax(target(text)[-1:]))[0]))
    while len(text) < end and eos_id not in text[T:]:
        wish, q = list(text), []
        for _ in range(min(gamma, end - len(text) - 1)):
            q.append(_softmax(draft(wish)[-1]))
            wish.append(int(rng.choice(len(q[-1]), p=q[-1])))
        p = _softmax(target(wish)[-1 - len(q) :])
        for i, row in enumerate(q):
            x = wish[len(text)]
            if row[x] > p[i, x] and rng.random() > p[i, x] / row[x]:
                text.append(int(_draw(rng, residual(p[i], row)[None])[0]))
                break
            text.append(x)
        else:
            text.append(int(_draw(rng, p[-1:])[0]))
    return _until(text, T, end, eos_id)
