"""A trained network in Python: `lrn_tf.load("runs/...")(images, tasks)`."""

import json
import pathlib
from collections.abc import Sequence

import numpy as np

from lrn_tf.errors import UserError, reason
from lrn_tf.export import CARD
from lrn_tf.quiet import start_tensorflow
from lrn_tf.restore import restore
from lrn_tf.storage import files
from lrn_tf.storage.runs import read

# What TensorFlow needs, and how the names begin of all that it reads.
NEEDED = ("saved_model.pb", "variables/variables.index")
READ = ("saved_model.", "fingerprint.", "variables/", "assets", "debug/")


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
    if not (folder / CARD).is_file():
        run = read(path)
        return Model(restore(run)[0].functions, run.about["problem"])
    start_tensorflow()
    import tensorflow as tf

    from lrn_tf.operations import only_computing

    try:
        card = files.unseal(json.loads((folder / CARD).read_text(encoding="utf-8")))
        _compare(card["files"], files.checksums(folder))
        with only_computing(folder) as copy:
            signatures = tf.saved_model.load(copy).signatures
        if "serving_default" not in signatures:
            raise ValueError("it has no signature serving_default")
        return Model(signatures, card["about"]["problem"])
    except UserError:
        raise
    except Exception as error:  # what is raised depends on what is wrong with the file
        raise UserError(
            f"{path} cannot be read as an exported model ({reason(error)}); export it anew"
        ) from error


def _compare(listed, found):
    """Sees that the files of a model are those that were exported; what people put beside them may change.

    TensorFlow has checksums of the weights, but none of the graph.
    """
    changed = [name for name, checksum in listed.items() if found.get(name) != checksum]
    if changed:
        raise ValueError(f"{', '.join(changed)} missing or not as exported")
    unlisted = [name for name in {*NEEDED, *found} if name.startswith(READ) and name not in listed]
    if unlisted:
        raise ValueError(f"{', '.join(sorted(unlisted))} not among what was exported")


def _plain(values):
    return np.char.decode(values.astype(bytes), "utf-8") if values.dtype == object else values
