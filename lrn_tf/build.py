"""From settings to a method, and what it will cost."""

import sys

import tensorflow as tf

from lrn_tf.benchmarks import Benchmark
from lrn_tf.decision_process import DecisionProcess
from lrn_tf.errors import UserError
from lrn_tf.lrn import LRN
from lrn_tf.method import Method
from lrn_tf.pool import Pool
from lrn_tf.pools import POOLS
from lrn_tf.router import Router
from lrn_tf.settings import Settings

# Weights, gradients and Adam's two moments, four bytes each.
BYTES_PER_PARAMETER = 16


def make_pool(benchmark: Benchmark, settings: Settings) -> Pool:
    """The pool that the settings name, checked against --depth.

    Raises:
        UserError: no network of that depth exists.
    """
    pool = POOLS[settings.pool](benchmark.image_shape, benchmark.num_classes, settings.dup)
    try:
        DecisionProcess(pool, settings.depth)
    except ValueError as error:
        raise UserError(f"--depth={settings.depth} --pool={settings.pool}: {error}") from error
    return pool


def build(benchmark: Benchmark, settings: Settings) -> Method:
    """The method that the settings name."""
    return LRN(make_pool(benchmark, settings), benchmark.num_tasks, settings)


def describe(benchmark: Benchmark, settings: Settings) -> None:
    """Prints sizes before anything large is allocated."""
    pool = make_pool(benchmark, settings)
    modules = pool.count_parameters()
    with tf.Graph().as_default():  # counts without allocating
        router = Router(pool.image, benchmark.num_tasks, len(pool), settings.depth, settings.d_model)
        router = sum(w.shape.num_elements() for w in router.trainable_variables)
    total = sum(modules.values()) + router
    size = "x".join(map(str, benchmark.image_shape))
    images = benchmark.train.images.nbytes + benchmark.test.images.nbytes
    print(
        f"{benchmark.name}: {benchmark.num_tasks} tasks of {benchmark.num_classes} classes,"
        f" {len(benchmark.train):,} training and {len(benchmark.test):,} test examples, images {size}\n"
        f"pool {settings.pool}: {len(pool)} modules with {sum(modules.values()):,} parameters"
        f" ({', '.join(f'{name} {n:,}' for name, n in modules.items())}); router {router:,}\n"
        f"memory: about {total * BYTES_PER_PARAMETER / 1e9:.2f} GB for weights, gradients and Adam,"
        f" {images / 1e9:.2f} GB for images; activations come on top",
        file=sys.stderr,
    )
