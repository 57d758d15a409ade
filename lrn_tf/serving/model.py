"""A trained network in Python: `lrn_tf.load("runs/...")(images, tasks)`."""

import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

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
# By type of an input, the kinds of NumPy's types that may be given instead.
ALIKE = {"uint8": "", "int32": "iu", "float32": "f"}
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
            inputs: `[B, *shape]`, images uint8 of any size; or, for tasks with different inputs, such an
                array by the name of each input, in which rows of examples that bring another one are any.
            tasks: `B` numbers or names of tasks.

        Returns:
            arrays by name, as `Served.answer` describes them; text is str.

        Raises:
            ValueError: an input is of another type or shape, a task is unknown or missing, or there are no
                examples.
        """
        if np.ndim(tasks) == 0:  # the letters of a name would be taken for tasks
            raise ValueError(f"each example needs a task, given is {tasks!r}; give a list of as many")
        numbers = self.problem.numbers_of(tasks)
        import tensorflow as tf

        names = [spec.name for spec in self.problem.inputs]
        if not numbers:
            raise ValueError("there are no examples; give one at least")
        needed = np.array(self.problem.input_of)[numbers]
        if not isinstance(inputs, Mapping):
            if len(wanted := [names[i] for i in np.unique(needed)]) > 1:
                raise ValueError(f"tasks with the inputs {', '.join(wanted)} need an array for each")
            inputs = {name: inputs for name in wanted}
        if unknown := [name for name in inputs if name not in names]:
            raise ValueError(f"input {unknown[0]!r} is unknown; known are {', '.join(names)}")
        specs = enumerate(self.problem.inputs)
        given = {spec.name: tf.constant(_checked(spec, inputs, needed == i)) for i, spec in specs}
        answer = self.signatures["serving_default"](**given, tasks=tf.constant(numbers, tf.int32))
        return {name: _plain(value.numpy()) for name, value in answer.items()}


def _checked(spec, inputs, needed):
    """What is given for an input; zeros in the rows of examples that do not need it."""
    if spec.name not in inputs:
        if needed.any():
            raise ValueError(f"{spec.name} is missing, which one of the tasks needs")
        return np.zeros((len(needed), *spec.shape), spec.dtype)
    x = np.asarray(inputs[spec.name])
    shape = x.shape[3:] if spec.is_image else x.shape[1:]
    if (
        (x.dtype != spec.dtype and x.dtype.kind not in ALIKE[spec.dtype])
        or x.ndim != 1 + len(spec.shape)
        or shape != spec.shape[2 if spec.is_image else 0 :]
        or 0 in x.shape[1:]
    ):
        sizes = (
            "B, h, w, " + str(spec.shape[2]) if spec.is_image else ", ".join(["B", *map(str, spec.shape)])
        )
        pixels = "; pixels are 0 to 255" if spec.is_image and x.dtype != spec.dtype else ""
        raise ValueError(
            f"{spec.name} must be {spec.dtype} [{sizes}], given {x.dtype} {list(x.shape)}{pixels}"
        )
    if len(x) != len(needed):
        raise ValueError(
            f"each example needs a task, given are {len(x)} {spec.name} and {len(needed)} tasks"
        )
    if not needed.all():
        x = np.where(needed.reshape(-1, *[1] * len(spec.shape)), x, np.zeros((), x.dtype))
    # Before they are made int32, in which large ones would be others.
    if spec.vocabulary and x.size and not 0 <= x.min() <= x.max() < spec.vocabulary:
        raise ValueError(f"{spec.name} has tokens beyond those in training, 0 to {spec.vocabulary - 1}")
    with np.errstate(over="ignore"):
        x = x.astype(spec.dtype, copy=False)
    if spec.dtype == "float32" and not np.isfinite(x).all():
        raise ValueError(f"{spec.name} has NaN or infinite numbers; mend or drop them")
    return x


def load(path: str, pool: str = "") -> Model:
    """Loads an exported model, or the newest checkpoint of a run.

    Args:
        path: of its folder.
        pool: where a run's modules are a function of the user's: FILE.py:FUNCTION; a run holds no code.

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
        card = files.unseal(parse(files.read(folder / CARD)))
        _compare(card["files"], files.checksums(folder))
        problem = of_type(Problem, card["about"]["problem"], "problem")
        check_problem(problem)
        with only_computing(folder) as copy:
            signatures = tf.saved_model.load(copy).signatures
        _check_signature(signatures, problem)
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
    unlisted = [name for name in {*NEEDED, *found} if name.startswith(READ) and name not in listed]
    if unlisted:
        raise ValueError(f"{', '.join(sorted(unlisted))} not among what was exported")


def _plain(values):
    return np.char.decode(values.astype(bytes), "utf-8") if values.dtype == object else values
