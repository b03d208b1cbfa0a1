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


def large_scores(seed, B, H, G, T, S, dtype):
    """q, k and v whose scores are exact in any order of summation, and the words for them."""
    rng = np.random.default_rng(seed)
    q, k = (rng.integers(-2, 3, shape).astype(dtype) for shape in ((B, H, T, 4), (B, G, S, 4)))
    q[..., 0] = np.array([-600, 600, 0])[np.arange(H) % 3][:, None]
    k[..., 0] = 240 + 20 * (np.arange(S) // 2)  # pairs of keys, far from the next
    words = (
        f"seed {seed}, rng.integers(-2, 3, shape) for q {q.shape} and k {k.shape}, q[..., 0] -600, "
        f"600, 0 for heads in turn, k[..., 0] 240, 240, 260, 260, … for keys, "
        f"rng.standard_normal for v, {np.dtype(dtype)}"
    )
    return q, k, rng.standard_normal((B, G, S, 3)).astype(dtype), words


def check_large(saw, want, *, given):
    """Scores of at most 90,000 are rounded once, and nothing else comes near that."""
    check.close(saw, want, what="the output", given=given, n=1, scale=9e4)


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


def steep(params):
    """The same layer with scores in the tens of thousands."""
    factors = {"wq": 300.0, "bq": 300.0, "wk": 100.0, "bk": 100.0}
    return {name: array * factors.get(name, 1.0) for name, array in params.items()}


def column_major(params):
    """The same arrays, read-only, and in memory column after column."""
    new = {name: np.asfortranarray(array.copy()) for name, array in params.items()}
    for array in new.values():
        array.flags.writeable = False
    return new


def check_kept(saw, again, *, what, given):
    """A result, an array or a dict of them, is the same after another call, ``again``."""
    named = saw if isinstance(saw, dict) else {"": saw}
    for array in named.values():
        said = f"a {type(array).__name__} came back"
        check.that(isinstance(array, np.ndarray), saw=said, given=given)
    before = {name: array.copy() for name, array in named.items()}
    again()
    for name, array in before.items():
        whose = f"{name} of {what}" if name else what
        said = f"{whose}, after another call,"
        check.equal(named[name], array, what=said, given=given, moved=True)
