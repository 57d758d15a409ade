"""Tasks as their users have them, put together to what is learned."""

import collections
import dataclasses
import hashlib
import itertools
from collections.abc import Sequence

import numpy as np

from lrn_tf.data.examples import Examples, joined
from lrn_tf.data.problem import TAKEN, TaskSpec, names_input
from lrn_tf.data.targets import is_asked, is_name
from lrn_tf.data.tasks import Task, checked, like
from lrn_tf.errors import UserError

# Of a task without test examples of its own, this share is held out.
TEST = 0.2
# By the number of axes of an example: what an input is called.
CALLED = {1: "rows", 2: "sequences", 3: "images"}


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
        vocabulary: for each input how many tokens there are at least; empty if nobody says.
    """

    name: str
    inputs: tuple[str, ...]
    tasks: tuple[TaskSpec, ...]
    train: Examples
    test: Examples
    strata: tuple[np.ndarray, ...]
    notes: tuple[str, ...] = ()
    vocabulary: tuple[int, ...] = ()


def together(name: str, tasks: Sequence[Task], seed: int = 0) -> Drawn:
    """Checks tasks, and puts their examples together.

    Raises:
        UserError: two tasks have one name, a task has no examples, or its arrays are not what they must be.
    """
    _check_names(name, tasks)
    arrays: dict = {}
    found = [checked(task, arrays) for task in tasks]
    tasks, specs, notes = zip(*found, strict=True)
    named = _inputs(tasks)
    inputs = tuple(dict.fromkeys(named))
    specs = tuple(dataclasses.replace(spec, input=i) for spec, i in zip(specs, named, strict=True))
    of_task = [inputs.index(i) for i in named]
    parts = zip(*_parted(tasks, seed), strict=True)
    (train, strata), (test, _) = (_joined(part, of_task) for part in parts)
    vocabulary = tuple(
        max(task.vocabulary for task, mine in zip(tasks, of_task, strict=True) if mine == i)
        for i in range(len(inputs))
    )
    return Drawn(name, inputs, specs, train, test, strata, tuple(itertools.chain(*notes)), vocabulary)


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
        if not is_name(given):
            raise UserError(f"{name}: task {k} is called {given!r}; give it a name, of one line of text")
        if given in names[:k]:
            raise UserError(f"{name} has two tasks {given!r}; give each a name of its own")


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
        if named.setdefault(task.input, like(task.x)) != like(task.x):
            raise UserError(
                f"{task.name}: x is {like(task.x)}, and the input {task.input!r} is {named[task.input]};"
                " give it another input"
            )
    unnamed: dict[str, str] = {}
    for task in tasks:
        if not task.input and like(task.x) not in unnamed:
            plain = "tokens" if task.x.dtype == np.int32 else CALLED[task.x.ndim - 1]
            sized = f"{plain}_{'x'.join(map(str, task.x.shape[1:]))}"
            free = itertools.chain((plain, sized), (f"{sized}_{n}" for n in itertools.count(2)))
            unnamed[like(task.x)] = next(n for n in free if n not in {*named, *unnamed.values()})
    return [task.input or unnamed[like(task.x)] for task in tasks]


def _parted(tasks, seed):
    """Of each task the training and the test examples, `(x, y)` each; what tasks share they share there."""
    held_out: dict[int, tuple] = {}
    for task in tasks:
        if task.test is None and id(task.x) not in held_out:
            same = [other.y for other in tasks if other.x is task.x]
            marked = _held_out(same, draw_lots(_plain(task.x), seed))
            held_out[id(task.x)] = marked, task.x[~marked], task.x[marked]
    for task in tasks:
        x, y, test = task.x, task.y, task.test
        if id(x) in held_out:  # nor does one with a test of its own learn from what others are tested on
            marked, x, test_x = held_out[id(x)]
            y, test = task.y[~marked], test or (test_x, task.y[marked])
        if not is_asked(test[1]).any():
            raise UserError(
                f"{task.name} has too few examples to hold some out{_of_the_same(task, tasks)}; give more,"
                " or test=(x, y)"
            )
        yield (x, y), test


def _plain(x):
    """Examples, grey pictures with one channel: what is held out of them is so beside colour, too."""
    if x.ndim != 4 or x.shape[-1] != 3:
        return x
    return [row[..., :1] if (row == row[..., :1]).all() else row for row in x]


def _of_the_same(task, tasks):
    """A word on the task that asks most of the same examples, if there is one."""
    others = [other for other in tasks if other.x is task.x and other is not task]
    if not others:
        return ""
    most = max(others, key=lambda other: len(np.unique(other.y)))
    return f", as {most.name} asks of the same ones for {len(np.unique(most.y)):,} different answers"


def _held_out(targets, lots):
    """Which examples are held out, bool `[n]`: of each class the same share, but never all of it.

    Args:
        targets: of each task that the examples are of.
        lots: see `stratified`.
    """
    marked = stratified(_combined(targets), TEST, lots)
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
                row[j] = np.int32(start) + np.flatnonzero(is_asked(parts[j][1])).astype(np.int32)
            mine = _combined([parts[j][1] for j in same])
            found.append(mine + (found[-1].max() + 1 if found else 0))
            arrays.append(x)
            start += len(x)
        inputs.append(arrays[0] if len(arrays) == 1 else np.concatenate(arrays))
        strata.append(np.concatenate(found))
    task = np.repeat(np.arange(len(parts), dtype=np.int32), list(map(len, row)))
    target = joined([y[is_asked(y)] for _, y in parts])
    return Examples(np.concatenate(row), task, target, tuple(inputs)), tuple(strata)


def draw_lots(x: Sequence[np.ndarray], seed: int) -> np.ndarray:
    """What decides which examples are held out: a number of each, uint64 `[n]`.

    It comes from what the example is shown, and from nothing else but the seed: a run that starts from
    another, with more tasks, should not be tested on what that one has learned. (Where the new tasks are
    of the same examples, the shares are of other classes, and a few change sides.) Of equal ones it depends
    on the place as well, or all or none of them would be held out.
    """
    key, seen = str(seed).encode(), collections.Counter()
    found = np.empty(len(x), np.uint64)
    for i, row in enumerate(x):
        drawn = hashlib.blake2b(row.tobytes(), digest_size=8, key=key).digest()
        seen[drawn] += 1
        if (times := seen[drawn]) > 1:
            drawn = hashlib.blake2b(drawn + b"%d" % times, digest_size=8, key=key).digest()
        found[i] = int.from_bytes(drawn, "big")
    return found


def stratified(strata: np.ndarray, fraction: float, lots: np.ndarray) -> np.ndarray:
    """Marks a fraction of each stratum, one member at least unless it is the only one: bool `[n]`.

    Of a stratum it is those with the lowest lots, numbers `[n]`.
    """
    marked = np.zeros(len(strata), bool)
    for stratum in np.unique(strata):
        rows = np.flatnonzero(strata == stratum)
        count = min(max(1, round(fraction * len(rows))), len(rows) - 1)
        marked[rows[np.argsort(lots[rows], kind="stable")[:count]]] = True
    return marked
