"""The upper half of a split is the old node; a match knows its tokens and finds its nodes anew."""


class _Node:
    def __init__(self, key, slots, parent=None, end=0, last_access=0, lock_ref=0, born=()):
        self.key, self.slots, self.parent, self.end = key, slots, parent, end
        self.last_access, self.lock_ref, self.born, self.children = last_access, lock_ref, born, {}


def _split(node, n):
    rest = _Node(node.key[n:].copy(), node.slots[n:].copy(), node, node.end)
    rest.last_access, rest.lock_ref, rest.children = node.last_access, node.lock_ref, node.children
    for child in rest.children.values():
        child.parent = rest
    rest.born, node.born = node.born, node.born
    node.end -= len(rest.key)
    node.key, node.slots = node.key[:n].copy(), node.slots[:n].copy()
    node.children = {int(rest.key[0]): rest}
    return node


class RadixCache(RadixCache):
    """Each insert of new tokens has a number; a token that comes back comes with another one."""

    def match_prefix(self, key):
        path = self._walk(np.array(key, np.int64))
        self._touch(path)
        return self._seen(path)

    def _peek(self, key):
        return self._seen(self._walk(key))

    def _seen(self, path):
        key = np.concatenate([node.key for node in path])
        return Match(_match_of(path).slots, (key, self._births(path)))

    def _walk(self, key):
        path = [self._root]
        for at, token in enumerate(key.tolist()):
            if at < path[-1].end:
                continue
            child = path[-1].children.get(token)
            if child is None:
                break
            n = _common(child.key, key[at:])
            if n < len(child.key):
                return [*path, _split(child, n)]
            path.append(child)
        return path

    def _births(self, path):
        return np.concatenate([np.full(len(node.key), node.born or 0) for node in path])

    def insert(self, key, slots):
        back = super().insert(key, slots)
        for node in self._walk(np.array(key, np.int64))[1:]:
            if node.born == ():
                self._serial = getattr(self, "_serial", 0) + 1
                node.born = self._serial
        return back

    def _whole(self, match):
        key, births = match.node
        path = self._walk(key)
        if path[-1].end < len(key) or (self._births(path) != births).any():
            raise ValueError("match: has lost a token")
        return path[1:]

    def inc_lock_ref(self, match):
        for node in self._whole(match):
            self._protected += len(node.key) * (node.lock_ref == 0)
            node.lock_ref += 1
        match.lock_ref += 1

    def dec_lock_ref(self, match):
        if match.lock_ref == 0:
            raise ValueError("match: has no lock")
        for node in self._whole(match):
            node.lock_ref -= 1
            self._protected -= len(node.key) * (node.lock_ref == 0)
        match.lock_ref -= 1
