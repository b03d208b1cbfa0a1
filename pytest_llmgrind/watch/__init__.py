"""Reruns the stage that is being worked at when its files are saved. Knows nothing about click.

``course`` says what to run next, ``saves`` what was saved, ``runs`` is pytest in a process of its
own, ``terminal`` the keys, ``status`` the line between two runs, and ``session`` ties them.
"""

from pytest_llmgrind.watch.session import Session, latest, missing

__all__ = ["Session", "latest", "missing"]
