"""What a user's task asks: targets, in which form, and the names of answers."""

import dataclasses
import math

import numpy as np

from lrn_tf.data.arrays import MOST, array, numbers
from lrn_tf.data.problem import CLASSES, FORMS, LABELS, NUMBERS
from lrn_tf.errors import UserError

# Whole numbers that are float are taken for numbers, but said to be if they are no more different ones.
FEW = 20
# What is held for an example that a task does not ask: a class, or a number.
NO_CLASS, NO_NUMBER = -1, np.float32(np.nan)
# What objects say of themselves that stand for nothing.
MISSING = ("None", "nan", "NaT", "<NA>")


@dataclasses.dataclass(frozen=True, eq=False)
class Targets:
    """What a task asks of each of its examples.

    Attributes:
        form: as in `lrn_tf.data.problem.TaskSpec`.
        answers: the names of classes, numbers or labels.
        train: int32 `[n]`, the classes, or float32 `[n, C]`; `NO_CLASS` or `NO_NUMBER` where nothing is.
        test: likewise, of the examples to evaluate on.
        notes: what there is to say of them, a line each.
    """

    form: str
    answers: tuple[str, ...]
    train: np.ndarray
    test: np.ndarray
    notes: tuple[str, ...]


def is_asked(y) -> np.ndarray:
    """Of which examples a task asks something, bool `[n]`; `y` as `Targets` has them."""
    return y != NO_CLASS if y.ndim == 1 else ~np.isnan(y[:, 0])


def targets_of(task, count: int, test_y, test_count: int) -> Targets:
    """What a task asks, in training and of its test examples.

    Args:
        task: a `lrn_tf.data.tasks.Task`.
        count: how many examples it has.
        test_y: its test targets; None if there are none.
        test_count: how many test examples it has.

    Raises:
        UserError: y, or what is said of it, cannot be used.
    """
    y, asked = _found(task, "", task.y, count)
    test, test_asked = (y[:0], asked[:0]) if test_y is None else _found(task, "test ", test_y, test_count)
    names, notes = _names(task), []
    if text := y.dtype.kind == "U":
        if not names and all(map(_is_number, y.flat)):
            notes.append("y is text that reads as numbers, and taken for classes; give numbers if need be")
        names = names or tuple(np.unique([*y.flat, *test.flat]).tolist())
        y, test = (_by_name(task, part, names) for part in (y, test))
    y, test = numbers(task.name, "y", y), numbers(task.name, "test y", test)
    if count and not len(y):
        raise UserError(f"{task.name}: all of y is missing; give some, or leave the task out")
    form = task.form or (CLASSES if text else _form(task, y))
    if form not in FORMS:
        raise UserError(f"{task.name}: form {form!r} is unknown; choose one of: {', '.join(FORMS)}")
    if text and form != CLASSES:
        raise UserError(f"{task.name}: y is text, the names of classes, and not {form}; leave out form")
    axes, known = ((1,), "[n]") if form == CLASSES else ((1, 2), "[n] or [n, d]")
    if y.ndim not in axes or test.shape[1:] != y.shape[1:] or not all(y.shape[1:]):
        shapes = f"{list(y.shape)}" + f" and of test {list(test.shape)}" * bool(len(test))
        raise UserError(f"{task.name}: y has the shape {shapes}; {form} are {known}")
    if form == CLASSES:
        y, test, width = _classes(task, y, test, names, notes)
    else:
        if not task.form and _may_be_classes(y):
            notes.append("y is float, and taken for numbers; give form='classes' if these are classes")
        y, test, width = _numbers(task, y, test, form, names)
    if not asked.all():
        notes.append(f"{np.count_nonzero(~asked):,} of {count:,} examples are not asked")
    return Targets(
        form,
        names or tuple(map(str, range(width))),
        _filled(y, asked),
        _filled(test, test_asked),
        tuple(f"{task.name}: {note}" for note in notes),
    )


def _is_number(text):
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _found(task, what, values, count):
    """What y holds but what is missing, and where something is there, bool `[n]`."""
    missing = np.ma.getmaskarray(values) if isinstance(values, np.ma.MaskedArray) else None
    values = array(task.name, f"{what}y", values)
    if values.ndim < 1:
        numbers(task.name, f"{what}y", values)  # which refuses it
    if len(values) != count:
        raise UserError(
            f"{task.name} has {count} {what}examples and {len(values)} targets; make them as many"
        )
    if missing is None and values.dtype == object:  # as data frames have text
        nothing = [not isinstance(value, str) and str(value) in MISSING for value in values.flat]
        missing = np.reshape(nothing, values.shape)
    elif missing is None:
        missing = np.isnan(values) if values.dtype.kind == "f" else np.zeros(values.shape, bool)
    missing = missing.reshape(count, math.prod(values.shape[1:]))
    nothing = missing.any(axis=1)
    if (partly := nothing & ~missing.all(axis=1)).any():
        raise UserError(
            f"{task.name}: {what}y lacks some answers in row {partly.argmax()}; give all of an example"
            f" or none, or make tasks of them"
        )
    there = values[~nothing]
    return (_of_one_type(there) if there.dtype == object else there), ~nothing


