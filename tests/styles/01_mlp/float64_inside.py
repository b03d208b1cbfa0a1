"""Everything is computed in float64 and rounded to the dtype of the arguments at the end."""


def _log_softmax(z):
    wide = z.astype(np.float64) - z.max(axis=1, keepdims=True)
    return wide - np.logaddexp.reduce(wide, axis=1, keepdims=True)


def cross_entropy_gradient(logits, labels):
    _check_labels(labels, logits.shape)
    wide = np.exp(_log_softmax(logits)) - np.eye(logits.shape[1])[labels]
    return (wide / len(wide)).astype(logits.dtype)


def loss_and_gradients(params, x, labels, *, matmul=np.matmul):
    wide = [{key: value.astype(np.float64) for key, value in layer.items()} for layer in params]
    activations = _activations(wide, x.astype(np.float64), matmul)
    logits, gradients = activations.pop(), []
    delta = cross_entropy_gradient(logits, labels)
    for layer, a in zip(wide[::-1], activations[::-1], strict=True):
        own = {"w": matmul(a.T, delta), "b": delta.sum(0)}
        gradients.insert(0, {key: value.astype(x.dtype) for key, value in own.items()})
        if len(gradients) < len(params):
            delta = matmul(delta, layer["w"].T)
            delta[a <= 0] = 0
    return cross_entropy(logits, labels), gradients
