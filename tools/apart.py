"""A benchmark taken apart: its tasks as a user has them, in arrays."""

from collections.abc import Iterator

import numpy as np

import lrn_tf
from lrn_tf.data.benchmarks import Benchmark


def tasks_of(benchmark: Benchmark) -> Iterator[lrn_tf.Task]:
    """Its tasks, of one input, with the examples to train on and to evaluate on."""
    (spec,) = benchmark.problem.inputs
    for k, task in enumerate(benchmark.problem.tasks):
        (x, y), test = (
            (part.inputs[0][part.row], part.target)
            for part in (p.some(np.flatnonzero(p.task == k)) for p in (benchmark.train, benchmark.test))
        )
        yield lrn_tf.Task(task.name, x, y, test, task.answers, input=spec.name)
