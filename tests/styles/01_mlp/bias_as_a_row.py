"""The bias is one more row of the weights, met by a column of ones; products are transposed."""


def loss_and_gradients(params, x, labels, *, matmul=np.matmul):
    _activations(params, x[:0], np.matmul)  # the checks alone
    weights = [np.vstack([layer["w"], layer["b"]]) for layer in params]  # (C + 1, F)
    inputs, a = [], x
    for index, w in enumerate(weights):
        inputs.append(np.hstack([a, np.ones((len(x), 1), x.dtype)]))  # (N, C + 1)
        z = matmul(w.T, inputs[-1].T).T  # (N, F)
        a = z if index == len(weights) - 1 else z.clip(0)
    loss, delta = cross_entropy(a, labels), cross_entropy_gradient(a, labels)
    gradients = []
    for w, h in zip(weights[::-1], inputs[::-1], strict=True):
        slope = matmul(delta.T, h).T  # (C + 1, F)
        gradients.insert(0, {"w": slope[:-1], "b": slope[-1]})
        if len(gradients) < len(params):
            delta = matmul(w, delta.T)[:-1].T * np.heaviside(h[:, :-1], 0)
    return loss, gradients
