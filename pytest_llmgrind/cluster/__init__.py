"""A simulated cluster: R ranks, a network that costs time, and nothing left to chance.

Code for a rank is an ordinary function that gets a ``Comm``. ``Cluster.run`` runs it once for each
rank, one rank at a time in the order of their simulated clocks, and returns what every rank
returned with what it sent, waited for and held. docs/cluster.md has the cost model. No pytest.

>>> import numpy as np
>>> def step(comm, x):
...     return comm.all_reduce(x)
>>> run = Cluster(4).run(step, np.array([1.0, 2.0]))
>>> run.results[3], run.ranks[3].calls
(array([4., 8.]), {'all_reduce': 1})
"""

from __future__ import annotations

from pytest_llmgrind.cluster.comm import Comm, Request
from pytest_llmgrind.cluster.errors import ClusterError, Deadlock, Mismatch
from pytest_llmgrind.cluster.run import Link, Message, Rank, Run, Span, Traffic
from pytest_llmgrind.cluster.simulator import Cluster, per_rank

__all__ = [
    "Cluster",
    "ClusterError",
    "Comm",
    "Deadlock",
    "Link",
    "Message",
    "Mismatch",
    "Rank",
    "Request",
    "Run",
    "Span",
    "Traffic",
    "per_rank",
]
