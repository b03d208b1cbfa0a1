"""A step's bucket is float64 and filled in place; gradients alone are gathered and added."""


def data_parallel_step(comm, params, x, y, *, loss_and_grads, lr):
    names, sizes = sorted(params), [params[name].size for name in sorted(params)]
    bucket = np.zeros(sum(sizes) + 2)
    if len(x):
        loss, grads = loss_and_grads(params, x, y)
        bucket[:-2] = np.concatenate([grads[name].ravel() for name in names])
        bucket[-2:] = loss, 1
        bucket *= len(x)
    bucket = comm.all_reduce(bucket)
    if bucket[-1] == 0:
        raise ValueError("rows: none anywhere")
    bucket /= bucket[-1]
    parts = zip(names, np.split(bucket[:-2], np.cumsum(sizes)[:-1]), strict=True)
    new = {name: params[name] - lr * part.reshape(params[name].shape) for name, part in parts}
    return {name: new[name].astype(params[name].dtype) for name in params}, float(bucket[-2])


def average_gradients(comm, grads, rows):
    if rows < 0:
        raise ValueError(f"rows is {rows}")
    names, counts = sorted(grads), comm.all_gather(np.array([rows]))
    total = int(sum(counts)[0])
    if total == 0:
        raise ValueError("rows: none anywhere")
    flat = np.concatenate([grads[name].ravel() for name in names]).astype(np.float64)
    gathered = zip(counts, comm.all_gather(flat), strict=True)
    mean = sum(count * part for count, part in gathered if count) / total
    parts = np.split(mean, np.cumsum([grads[name].size for name in names])[:-1])
    named = zip(names, parts, strict=True)
    return {n: p.reshape(grads[n].shape).astype(grads[n].dtype) for n, p in named}
