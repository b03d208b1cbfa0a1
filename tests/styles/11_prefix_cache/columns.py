"""Ages, locks and serials stand beside each token; a node is cut only where a key branches off."""


class _Piece:
    """Columns of tokens: token, slot, age, locks, serial."""

    __slots__ = ("above", "below", "columns")

    def __init__(self, columns, above):
        self.columns, self.above, self.below = columns, above, {}

    token, slot, age, locks, serial = (
        property(lambda self, n=n: self.columns[n]) for n in range(5)
    )


class RadixCache:
    def __init__(self, capacity):
        self._top = _Piece(np.zeros((5, 0), np.int64), None)
        self._place = np.zeros(capacity, np.int64) - 1  # the serial of the token that has the slot
        self._time = self._serial = 0

    evictable_size = property(lambda self: self._count(lambda locks: locks == 0))
    protected_size = property(lambda self: self._count(lambda locks: locks > 0))

    def _pieces(self):
        ahead = [self._top]
        for piece in ahead:
            ahead.extend(piece.below.values())
        return ahead

    def _count(self, which):
        return sum(int(which(piece.locks).sum()) for piece in self._pieces())

    def _follow(self, key):
        """Columns of all tokens of key that are cached, as writable views, and the last piece."""
        views, piece, at = [self._top.columns], self._top, 0
        while at < len(key) and int(key[at]) in piece.below:
            piece = piece.below[int(key[at])]
            rest = key[at : at + piece.columns.shape[1]]
            same = np.cumprod(piece.token[: len(rest)] == rest, dtype=np.int64).sum()
            views.append(piece.columns[:, :same])
            at += same
            if same < piece.columns.shape[1]:
                break
        return views, piece

    def _peek(self, key):
        found = np.concatenate(self._follow(key)[0], axis=1)
        return Match(found[1].copy(), (key[: found.shape[1]], found[4].copy()))

    def _use(self, views):
        self._time += 1
        for view in views:
            view[2] = self._time

    def match_prefix(self, key):
        key = np.array(key, np.int64)
        self._use(self._follow(key)[0])
        return self._peek(key)

    def insert(self, key, slots):
        key, slots = np.array(key, np.int64), np.array(slots, np.int64)
        if key.shape != slots.shape:
            raise ValueError("slots: as many as tokens, please")
        if any(not 0 <= slot < len(self._place) for slot in slots):
            raise ValueError("slots beyond the pool")
        views, piece = self._follow(key)
        known = np.concatenate(views, axis=1)
        n = known.shape[1]
        serials = np.full(len(key), -1)
        serials[:n] = np.where(slots[:n] == known[1], known[4], -1)
        if (self._place[slots] != serials).any() or len({*slots.tolist()}) < len(slots):
            raise ValueError("slots that another token has")
        self._use(views)
        if n < len(key):
            cut = views[-1].shape[1]
            if cut < piece.columns.shape[1]:
                lower = _Piece(piece.columns[:, cut:].copy(), piece)
                lower.below, piece.below = piece.below, {}
                for child in lower.below.values():
                    child.above = lower
                piece.columns = piece.columns[:, :cut].copy()
                piece.below[int(lower.token[0])] = lower
            new = np.zeros((5, len(key) - n), np.int64)
            new[0], new[1], new[2] = key[n:], slots[n:], self._time
            new[4] = np.arange(self._serial, self._serial + len(key) - n)
            self._serial += len(key) - n
            self._place[new[1]] = new[4]
            piece.below[int(key[n])] = _Piece(new, piece)
        return slots[:n][slots[:n] != known[1]]

    def inc_lock_ref(self, match):
        key, serials = match.node
        views, _ = self._follow(key)
        if not np.array_equal(np.concatenate(views, axis=1)[4], serials):
            raise ValueError("the match has lost tokens")
        self._lock(match, views, 1)

    def dec_lock_ref(self, match):
        if match.lock_ref < 1:
            raise ValueError("the match has no lock")
        self._lock(match, self._follow(match.node[0])[0], -1)

    def _lock(self, match, views, change):
        for view in views:
            view[3] += change
        match.lock_ref += change

    def evict(self, num_tokens):
        if num_tokens < 0:
            raise ValueError("num_tokens is negative")
        gone, ends = [], [piece for piece in self._pieces() if not piece.below]
        while len(gone) < num_tokens:
            free = [piece for piece in ends if piece.above and not piece.locks[-1]]
            if not free:
                break
            piece = min(free, key=lambda piece: piece.age[-1])
            alike = (piece.age == piece.age[-1]) & (piece.locks == 0)
            count = min(int(alike.sum()), num_tokens - len(gone))
            gone += piece.slot[-count:].tolist()
            first = int(piece.token[0])
            piece.columns = piece.columns[:, :-count].copy()
            if piece.columns.shape[1] == 0:
                ends.remove(piece)
                del piece.above.below[first]
                if not piece.above.below:
                    ends.append(piece.above)
        self._place[gone] = -1
        return np.array(gone, np.int64)
