"""CIFAR-MTL with tasks that conflict, or that are two in one, as functions for `--benchmark`.

    python -m lrn_tf.main --benchmark=tools/conflict.py:inverted --heads=task
    C=tools/conflict.py; python -m lrn_tf.main --benchmark=$C:hidden --heads=task --pool=$C:two_heads

Of `inverted` and `shuffled` every other task gets other pictures: negatives, or their blocks of 8x8 pixels
in another order, the same for all. A network that all tasks share has to serve both; a router may keep them
apart. Of `hidden` each task is two in one, and nothing but the picture tells which. The data are where
TFDS_DATA_DIR says, not --data_dir.
"""

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np
from apart import tasks_of

import lrn_tf
from lrn_tf.data.benchmarks import benchmark_of
from lrn_tf.modules.built_in import POOLS
from lrn_tf.modules.pool import OUTPUT
from lrn_tf.settings.resolve import resolve

BLOCK = 8  # pixels; to make images smaller mixes what lies at the edges of blocks
DARKER = 4  # times


def inverted() -> list[lrn_tf.Task]:
    """Every other task sees negatives."""
    return changed(lambda images: 255 - images)


def shuffled() -> list[lrn_tf.Task]:
    """Every other task sees the blocks of its pictures in another order."""

    def change(images):
        n, height, width, channels = images.shape
        down, across = height // BLOCK, width // BLOCK
        blocks = images.reshape(n, down, BLOCK, across, BLOCK, channels).swapaxes(2, 3)
        order = np.random.default_rng(0).permutation(down * across)
        blocks = blocks.reshape(n, down * across, BLOCK, BLOCK, channels)[:, order]
        blocks = blocks.reshape(n, down, across, BLOCK, BLOCK, channels).swapaxes(2, 3)
        return blocks.reshape(images.shape)

    return changed(change)


def changed(change: Callable[[np.ndarray], np.ndarray]) -> list[lrn_tf.Task]:
    """The tasks of CIFAR-MTL, every other one with its images `[n, 32, 32, 3]` changed."""
    tasks = cifar_mtl()
    for k, task in enumerate(tasks):
        if k % 2:
            images, answers = task.test
            tasks[k] = dataclasses.replace(task, x=change(task.x), test=(change(images), answers))
    return tasks


def hidden() -> list[lrn_tf.Task]:
    """In each task half the pictures, drawn by lot, are dark, and their answers are the next class."""
    return [task for task, _, _ in halved()]


def told() -> list[lrn_tf.Task]:
    """`hidden`, with a task of its own for either half: what a router that finds them could come to."""
    tasks = []
    for task, dark, test_dark in halved():
        images, answers = task.test
        for half, mine, test_mine in (("bright", ~dark, ~test_dark), ("dark", dark, test_dark)):
            test = images[test_mine], answers[test_mine]
            name = f"{task.name} {half}"
            tasks.append(dataclasses.replace(task, name=name, x=task.x[mine], y=task.y[mine], test=test))
    return tasks


def halved() -> Iterator[tuple[lrn_tf.Task, np.ndarray, np.ndarray]]:
    """The tasks of `hidden`, and which of their examples are dark: to train on, and to evaluate on."""
    for k, task in enumerate(cifar_mtl()):
        rng, made = np.random.default_rng(k), []
        for images, answers in ((task.x, task.y), task.test):
            dark = rng.random(len(images)) < 0.5
            images = np.where(dark[:, None, None, None], images // DARKER, images)
            made.append((images, np.where(dark, (answers + 1) % len(task.answers), answers), dark))
        (x, y, dark), (*test, test_dark) = made
        yield dataclasses.replace(task, x=x, y=y, test=tuple(test)), dark, test_dark


def two_heads(problem, dup: int) -> list[lrn_tf.Kind]:
    """As a `--pool`: wide_1 with two output modules for each task, so that halves may differ in all."""
    return [
        dataclasses.replace(kind, dup=2) if kind.role == OUTPUT else kind
        for kind in POOLS["wide_1"](problem, dup)
    ]


def cifar_mtl() -> list[lrn_tf.Task]:
    """Its tasks, in arrays."""
    return tasks_of(benchmark_of(resolve({"benchmark": "cifar_mtl"})))
