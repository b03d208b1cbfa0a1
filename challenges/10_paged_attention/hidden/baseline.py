"""The naive ways: reserve the longest sequence for each, gather a padded batch, copy for a fork."""

import numpy as np

LONGEST = 256


class BlockManager:
    """Each sequence gets blocks for the longest that may come, at once and for itself alone."""

    def __init__(self, num_blocks, block_size):
        self.size, self.num_free_blocks, self.held = block_size, num_blocks, {}

    def add(self, seq_id):
        self.num_free_blocks -= LONGEST // self.size
        self.held[seq_id] = 0

    def append(self, seq_id, num_tokens):
        self.held[seq_id] += num_tokens

    def fork(self, parent_id, child_id):
        self.add(child_id)
        self.held[child_id] = self.held[parent_id]


def paged_attention(query, key_cache, value_cache, block_tables, seq_lens):
    (B, H, D), (K, G) = query.shape, key_cache.shape[1:3]
    S = block_tables.shape[1] * K
    keys = key_cache[block_tables].reshape(B, S, G, D).transpose(0, 2, 3, 1)
    values = value_cache[block_tables].reshape(B, S, G, D).swapaxes(1, 2)
    scores = query.reshape(B, G, H // G, D) @ keys / np.float32(D**0.5)
    scores = np.where(np.arange(S) < seq_lens[:, None, None, None], scores, -np.inf)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    return (weights @ values).reshape(B, H, D).astype(query.dtype)
