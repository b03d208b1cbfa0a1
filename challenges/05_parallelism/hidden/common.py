"""Inputs of the tests, the unsharded layers, and runs whose errors are told as what was seen."""

import numpy as np

from pytest_llmgrind import check, st
from pytest_llmgrind.cluster import Cluster, ClusterError

SEEDS = st.integers(0, 999)
# A failure is shown with the first of these that fails: on one rank most mistakes are invisible.
SIZES = st.sampled_from([2, 3, 1, 4])


def run(program, *args, size, given, eager_bytes=float("inf"), **kwargs):
    """A run of the cluster; a deadlock or a mismatch is what the test saw."""
    try:
        return Cluster(size, eager_bytes=eager_bytes).run(program, *args, **kwargs)
    except ClusterError as error:
        text = str(error)
        raise check.RuleBroken(f"{given}: {text}", where=given, value=text) from error


def normal(rng, *shape, dtype=np.float64):
    return rng.standard_normal(shape).astype(dtype)


def by_columns_first(value):
    """The same numbers, in arrays that lie in memory column after column."""
    if isinstance(value, dict):
        return {name: by_columns_first(array) for name, array in value.items()}
    return np.asfortranarray(value) if value.ndim > 1 else value


def add_one(value):
    """Change every array of a result in place."""
    for part in value.values() if isinstance(value, dict) else value:
        if isinstance(part, np.ndarray):
            check.that(part.flags.writeable, saw="a result is read-only, so it cannot be changed")
            part += 1
        elif isinstance(part, dict | list | tuple):
            add_one(part)


def mlp_params(rng, C, F, dtype=np.float64):
    shapes = {"w_in": (C, F), "b_in": (F,), "w_out": (F, C), "b_out": (C,)}
    return {name: normal(rng, *shape, dtype=dtype) for name, shape in shapes.items()}


def attention_params(rng, C, H, D, dtype=np.float64):
    shapes = {"w_qkv": (C, 3 * H * D), "b_qkv": (3 * H * D,), "w_o": (H * D, C), "b_o": (C,)}
    return {name: normal(rng, *shape, dtype=dtype) for name, shape in shapes.items()}


def rows(x):
    return x.reshape(-1, x.shape[-1])


def linear_backward(d_y, x, w):
    """d_x, d_w and d_b of x @ w + b."""
    return d_y @ w.T, rows(x).T @ rows(d_y), rows(d_y).sum(axis=0)


def mlp(x, params):
    hidden = np.maximum(x @ params["w_in"] + params["b_in"], 0)
    return hidden @ params["w_out"] + params["b_out"]


def mlp_backward(d_y, x, params):
    hidden = np.maximum(x @ params["w_in"] + params["b_in"], 0)
    d_hidden, d_w_out, d_b_out = linear_backward(d_y, hidden, params["w_out"])
    d_x, d_w_in, d_b_in = linear_backward(d_hidden * (hidden > 0), x, params["w_in"])
    return d_x, {"w_in": d_w_in, "b_in": d_b_in, "w_out": d_w_out, "b_out": d_b_out}


def split_heads(array, heads):
    """(..., heads·D) -> (..., heads, D)"""
    return array.reshape(*array.shape[:-1], heads, -1)


def mlp_part(params, rank, size):
    """What rank ``rank`` of ``size`` holds of an MLP's parameters, or of their gradients."""
    part = slice(rank * len(params["b_in"]) // size, (rank + 1) * len(params["b_in"]) // size)
    own = {"w_in": params["w_in"][:, part], "b_in": params["b_in"][part]}
    return {**own, "w_out": params["w_out"][part], "b_out": params["b_out"]}


def attention_part(params, n_heads, rank, size):
    """What rank ``rank`` of ``size`` holds of an attention layer's parameters."""
    heads = slice(rank * n_heads // size, (rank + 1) * n_heads // size)

    def own(array):
        by_head = array.reshape(*array.shape[:-1], 3, n_heads, -1)[..., heads, :]
        return by_head.reshape(*array.shape[:-1], -1)

    w_o = params["w_o"].reshape(n_heads, -1, params["w_o"].shape[1])[heads]
    return {
        "w_qkv": own(params["w_qkv"]),
        "b_qkv": own(params["b_qkv"]),
        "w_o": w_o.reshape(-1, w_o.shape[-1]),
        "b_o": params["b_o"],
    }


def check_dicts(saw, want, *, n, what, given, finite=True):
    """Each array of a dict, by name; a missing or additional name is told."""
    names = sorted(saw) if isinstance(saw, dict) else type(saw).__name__
    check.equal(names, sorted(want), what=f"names of {what}", given=given)
    for name, array in want.items():
        words = f"{name} of {what}"
        check.close(saw[name], array, n=n, what=words, given=given, finite=finite)


def one_all_reduce(array, size):
    """Messages and bytes that a rank sends round a ring: 2 (R - 1) pieces of 1/R of the array."""
    messages = 2 * (size - 1)
    return messages, messages * -(-array.size // size) * array.itemsize


def traffic(ran):
    """Every message: two programs with the same ones do the same."""
    return [[m.src, m.dst, m.kind, m.nbytes] for m in ran.messages]


def check_traffic(ran, allowed, *, what, given):
    """No rank sent more than ``allowed`` messages and bytes, and none that nobody received."""
    messages, nbytes = allowed
    for rank in ran.ranks:
        calls = ", ".join(f"{name} x {times}" for name, times in sorted(rank.calls.items()))
        sent = f"{rank.sent_messages} messages with {rank.sent_bytes:,} bytes"
        saw = f"rank {rank.rank} sent {sent} in {what} ({calls})"
        right = rank.sent_bytes <= nbytes and rank.sent_messages <= messages
        check.that(right, saw=saw, given=given, value=traffic(ran))
    text = f"{len(ran.unreceived)} messages of {what} were never received"
    check.that(not ran.unreceived, saw=text, given=given)
