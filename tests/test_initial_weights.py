"""Before training no two weights have anything to do with each other, whatever the method."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from small_pools import problem

from lrn_tf.data.problem import CLASSES, NUMBERS
from lrn_tf.methods.build import METHODS, build
from lrn_tf.settings.resolve import resolve
from lrn_tf.settings.table import LRNS

IMAGES = problem([("images", (8, 8, 1))], [("images", CLASSES, 2)] * 7)
BY_TASK = problem([("images", (8, 8, 1))], [("images", CLASSES, 2)] * 7, heads="task")
SEVERAL = problem(
    [("images", (8, 8, 1)), ("rows", (21,)), ("sequences", (6, 20)), ("tokens", (20,))],
    [("images", CLASSES, 3), ("rows", CLASSES, 3), ("sequences", NUMBERS, 2), ("tokens", CLASSES, 3)],
)
CASES = [
    *((dict(method=method), IMAGES) for method in METHODS),
    (dict(actor="pointer"), IMAGES),
    (dict(method="routing", agents="dispatched", policy="approximate"), IMAGES),
    (dict(pool="paper", heads="task"), BY_TASK),
    (dict(pool="residual"), IMAGES),
    (dict(pool="transformer"), IMAGES),
    (dict(pool="mixed"), SEVERAL),
]


def random_weights(given, posed):
    """What initializers drew, by name: weights that are one constant have nothing to repeat."""
    keras.utils.set_random_seed(0)
    if given.get("method", "lrn") in LRNS:
        given = {"dup": 3, "depth": 4, "d_model": 32, **given}
    method = build(posed, resolve(given))
    weights = [w.numpy() for w in tf.nest.flatten(method.weights)]
    return [w for w in weights if w.size > 1 and np.ptp(w) > 0]


@pytest.mark.parametrize("given, posed", CASES, ids=["-".join(given.values()) for given, _ in CASES])
def test_no_two_weights_are_equal_or_correlated(given, posed):
    weights = random_weights(given, posed)
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
