"""The naive ways: a message for each parameter, an all-reduce after each linear layer, one rank
that adds for all."""

import numpy as np


def data_parallel_step(comm, params, x, y, *, loss_and_grads, lr):
    loss, grads = loss_and_grads(params, x, y)
    rows = comm.all_reduce(np.array(float(len(x))))
    stepped = {}
    for name in sorted(params):
        stepped[name] = params[name] - lr * comm.all_reduce(len(x) * grads[name]) / rows
    return stepped, float(comm.all_reduce(np.array(len(x) * loss)) / rows)


def parallel_mlp(comm, x, params):
    return _mlp(comm, x, params)[1]


def _mlp(comm, x, params):
    """All hidden units on every rank, and the output."""
    pre = _whole(comm, x @ params["w_in"] + params["b_in"])
    hidden = np.maximum(pre, 0)
    return hidden, comm.all_reduce(_own(comm, hidden) @ params["w_out"]) + params["b_out"]


def parallel_mlp_backward(comm, d_y, x, params):
    hidden, _ = _mlp(comm, x, params)
    d_hidden = _whole(comm, d_y @ params["w_out"].T) * (hidden > 0)
    return comm.all_reduce(_own(comm, d_hidden) @ params["w_in"].T), {}


def parallel_attention(comm, x, params, *, n_heads):
    heads = n_heads // comm.size
    out = _merged(_attend(*_qkv(comm, x, params, heads)))
    out = _own(comm, _whole(comm, out))
    return comm.all_reduce(out @ params["w_o"]) + params["b_o"]


def parallel_attention_backward(comm, d_y, x, params, *, n_heads):
    heads = n_heads // comm.size
    parallel_attention(comm, x, params, n_heads=n_heads)
    q, k, v = _qkv(comm, x, params, heads)
    d_out = _own(comm, _whole(comm, d_y @ params["w_o"].T))
    d_out = d_out.reshape(*q.shape[:1], q.shape[2], heads, -1).swapaxes(1, 2)
    weights = _weights(q, k)
    d_weights = d_out @ v.swapaxes(-1, -2)
    d_scores = weights * (d_weights - (d_weights * weights).sum(-1, keepdims=True))
    d_scores /= q.shape[-1] ** 0.5
    parts = d_scores @ k, d_scores.swapaxes(-1, -2) @ q, weights.swapaxes(-1, -2) @ d_out
    d_qkv = np.concatenate([_merged(part) for part in parts], axis=-1)
    return comm.all_reduce(_own(comm, _whole(comm, d_qkv)) @ params["w_qkv"].T), {}


def ring_all_reduce(comm, x):
    if comm.rank > 0:
        comm.send(x, 0)
        return comm.recv(0)
    for src in range(1, comm.size):
        x = x + comm.recv(src)
    for dst in range(1, comm.size):
        comm.send(x, dst)
    return x


def _whole(comm, part):
    """All ranks' columns, by adding arrays that are zero but for one's own columns."""
    full = np.zeros((*part.shape[:-1], comm.size * part.shape[-1]))
    _own(comm, full)[...] = part
    return comm.all_reduce(full)


def _own(comm, full):
    width = full.shape[-1] // comm.size
    return full[..., comm.rank * width : (comm.rank + 1) * width]


def _qkv(comm, x, params, heads):
    qkv = _own(comm, _whole(comm, x @ params["w_qkv"] + params["b_qkv"]))
    return qkv.reshape(*x.shape[:2], 3, heads, -1).transpose(2, 0, 3, 1, 4)


def _weights(q, k):
    scores = q @ k.swapaxes(-1, -2) / q.shape[-1] ** 0.5
    scores = np.where(np.tri(q.shape[-2], dtype=bool), scores, -np.inf)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


def _attend(q, k, v):
    return _weights(q, k) @ v


def _merged(x):
    return x.swapaxes(1, 2).reshape(x.shape[0], x.shape[2], -1)
