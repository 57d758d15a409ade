"""Tasks and modules of a user's: two classes, five classes, and a number, over images and rows."""

import keras
import numpy as np

import lrn_tf


def tasks():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (60, 6, 6, 1)).astype(np.uint8)
    rows = rng.normal(size=(80, 3))
    brightness = images.mean(axis=(1, 2, 3))
    return [
        lrn_tf.Task(
            "bright", images, (brightness > np.median(brightness)).astype(int), answers=["no", "yes"]
        ),
        lrn_tf.Task("digit of ten", images, rng.integers(0, 5, 60)),
        lrn_tf.Task("sum", rows, rows.sum(axis=1), answers=["total"]),
    ]


def pool(problem, dup):
    def dense(units):
        return lambda: keras.Sequential(
            [keras.layers.Flatten(), keras.layers.Dense(units, activation="relu")]
        )

    def out(space):
        return lambda: keras.layers.Dense(space.width)

    return [
        lrn_tf.Kind("of_image", "input", (6, 6, 1), (8,), dense(8), 1),
        lrn_tf.Kind("of_row", "input", (3,), (8,), dense(8), dup),
        lrn_tf.Kind("hidden", "hidden", (8,), (8,), dense(8), dup),
        *[
            lrn_tf.Kind(f"out_{s.width}", "output", (8,), (s.width,), out(s), dup, (s.name,))
            for s in problem.label_spaces
        ],
    ]


def wider(problem, dup):
    """The same kinds with one more module each."""
    return pool(problem, dup + 1)


def raises():
    raise RuntimeError("no\nluck")


def not_tasks():
    return {"tasks": 3}
