"""The naive ways: a cache of all heads' keys and values; decoding that makes all of them again."""

import numpy as np

BASE, EPS = 10_000.0, 1e-6


def init_cache(params, *, batch, capacity):
    (_, H, Dn), Dv, Dr = params["w_uk"].shape, params["w_uv"].shape[2], params["w_kr"].shape[1]
    return np.zeros((batch, capacity, H, Dn + Dr + Dv), params["w_uk"].dtype)


def extend_absorbed(params, x, kv_cache, lengths):
    (B, T, C), (L, H, Dn), Dr = x.shape, params["w_uk"].shape, params["w_kr"].shape[1]
    positions = lengths[:, None] + np.arange(T)
    latent = _norm(x @ params["w_dkv"], params["kv_norm"])
    key = _rope(x @ params["w_kr"], positions)
    kv_cache[np.arange(B)[:, None], positions] = np.concatenate([latent, key], axis=-1)
    S = positions.max() + 1
    held = kv_cache[:, :S]
    held = np.where(np.arange(S)[:, None] <= positions[:, -1:, None], held, 0)
    q = _norm(x @ params["w_dq"], params["q_norm"]) @ params["w_uq"].reshape(-1, H * (Dn + Dr))
    q = q.reshape(B, T, H, Dn + Dr).swapaxes(1, 2)
    k = (held[..., :L] @ params["w_uk"].reshape(L, -1)).reshape(B, S, H, Dn)
    v = (held[..., :L] @ params["w_uv"].reshape(L, -1)).reshape(B, S, H, -1)
    scores = q[..., :Dn] @ k.transpose(0, 2, 3, 1)
    scores += _rope(q[..., Dn:], positions[:, None]) @ held[:, None, :, L:].swapaxes(2, 3)
    future = np.arange(S) > positions[:, None, :, None]
    scores = np.where(future, -np.inf, scores / (Dn + Dr) ** 0.5)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    out = (weights @ v.swapaxes(1, 2)).swapaxes(1, 2).reshape(B, T, -1)
    return out @ params["w_o"].reshape(-1, C)


def _norm(x, gain):
    return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + EPS) * gain


def _rope(x, positions):
    half = x.shape[-1] // 2
    angle = positions[..., None] * BASE ** (-np.arange(half) / half)
    cos, sin = np.cos(angle).astype(x.dtype), np.sin(angle).astype(x.dtype)
    a, b = x[..., :half], x[..., half:]
    return np.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)
