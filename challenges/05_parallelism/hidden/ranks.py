"""What the ranks of stage 5 do, each in a process of its own."""

import time
from pathlib import Path

import numpy as np


def connected(process):
    make = process.solution.ProcessComm
    return make(
        process.rank, process.world_size, process.init_method, backend=process.backend
    )


def there_and_back(process, arrays):
    """Rank 0 sends arrays to rank 1, one after the other, which sends back what came."""
    comm = connected(process)
    if comm.rank == 0:
        for array in arrays:
            comm.send(array, 1)
        back = [comm.recv(1) for _ in arrays]
    else:
        back = [comm.recv(0) for _ in arrays]
        for array in back:
            comm.send(array, 0)
    comm.close()
    return back


def views(process, array):
    """Send views of an array that do not lie in one piece: turned, every other, backwards."""
    comm = connected(process)
    sent = [array.T, array[:, ::2], array[::-1]]
    if comm.rank == 0:
        for view in sent:
            comm.send(view, 1)
        got = []
    else:
        got = [comm.recv(0) for _ in sent]
    got += [comm.all_reduce(view) for view in sent]
    comm.close()
    return got


def changes_afterwards(process, array, times):
    """Rank 0 sends one array again and again and changes it after each call; what rank 1 got."""
    comm = connected(process)
    got = []
    for _ in range(times):
        if comm.rank == 0:
            comm.send(array, 1)
            array += 1
        else:
            got.append(comm.recv(0))
    comm.close()
    return got


def from_two(process, array, times):
    """Ranks 1 and 2 send to rank 0, rank 2 later; rank 0 asks rank 2 first, then 1, and so on."""
    comm = connected(process)
    got = []
    if comm.rank == 2:
        time.sleep(0.4)
    for number in range(times):
        if comm.rank == 0:
            got += [comm.recv(2), comm.recv(1)]
        else:
            comm.send(array + number, 0)
    comm.close()
    return got


def in_pairs(process, array, pairs):
    """One pair after the other exchanges arrays; what this rank got."""
    comm = connected(process)
    got = []
    for pair in pairs:
        if comm.rank in pair:
            other = sum(pair) - comm.rank
            got.append(comm.sendrecv(array, other, other))
    comm.close()
    return got


def swaps(process, array):
    """Two ranks exchange arrays that have nothing in common."""
    comm, other = connected(process), 1 - process.rank
    got = comm.sendrecv(array, other, other)
    comm.close()
    return got


def collectives(process, arrays):
    """The sum and the list of every array in turn."""
    comm = connected(process)
    done = [(comm.all_reduce(array), comm.all_gather(array)) for array in arrays]
    comm.close()
    return done


def round_the_ring(process, array, times):
    """Everyone sends to the right while it receives from the left, several times."""
    comm = connected(process)
    for _ in range(times):
        right, left = (comm.rank + 1) % comm.size, (comm.rank - 1) % comm.size
        array = comm.sendrecv(array, right, left)
    comm.close()
    return array


def leaves_alone(process, array):
    """Every call, then changes to what came back; what is left of the argument."""
    comm, other = connected(process), 1 - process.rank
    received = [comm.all_reduce(array), *comm.all_gather(array)]
    received.append(comm.sendrecv(array, other, other))
    if comm.rank == 0:
        comm.send(array, 1)
    else:
        received.append(comm.recv(0))
    for result in received:
        result += 1
    comm.close()
    return array


def refuses(process):
    """What each rank says of ranks that do not exist and of dtypes without a place in DTYPES.

    Rank 1 then sends an array to rank 0: nothing of what was refused is on its way.
    """
    make, where, other = process.solution.ProcessComm, process.init_method, 1 - process.rank
    said = [message(lambda rank=rank: make(rank, 2, where)) for rank in (5, 2, -1)]
    comm = connected(process)
    for dtype in (np.complex128, np.float16):
        array = np.zeros(2, dtype)
        said.append(message(lambda array=array: comm.all_reduce(array)))
        said.append(message(lambda array=array: comm.all_gather(array)))
        said.append(message(lambda array=array: comm.sendrecv(array, other, other)))
        if comm.rank == 1:
            said.append(message(lambda array=array: comm.send(array, 0)))
    came = comm.recv(1) if comm.rank == 0 else comm.send(np.arange(3.0), 0)
    comm.close()
    return said, came


def message(call):
    """The text of a call's ValueError; empty where it raises none."""
    try:
        call()
    except ValueError as error:
        return str(error)
    return ""


def twice(process, array):
    """Two groups, one after the other."""
    sums = []
    for number in range(2):
        where = Path(process.init_method.removeprefix("file://")).with_name(f"meeting-{number}")
        make = process.solution.ProcessComm
        comm = make(process.rank, process.world_size, f"file://{where}", backend=process.backend)
        sums.append(comm.all_reduce(array + number))
        comm.close()
    return sums


def everything(process, x, mlp, batch, target):
    """A ring, an MLP in both directions and a training step, all over processes."""
    comm, solution = connected(process), process.solution
    total = solution.ring_all_reduce(comm, x)
    y = solution.parallel_mlp(comm, x, mlp)
    d_x, _ = solution.parallel_mlp_backward(comm, y, x, mlp)
    params, loss = solution.data_parallel_step(
        comm, {"w": np.ones(3), "b": np.zeros(2)}, batch, target,
        loss_and_grads=mean_of_rows, lr=0.5,
    )  # fmt: skip
    comm.close()
    return total, y, d_x, params, loss


def mean_of_rows(params, x, y):
    """A loss that is linear in w and b."""
    loss = (x @ params["w"]).mean() + (y @ params["b"]).mean()
    return float(loss), {"w": x.mean(axis=0), "b": y.mean(axis=0)}