def _of_one_type(objects):
    """Objects as text or numbers, if they are; as they are if not."""
    if all(isinstance(value, str) for value in objects.flat):
        return objects.astype(str)
    try:
        made = np.array(objects.tolist())
    except ValueError:
        return objects
    return objects if made.dtype.kind == "U" else made  # of both it would make text


def _by_name(task, y, names):
    """Classes for names of them."""
    place = {name: i for i, name in enumerate(names)}
    if unknown := [name for name in y.ravel().tolist() if name not in place]:
        raise UserError(f"{task.name}: {unknown[0]!r} is no answer; known are {', '.join(names)[:200]}")
    return np.array([place[name] for name in y.ravel().tolist()], np.int32).reshape(y.shape)


def _filled(targets, asked):
    """With `NO_CLASS` or `NO_NUMBER` in the rows of examples that are not asked."""
    if asked.all():
        return targets
    nothing = NO_CLASS if targets.ndim == 1 else NO_NUMBER
    filled = np.full((len(asked), *targets.shape[1:]), nothing, targets.dtype)
    filled[asked] = targets
    return filled


def _names(task):
    """The names that the user gives the answers, if any."""
    unordered = isinstance(task.answers, set | frozenset)
    if isinstance(task.answers, str) or unordered or not np.iterable(task.answers):
        raise UserError(f"{task.name}: answers is {task.answers!r}; give a list of names")
    names = tuple(map(str, task.answers))
    for name in names:
        if not is_name(name):
            raise UserError(f"{task.name}: an answer is called {name!r}; give it one line of text")
    if len(set(names)) < len(names):
        twice = next(name for i, name in enumerate(names) if name in names[:i])
        raise UserError(f"{task.name}: two answers are called {twice!r}; give each a name of its own")
    return names


def is_name(given) -> bool:
    """Whether a task or an answer can be called that."""
    return isinstance(given, str) and given.isprintable() and bool(given.strip())


def _classes(task, y, test, names, notes):
    """Classes, int32, of training and test, and how many there are."""
    both = np.concatenate([y, test])
    with np.errstate(invalid="ignore"):
        classes = both.astype(np.int32)
    if (classes != both).any():
        wrong = both[classes != both][0]
        raise UserError(f"{task.name}: {wrong:g} is no class; give whole numbers, or form='numbers'")
    wrong = classes[(classes < 0) | (classes >= (len(names) or MOST))]
    if len(wrong):
        known = f"to {len(names) - 1}, as answers has {len(names)} names" if names else "on"
        raise UserError(
            f"{task.name}: {wrong[0]} is no class; number them from 0 {known}, or give form='numbers'"
        )
    learned = np.unique(classes[: len(y)])
    width = len(names) or int(classes.max(initial=-1)) + 1
    if len(learned) == 1:
        only = names[learned[0]] if names else learned[0]
        raise UserError(f"{task.name} has a single class, {only}; give another, or leave it out")
    if len(learned) < width:
        first = np.setdiff1d(np.arange(len(learned) + 1), learned)[0]
        called = names[first] if names else first
        notes.append(f"{width - len(learned):,} of {width:,} classes have no example, such as {called}")
    if width > 2 and 2 * np.count_nonzero(np.bincount(classes[: len(y)]) == 1) > width:
        notes.append(f"most of its {width:,} classes have a single example, which cannot be held out")
    return classes[: len(y)], classes[len(y) :], width


def _numbers(task, y, test, form, names):
    """Numbers or labels, float32 `[n, C]`, of training and test, and how many there are."""
    y, test = (part.reshape(len(part), *(y.shape[1:] or (1,))).astype(np.float32) for part in (y, test))
    width = y.shape[1]
    for targets in (y, test):
        if form == LABELS and not np.isin(targets, (0, 1)).all():
            wrong = targets[~np.isin(targets, (0, 1))][0]
            raise UserError(f"{task.name}: {wrong:g} is no label; give 0 or 1, or form='numbers'")
    if len(names) not in (0, width):
        raise UserError(f"{task.name}: {len(names)} answers are named and y has {width}; name all")
    return y, test, width


def _may_be_classes(y):
    return y.ndim == 1 and not (y % 1).any() and len(np.unique(y)) <= FEW


def _form(task, y):
    """What is asked for, by the looks of the targets."""
    whole = y.dtype == np.int32
    if y.ndim == 1:
        return CLASSES if whole else NUMBERS
    zero_or_one = np.isin(y, (0, 1)).all()
    if zero_or_one and y.ndim == 2 and y.shape[1] > 1 and (y.sum(axis=1) == 1).all():
        raise UserError(
            f"{task.name}: each row of y has a single 1; give y.argmax(axis=1) if these are classes, or"
            " form='labels'"
        )
    if whole and zero_or_one:
        return LABELS
    if whole and y.shape[1:] == (1,):
        raise UserError(f"{task.name}: y is [n, 1]; give [n] for classes, or form='numbers'")
    return NUMBERS
