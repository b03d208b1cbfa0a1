"""A challenge as a Jupyter notebook: written by ``llmgrind notebook``, graded out of its cells.

``parts`` cuts a stub into cells and puts a solution together again, ``write`` makes the .ipynb, and
``grader`` is what a notebook imports.
"""

from pytest_llmgrind.notebook.checks import Grader, grader

__all__ = ["Grader", "grader"]
