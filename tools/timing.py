"""How long a call takes on the device, and whether a benchmark can be timed."""

import statistics
import time

import tensorflow as tf

from lrn_tf.data.benchmarks import Benchmark
from lrn_tf.errors import UserError

# Settings that a step which is timed would not show, or show while it does something else.
UNTIMED = ("augment", "mixup", "init_from", "imitation", "distribute")


def milliseconds(run, steps: int) -> float:
    """The median time of so many calls, each with another number, after three that are not counted."""
    times = []
    for i in range(3 + steps):
        start = time.perf_counter()
        tf.nest.flatten(run(tf.constant(i)))[0].numpy()  # reading a result waits for the device
        times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times[3:])


def check_single_input(benchmark: Benchmark) -> None:
    """Raises UserError if there are several inputs, which no fixed network or trunk takes."""
    if len(benchmark.problem.inputs) > 1:
        raise UserError(f"--benchmark={benchmark.name} has several inputs; choose one with a single one")
