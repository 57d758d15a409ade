"""From settings to a method, and what it will cost."""

import math
import os
import sys

import tensorflow as tf

from lrn_tf.data.benchmarks import Benchmark, Problem
from lrn_tf.errors import UserError
from lrn_tf.methods.cross_stitch import CrossStitch
from lrn_tf.methods.given_paths import Shared, TaskFC, TaskHead
from lrn_tf.methods.lrn import LRN
from lrn_tf.methods.method import Method
from lrn_tf.methods.random_route import RandomRoute
from lrn_tf.methods.routing import RoutingNetwork
from lrn_tf.settings import Settings

METHODS = {
    "lrn": LRN,
    "random_route": RandomRoute,
    "routing": RoutingNetwork,
    "cross_stitch": CrossStitch,
    "task_fc": TaskFC,
    "task_head": TaskHead,
    "shared": Shared,
}


def build(problem: Problem, settings: Settings) -> Method:
    """The method that the settings name.

    Raises:
        UserError: the settings and the problem do not go together.
    """
    return METHODS[settings.method].build(problem, settings)


def describe(benchmark: Benchmark, settings: Settings) -> None:
    """Prints sizes before anything large is allocated.

    Raises:
        UserError: the machine has not as much memory.
    """
    method = METHODS[settings.method]
    with tf.Graph().as_default():  # counts without allocating
        parts = method.count_parameters(benchmark.problem, settings)
    total = sum(parts.values())
    size = "x".join(map(str, benchmark.image_shape))
    images = benchmark.train.images.nbytes + benchmark.test.images.nbytes
    print(
        f"{benchmark.name}: {benchmark.num_tasks} tasks of {benchmark.num_classes} classes,"
        f" {len(benchmark.train):,} training and {len(benchmark.test):,} {settings.split} examples,"
        f" images {size}\n"
        f"{settings.method}: {total:,} parameters"
        f" ({', '.join(f'{name} {n:,}' for name, n in parts.items())})\n"
        f"memory: about {total * method.BYTES_PER_PARAMETER / 1e9:.2f} GB for weights, gradients and the"
        f" optimizer, {images / 1e9:.2f} GB for images; activations come on top",
        file=sys.stderr,
    )
    needed, there = total * method.BYTES_PER_PARAMETER + images, _memory()
    if needed > there:
        raise UserError(
            f"that is more than the {there / 1e9:.1f} GB that this machine has; choose a smaller --dup,"
            " --d_model or --image_size"
        )


def _memory():
    """Bytes of memory of the machine; what a GPU has shows when it is asked for it."""
    if tf.config.list_physical_devices("GPU"):
        return math.inf
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
