"""The embeddings of modules, tasks and images, as TensorBoard's projector reads them."""

import math
import pathlib

import numpy as np
import tensorflow as tf

from lrn_tf.data.benchmarks import Benchmark
from lrn_tf.data.images import resize, standardise
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
        benchmark: whose tasks and test images they are.

    Raises:
        OSError, tf.errors.OpError: the disk refuses.
    """
    from tensorboard.plugins import projector

    rows = np.linspace(0, len(benchmark.test) - 1, min(IMAGES, len(benchmark.test))).astype(int)
    images = benchmark.test.images[benchmark.test.image[rows]]
    embedded = method.embeddings(standardise(tf.constant(images), benchmark.mean, benchmark.std))
    names = _names(method, benchmark, rows)
    (folder / FOLDER).mkdir(exist_ok=True)
    config = projector.ProjectorConfig()
    for name, values in embedded.items():
        held = config.embeddings.add(tensor_name=name)
        held.tensor_path, held.metadata_path = f"{FOLDER}/{name}.tsv", f"{FOLDER}/{name}_names.tsv"
        np.savetxt(folder / held.tensor_path, np.asarray(values, np.float32), fmt="%.6g", delimiter="\t")
        lines = ["\t".join(line) + "\n" for line in names[name]]
        (folder / held.metadata_path).write_text("".join(lines), encoding="utf-8")
        if name == "image":
            held.sprite.image_path = f"{FOLDER}/{name}.png"
            held.sprite.single_image_dim.extend([SIDE, SIDE])
            tf.io.write_file(str(folder / held.sprite.image_path), tf.io.encode_png(_sprite(images)))
    projector.visualize_embeddings(str(folder), config)


def _names(method, benchmark, rows):
    """What the points of each embedding are, a tuple each; the first one says what the columns are."""
    test = benchmark.test
    kinds = [kind for kind, modules in method.kinds.items() for _ in modules]
    of_rows = zip(test.task[rows], test.label[rows], strict=True)
    return {
        "module": [("module", "kind"), *zip(module_names(method.kinds), kinds, strict=True)],
        "task": [("task", "number"), *((task, str(k)) for k, task in enumerate(benchmark.tasks))],
        "image": [("class", "task"), *((benchmark.classes[k][c], benchmark.tasks[k]) for k, c in of_rows)],
    }


def _sprite(images):
    """All images as one, row by row in a square, as the projector wants them."""
    across = math.ceil(math.sqrt(len(images)))
    small = resize(tf.constant(images), (SIDE, SIDE)).numpy()
    sprite = np.zeros((across * across, *small.shape[1:]), np.uint8)
    sprite[: len(small)] = small
    sprite = sprite.reshape(across, across, *small.shape[1:]).swapaxes(1, 2)
    return sprite.reshape(across * SIDE, across * SIDE, -1)
