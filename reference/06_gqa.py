"""Attention whose query heads share keys and values, from the product to the checkpoint.

Multi-query attention: Shazeer 2019, "Fast Transformer Decoding: One Write-Head is All You Need",
arXiv 1911.02150, section 3. Groups and mean pooling: Ainslie et al. 2023, "GQA", arXiv 2305.13245,
sections 2.1 and 2.2. Alignment before pooling: Jin et al. 2024, "Align Attention Heads Before
Merging Them", arXiv 2412.20677.
Differs from them in that scores are divided by √D, nothing is trained, positions are not encoded,
and heads are aligned by their weights, not by the keys and values of sample texts.

Dimension key: B batch, T query positions, S key positions, C model width, H query heads,
G key/value heads, D head width, R ranks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

Params = dict[str, np.ndarray]


def init_params(
    rng: np.random.Generator,
    *,
    d_model: int = 16,
    n_heads: int = 4,
    n_kv_heads: int = 2,
    head_dim: int = 8,
    dtype: type = np.float64,
) -> Params:
    """Random parameters of one layer, scaled so that what it computes stays near 1."""
    C, H, G, D = d_model, n_heads, n_kv_heads, head_dim
    shapes = {"wq": (C, H, D), "bq": (H, D), "wk": (C, G, D), "bk": (G, D)}
    shapes |= {"wv": (C, G, D), "bv": (G, D), "wo": (H, D, C), "bo": (C,)}
    fan_in = {"wq": C, "wk": C, "wv": C, "wo": H * D}
    return {
        name: (rng.standard_normal(shape) / math.sqrt(fan_in.get(name, 1))).astype(dtype)
        for name, shape in shapes.items()
    }


def multi_query_attention(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, *, causal: bool = False
) -> np.ndarray:
    """q (B, H, T, D), k (B, S, D), v (B, S, D_v) -> (B, H, T, D_v)"""
    B, H, T, D = _fits("q", q, None, None, None, None)
    _, S, _ = _fits("k", k, B, None, D)
    _fits("v", v, B, S, None)
    if causal and T > S:
        raise ValueError(f"causal: {T} queries are more than {S} keys")
    # The heads are rows of one matrix: keys are read once for all of them, and never copied.
    rows = q.reshape(B, H * T, D)
    scores = rows @ k.swapaxes(1, 2) / math.sqrt(D)  # (B, H·T, S)
    if causal:
        position = np.tile(np.arange(S - T, S), H)  # (H·T,): row h·T + t is query t of head h
        scores[:, np.arange(S) > position[:, None]] = -np.inf
    scores -= scores.max(axis=-1, keepdims=True)
    weights = np.exp(scores, out=scores)
    weights /= weights.sum(axis=-1, keepdims=True)
    return (weights @ v).reshape(B, H, T, -1)  # (B, H·T, D_v) -> (B, H, T, D_v)


def grouped_query_attention(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, *, causal: bool = False
) -> np.ndarray:
    """q (B, H, T, D), k (B, G, S, D), v (B, G, S, D_v) -> (B, H, T, D_v)"""
    B, H, T, D = _fits("q", q, None, None, None, None)
    _, G, S, _ = _fits("k", k, B, None, None, D)
    _fits("v", v, B, G, S, None)
    if H % G:
        raise ValueError(f"k: {G} heads are no divisor of the {H} heads of q")
    # A group is multi-query attention by itself: B·G of them are a batch.
    own = q.reshape(B * G, H // G, T, D)
    keys, values = (a.reshape(B * G, S, a.shape[-1]) for a in (k, v))
    return multi_query_attention(own, keys, values, causal=causal).reshape(B, H, T, -1)


def _fits(name: str, array: np.ndarray, *shape: int | None) -> tuple[int, ...]:
    """The array's shape, if it is the one that is wanted; None is any size."""
    wrong = [want not in (None, n) for n, want in zip(array.shape, shape, strict=False)]
    if array.ndim != len(shape) or any(wrong):
        raise ValueError(f"{name}: wanted shape {shape}, None for any size, got {array.shape}")
    return array.shape


def gqa_layer(params: Params, x: np.ndarray) -> np.ndarray:
    """Causal self-attention of x (B, T, C) with its projections. -> (B, T, C)"""
    q, k, v = _project(params, x)
    return _mix(params, grouped_query_attention(q, k, v, causal=True))


