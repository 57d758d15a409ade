"""The embeddings of modules, tasks and examples, as TensorBoard's projector reads them."""

import math
import pathlib

import numpy as np
import tensorflow as tf

from lrn_tf.data.benchmarks import Benchmark
from lrn_tf.data.examples import DeviceExamples
from lrn_tf.data.images import resize
from lrn_tf.data.problem import CLASSES, LABELS
from lrn_tf.errors import printable
from lrn_tf.modules.pool import module_names

# Of the test examples, evenly over all of them.
IMAGES = 500
FOLDER = "embeddings"
# Pixels of an image's side among the points.
SIDE = 32


def write(folder: pathlib.Path, method, benchmark: Benchmark) -> None:
    """Writes what a method embeds, with names, into a run's folder; what was there is replaced.

    Args:
        folder: of the run.
        method: one that has `embeddings`; see `lrn_tf.methods.method.Method.predict`.
        benchmark: whose tasks and test examples they are.

    Raises:
        OSError, tf.errors.OpError: the disk refuses.
    """
    from tensorboard.plugins import projector

    rows = np.linspace(0, len(benchmark.test) - 1, min(IMAGES, len(benchmark.test))).astype(int)
    inputs, tasks, _ = DeviceExamples(benchmark.test.some(rows), benchmark.problem).batch(
        tf.range(len(rows))
    )
    embedded = method.embeddings(inputs, tasks)
    images = [benchmark.test.shown(benchmark.problem, row) for row in rows]
    names = _names(method, benchmark, rows)
    (folder / FOLDER).mkdir(exist_ok=True)
    config = projector.ProjectorConfig()
    for name, values in embedded.items():
        held = config.embeddings.add(tensor_name=name)
        held.tensor_path, held.metadata_path = f"{FOLDER}/{name}.tsv", f"{FOLDER}/{name}_names.tsv"
        np.savetxt(folder / held.tensor_path, np.asarray(values, np.float32), fmt="%.6g", delimiter="\t")
        lines = ["\t".join(map(printable, line)) + "\n" for line in names[name]]
        (folder / held.metadata_path).write_text("".join(lines), encoding="utf-8")
        if name == "example" and not any(image is None for image in images):
            held.sprite.image_path = f"{FOLDER}/{name}.png"
            held.sprite.single_image_dim.extend([SIDE, SIDE])
            tf.io.write_file(str(folder / held.sprite.image_path), tf.io.encode_png(_sprite(images)))
    projector.visualize_embeddings(str(folder), config)


def _names(method, benchmark, rows):
    """What the points of each embedding are, a tuple each; the first one says what the columns are."""
    test, tasks = benchmark.test, benchmark.problem.tasks
    kinds = [kind for kind, modules in method.kinds.items() for _ in modules]
    said = [
        (_said(tasks[k], target), tasks[k].name)
        for k, target in zip(test.task[rows], test.target[rows], strict=True)
    ]
    return {
        "module": [("module", "kind"), *zip(module_names(method.kinds), kinds, strict=True)],
        "task": [("task", "number"), *((task.name, str(k)) for k, task in enumerate(tasks))],
        "example": [("target", "task"), *said],
    }


def _said(task, target):
    """What is asked for, in words."""
    values = np.atleast_1d(target)
    if task.form == CLASSES:
        return task.answers[int(values[0])]
    if task.form == LABELS:
        return ", ".join(name for name, given in zip(task.answers, values, strict=False) if given) or "none"
    return ", ".join(f"{value:.4g}" for value in values[: task.width])


def _sprite(images):
    """All images as one, row by row in a square, as the projector wants them; grey where all are."""
    across = math.ceil(math.sqrt(len(images)))
    channels = max(image.shape[2] for image in images)
    sprite = np.zeros((across * across, SIDE, SIDE, channels), np.uint8)
    for i, image in enumerate(images):
        sprite[i] = resize(image[None], (SIDE, SIDE))[0]  # grey in all channels
    sprite = sprite.reshape(across, across, SIDE, SIDE, channels).swapaxes(1, 2)
    return sprite.reshape(across * SIDE, across * SIDE, -1)
