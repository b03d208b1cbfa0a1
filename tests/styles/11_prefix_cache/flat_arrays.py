"""No nodes: arrays by slot, edges in a hash table, and a match counts who gave its slots up."""

ROOT = -1


class RadixCache:
    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.buckets = max(1, 2 * capacity)
        self.head = np.full(self.buckets, -1, np.int64)  # the first edge of a bucket, by its slot
        self.next = np.full(capacity, -1, np.int64)
        self.parent = np.full(capacity, -1, np.int64)
        self.token = np.zeros(capacity, np.int64)
        self.cached = np.zeros(capacity, bool)
        self.children = np.zeros(capacity, np.int64)
        self.locks = np.zeros(capacity, np.int64)
        self.touched = np.zeros(capacity, np.int64)
        self.given_up = np.zeros(capacity, np.int64)
        self.clock = 0

    @property
    def evictable_size(self) -> int:
        return int(np.sum(self.cached & (self.locks == 0)))

    @property
    def protected_size(self) -> int:
        return int(np.sum(self.cached & (self.locks > 0)))

    def bucket(self, parent: int, token: int) -> int:
        return hash((parent, token)) % self.buckets

    def find(self, key: Ints) -> np.ndarray:
        found, at = [], ROOT
        for token in np.asarray(key, np.int64).tolist():
            slot = int(self.head[self.bucket(at, token)])
            while slot >= 0 and not (self.parent[slot] == at and self.token[slot] == token):
                slot = int(self.next[slot])
            if slot < 0:
                break
            found.append(slot)
            at = slot
        return np.array(found, np.int64)

    def touch(self, slots: np.ndarray) -> None:
        self.clock += 1
        self.touched[slots] = self.clock

    def _peek(self, key: Ints) -> Match:
        slots = self.find(key)
        return Match(slots, self.given_up[slots])

    def match_prefix(self, key: Ints) -> Match:
        match = self._peek(key)
        self.touch(match.slots)
        return match

    def insert(self, key: Ints, slots: Ints) -> np.ndarray:
        tokens, given = np.array(key, np.int64), np.array(slots, np.int64)
        if given.shape != tokens.shape:
            raise ValueError(f"slots: {len(given)} of them for {len(tokens)} tokens")
        if np.any((given < 0) | (given >= self.capacity)):
            raise ValueError(f"slots: not all in [0, {self.capacity})")
        if len(np.unique(given)) != len(given):
            raise ValueError("slots: one of them is given twice")
        known = self.find(tokens)
        n = len(known)
        foreign = self.cached[given]
        foreign[:n] &= given[:n] != known
        if foreign.any():
            raise ValueError(f"slots: {given[foreign].tolist()} are cached elsewhere")
        at = int(known[-1]) if n else ROOT
        for token, slot in zip(tokens[n:].tolist(), given[n:].tolist(), strict=True):
            place = self.bucket(at, token)
            self.next[slot], self.head[place] = self.head[place], slot
            self.parent[slot], self.token[slot], self.cached[slot] = at, token, True
            if at != ROOT:
                self.children[at] += 1
            at = slot
        self.touch(np.concatenate([known, given[n:]]))
        return given[:n][given[:n] != known]

    def inc_lock_ref(self, match: Match) -> None:
        if np.any(self.given_up[match.slots] != match.node):
            raise ValueError("match: a token of it was evicted since")
        self.locks[match.slots] += 1
        match.lock_ref += 1

    def dec_lock_ref(self, match: Match) -> None:
        if match.lock_ref == 0:
            raise ValueError("match: it has no lock to give back")
        self.locks[match.slots] -= 1
        match.lock_ref -= 1

    def evict(self, num_tokens: int) -> np.ndarray:
        if num_tokens < 0:
            raise ValueError(f"num_tokens: {num_tokens} is below 0")
        ends = np.flatnonzero(self.cached & (self.locks == 0) & (self.children == 0))
        heap = [(int(self.touched[slot]), int(slot)) for slot in ends]
        heapq.heapify(heap)
        gone: list[int] = []
        while heap and len(gone) < num_tokens:
            slot = heapq.heappop(heap)[1]
            gone.append(slot)
            self.remove(slot)
            parent = int(self.parent[slot])
            if parent == ROOT:
                continue
            self.children[parent] -= 1
            if not self.children[parent] and not self.locks[parent]:
                heapq.heappush(heap, (int(self.touched[parent]), parent))
        return np.array(gone, np.int64)

    def remove(self, slot: int) -> None:
        place = self.bucket(int(self.parent[slot]), int(self.token[slot]))
        if self.head[place] == slot:
            self.head[place] = self.next[slot]
        else:
            before = self.head[place]
            while self.next[before] != slot:
                before = self.next[before]
            self.next[before] = self.next[slot]
        self.cached[slot] = False
        self.given_up[slot] += 1
