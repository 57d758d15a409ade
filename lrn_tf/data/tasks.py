"""A task as its user has it, in arrays, and whether that can be learned."""

import contextlib
import dataclasses
from collections.abc import Sequence

import numpy as np

from lrn_tf.data import data_sets
from lrn_tf.data.problem import CLASSES, FORMS, LABELS, NUMBERS, TaskSpec
from lrn_tf.errors import UserError, reason

MANY = 1024  # examples that are read at once
# Numbers beyond this are taken for a mistake, as are more classes or tokens than that.
ENORMOUS, MOST = 1e30, 10**6


@dataclasses.dataclass(frozen=True, eq=False)
class Task:
    """A task and its examples.

    Attributes:
        name: what tables and `--task` call it.
        x: what examples bring, `[n, *shape]`: uint8 images `(H, W, c)`, rows of numbers `(d,)`, sequences
            of rows `(n, d)`, or whole numbers `(n,)`, which are tokens. Tasks that are given the very same
            array hold it once, and hold out the same examples.
        y: what is asked: whole numbers `[n]` from 0 on, the classes; other numbers `[n]` or `[n, d]`; or
            0, 1 or bool `[n, C]`, which of C labels are given.
        test: `(x, y)` to evaluate on; None holds out a fifth of the examples.
        answers: names of the classes, numbers or labels; numbered without.
        form: "classes", "numbers" or "labels", where y does not tell.
        input: the name of the input; tasks that share one need not have the same examples. Tasks without
            share one where their shape and type are the same.
        weight: what its loss counts, beside those of the other tasks.
    """

    name: str
    x: np.ndarray
    y: np.ndarray
    test: tuple[np.ndarray, np.ndarray] | None = None
    answers: Sequence[str] = ()
    form: str = ""
    input: str = ""
    weight: float = 1.0

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
            x, y = _arrays(name, examples)
            return cls(name, x, y, None if test is None else _arrays(name, test), **more)


def _arrays(name, examples):
    """What is in a `tf.data.Dataset` of pairs, as two arrays."""
    spec = getattr(examples, "element_spec", None)
    if not isinstance(spec, tuple) or len(spec) != 2:
        raise UserError(f"{name}: {examples!r:.80} is no tf.data set of pairs (x, y); make it one")
    if examples.cardinality() == -1:  # tf.data.INFINITE_CARDINALITY
        raise UserError(f"{name}: the data set never ends; take a part of it, such as .take(1000)")
    # Where all have one shape many are read at once, which takes half the time.
    alike = all(hasattr(s, "shape") and s.shape.is_fully_defined() for s in spec)
    pairs = list((examples.batch(MANY) if alike else examples).as_numpy_iterator())
    if not pairs:
        raise UserError(f"{name}: the data set is empty; give one with examples")
    if alike:
        return tuple(np.concatenate(values) for values in zip(*pairs, strict=True))
    for what, values in zip("xy", zip(*pairs, strict=True), strict=True):
        if shapes := {np.shape(value) for value in values} - {np.shape(values[0])}:
            raise UserError(
                f"{name}: {what} has the shapes {np.shape(values[0])} and {min(shapes)}; make them one,"
                " such as by .map(lambda x, y: (tf.image.resize(x, (32, 32)), y))"
            )
    return tuple(np.stack(values) for values in zip(*pairs, strict=True))


def is_name(given):
    return isinstance(given, str) and given.isprintable() and bool(given.strip())


def checked(task, arrays):
    """The task with arrays of the types that we keep, and its spec.

    Args:
        task: the user's.
        arrays: what was made of the arrays that tasks have been given so far, by the ids of those; so what
            was one array stays one.
    """
    x = _inputs_array(task, "x", task.x, arrays)
    y = _array(task, "y", task.y)
    test_x, test_y = x[:0], y[:0]
    if task.test is not None:
        if not isinstance(task.test, list | tuple) or len(task.test) != 2:
            raise UserError(f"{task.name}: test is not a pair; give (x, y), or drop it")
        test_x = _inputs_array(task, "test x", task.test[0], arrays)
        test_y = _array(task, "test y", task.test[1])
    if like(test_x) != like(x):
        raise UserError(
            f"{task.name}: test x is {like(test_x)} and x is {like(x)}; make them the same but for n"
        )
    for what, of_x, of_y in (("", x, y), ("test ", test_x, test_y)):
        if len(of_x) != len(of_y):
            raise UserError(
                f"{task.name} has {len(of_x)} {what}examples and {len(of_y)} targets; make them as many"
            )
    if task.test is None and len(x) < 2:
        raise UserError(f"{task.name} has {len(x)} examples; give two at least, or leave the task out")
    if not len(x):
        raise UserError(f"{task.name} has no examples; give some, or leave the task out")
    if task.test is not None and not len(test_x):
        raise UserError(f"{task.name} has no test examples; give some, or drop test to have some held out")
    form, answers, y, test_y = _asked(task, y, test_y)
    test = None if task.test is None else (test_x, test_y)
    spec = TaskSpec(task.name, task.input, form, answers, weight=_weight(task))
    return dataclasses.replace(task, x=x, y=y, test=test), spec


