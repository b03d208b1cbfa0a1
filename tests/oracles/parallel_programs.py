"""What ranks do with torch.distributed alone, for test_05_parallelism.py."""

from __future__ import annotations

import numpy as np
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel


def join(process):
    dist.init_process_group(
        process.backend,
        init_method=process.init_method,
        rank=process.rank,
        world_size=process.world_size,
    )


def collectives(process, x, pieces):
    """all_reduce, all_gather, reduce_scatter, all_to_all and broadcast of torch."""
    join(process)
    size, rank = process.world_size, process.rank
    tensor, parts = torch.from_numpy(x), [torch.from_numpy(piece) for piece in pieces]
    total, top, rooted = tensor.clone(), tensor.clone(), tensor.clone()
    dist.all_reduce(total)
    dist.all_reduce(top, op=dist.ReduceOp.MAX)
    dist.broadcast(rooted, size - 1)
    gathered = [torch.empty_like(tensor) for _ in range(size)]
    dist.all_gather(gathered, tensor)
    reduced = torch.empty_like(parts[rank])
    dist.reduce_scatter(reduced, [part.clone() for part in parts])
    swapped = [torch.empty_like(parts[rank]) for _ in range(size)]
    dist.all_to_all(swapped, parts)
    dist.destroy_process_group()
    return [t.numpy() for t in (total, top, rooted, *gathered, reduced, *swapped)]


def ddp_step(process, params, x, y, lr):
    """One step of SGD by DistributedDataParallel: the new parameters."""
    join(process)
    model = torch.nn.Linear(*params["w"].shape).double()
    with torch.no_grad():
        model.weight.copy_(torch.from_numpy(params["w"].T))
        model.bias.copy_(torch.from_numpy(params["b"]))
    replica = DistributedDataParallel(model)
    optimizer = torch.optim.SGD(replica.parameters(), lr=lr)
    error = replica(torch.from_numpy(x)) - torch.from_numpy(y)
    (error.square().sum(dim=1).mean() / 2).backward()
    optimizer.step()
    dist.destroy_process_group()
    return {"w": model.weight.detach().numpy().T.copy(), "b": model.bias.detach().numpy()}


def dtensor_mlp(process, params, x, d_y):
    """Forward and backward of an MLP under torch's own tensor parallelism."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor.parallel import (
        ColwiseParallel,
        RowwiseParallel,
        parallelize_module,
    )

    join(process)
    C, F = params["w_in"].shape
    model = torch.nn.Sequential(torch.nn.Linear(C, F), torch.nn.ReLU(), torch.nn.Linear(F, C))
    model.double()
    with torch.no_grad():
        for layer, name in ((model[0], "in"), (model[2], "out")):
            layer.weight.copy_(torch.from_numpy(params[f"w_{name}"].T))
            layer.bias.copy_(torch.from_numpy(params[f"b_{name}"]))
    mesh = init_device_mesh("cpu", (process.world_size,))
    model = parallelize_module(model, mesh, {"0": ColwiseParallel(), "2": RowwiseParallel()})
    inputs = torch.from_numpy(x).requires_grad_()
    out = model(inputs)
    out.backward(torch.from_numpy(d_y))
    found = {"y": out.detach().numpy(), "d_x": inputs.grad.numpy()}
    for layer, name in ((model[0], "in"), (model[2], "out")):
        found[f"w_{name}"] = layer.weight.grad.to_local().numpy().T.copy()
        found[f"b_{name}"] = layer.bias.grad.to_local().numpy()
    dist.destroy_process_group()
    return found


def over_processes(process, x):
    """The reference's ring over the reference's communicator."""
    comm = process.solution.ProcessComm(process.rank, process.world_size, process.init_method)
    total = process.solution.ring_all_reduce(comm, x)
    parts = process.solution.ring_all_gather(comm, np.full(process.rank + 1, process.rank))
    comm.close()
    return total, parts
