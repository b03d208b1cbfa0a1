"""All parameters are views into one flat vector, which each step of training moves in place."""


def step(params, x, labels, *, learning_rate):
    loss, gradients = loss_and_gradients(params, x, labels)
    flat = _flat(params)
    flat -= flat.dtype.type(learning_rate) * _flat(gradients)
    return _views(flat, params), loss


def train(params, x, labels, *, steps, batch_size, learning_rate, rng):
    if not 1 <= batch_size <= len(x):
        raise ValueError(f"batch_size is {batch_size}")
    if labels.shape != x.shape[:1]:
        raise ValueError(f"labels has shape {labels.shape}")
    _activations(params, x[:0], np.matmul)  # the checks alone
    flat = _flat(params)
    own, losses, starts = _views(flat, params), [], range(0, len(x), batch_size)
    for index in range(steps):
        if index % len(starts) == 0:
            order = rng.permutation(len(x))
            x_order, labels_order = x[order], labels[order]
        at = slice(starts[index % len(starts)], starts[index % len(starts)] + batch_size)
        loss, gradients = loss_and_gradients(own, x_order[at], labels_order[at])
        losses.append(loss)
        flat -= flat.dtype.type(learning_rate) * _flat(gradients)
    return own, np.array(losses, np.float64)


def _flat(layers):
    return np.concatenate([layer[key].ravel() for layer in layers for key in ("w", "b")])


def _views(flat, like):
    at, layers = 0, []
    for layer in like:
        layers.append({})
        for key in ("w", "b"):
            layers[-1][key] = flat[at : at + layer[key].size].reshape(layer[key].shape)
            at += layer[key].size
    return layers
