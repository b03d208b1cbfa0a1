"""Many entrants, one leaderboard: every (entrant, challenge) is a job in a process of its own.

``job`` finds what there is to grade, an ``Executor`` runs it (``local``, ``on_ray``), ``run``
is what it does with one job, ``ledger`` keeps each result, ``board`` ranks them.
"""
