"""Tuples for tokens, one queue of all nodes for their age, sums instead of counters."""

from collections import OrderedDict


class Piece:
    __slots__ = ("below", "holds", "slots", "start", "tokens", "up")

    def __init__(self, tokens, slots, up, start):
        self.tokens, self.slots, self.up, self.start = tokens, slots, up, start
        self.below, self.holds = {}, 0  # below: by their first tokens


class RadixCache:
    """The queue has the oldest piece in front, and a piece always before the one above it."""

    def __init__(self, capacity):
        self.capacity, self.top, self.queue = capacity, Piece((), (), None, 0), OrderedDict()
        self.held = set()

    evictable_size = property(lambda self: sum(len(p.slots) for p in self.queue if not p.holds))
    protected_size = property(lambda self: sum(len(p.slots) for p in self.queue if p.holds))

    def find(self, key):
        """The pieces of the longest cached prefix, the last one cut where it has to be."""
        found, at, self.fresh = [self.top], 0, None
        while True:
            piece = found[-1].below.get(key[at : at + 1])
            if piece is None:
                return found
            rest = key[at : at + len(piece.tokens)]
            agree = [a == b for a, b in zip(piece.tokens, rest, strict=False)]
            n = agree.index(False) if False in agree else len(agree)
            if n < len(piece.tokens):
                return [*found, self.cut(piece, n)]
            found.append(piece)
            at += n

    def cut(self, piece, n):
        first = Piece(piece.tokens[:n], piece.slots[:n], piece.up, piece.start)
        piece.up.below[first.tokens[:1]] = first
        piece.tokens, piece.slots = piece.tokens[n:], piece.slots[n:]
        piece.up, piece.start = first, piece.start + n
        first.holds, first.below = piece.holds, {piece.tokens[:1]: piece}
        self.queue[first], self.fresh = None, (piece, first)
        return first

    def unused(self):
        """The upper half of a cut that nobody used is as old as the lower one."""
        if self.fresh:
            (piece, first), queue, self.queue = self.fresh, self.queue, OrderedDict()
            del queue[first]
            for other in queue:
                self.queue[other] = None
                if other is piece:
                    self.queue[first] = None

    def use(self, found):
        for piece in reversed(found[1:]):
            self.queue.move_to_end(piece)

    def match_prefix(self, key):
        found = self.find(tuple(np.array(key, int).tolist()))
        self.use(found)
        return self._seen(found)

    def _peek(self, key):
        found = self.find(tuple(np.array(key, int).tolist()))
        self.unused()
        return self._seen(found)

    def _seen(self, found):
        slots = [slot for piece in found for slot in piece.slots]
        return Match(np.array(slots, np.int64), [found[-1], len(slots)])

    def insert(self, key, slots):
        key, slots = tuple(np.array(key, int).tolist()), tuple(np.array(slots, int).tolist())
        found = self.find(key)
        known = [slot for piece in found for slot in piece.slots]
        own = [slot for slot, ours in zip(slots, known, strict=False) if slot == ours]
        fit = len(slots) == len(key) and len(set(slots)) == len(slots)
        if not fit or any(not 0 <= slot < self.capacity for slot in slots):
            self.unused()
            raise ValueError("slots: one a token, below capacity, no two alike")
        if self.held & set(slots) - set(own):
            self.unused()
            raise ValueError("slots: taken")
        if len(known) < len(key):
            n = len(known)
            leaf = Piece(key[n:], slots[n:], found[-1], n)
            found[-1].below[key[n : n + 1]] = leaf
            self.held.update(leaf.slots)
            found.append(leaf)
            self.queue[leaf] = None
        self.use(found)
        other = [slot for slot, ours in zip(slots, known, strict=False) if slot != ours]
        return np.array(other, np.int64)

    def inc_lock_ref(self, match):
        piece, length = match.node
        if piece.start + len(piece.tokens) < length:
            raise ValueError("match: too old")
        match.lock_ref += 1
        self.hold(piece, 1)

    def dec_lock_ref(self, match):
        if not match.lock_ref:
            raise ValueError("match: not locked")
        match.lock_ref -= 1
        self.hold(match.node[0], -1)

    def hold(self, piece, by):
        while piece is not None:
            piece.holds += by
            piece = piece.up

    def evict(self, num_tokens):
        if num_tokens < 0:
            raise ValueError("num_tokens is below 0")
        gone = []
        for piece in list(self.queue):
            if piece.holds or piece.below or len(gone) == num_tokens:
                continue
            keep = max(0, len(piece.slots) - (num_tokens - len(gone)))
            gone += piece.slots[keep:]
            first = piece.tokens[:1]
            piece.tokens, piece.slots = piece.tokens[:keep], piece.slots[:keep]
            if not keep:
                del piece.up.below[first]
                del self.queue[piece]
        self.held.difference_update(gone)
        return np.array(gone, np.int64)
