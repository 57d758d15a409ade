"""Tasks in arrays of a user's, and what becomes of them."""

import numpy as np

from lrn_tf.data import benchmarks
from lrn_tf.data.benchmarks import Choice, own


def load(tasks, **choice):
    return benchmarks.load(own("mine", tasks), Choice(**choice))


def rows(n, *shape, seed=0):
    """Numbers, no two alike, of a type that is not what is kept."""
    return np.random.default_rng(seed).normal(size=(n, *(shape or (3,))))


def classes(*counts):
    """So many of class 0, of class 1 and so on, mixed."""
    y = np.repeat(np.arange(len(counts)), counts)
    return np.random.default_rng(0).permutation(y)


def examples_of(drawn, part, k):
    """Inputs and targets of a task's examples, those without what fills up."""
    mine = part.task == k
    i = drawn.inputs.index(drawn.tasks[k].input)
    target = part.target[mine]
    if target.ndim == 2:
        width = 1 if drawn.tasks[k].form == "classes" else drawn.tasks[k].width
        assert not target[:, width:].any()
        target = target[:, :width]
    return part.inputs[i][part.row[mine]], target
