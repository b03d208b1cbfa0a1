"""No node has more than 32 tokens: long prompts are chains from the start."""


class RadixCache(RadixCache):
    def insert(self, key, slots):
        before = set(map(id, _below(self._root)))
        back = super().insert(key, slots)
        for node in list(_below(self._root)):
            while id(node) not in before and len(node.key) > 32:
                _split(node, 32)
        return back
