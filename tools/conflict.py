"""CIFAR-MTL with tasks that conflict, as functions for `--benchmark`.

    python -m lrn_tf.main --benchmark=tools/conflict.py:inverted --heads=task

Every other task gets other pictures: `inverted` their negatives, `shuffled` their blocks of 8x8 pixels in
another order, the same for all. A network that all tasks share has to serve both; a router may keep them
apart. The data are where TFDS_DATA_DIR says, not --data_dir.
"""

import dataclasses
from collections.abc import Callable

import numpy as np
from apart import tasks_of

import lrn_tf
from lrn_tf.data.benchmarks import asked, load
from lrn_tf.settings.resolve import resolve

BLOCK = 8  # pixels; to make images smaller mixes what lies at the edges of blocks


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
    tasks = tasks_of(load(*asked(resolve({"benchmark": "cifar_mtl"}))))
    for k, task in enumerate(tasks):
        if k % 2:
            images, answers = task.test
            tasks[k] = dataclasses.replace(task, x=change(task.x), test=(change(images), answers))
    return tasks
