"""A trained network in Python: `lrn_tf.load("runs/...")(images, tasks)`."""

import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from lrn_tf.data.brought import brought
from lrn_tf.data.problem import CLASSES, LABELS, NUMBERS, InputSpec, Problem
from lrn_tf.devices.start import start_tensorflow
from lrn_tf.errors import UserError, reason
from lrn_tf.serving.card import CARD, versions
from lrn_tf.serving.restore import restore
from lrn_tf.storage import files
from lrn_tf.storage.config import check_problem
from lrn_tf.storage.from_json import of_type, parse
from lrn_tf.storage.runs import read

# What TensorFlow needs, and how the names begin of all that it reads.
NEEDED = ("saved_model.pb", "variables/variables.index")
READ = ("saved_model.", "fingerprint.", "variables/", "assets", "debug/")
# How many examples are answered at once, so that a long file needs no more memory than this.
MANY = 256
# By form of answers, what a model returns.
RETURNED = {CLASSES: {"probabilities", "class", "class_name"}, NUMBERS: {"numbers"}, LABELS: {"labels"}}


class Model:
    """A trained network, from an exported model or from the folder of a run.

    Attributes:
        problem: its K tasks and their inputs.
        tasks: names of the tasks.
        signatures: the functions of `lrn_tf.serving.served.Served` by name; they take and return tensors.
    """

    def __init__(self, signatures, problem: Problem):
        self.signatures = signatures
        self.problem = problem
        self.tasks = list(problem.task_names)

    def __repr__(self):
        return f"<lrn_tf.Model of the tasks {', '.join(self.tasks)}>"

    def input_of(self, task: str) -> InputSpec:
        """What an example of a task brings."""
        return self.problem.inputs[self.problem.input_of[self.tasks.index(task)]]

    def __call__(self, inputs, tasks: Sequence[int] | Sequence[str]) -> dict[str, np.ndarray]:
        """Answers a batch.

        Args:
            inputs, tasks: as `lrn_tf.data.brought.brought` takes them: `[B, *shape]`, images uint8 of any
                size, or such an array by the name of each input; and `B` numbers or names.

        Returns:
            arrays by name, as `Served.answer` describes them; text is str.

        Raises:
            ValueError: an input is of another type or shape, a task is unknown or missing, or there are no
                examples.
        """
        given, numbers = brought(inputs, tasks, self.problem)
        import tensorflow as tf

        parts = []
        for start in range(0, len(numbers), MANY):
            rows = slice(start, start + MANY)
            part = {name: tf.constant(x[rows]) for name, x in given.items()}
            answer = self.signatures["serving_default"](**part, tasks=tf.constant(numbers[rows], tf.int32))
            parts.append({name: _plain(value.numpy()) for name, value in answer.items()})
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def load(path: str, pool: Any = None) -> Model:
    """Loads an exported model, or the newest checkpoint of a run.

    Args:
        path: of its folder.
        pool: of a run whose modules you have made; as in `lrn_tf.methods.restore.restore_method`.

    Raises:
        UserError: there is neither, or it cannot be read.
    """
    folder = pathlib.Path(path)
    if not (folder / CARD).is_file():
        if not (folder / "config.json").exists():
            held = versions(folder)
            raise UserError(
                f"{path} has no {CARD} and no config.json; give the folder of an exported model or of a run"
                + (f", such as {folder / str(held[-1])}" if held else "")
            )
        run = read(path)
        return Model(restore(run, pool)[0].functions, run.about["problem"])
    start_tensorflow()
    import tensorflow as tf

    from lrn_tf.serving.operations import only_computing

    try:
        sealed = files.read(folder / CARD)
        card = files.unseal(parse(sealed))
        _compare(card["files"], files.checksums(folder))
        problem = of_type(Problem, card["about"]["problem"], "problem")
        check_problem(problem)
        with only_computing(folder) as copy:
            signatures = tf.saved_model.load(copy).signatures
        _check_signature(signatures, problem)
        if files.read(folder / CARD) != sealed:  # another has taken its place, and maybe given weights
            return load(path, pool)
        return Model(signatures, problem)
    except UserError:
        raise
    except Exception as error:  # what is raised depends on what is wrong with the file
        raise UserError(
            f"{path} cannot be read as an exported model ({reason(error)}); export it anew"
        ) from error


def _check_signature(signatures, problem):
    """Sees that a model takes and returns what its tasks say."""
    if "serving_default" not in signatures:
        raise ValueError("it has no signature serving_default")
    function = signatures["serving_default"]
    taken = {name: spec.dtype.name for name, spec in function.structured_input_signature[1].items()}
    if taken != {given.name: given.dtype for given in problem.inputs} | {"tasks": "int32"}:
        raise ValueError("its graph takes other inputs than its tasks have")
    returned = set().union(*(RETURNED[task.form] for task in problem.tasks))
    if not returned <= set(function.structured_outputs):
        raise ValueError("its graph does not return what its tasks ask for")


def _compare(listed, found):
    """Sees that the files of a model are those that were exported; what people put beside them may change.

    TensorFlow has checksums of the weights, but none of the graph.
    """
    changed = [name for name, checksum in listed.items() if found.get(name) != checksum]
    if changed:
        raise ValueError(f"{', '.join(changed)} missing or not as exported")
    # Hidden files are those that systems put anywhere.
    read = [name for name in {*NEEDED, *found} if name.startswith(READ) and "/." not in name]
    unlisted = [name for name in read if name not in listed]
    if unlisted:
        raise ValueError(f"{', '.join(sorted(unlisted))} not among what was exported")


def _plain(values):
    return np.char.decode(values.astype(bytes), "utf-8") if values.dtype == object else values
