"""From settings to a method, and what it will cost: more memory than there is, is refused."""

import collections
import contextlib
import math
import os
import pathlib
import sys

import tensorflow as tf

from lrn_tf.data.benchmarks import Benchmark
from lrn_tf.data.problem import Problem
from lrn_tf.errors import UserError
from lrn_tf.methods.cross_stitch import CrossStitch
from lrn_tf.methods.given_paths import Shared, TaskFC, TaskHead
from lrn_tf.methods.lrn import LRNMethod
from lrn_tf.methods.method import Method
from lrn_tf.methods.random_route import RandomRoute
from lrn_tf.methods.routing import RoutingNetwork
from lrn_tf.methods.unrouted import Unrouted
from lrn_tf.settings.table import Settings

# Where Linux says what a container may use.
CONTAINER = pathlib.Path("/sys/fs/cgroup/memory.max")

METHODS = {
    "lrn": LRNMethod,
    "random_route": RandomRoute,
    "unrouted": Unrouted,
    "routing": RoutingNetwork,
    "cross_stitch": CrossStitch,
    "task_fc": TaskFC,
    "task_head": TaskHead,
    "shared": Shared,
}


def build(problem: Problem, settings: Settings, kinds=None) -> Method:
    """The method that the settings name.

    Args:
        problem: what it shall learn.
        settings: of the run.
        kinds: the kinds of its modules, or what makes them of a problem and dup; or the pool, if
            it is there already; None for a built-in pool.

    Raises:
        UserError: the settings and the problem do not go together.
    """
    return METHODS[settings.method].build(problem, settings, kinds)


def describe(benchmark: Benchmark, settings: Settings, kinds=None) -> None:
    """Prints sizes before anything large is allocated; `kinds` as in `build`.

    Raises:
        UserError: the machine has not as much memory.
    """
    method = METHODS[settings.method]
    with tf.Graph().as_default():  # counts without allocating
        parts = method.count_parameters(benchmark.problem, settings, kinds)
    total = sum(parts.values())
    # As arrays, and as variables of which steps take rows.
    data = 2 * (benchmark.train.nbytes + benchmark.test.nbytes)
    print(
        *(f"{benchmark.name}: {note}\n" for note in benchmark.notes),
        f"{benchmark.name}: {_tasks(benchmark.problem)},"
        f" {len(benchmark.train):,} training and {len(benchmark.test):,} {settings.split} examples,"
        f" {_inputs(benchmark.problem)}\n"
        f"{settings.method}: {total:,} parameters"
        f" ({', '.join(f'{name} {n:,}' for name, n in parts.items())})\n"
        f"memory: about {total * method.BYTES_PER_PARAMETER / 1e9:.2f} GB for weights, gradients and the"
        f" optimizer, {data / 1e9:.2f} GB for examples; activations come on top",
        sep="",
        file=sys.stderr,
    )
    needed, there = total * method.BYTES_PER_PARAMETER + data, _memory()
    if needed > there:
        raise UserError(
            f"that is more than the {there / 1e9:.1f} GB that this machine has; choose a smaller --dup,"
            " --d_model or --image_size"
        )


def _tasks(problem):
    """How many tasks there are of which form, such as "20 tasks of 5 classes"."""
    counts = collections.Counter(f"{task.width} {task.form}" for task in problem.tasks)
    one = {"1 numbers": "1 number", "1 labels": "1 label"}
    return ", ".join(
        f"{count} task{'s' * (count > 1)} of {one.get(form, form)}" for form, count in counts.items()
    )


def _inputs(problem):
    """What examples bring, such as "images 32x32x3"."""
    return ", ".join(f"{given.name} {'x'.join(map(str, given.shape))}" for given in problem.inputs)


def _memory():
    """Bytes that the machine has, or lets its container use; what a GPU has shows when it is asked for."""
    if tf.config.list_physical_devices("GPU"):
        return math.inf
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    # A container may be allowed less; "max" says that it is not.
    with contextlib.suppress(OSError, ValueError):
        there = min(there, int(CONTAINER.read_text()))
    return there
