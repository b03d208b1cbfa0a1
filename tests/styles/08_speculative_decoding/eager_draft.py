"""The draft model is brought up to date behind each verification; arrays are laid out before."""


class _Pair:
    __slots__ = ("cheap", "dear", "end", "kept", "size", "text")

    def __init__(self, dear, cheap, prompt, new, gamma):
        if len(prompt) < 1:
            raise ValueError("prompt is empty")
        if gamma < 0:
            raise ValueError("gamma is negative")
        self.dear, self.cheap, self.size = dear, cheap, len(prompt)
        self.end, self.kept = len(prompt) + new, [0, 0]
        self.text = np.zeros(self.end + gamma + 1, np.int32)
        self.text[: self.size] = prompt

    def cheap_row(self, upto):
        row = self.cheap(self.text[self.kept[1] : upto].astype(np.int64), self.kept[1])[-1]
        self.kept[1] = upto
        return row

    def step(self, gamma, pick, judge):
        room = min(gamma, self.end - self.size - 1)
        for i in range(room):
            self.text[self.size + i] = pick(self.cheap_row(self.size + i))
        stop = self.size + room
        rows = self.dear(self.text[self.kept[0] : stop].astype(np.int64), self.kept[0])
        new = judge(rows[rows.shape[0] - room - 1 :], self.text[self.size : stop].astype(np.int64))
        self.text[self.size : self.size + len(new)] = new
        self.size += len(new)
        self.kept = [self.size - 1, min(self.kept[1], self.size - 1)]
        return new


def _run(pair, gamma, eos_id, pick, judge):
    start = pair.size
    while pair.size < pair.end:
        new = pair.step(gamma, pick, judge)
        hit = np.flatnonzero(np.equal(new, -1 if eos_id is None else eos_id))
        if hit.size:
            return pair.text[start : pair.size - len(new) + hit[0] + 1].astype(np.int64)
        if pair.kept[1] and pair.kept[1] < pair.size - 1 and pair.size < pair.end - 1:
            pair.cheap_row(pair.size - 1)
    return pair.text[start : pair.size].astype(np.int64)


def generate_greedy(target_model, draft_model, prompt, max_new_tokens, *, gamma=4, eos_id=None):
    pair = _Pair(target_model, draft_model, prompt, max_new_tokens, gamma)
    return _run(pair, gamma, eos_id, lambda row: np.nanargmax(row), verify_greedy)


def generate(rng, target_model, draft_model, prompt, max_new_tokens, *, gamma=4, eos_id=None):
    pair, q = _Pair(target_model, draft_model, prompt, max_new_tokens, gamma), []

    def pick(row):
        q.append(_softmax(row))
        return _draw(rng, q[-1][None])[0]

    def judge(logits, draft):
        p = _softmax(logits)
        law = np.array(q).reshape(1, len(draft), p.shape[1])
        q.clear()
        out, n = verify(rng, p[None], law, draft[None])
        return out[0][: n[0] + 1]

    return _run(pair, gamma, eos_id, pick, judge)


def verify_greedy(logits, draft):
    if logits.shape[0] - 1 != draft.shape[0]:
        raise ValueError("logits do not fit the draft")
    best = (logits == logits.max(axis=1, keepdims=True)).argmax(axis=1)
    wrong = np.append(best[:-1] != draft, True)
    return best[: wrong.argmax() + 1].astype(np.int64)
