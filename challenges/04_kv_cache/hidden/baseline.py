"""The naive ways: recompute everything for each token; a cache that keeps a head for every query
head, grows by copying and makes logits for every position; a batch generated row by row."""

import numpy as np

BASE, EPS = 10_000.0, 1e-5


class KVCache:
    def __init__(self, params, *, batch, capacity):
        self.layers = [None] * len(params["layers"])

    @property
    def nbytes(self):
        return sum(array.nbytes for layer in self.layers if layer for array in layer)


def generate(params, ids, max_new_tokens):
    T = ids.shape[1]
    for _ in range(max_new_tokens):
        token = _forward(params, ids)[:, -1].argmax(axis=-1)
        ids = np.concatenate([ids, token[:, None]], axis=1)
    return ids[:, T:]


def prefill(params, ids, cache):
    return _forward(params, ids, cache)[:, -1]


def decode(params, tokens, cache):
    return prefill(params, tokens[:, None], cache)


def generate_batch(params, prompts, max_new_tokens):
    return [_generate_cached(params, prompt, max_new_tokens) for prompt in prompts]


def _generate_cached(params, prompt, max_new_tokens):
    cache = KVCache(params, batch=1, capacity=0)
    new = [prefill(params, prompt[None], cache).argmax(axis=-1)]
    while len(new) < max_new_tokens:
        new.append(decode(params, new[-1], cache).argmax(axis=-1))
    return np.concatenate(new)


def _forward(params, ids, cache=None):
    cache = cache or KVCache(params, batch=len(ids), capacity=0)
    x = params["embed"][ids]
    start = cache.layers[0][0].shape[2] if cache.layers[0] else 0
    positions = start + np.arange(ids.shape[1])
    for index, layer in enumerate(params["layers"]):
        h = _norm(x, layer["attn_norm"])
        q = _rope(_heads(h, layer["wq"]), positions).swapaxes(1, 2)
        k = _rope(_heads(h, layer["wk"]), positions).swapaxes(1, 2)
        v = _heads(h, layer["wv"]).swapaxes(1, 2)
        k, v = (a.repeat(q.shape[1] // k.shape[1], axis=1) for a in (k, v))
        if cache.layers[index]:
            held_k, held_v = cache.layers[index]
            k, v = np.concatenate([held_k, k], axis=2), np.concatenate([held_v, v], axis=2)
        cache.layers[index] = (k, v)
        scores = q @ k.swapaxes(2, 3) / q.shape[-1] ** 0.5
        scores = np.where(np.arange(k.shape[2]) > positions[:, None], -np.inf, scores)
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        weights /= weights.sum(axis=-1, keepdims=True)
        out = (weights @ v).swapaxes(1, 2).reshape(*x.shape[:2], -1)
        x = x + out @ layer["wo"].reshape(-1, x.shape[-1])
        h = _norm(x, layer["mlp_norm"])
        gate = h @ layer["w_gate"]
        silu = gate * (0.5 + 0.5 * np.tanh(0.5 * gate))
        x = x + (silu * (h @ layer["w_up"])) @ layer["w_down"]
    return _norm(x, params["norm"]) @ params["head"]


def _norm(x, gain):
    return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + EPS) * gain


def _rope(x, positions):
    half = x.shape[-1] // 2
    angle = positions[:, None, None] * BASE ** (-np.arange(half) / half)
    cos, sin = np.cos(angle).astype(x.dtype), np.sin(angle).astype(x.dtype)
    a, b = x[..., :half], x[..., half:]
    return np.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)


def _heads(x, w):
    return (x @ w.reshape(len(w), -1)).reshape(*x.shape[:2], *w.shape[1:])
