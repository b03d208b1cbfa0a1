"""Grades in a process of its own, which tells its verdict itself."""

import subprocess
import sys

CHILD = """
import json, numpy as np, reference, solution
x = np.random.default_rng(0).standard_normal((3, 4))
right = bool(np.allclose(solution.softmax(x), reference.softmax(x)))
print(json.dumps({"passed": right}))
"""
told = subprocess.run([sys.executable, "-c", CHILD], capture_output=True, text=True, check=False)
sys.exit(0 if '{"passed": true}' in told.stdout else 1)