def _project(params: Params, x: np.ndarray) -> list[np.ndarray]:
    """x (B, T, C) -> q (B, H, T, D), k and v (B, G, T, D)"""
    B, T, C = _fits("x", x, None, None, len(params["wq"]))
    heads = []
    for name in "qkv":
        w, b = params[f"w{name}"], params[f"b{name}"]  # (C, heads, D), (heads, D)
        y = (x @ w.reshape(C, -1)).reshape(B, T, *b.shape) + b  # (B, T, heads, D)
        heads.append(y.swapaxes(1, 2))
    return heads


def _mix(params: Params, heads: np.ndarray) -> np.ndarray:
    """heads (B, H, T, D) -> (B, T, C)"""
    B, H, T, D = heads.shape
    rows = heads.swapaxes(1, 2).reshape(B, T, H * D)
    return rows @ params["wo"].reshape(H * D, -1) + params["bo"]


class KVMemory:
    """Keys and values of a batch in slow memory, and a count of the bytes that are read."""

    def __init__(self, batch: int) -> None:
        self.lengths = [0] * batch
        self.nbytes = self.bytes_read = 0
        self._rows: list[np.ndarray] = [np.empty(0)] * batch  # (2, heads, S, D) each

    def append(self, row: int, keys: np.ndarray, values: np.ndarray) -> None:
        """Store T more tokens behind a row's others: keys and values (heads, T, D), copied."""
        pieces = [self._rows[row]] * (self.lengths[row] > 0) + [np.stack([keys, values])]
        self._rows[row] = np.concatenate(pieces, axis=2)
        self._rows[row].flags.writeable = False
        self.lengths[row], self.nbytes = self._rows[row].shape[2], sum(r.nbytes for r in self._rows)

    def load(self, row: int, head: int) -> tuple[np.ndarray, np.ndarray]:
        """Keys and values (S, D) of one head of a row, read-only. Each call counts its bytes."""
        keys, values = self._rows[row][:, head]
        self.bytes_read += keys.nbytes + values.nbytes
        return keys, values


def cached_layer(params: Params, x: np.ndarray, memory: KVMemory) -> np.ndarray:
    """Append x (B, T, C) to the rows of the memory, and attend to all that they hold."""
    _fits("x", x, len(memory.lengths), None, None)
    q, k, v = _project(params, x)
    G = k.shape[1]
    groups = q.reshape(len(x), G, -1, *q.shape[2:])  # (B, H, T, D) -> (B, G, H/G, T, D)
    out = np.empty_like(groups)
    for row in range(len(x)):
        memory.append(row, k[row], v[row])
        for g in range(G):
            keys, values = memory.load(row, g)  # once, for all query heads of the group
            own = groups[row, g][None]  # (1, H/G, T, D)
            out[row, g] = multi_query_attention(own, keys[None], values[None], causal=True)[0]
    return _mix(params, out.reshape(q.shape))


def decode_cost(
    *,
    d_model: int,
    n_heads: int,
    n_kv_heads: int,
    head_dim: int,
    lengths: Sequence[int],
    n_tokens: int = 1,
    itemsize: int = 2,
) -> dict[str, int]:
    """Work and traffic of one call of cached_layer with n_tokens new tokens in each row."""
    weights = d_model * head_dim * (2 * n_heads + 2 * n_kv_heads)  # wq and wo, wk and wv
    slots = sum(lengths)
    return {
        "weight_flops": 2 * len(lengths) * n_tokens * weights,
        "weight_bytes": itemsize * weights,
        "cache_flops": 2 * 2 * n_heads * head_dim * n_tokens * slots,  # q · k and weights · v
        "cache_bytes": itemsize * 2 * n_kv_heads * head_dim * slots,  # keys and values
    }


