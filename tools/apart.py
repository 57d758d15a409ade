"""A benchmark taken apart: its tasks as a user has them, in arrays."""

import numpy as np

import lrn_tf
from lrn_tf.data.benchmarks import Benchmark
from lrn_tf.data.problem import CLASSES
from lrn_tf.errors import UserError


def tasks_of(benchmark: Benchmark) -> list[lrn_tf.Task]:
    """Its tasks with the examples to train on and to evaluate on.

    Raises:
        UserError: they do not all have classes and one input.
    """
    if len(benchmark.problem.inputs) > 1:
        raise UserError(f"{benchmark.problem.name} has several inputs; choose a benchmark that has one")
    (spec,), tasks = benchmark.problem.inputs, []
    for k, task in enumerate(benchmark.problem.tasks):
        if task.form != CLASSES:
            raise UserError(f"task {task.name!r} has no classes; choose a benchmark whose tasks have")
        mine = (part.some(np.flatnonzero(part.task == k)) for part in (benchmark.train, benchmark.test))
        (x, y), test = ((part.inputs[0][part.row], part.target) for part in mine)
        tasks.append(lrn_tf.Task(task.name, x, y, test, task.answers, input=spec.name, weight=task.weight))
    return tasks
