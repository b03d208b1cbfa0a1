"""No node has more than 32 tokens: long prompts are chains from the start."""


class RadixCache(RadixCache):
    def insert(self, key, slots):
        back = super().insert(key, slots)
        for node in self._walk(np.array(key, np.int64)):
            while len(node.key) > 32:
                _split(node, 32)
        return back
