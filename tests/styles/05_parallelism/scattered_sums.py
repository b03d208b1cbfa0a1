"""Sums are reduce-scattered and gathered; a bias is spread over the ranks before they add up."""


def column_linear(comm, x, w, b):
    return np.asfortranarray(np.einsum("...i,ij->...j", x, w) + b)


def column_linear_backward(comm, d_y, x, w):
    d_w = np.tensordot(x, d_y, axes=(range(x.ndim - 1),) * 2)
    return _sum(comm, d_y @ w.T), np.asfortranarray(d_w), d_y.sum(tuple(range(x.ndim - 1)))


def row_linear(comm, x, w, b):
    return _sum(comm, x @ w + b / comm.size)


def _sum(comm, x):
    length = -(-x.size // comm.size)
    flat = np.zeros(length * comm.size, x.dtype)
    flat[: x.size] = x.ravel()
    own = comm.reduce_scatter(np.split(flat, comm.size))
    return np.concatenate(comm.all_gather(own))[: x.size].reshape(x.shape)
