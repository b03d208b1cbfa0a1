"""Nodes are numbers in parallel lists; a match is whole while the serials of its tokens are."""

import itertools


class RadixCache:
    def __init__(self, capacity):
        self.capacity, self.serial, self.clock = capacity, itertools.count(1), 0
        self.tokens, self.places, self.above, self.used, self.locks = (
            {},
            {},
            {0: None},
            {0: 0},
            {0: 0},
        )
        self.tokens[0], self.places[0], self.born, self.new = [], [], {0: 0}, itertools.count(1)
        self.child = {}  # (node, token): node
        self.has = set()

    def _size(self, locked):
        return sum(len(self.tokens[n]) for n in self.tokens if (self.locks[n] > 0) == locked)

    evictable_size = property(lambda self: self._size(False))
    protected_size = property(lambda self: self._size(True))

    def _down(self, key):
        """Nodes from the root and how many tokens of the last one agree."""
        path, at, n = [0], 0, 0
        while at < len(key) and (path[-1], key[at]) in self.child:
            path.append(self.child[path[-1], key[at]])
            mine = self.tokens[path[-1]]
            for n in range(min(len(mine), len(key) - at) + 1):
                if n == len(mine) or at + n == len(key) or mine[n] != key[at + n]:
                    break
            at += n
            if n < len(mine):
                break
        return path, n

    def _found(self, key):
        path, n = self._down(key)
        if len(path) > 1 and n < len(self.tokens[path[-1]]):
            path[-1] = self._halve(path[-1], n)
        return path

    def _halve(self, low, n):
        up, parent = next(self.new), self.above[low]
        self.child[parent, self.tokens[low][0]] = up
        for table in (self.tokens, self.places):
            table[up], table[low] = table[low][:n], table[low][n:]
        self.born[up] = self.born[low]
        self.child[up, self.tokens[low][0]] = low
        self.above[up], self.above[low] = parent, up
        self.used[up], self.locks[up] = self.used[low], self.locks[low]
        return up

    def _sum(self, table, path):
        return [n for node in path for n in table[node]]

    def _match(self, key, touch):
        path = self._found(np.array(key, np.int64).tolist())
        if touch:
            self._use(path)
        slots = np.array(self._sum(self.places, path), np.int64)
        return Match(slots, (path[-1], self._births(path)))

    def _births(self, path):
        return [self.born[node] for node in path for _ in self.tokens[node]]

    def match_prefix(self, key):
        return self._match(key, True)

    def _peek(self, key):
        return self._match(key, False)

    def _use(self, path):
        self.clock += 1
        self.used.update(dict.fromkeys(path, self.clock))

    def insert(self, key, slots):
        key, slots = np.array(key, np.int64).tolist(), np.array(slots, np.int64).tolist()
        path = self._found(key)
        known = self._sum(self.places, path)
        foreign = {s for s, k in itertools.zip_longest(slots, known[: len(slots)]) if s != k}
        wrong = foreign & self.has or any(not 0 <= s < self.capacity for s in slots)
        if wrong or len(set(slots)) != len(slots) or len(slots) != len(key):
            raise ValueError(f"slots: {slots}")
        if key[len(known) :]:
            node, M = next(self.new), len(known)
            self.tokens[node], self.places[node] = key[M:], slots[M:]
            self.born[node] = next(self.serial)
            self.above[node], self.locks[node] = path[-1], 0
            self.child[path[-1], key[M]] = node
            self.has.update(slots[M:])
            path.append(node)
        self._use(path)
        return np.array([s for s, k in zip(slots, known, strict=False) if s != k], np.int64)

    def _path(self, node):
        path = []
        while node is not None:
            path.append(node)
            node = self.above[node]
        return path[::-1]

    def inc_lock_ref(self, match):
        node, born = match.node
        if node not in self.tokens or self._births(self._path(node)) != born:
            raise ValueError("match")
        match.lock_ref += 1
        for other in self._path(node):
            self.locks[other] += 1

    def dec_lock_ref(self, match):
        if match.lock_ref < 1:
            raise ValueError("match")
        match.lock_ref -= 1
        for other in self._path(match.node[0]):
            self.locks[other] -= 1

    def evict(self, num_tokens):
        if num_tokens < 0:
            raise ValueError("num_tokens")
        gone = []
        while len(gone) < num_tokens:
            inner = set(self.above.values())
            free = [n for n in self.tokens if n and n not in inner and not self.locks[n]]
            if not free:
                break
            node = min(free, key=self.used.get)
            if len(self.tokens[node]) == 1:
                del self.child[self.above[node], self.tokens[node][0]]
            self.tokens[node].pop()
            gone.append(self.places[node].pop())
            if not self.tokens[node]:
                for table in (
                    self.tokens,
                    self.born,
                    self.places,
                    self.above,
                    self.locks,
                    self.used,
                ):
                    del table[node]
        self.has.difference_update(gone)
        return np.array(gone, np.int64)
