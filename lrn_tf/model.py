"""A trained network in Python: `lrn_tf.load("runs/...")(images, tasks)`."""

import json
import pathlib
from collections.abc import Sequence

import numpy as np

from lrn_tf.errors import UserError
from lrn_tf.export import CARD
from lrn_tf.quiet import start_tensorflow
from lrn_tf.restore import restore
from lrn_tf.storage import files
from lrn_tf.storage.runs import read


class Model:
    """A trained network, from an exported model or from the folder of a run.

    Attributes:
        tasks: names of the K tasks.
        classes: K lists of the C names of their classes.
        signatures: the functions of `lrn_tf.served.Served` by name; they take and return tensors.
    """

    def __init__(self, signatures, problem: dict):
        self.signatures = signatures
        self.tasks = list(problem["tasks"])
        self.classes = [list(classes) for classes in problem["classes"]]
        self.channels = problem["image_shape"][2]

    def __call__(self, images, tasks: Sequence[int] | Sequence[str]) -> dict[str, np.ndarray]:
        """Classifies images.

        Args:
            images: uint8 `[B, h, w, c]` of any size.
            tasks: `B` numbers or names of tasks.

        Returns:
            arrays by name, as `Served.classify` describes them; text is str.

        Raises:
            ValueError: images are of another type or shape, or a task is unknown or missing.
        """
        images = np.asarray(images)
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != self.channels:
            given = f"{images.dtype} {list(images.shape)}"
            raise ValueError(f"images must be uint8 [B, h, w, {self.channels}], given {given}")
        numbers = [self.tasks.index(task) if task in self.tasks else task for task in tasks]
        for task in numbers:
            if isinstance(task, str) or not 0 <= task < len(self.tasks):
                raise ValueError(f"task {task!r} is unknown; known are {', '.join(self.tasks)}")
        if len(numbers) != len(images):
            raise ValueError(f"each image needs a task, given are {len(images)} and {len(numbers)}")
        import tensorflow as tf

        answer = self.signatures["serving_default"](
            images=tf.constant(images), tasks=tf.constant(numbers, tf.int32)
        )
        return {name: _plain(value.numpy()) for name, value in answer.items()}


def load(path: str) -> Model:
    """Loads an exported model, or the newest checkpoint of a run.

    Raises:
        UserError: there is neither, or it cannot be read.
    """
    folder = pathlib.Path(path)
    if not (folder / CARD).exists():
        run = read(path)
        return Model(restore(run)[0].functions, run.about["problem"])
    start_tensorflow()
    import tensorflow as tf

    try:
        card = files.unseal(json.loads((folder / CARD).read_text(encoding="utf-8")))
        # TensorFlow has checksums of the weights, but none of the graph.
        found = files.checksums(folder)
        changed = [name for name, checksum in card["files"].items() if found.get(name) != checksum]
        if changed:
            raise ValueError(f"{', '.join(changed)} missing or not as exported")
        model = Model(tf.saved_model.load(path).signatures, card["about"]["problem"])
    except (ValueError, KeyError, TypeError, AttributeError, OSError, tf.errors.OpError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path} cannot be read as an exported model ({reason}); export it anew") from error
    return model


def _plain(values):
    return np.char.decode(values.astype(bytes), "utf-8") if values.dtype == object else values
