"""Graded mode: the solution lives in a process of its own behind walls, and the grader asks it.

A message is a msgspec structure followed by the raw bytes of the arrays that it mentions
(``wire``, ``nodes``, ``codec``). Both sides hold one end (``peer``): the grader's calls go to the
worker, and calls of what the grader passed in come back. Nothing is ever unpickled.
"""