def _weight(task):
    try:
        weight = float(task.weight)
    except (TypeError, ValueError):
        weight = 0.0
    if not 1 / ENORMOUS <= weight <= ENORMOUS:
        raise UserError(f"{task.name}: weight {task.weight!r} is no number above 0; give one, such as 1.0")
    return weight


def _array(task, what, values):
    """An array of finite float32 or of int32."""
    try:
        values = np.asarray(values)
    except (TypeError, ValueError) as error:
        raise UserError(f"{task.name}: {what} is no array ({reason(error)}); make it one") from error
    if values.dtype.kind not in "biuf":
        raise UserError(f"{task.name}: {what} holds {values.dtype}, not numbers; turn it into numbers")
    if values.ndim < 1:
        raise UserError(f"{task.name}: {what} is a single number; give an array with an entry per example")
    if values.dtype.kind == "f":
        with np.errstate(over="ignore"):
            values = values.astype(np.float32, copy=False)
        # Which is so of NaN as well.
        wrong = ~(np.abs(values) <= ENORMOUS)
        if wrong.any():
            row = np.argwhere(wrong)[0][0]
            raise UserError(
                f"{task.name}: {what} has NaN, infinite or enormous numbers, first in row {row}; mend that"
            )
        return values
    if values.size and not -(2**31) <= values.min() <= values.max() < 2**31:
        raise UserError(
            f"{task.name}: {what} has whole numbers from {values.min()} to {values.max()}, too large for"
            " classes or tokens; number those from 0 on, or make them float"
        )
    return values.astype(np.int32, copy=False)


def _inputs_array(task, what, values, arrays):
    """What examples bring: uint8 images, float32 of one to three axes, or int32 tokens `[n, length]`."""
    if id(values) in arrays:
        return arrays[id(values)]
    if getattr(values, "dtype", None) == np.uint8 and np.ndim(values) == 4:
        x = np.asarray(values)  # without a copy as int32
    else:
        x = _array(task, what, values)
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
    arrays[id(values)] = x
    return x


def like(x):
    return f"{x.dtype} [{', '.join(['n', *map(str, x.shape[1:])])}]"


def _asked(task, y, test_y):
    """Form and names of the answers, and the targets as `joined` takes them."""
    form = task.form or _form(task, y)
    if form not in FORMS:
        raise UserError(f"{task.name}: form {form!r} is unknown; choose one of: {', '.join(FORMS)}")
    axes, known = ((1,), "[n]") if form == CLASSES else ((1, 2), "[n] or [n, d]")
    if y.ndim not in axes or test_y.shape[1:] != y.shape[1:] or not all(y.shape):
        shapes = f"{list(y.shape)}" + f" and of test {list(test_y.shape)}" * bool(len(test_y))
        raise UserError(f"{task.name}: y has the shape {shapes}; {form} are {known}")
    names = _answers(task)
    both = np.concatenate([y, test_y])
    if form == CLASSES:
        targets = _classes(task, both, len(names))
        count = len(names) or targets.max() + 1
        if len(np.unique(targets[: len(y)])) < 2:
            raise UserError(f"{task.name} has a single class, {targets[0]}; give another, or leave it out")
    else:
        targets = both.reshape(len(both), -1).astype(np.float32)
        count = targets.shape[1]
        if form == LABELS and not np.isin(targets, (0, 1)).all():
            wrong = targets[~np.isin(targets, (0, 1))][0]
            raise UserError(f"{task.name}: {wrong:g} is no label; give 0 or 1, or form='numbers'")
        if len(names) not in (0, count):
            raise UserError(f"{task.name}: {len(names)} answers are named and y has {count}; name all")
    return form, names or tuple(map(str, range(count))), targets[: len(y)], targets[len(y) :]


def _answers(task):
    """The names that the user gives them, if any."""
    if isinstance(task.answers, str) or not np.iterable(task.answers):
        raise UserError(f"{task.name}: answers is {task.answers!r}; give a list of names")
    names = tuple(map(str, task.answers))
    for name in names:
        if not is_name(name):
            raise UserError(f"{task.name}: an answer is called {name!r}; give it one line of text")
    if len(set(names)) < len(names):
        twice = next(name for i, name in enumerate(names) if name in names[:i])
        raise UserError(f"{task.name}: two answers are called {twice!r}; give each a name of its own")
    return names


def _classes(task, y, named):
    """Classes, int32, of which so many have names, or none."""
    with np.errstate(invalid="ignore"):
        classes = y.astype(np.int32)
    if (classes != y).any():
        wrong = y[classes != y][0]
        raise UserError(f"{task.name}: {wrong:g} is no class; give whole numbers, or form='numbers'")
    wrong = classes[(classes < 0) | (classes >= (named or MOST))]
    if len(wrong):
        known = f"to {named - 1}, as answers has {named} names" if named else "on"
        raise UserError(f"{task.name}: {wrong[0]} is no class; number them from 0 {known}")
    return classes


def _form(task, y):
    """What is asked for, by the looks of the targets."""
    whole = y.dtype == np.int32
    if y.ndim == 1:
        return CLASSES if whole else NUMBERS
    if whole and np.isin(y, (0, 1)).all():
        return LABELS
    if whole and y.shape[1:] == (1,):
        raise UserError(f"{task.name}: y is [n, 1]; give [n] for classes, or form='numbers'")
    return NUMBERS
