"""Inputs of the tests, the plain way head by head, and a memory that notes what is moved."""

import math

import numpy as np

from pytest_llmgrind import check, st

SEEDS = st.integers(0, 999)
DTYPES = st.sampled_from([np.float32, np.float64])
# A failure is shown with the first that fails: in square or single shapes many mistakes hide.
HEADS = st.sampled_from([(6, 2), (6, 3), (4, 2), (8, 2), (3, 1), (5, 5), (12, 3), (1, 1)])
FEW = st.sampled_from([3, 1, 2, 4])
WIDTHS = st.sampled_from([(4, 6), (3, 2), (8, 8), (1, 3), (5, 1)])  # D, D_v


class Memory:
    """The stub's KVMemory, of the tests' own: what is counted crosses the interface."""

    def __init__(self, batch):
        self.lengths, self.rows, self.loads = [0] * batch, [None] * batch, []
        self.nbytes = self.bytes_read = 0

    def append(self, row, keys, values):
        new = np.stack([np.array(keys), np.array(values)])  # (2, heads, T, D)
        held = self.rows[row]
        self.rows[row] = new if held is None else np.concatenate([held, new], axis=2)
        self.rows[row].flags.writeable = False
        self.lengths[row] = self.rows[row].shape[2]
        self.nbytes = sum(pair.nbytes for pair in self.rows if pair is not None)

    def load(self, row, head):
        keys, values = self.rows[row][:, head]
        self.loads.append((int(row), int(head)))
        self.bytes_read += keys.nbytes + values.nbytes
        return keys, values


def arrays(seed, *shapes, dtype=np.float64, scale=1.0):
    """Arrays of these shapes, from the seed, in their order."""
    rng = np.random.default_rng(seed)
    return [(rng.standard_normal(shape) * scale).astype(dtype) for shape in shapes]


def plain_attention(q, k, v, *, causal=False, uses=None):
    """One head after the other: query head h uses key/value head uses[h], in float64."""
    (B, H, T, D), (G, S) = q.shape, k.shape[1:3]
    uses = [h * G // H for h in range(H)] if uses is None else uses
    out = np.zeros((B, H, T, v.shape[-1]))
    for b in range(B):
        for h, g in enumerate(uses):
            scores = q[b, h].astype(float) @ k[b, g].T.astype(float) / math.sqrt(D)
            if causal:
                scores[~np.tri(T, S, S - T, dtype=bool)] = -np.inf
            weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
            out[b, h] = weights / weights.sum(axis=-1, keepdims=True) @ v[b, g]
    return out.astype(q.dtype)


def plain_projection(params, name, x):
    """(B, T, C) -> (B, heads, T, D)"""
    w, b = params[f"w{name}"], params[f"b{name}"]
    return np.einsum("btc,chd->bhtd", x, w) + b[:, None]


def plain_layer(params, x, *, uses=None):
    """The layer of the spec; in another order of heads where ``uses`` says so."""
    q, k, v = (plain_projection(params, name, x) for name in "qkv")
    heads = plain_attention(q, k, v, causal=True, uses=uses)
    return np.einsum("bhtd,hdc->btc", heads, params["wo"]) + params["bo"]


def layer_of(reference, seed, heads, *, d_model=5, head_dim=4, dtype=np.float64):
    """Parameters, and the words that reproduce them."""
    size = {"d_model": d_model, "n_heads": heads[0], "n_kv_heads": heads[1], "head_dim": head_dim}
    params = reference.init_params(np.random.default_rng(seed), **size, dtype=dtype)
    text = ", ".join(f"{name}={n}" for name, n in size.items())
    return params, f"seed {seed}, {text}, {np.dtype(dtype)}"


def check_kept(saw, again, *, what, given):
    """A result is the same after another call, ``again``."""
    check.that(isinstance(saw, np.ndarray), saw=f"a {type(saw).__name__} came back", given=given)
    before = saw.copy()
    again()
    check.equal(saw, before, what=f"{what}, after another call,", given=given, moved=True)
