"""The naive ways: keys and values repeated for every query head before anything is computed,
stored or read; every rank holds all key/value heads."""

import numpy as np


def multi_query_attention(q, k, v, *, causal=False):
    return grouped_query_attention(q, k[:, None], v[:, None], causal=causal)


def grouped_query_attention(q, k, v, *, causal=False):
    (H, T, D), (G, S) = q.shape[1:], k.shape[1:3]
    k, v = k.repeat(H // G, axis=1), v.repeat(H // G, axis=1)
    scores = q @ k.swapaxes(2, 3) * q.dtype.type(D**-0.5)
    if causal:
        scores = np.where(np.tri(T, S, S - T, dtype=bool), scores, -np.inf)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True) @ v


def cached_layer(params, x, memory):
    q, k, v = (
        np.einsum("btc,chd->bhtd", x, params[f"w{name}"]) + params[f"b{name}"][:, None]
        for name in "qkv"
    )
    k, v = (a.repeat(q.shape[1] // a.shape[1], axis=1) for a in (k, v))
    rows = []
    for row in range(len(x)):
        memory.append(row, k[row], v[row])
        keys, values = zip(*(memory.load(row, h) for h in range(q.shape[1])), strict=True)
        rows.append(
            grouped_query_attention(
                q[row : row + 1], np.array([keys]), np.array([values]), causal=True
            )
        )
    return np.einsum("bhtd,hdc->btc", np.concatenate(rows), params["wo"]) + params["bo"]


def shard_params(params, rank, n_ranks):
    size = params["wq"].shape[1] // n_ranks
    own = slice(rank * size, (rank + 1) * size)
    part = {"wq": params["wq"][:, own], "bq": params["bq"][own], "wo": params["wo"][own]}
    return params | part
