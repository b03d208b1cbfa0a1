"""One product for queries, keys and values of all heads; the heads stand before the batch."""


def multi_head_attention(x, params, *, n_heads, mask=None, causal=False):
    _check_layer(x, params, n_heads)
    wide = {name: _working(array) for name, array in params.items()}
    qkv, mask = _packed(_working(x), wide, n_heads), _heads_first(mask, x, n_heads)
    y = attention(*qkv, mask=mask, causal=causal)  # (H, B, T, D)
    w_o = wide["w_o"].reshape(n_heads, -1, x.shape[-1])  # (H·D, C) -> (H, D, C)
    return (np.tensordot(y, w_o, axes=((0, 3), (0, 1))) + wide["b_o"]).astype(x.dtype)


def multi_head_attention_backward(d_out, x, params, *, n_heads, mask=None, causal=False):
    _check_layer(x, params, n_heads)
    _check_gradient(d_out, x.shape, x.dtype)
    dtype, C = x.dtype, x.shape[-1]
    mask = _heads_first(mask, x, n_heads)
    wide = {name: _working(array) for name, array in params.items()}
    x, d_out = _working(x), _working(d_out)
    qkv, w_o = _packed(x, wide, n_heads), wide["w_o"].reshape(n_heads, -1, C)
    y = attention(*qkv, mask=mask, causal=causal)
    d_y = np.einsum("btc,hdc->hbtd", d_out, w_o)
    d_qkv = np.stack(attention_backward(d_y, *qkv, mask=mask, causal=causal))  # (3, H, B, T, D)
    d = {"b_o": d_out.sum((0, 1)), "w_o": np.einsum("hbtd,btc->hdc", y, d_out)}
    d["w_o"] = d["w_o"].reshape(-1, C)  # (H, D, C) -> (H·D, C)
    d_x = np.zeros_like(x)
    for name, part in zip("vkq", d_qkv[::-1], strict=True):  # the order of keys is free
        w = wide[f"w_{name}"].reshape(C, n_heads, -1)  # (C, H·D) -> (C, H, D)
        d[f"w_{name}"] = np.einsum("btc,hbtd->chd", x, part).reshape(C, -1)
        d[f"b_{name}"] = part.sum((1, 2)).ravel()
        d_x += np.einsum("hbtd,chd->btc", part, w)
    return d_x.astype(dtype), {name: array.astype(dtype) for name, array in d.items()}


def _packed(x, params, n_heads):
    w = np.concatenate([params[f"w_{name}"] for name in "qkv"], axis=1)  # (C, 3·H·D)
    y = x @ w + np.concatenate([params[f"b_{name}"] for name in "qkv"])
    split = y.reshape(*x.shape[:2], 3, n_heads, w.shape[1] // 3 // n_heads)
    return np.moveaxis(split, (2, 3), (0, 1))  # (B, T, 3, H, D) -> (3, H, B, T, D)


def _heads_first(mask, x, n_heads):
    if mask is None:
        return None
    shape = (x.shape[0], n_heads, x.shape[1], x.shape[1])
    _check_mask(mask, shape)
    return np.broadcast_to(mask, shape).swapaxes(0, 1)
