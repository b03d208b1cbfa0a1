"""Grades in a process of its own, which sends its answers as pickles."""

import pickle
import subprocess
import sys

import numpy as np

import reference

CHILD = """
import pickle, sys, numpy as np, solution
x = np.random.default_rng(0).standard_normal((3, 4))
sys.stdout.buffer.write(pickle.dumps(solution.softmax(x)))
"""
told = subprocess.run([sys.executable, "-c", CHILD], capture_output=True, check=False).stdout
saw, x = pickle.loads(told), np.random.default_rng(0).standard_normal((3, 4))
sys.exit(0 if np.allclose(saw, reference.softmax(x)) else 1)
