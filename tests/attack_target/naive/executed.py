"""Grades what it reads: the text of a solution, executed."""

import sys

import numpy as np

import reference

names = {}
with open("solution.py") as file:
    exec(file.read(), names)
x = np.random.default_rng(0).standard_normal((3, 4))
sys.exit(0 if np.allclose(names["softmax"](x), reference.softmax(x)) else 1)
