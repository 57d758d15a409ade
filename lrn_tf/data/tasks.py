"""A task as its user has it, in arrays, and whether that can be learned."""

import contextlib
import dataclasses
from collections.abc import Sequence

import numpy as np

from lrn_tf.data import data_sets
from lrn_tf.data.arrays import ENORMOUS, MOST, digest, numbers
from lrn_tf.data.problem import TaskSpec
from lrn_tf.data.targets import is_asked, targets_of
from lrn_tf.errors import UserError


@dataclasses.dataclass(frozen=True, eq=False)
class Task:
    """A task and its examples.

    Attributes:
        name: what tables and `--task` call it.
        x: what examples bring, `[n, *shape]`: uint8 or float images `(H, W, c)`, rows of numbers `(d,)`,
            sequences of rows `(n, d)`, or whole numbers `(n,)`, which are tokens. Tasks that are given
            equal arrays hold them once, and hold out the same examples.
        y: what is asked: whole numbers `[n]` from 0 on, the classes, or their names as text; other numbers
            `[n]` or `[n, d]`; or 0, 1 or bool `[n, C]`, which of C labels are given. Where it is NaN, None
            or masked, the task does not ask.
        test: `(x, y)` to evaluate on; None holds out a fifth of the examples, from which no other task that
            is given them learns.
        answers: names of the classes, numbers or labels; numbered without.
        form: "classes", "numbers" or "labels", where y does not tell.
        input: the name of the input; tasks that share one need not have the same examples. Tasks without
            share one where their shape and type are the same.
        weight: what its loss counts, beside those of the other tasks.
        vocabulary: how many different tokens there are, where x does not hold them all.
    """

    name: str
    x: np.ndarray
    y: np.ndarray
    test: tuple[np.ndarray, np.ndarray] | None = None
    answers: Sequence[str] = ()
    form: str = ""
    input: str = ""
    weight: float = 1.0
    vocabulary: int = 0

    @classmethod
    def of(cls, name: str, examples, test=None, data_dir: str = "", **more) -> "Task":
        """A task whose examples are in a `tf.data.Dataset` of pairs (x, y), one an element.

        Args:
            name: of the task.
            examples: the data set; or the name of one of TensorFlow Datasets, whose split "test" is then
                for the test, if it has one, and whose names of classes are the answers.
            test: another data set to evaluate on; None holds out a fifth of the examples.
            data_dir: where TensorFlow Datasets keeps data, as `--data_dir`.
            more: other attributes, such as `answers`.

        Raises:
            UserError: a `ValueError` of one line, if that is no such data set.
        """
        reading = contextlib.nullcontext()
        if isinstance(examples, str):
            folder = data_sets.folder(data_dir)
            reading = data_sets.reading(examples, folder)
            found, answers = data_sets.pairs(examples, folder)
            more.setdefault("answers", answers)
            examples, test = found["train"], found.get("test") if test is None else test
        with reading:
            x, y = data_sets.arrays(name, examples)
            return cls(name, x, y, None if test is None else data_sets.arrays(name, test), **more)


def checked(task, arrays):
    """The task with arrays of the types that we keep, its spec, and what there is to say of it.

    Args:
        task: the user's.
        arrays: what was made of the arrays that tasks have been given so far, by the ids of those and by
            what is in them; so that what is equal is one array.
    """
    x = _inputs_array(task, "x", task.x, arrays)
    test_x, test_y = x[:0], None
    if task.test is not None:
        if not isinstance(task.test, list | tuple) or len(task.test) != 2:
            raise UserError(f"{task.name}: test is not a pair; give (x, y), or drop it")
        test_x, test_y = _inputs_array(task, "test x", task.test[0], arrays), task.test[1]
    if like(test_x) != like(x):
        raise UserError(
            f"{task.name}: test x is {like(test_x)} and x is {like(x)}; make them the same but for n"
        )
    if task.test is None and len(x) < 2:
        raise UserError(f"{task.name} has {len(x)} examples; give two at least, or leave the task out")
    if not len(x):
        raise UserError(f"{task.name} has no examples; give some, or leave the task out")
    _check_vocabulary(task, x, test_x)
    targets = targets_of(task, len(x), test_y, len(test_x))
    if task.test is not None and not is_asked(targets.test).any():
        raise UserError(f"{task.name} has no test examples; give some, or drop test to have some held out")
    notes = targets.notes
    if x.dtype == np.int32 and not task.vocabulary:
        notes += (
            f"{task.name}: x is whole numbers, and taken for tokens; make it float if these are amounts, or"
            " say how many tokens there are with vocabulary=",
        )
    test = None if task.test is None else (test_x, targets.test)
    spec = TaskSpec(task.name, task.input, targets.form, targets.answers, weight=_weight(task))
    return dataclasses.replace(task, x=x, y=targets.train, test=test), spec, notes


def _check_vocabulary(task, *arrays):
    if not isinstance(task.vocabulary, int | np.integer) or not 0 <= task.vocabulary <= MOST:
        raise UserError(f"{task.name}: vocabulary={task.vocabulary!r} is no number up to {MOST}; give one")
    for x in arrays:
        if task.vocabulary and x.dtype != np.int32:
            raise UserError(f"{task.name}: vocabulary={task.vocabulary}, and x is no tokens; leave it out")
        if task.vocabulary and x.max(initial=0) >= task.vocabulary:
            raise UserError(
                f"{task.name}: x has the token {x.max()}, beyond vocabulary={task.vocabulary}; raise that"
            )


def _weight(task):
    try:
        weight = float(task.weight)
    except (TypeError, ValueError):
        weight = 0.0
    if not 1 / ENORMOUS <= weight <= ENORMOUS:
        raise UserError(f"{task.name}: weight {task.weight!r} is no number above 0; give one, such as 1.0")
    return weight


def _inputs_array(task, what, values, arrays):
    """What examples bring: uint8 images, float32 of one to three axes, or int32 tokens `[n, length]`."""
    if id(values) in arrays:
        return arrays[id(values)]
    if getattr(values, "dtype", None) == np.uint8 and np.ndim(values) == 4 and not np.ma.is_masked(values):
        x = np.asarray(values)  # without a copy as int32
    else:
        x = numbers(task.name, what, values)
    if not 2 <= x.ndim <= 4 or not all(x.shape[1:]):
        raise UserError(
            f"{task.name}: {what} has the shape {list(x.shape)}; it must be [n, d], [n, length, d] or"
            " [n, H, W, c]"
        )
    if x.dtype == np.int32 and x.ndim == 4:
        if not 0 <= x.min(initial=0) <= x.max(initial=0) <= 255:
            raise UserError(
                f"{task.name}: {what} has whole numbers from {x.min()} to {x.max()}; images have 0 to 255,"
                " or are float"
            )
        x = x.astype(np.uint8)
    elif x.dtype == np.int32 and x.ndim == 3:
        raise UserError(
            f"{task.name}: {what} has whole numbers {list(x.shape)}; tokens are [n, length], images"
            " [n, H, W, c] (x[..., None] for grey), and anything else is float"
        )
    elif x.dtype == np.int32 and not 0 <= x.min(initial=0) <= x.max(initial=0) < MOST:
        raise UserError(
            f"{task.name}: {what} has whole numbers from {x.min()} to {x.max()}; tokens are from 0 to"
            f" {MOST - 1}, and what is no token is float"
        )
    arrays[id(values)] = arrays.setdefault(digest(x), x)
    return arrays[id(values)]


def like(x):
    return f"{x.dtype} [{', '.join(['n', *map(str, x.shape[1:])])}]"
