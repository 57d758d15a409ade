"""A short run on tasks of every form and with every kind of input, which a function of a user's makes."""

import pathlib

from lrn_tf.main import train
from lrn_tf.settings.resolve import resolve

TASKS = """
import numpy as np

import lrn_tf


def tasks():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (80, 6, 5, 1)).astype(np.uint8)
    rows = rng.normal(size=(80, 3))
    words = rng.integers(0, 9, (80, 4))
    sums = np.stack([rows.sum(axis=1), 100 * rows[:, 0]], axis=1)
    return [
        lrn_tf.Task("light", images, (images[:, 0, 0, 0] > 127).astype(int), answers=("dark", "light")),
        lrn_tf.Task("sums", rows, sums, answers=("sum", "hundredfold")),
        lrn_tf.Task("words", words, np.stack([words[:, 0] > 4, words[:, 1] > 4, words[:, 2] > 4], axis=1)),
        lrn_tf.Task("sign", rows, (rows[:, 1] > 0).astype(int) + (rows[:, 1] > 1)),
    ]
"""


def train_mixed(folder: pathlib.Path) -> None:
    """Writes tasks.py, and what a run leaves in "run" and exports to "model"."""
    (folder / "tasks.py").write_text(TASKS)
    small = dict(pool="mixed", dup=1, depth=3, d_model=8, actor="pointer", batch_size=32, minibatch_size=32)
    folders = dict(workdir=str(folder / "run"), export_dir=str(folder / "model"))
    train(
        resolve(dict(benchmark=f"{folder}/tasks.py:tasks", epochs=2, pictures_every=2, **small, **folders))
    )
