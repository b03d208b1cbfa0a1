"""No heap and no counters: nodes are sorted by age, only the end of a path is touched."""


class RadixCache(RadixCache):
    """Of a path only the last node is touched: one above goes after all below it in any case."""

    evictable_size = property(lambda self: sum(len(n.key) for n in self._nodes() if not n.lock_ref))
    protected_size = property(lambda self: sum(len(n.key) for n in self._nodes() if n.lock_ref))

    def _nodes(self):
        return list(_below(self._root))

    def _touch(self, path):
        self._clock += 1
        path[-1].last_access = self._clock

    def evict(self, num_tokens):
        if num_tokens < 0:
            raise ValueError(f"num_tokens={num_tokens}")
        gone = []
        while len(gone) < num_tokens:
            leaves = [node for node in self._nodes() if not node.children and not node.lock_ref]
            if not leaves:
                break
            oldest = sorted(leaves, key=lambda node: node.last_access)[0]
            gone.extend(_cut(oldest, num_tokens - len(gone))[::-1])
        gone = np.array(gone, np.int64)
        self._held[gone] = False
        return gone
