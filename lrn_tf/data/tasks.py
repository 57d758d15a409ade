"""Tasks as their user has them, in arrays, put together to what is learned."""

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np

from lrn_tf.data.examples import Examples, joined
from lrn_tf.data.problem import CLASSES, FORMS, LABELS, NUMBERS, TAKEN, TaskSpec, names_input
from lrn_tf.errors import UserError, reason

# Of a task without test examples of its own, this share is held out.
TEST = 0.2
# By the number of axes of an example: what an input is called.
CALLED = {1: "rows", 2: "sequences", 3: "images"}
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


@dataclasses.dataclass(frozen=True, eq=False)
class Drawn:
    """Examples that were found or drawn, before anything is left out, resized or measured.

    Attributes:
        name: of the benchmark.
        inputs: their names.
        tasks: the tasks, without the moments of their targets.
        train: what may be trained on; not all of its inputs need be used.
        test: likewise, to evaluate on.
        strata: for each input, what of its training rows should be held out in equal shares; int `[m]`.
        notes: what there is to say of them, a line each.
    """

    name: str
    inputs: tuple[str, ...]
    tasks: tuple[TaskSpec, ...]
    train: Examples
    test: Examples
    strata: tuple[np.ndarray, ...]
    notes: tuple[str, ...] = ()


def together(name: str, tasks: Sequence[Task], seed: int = 0) -> Drawn:
    """Checks tasks, and puts their examples together.

    Raises:
        UserError: two tasks have one name, a task has no examples, or its arrays are not what they must be.
    """
    _check_names(name, tasks)
    arrays: dict[int, np.ndarray] = {}
    checked = [_checked(task, arrays) for task in tasks]
    tasks = [task for task, _ in checked]
    named = _inputs(tasks)
    inputs = tuple(dict.fromkeys(named))
    specs = tuple(dataclasses.replace(spec, input=i) for (_, spec), i in zip(checked, named, strict=True))
    of_task = [inputs.index(i) for i in named]
    parts = zip(*_parted(tasks, seed), strict=True)
    (train, strata), (test, _) = (_joined(part, of_task) for part in parts)
    return Drawn(name, inputs, specs, train, test, strata)


def _check_names(name, tasks):
    if not isinstance(tasks, list | tuple):
        raise UserError(f"{name} is {type(tasks).__name__}, not a list of lrn_tf.Task; make it one")
    for k, task in enumerate(tasks):
        if not isinstance(task, Task):
            raise UserError(f"{name}: task {k} is {type(task).__name__}, not lrn_tf.Task; make it one")
    if not tasks:
        raise UserError(f"{name} has no tasks; give one at least")
    names = [task.name for task in tasks]
    for k, given in enumerate(names):
        if not _is_name(given):
            raise UserError(f"{name}: task {k} is called {given!r}; give it a name, of one line of text")
        if given in names[:k]:
            raise UserError(f"{name} has two tasks {given!r}; give each a name of its own")


def _is_name(given):
    return isinstance(given, str) and given.isprintable() and bool(given.strip())