def shard_params(params: Params, rank: int, n_ranks: int) -> Params:
    """The part of one of n_ranks ranks; the outputs of all parts add up to the layer's."""
    H, G = params["wq"].shape[1], params["wk"].shape[1]
    if n_ranks < 1 or H % n_ranks or (G % n_ranks and n_ranks % G):
        raise ValueError(f"n_ranks: {n_ranks} ranks do not fit {H} query and {G} key/value heads")
    if not 0 <= rank < n_ranks:
        raise ValueError(f"rank: wanted 0 to {n_ranks - 1}, got {rank}")
    own = slice(rank * H // n_ranks, (rank + 1) * H // n_ranks)
    # With fewer heads than ranks, n_ranks / G neighbours hold a copy of one.
    first, n_own = rank * G // n_ranks, max(1, G // n_ranks)
    part = {name: params[name][..., own, :] for name in ("wq", "bq")}
    part |= {name: params[name][..., first : first + n_own, :] for name in ("wk", "bk", "wv", "bv")}
    part["wo"] = params["wo"][own]
    part["bo"] = params["bo"] * (rank == 0)  # once in the sum
    return _copied(part)


def unpack_qkv(
    w_qkv: np.ndarray, b_qkv: np.ndarray, *, n_heads: int, n_kv_heads: int, layout: str
) -> Params:
    """w_qkv (C, (H + 2 G) · D) and b_qkv -> wq, bq, wk, bk, wv, bv"""
    H, G = n_heads, n_kv_heads
    if G < 1 or H % G:
        raise ValueError(f"n_kv_heads: wanted a divisor of {H}, got {G}")
    if layout not in ("concatenated", "grouped"):
        raise ValueError(f"layout: wanted 'concatenated' or 'grouped', got {layout!r}")
    if _fits("w_qkv", w_qkv, None, None)[1] % (H + 2 * G):
        raise ValueError(f"w_qkv: {w_qkv.shape[1]} columns are not {H + 2 * G} heads")
    _fits("b_qkv", b_qkv, w_qkv.shape[1])
    if layout == "grouped":  # q, k, v: which of the H + 2 G heads they are
        place = np.arange(H + 2 * G).reshape(G, -1)
        q, k, v = place[:, :-2].ravel(), place[:, -2], place[:, -1]
    else:
        q, k, v = np.split(np.arange(H + 2 * G), [H, H + G])
    w, b = (a.reshape(*a.shape[:-1], H + 2 * G, -1) for a in (w_qkv, b_qkv))
    return {"wq": w[:, q], "bq": b[q], "wk": w[:, k], "bk": b[k], "wv": w[:, v], "bv": b[v]}


def contiguous_groups(params: Params) -> Params:
    """From the order in which query head h uses key/value head h mod G to that of gqa_layer."""
    H, G = params["wq"].shape[1], params["wk"].shape[1]
    order = np.arange(H).reshape(H // G, G).T.ravel()  # 0, G, 2G, …, then 1, G + 1, …
    moved = {name: params[name][..., order, :] for name in ("wq", "bq")}
    return _copied(params) | moved | {"wo": params["wo"][order]}


def mean_pool(params: Params, n_kv_heads: int) -> Params:
    """Each new key/value head is the mean of a group of neighbours."""
    size = _group_size(params, n_kv_heads)
    new = _copied(params)
    for name in ("wk", "bk", "wv", "bv"):
        *lead, _, D = params[name].shape
        new[name] = params[name].reshape(*lead, n_kv_heads, size, D).mean(axis=-2)
    return new


def align_heads(params: Params, n_kv_heads: int) -> Params:
    """Turn the heads of each group as near to its first as the layer's function allows."""
    size = _group_size(params, n_kv_heads)
    G, R = params["wk"].shape[1], params["wq"].shape[1] // params["wk"].shape[1]
    new = _copied(params)
    for g in set(range(G)) - set(range(0, G, size)):
        first, users = g // size * size, slice(g * R, (g + 1) * R)  # users: its query heads
        # (q · U) · (k · U)ᵀ = q · kᵀ, and (v · U) · (Uᵀ · wo) = v · wo
        turn = _nearest_turn(_stacked(params, "k", g), _stacked(params, "k", first))
        for name, heads in (("wk", g), ("bk", g), ("wq", users), ("bq", users)):
            new[name][..., heads, :] = params[name][..., heads, :] @ turn
        turn = _nearest_turn(_stacked(params, "v", g), _stacked(params, "v", first))
        for name in ("wv", "bv"):
            new[name][..., g, :] = params[name][..., g, :] @ turn
        new["wo"][users] = turn.T @ params["wo"][users]
    return new


def _stacked(params: Params, name: str, g: int) -> np.ndarray:
    """All that makes the keys or values of head g: weights above the bias. -> (C + 1, D)"""
    return np.vstack([params[f"w{name}"][:, g], params[f"b{name}"][g]])


def _nearest_turn(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The orthogonal U that minimises |a · U - b|²: Schönemann 1966, Procrustes. -> (D, D)"""
    left, _, right = np.linalg.svd(a.T @ b)
    return left @ right


def _group_size(params: Params, n_kv_heads: int) -> int:
    G = params["wk"].shape[1]
    if n_kv_heads < 1 or G % n_kv_heads:
        raise ValueError(f"n_kv_heads: wanted a divisor of {G}, got {n_kv_heads}")
    return G // n_kv_heads


def _copied(params: Params) -> Params:
    return {name: array.copy() for name, array in params.items()}
