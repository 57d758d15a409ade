"""Before training no two weights have anything to do with each other, whatever the method."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from lrn_tf.data.benchmarks import Problem
from lrn_tf.methods.build import METHODS, build
from lrn_tf.settings import resolve

TASKS = tuple(f"task {k}" for k in range(7))
PROBLEM = Problem("any", TASKS, (("no", "yes"),) * len(TASKS), (8, 8, 1), (0.0,), (1.0,))
CASES = [
    *(dict(method=method) for method in METHODS),
    dict(actor="pointer"),
    dict(method="routing", agents="dispatched", policy="approximate"),
]


def random_weights(given):
    """What initializers drew, by name: weights that are one constant have nothing to repeat."""
    keras.utils.set_random_seed(0)
    method = build(PROBLEM, resolve({"dup": 3, "depth": 4, "d_model": 32, **given}))
    weights = [w.numpy() for w in tf.nest.flatten(method.weights)]
    return [w for w in weights if w.size > 1 and np.ptp(w) > 0]


@pytest.mark.parametrize("given", CASES, ids=lambda given: "-".join(given.values()))
def test_no_two_weights_are_equal_or_correlated(given):
    weights = random_weights(given)
    assert len(weights) > 3
    # Rows of tables and of stacks too (short ones may be a plan, as those of cross-stitch units are): an
    # initializer with a seed repeats itself from its beginning.
    rows = [row.tobytes() for w in weights if w.ndim > 1 for row in w if row.size > 15 and np.ptp(row) > 0]
    assert len(set(rows)) == len(rows)
    large = [w.ravel() for w in weights if w.size >= 256]
    for a, b in itertools.combinations(large, 2):
        size = min(a.size, b.size)
        # Six standard deviations of what independent numbers have.
        assert abs(np.corrcoef(a[:size], b[:size])[0, 1]) < 6 / size**0.5