def _checked(task, arrays):
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
    if _like(test_x) != _like(x):
        raise UserError(
            f"{task.name}: test x is {_like(test_x)} and x is {_like(x)}; make them the same but for n"
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


def _like(x):
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
        if not _is_name(name):
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


def _inputs(tasks):
    """The name of each task's input."""
    named: dict[str, str] = {}
    for task in tasks:
        if not task.input:
            continue
        if not isinstance(task.input, str) or not names_input(task.input):
            raise UserError(
                f"{task.name}: no input can be called {task.input!r}; use letters, digits and _, and no"
                f" word of Python's and none of: {', '.join(TAKEN)}"
            )
        if named.setdefault(task.input, _like(task.x)) != _like(task.x):
            raise UserError(
                f"{task.name}: x is {_like(task.x)}, and the input {task.input!r} is {named[task.input]};"
                " give it another input"
            )
    unnamed: dict[str, str] = {}
    for task in tasks:
        if not task.input and _like(task.x) not in unnamed:
            plain = "tokens" if task.x.dtype == np.int32 else CALLED[task.x.ndim - 1]
            sized = f"{plain}_{'x'.join(map(str, task.x.shape[1:]))}"
            free = itertools.chain((plain, sized), (f"{sized}_{n}" for n in itertools.count(2)))
            unnamed[_like(task.x)] = next(n for n in free if n not in {*named, *unnamed.values()})
    return [task.input or unnamed[_like(task.x)] for task in tasks]


def _parted(tasks, seed):
    """Of each task the training and the test examples, `(x, y)` each; what tasks share they share there."""
    held_out: dict[int, tuple] = {}
    for k, task in enumerate(tasks):
        if task.test is not None:
            yield (task.x, task.y), task.test
            continue
        if id(task.x) not in held_out:
            same = [other.y for other in tasks if other.x is task.x]
            marked = _held_out(same, np.random.default_rng((seed, 0, k)))
            held_out[id(task.x)] = marked, task.x[~marked], task.x[marked]
        marked, train_x, test_x = held_out[id(task.x)]
        if not marked.any():
            raise UserError(f"{task.name} has too few examples to hold some out; give more, or test=(x, y)")
        yield (train_x, task.y[~marked]), (test_x, task.y[marked])


def _held_out(targets, rng):
    """Which examples are held out, bool `[n]`: of each class the same share, but never all of it.

    Args:
        targets: of each task that the examples are of.
        rng: what decides.
    """
    marked = stratified(_combined(targets), TEST, rng)
    for y in targets:
        if y.ndim == 1:
            marked &= np.isin(y, y[~marked])
    return marked


def _combined(targets):
    """Numbers of the combinations of classes, int `[n]`; those of which no share can be taken are one."""
    classes = [y for y in targets if y.ndim == 1]
    if len(classes) < 2:
        return classes[0] if classes else np.zeros(len(targets[0]), int)
    _, found, counts = np.unique(np.stack(classes), axis=1, return_inverse=True, return_counts=True)
    found = found.ravel()
    return np.where(counts[found] * TEST < 1, len(counts), found)


def _joined(parts, of_task):
    """The examples of one split, and for each input the strata of its rows, as `Drawn` has them.

    Args:
        parts: `(x, y)` of each task; what several share is there once.
        of_task: the number of each task's input.
    """
    row, inputs, strata = [None] * len(parts), [], []
    for i in range(max(of_task) + 1):
        arrays, found, start = [], [], 0
        for k, (x, _) in enumerate(parts):
            if of_task[k] != i or row[k] is not None:
                continue
            same = [j for j, (other, _) in enumerate(parts) if other is x and of_task[j] == i]
            for j in same:
                row[j] = np.arange(start, start + len(x), dtype=np.int32)
            mine = _combined([parts[j][1] for j in same])
            found.append(mine + (found[-1].max() + 1 if found else 0))
            arrays.append(x)
            start += len(x)
        inputs.append(arrays[0] if len(arrays) == 1 else np.concatenate(arrays))
        strata.append(np.concatenate(found))
    task = np.repeat(np.arange(len(parts), dtype=np.int32), list(map(len, row)))
    target = joined([y for _, y in parts])
    return Examples(np.concatenate(row), task, target, tuple(inputs)), tuple(strata)


def stratified(strata: np.ndarray, fraction: float, rng: np.random.Generator) -> np.ndarray:
    """Marks a fraction of each stratum, one member at least unless it is the only one: bool `[n]`."""
    marked = np.zeros(len(strata), bool)
    for stratum in np.unique(strata):
        rows = np.flatnonzero(strata == stratum)
        count = min(max(1, round(fraction * len(rows))), len(rows) - 1)
        marked[rng.choice(rows, count, replace=False)] = True
    return marked
