"""What there is to learn, apart from the examples: tasks, each with an input and a label space."""

import dataclasses
import functools
import itertools
import keyword
import numbers
import re
from collections.abc import Iterable, Sequence

Shape = tuple[int, ...]

# What functions that an input is an argument of take besides.
TAKEN = ("self", "tasks", "task_names", "path")
MOMENTS = ("mean", "std")
# The share by which two machines may differ in what they make of the same numbers.
ROUNDED = 1e-5

# What an output module may be asked for: one of C classes, d numbers, or any of C labels.
CLASSES, NUMBERS, LABELS = FORMS = ("classes", "numbers", "labels")
# Whether tasks whose answers have one form share output modules, or each task has its own.
SHARED, BY_TASK = HEADS = ("shared", "task")


@dataclasses.dataclass(frozen=True)
class InputSpec:
    """What an example may bring.

    Attributes:
        name: what arguments and files call it.
        shape: of one example: (H, W, c) is an image, (d,) a row of numbers, (n, d) a sequence of them,
            and (n,) of whole numbers a sequence of tokens.
        dtype: uint8, float32, or int32 for tokens.
        mean: one number for each entry of the last axis, of the training examples; none for tokens.
        std: likewise; 1 for what is constant.
        vocabulary: how many different tokens there are; 0 for anything else.
    """

    name: str
    shape: Shape
    dtype: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    vocabulary: int = 0

    @property
    def is_image(self) -> bool:
        """Whether it can be drawn and resized."""
        return len(self.shape) == 3 and self.dtype == "uint8"


@dataclasses.dataclass(frozen=True)
class TaskSpec:
    """A task.

    Attributes:
        name: what tables and `--task` call it.
        input: the name of its `InputSpec`.
        form: what is asked for: `CLASSES` (one of them), `NUMBERS`, or `LABELS` (any of them).
        answers: names of the C classes, numbers or labels.
        mean: of the training targets, for each answer; of `NUMBERS` only.
        std: likewise.
        weight: what its loss counts, beside those of the other tasks.
    """

    name: str
    input: str
    form: str
    answers: tuple[str, ...]
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    weight: float = 1.0

    @property
    def width(self) -> int:
        """C, how many numbers an output module returns for it."""
        return len(self.answers)


@dataclasses.dataclass(frozen=True)
class LabelSpace:
    """What an output module answers. Tasks of one label space share output modules.

    Attributes:
        name: of its task, or what its tasks have in common, such as "5 classes".
        form: as in `TaskSpec`.
        width: how many numbers an output module returns.
        tasks: how many tasks it is of.
    """

    name: str
    form: str
    width: int
    tasks: int


@dataclasses.dataclass(frozen=True)
class Problem:
    """K tasks, and all that a network needs to know of them.

    Attributes:
        name: what `--benchmark` calls them.
        inputs: what examples bring, each used by some task.
        tasks: the tasks.
        heads: `SHARED` (the paper's): tasks whose answers have one form and number share a label space;
            `BY_TASK`: each task has its own.
    """

    name: str
    inputs: tuple[InputSpec, ...]
    tasks: tuple[TaskSpec, ...]
    heads: str = SHARED

    @property
    def num_tasks(self) -> int:
        """K."""
        return len(self.tasks)

    @property
    def task_names(self) -> tuple[str, ...]:
        """By number of task."""
        return tuple(task.name for task in self.tasks)

    @property
    def answers(self) -> tuple[tuple[str, ...], ...]:
        """The names of each task's classes, numbers or labels."""
        return tuple(task.answers for task in self.tasks)

    @property
    def width(self) -> int:
        """The most answers that any task has."""
        return max(task.width for task in self.tasks)

    @property
    def only_classes(self) -> bool:
        """Whether every task asks for one of several classes, as in the paper."""
        return all(task.form == CLASSES for task in self.tasks)

    @property
    def input_of(self) -> list[int]:
        """The number of each task's input."""
        names = [given.name for given in self.inputs]
        return [names.index(task.input) for task in self.tasks]

    @functools.cached_property
    def label_spaces(self) -> tuple[LabelSpace, ...]:
        """The distinct ones, in the order of their first tasks."""
        names = [self._space_name(task) for task in self.tasks]
        first = {name: task for name, task in reversed(list(zip(names, self.tasks, strict=True)))}
        return tuple(
            LabelSpace(name, first[name].form, first[name].width, names.count(name))
            for name in dict.fromkeys(names)
        )

    @property
    def space_of(self) -> list[str]:
        """The name of each task's label space."""
        return [self._space_name(task) for task in self.tasks]

    def _space_name(self, task):
        return task.name if self.heads == BY_TASK else f"{task.width} {task.form}"

    def numbers_of(self, tasks: Iterable) -> list[int]:
        """The numbers of tasks that are given by number or by name.

        Raises:
            ValueError: one is unknown.
        """
        names = self.task_names
        known: dict[str | int, int] = {name: k for k, name in enumerate(names)}
        known |= zip(range(len(names)), range(len(names)), strict=True)
        for task in tasks:
            # A dict takes 1.0 and True for 1.
            if not isinstance(task, str | numbers.Integral) or isinstance(task, bool) or task not in known:
                raise ValueError(f"task {task!r} is unknown; known are {', '.join(names)}")
        return [known[task] for task in tasks]

    def the_image(self, who: str) -> InputSpec:
        """The only input.

        Raises:
            ValueError: there are several, or it is no image; it says that `who` needs one.
        """
        if len(self.inputs) == 1 and len(self.inputs[0].shape) == 3:
            return self.inputs[0]
        given = ", ".join(f"{i.name} {list(i.shape)}" for i in self.inputs)
        raise ValueError(f"{who} needs images of one size (H, W, c); {self.name} has {given}")


def differences(before: Problem, now: Problem) -> str:
    """How a problem differs from one that a network has learned, where it cannot go on; else empty.

    Moments may differ as far as another machine may have rounded them otherwise.
    """
    if before.heads != now.heads:
        return f"heads were {before.heads}, are {now.heads}"
    found = []
    for of, what in (("tasks", "task"), ("inputs", "input")):
        for a, b in itertools.zip_longest(getattr(before, of), getattr(now, of)):
            if a is None or b is None:
                return f"there is a new {what} {b.name}" if a is None else f"there is no {what} {a.name}"
            for field in dataclasses.fields(a):
                if not _alike(field.name, a, b):
                    was, is_now = (str(getattr(spec, field.name))[:60] for spec in (a, b))
                    found.append((field.name, f"{field.name} of {what} {a.name} was {was}, is {is_now}"))
    # Moments differ where anything else does.
    return min(found, key=lambda named: named[0] in MOMENTS, default=("", ""))[1]


def _alike(field, a, b):
    x, y = getattr(a, field), getattr(b, field)
    if field not in MOMENTS or len(x) != len(y):
        return x == y
    return all(abs(p - q) <= ROUNDED * (abs(p) + std) for p, q, std in zip(x, y, a.std, strict=True))


def names_input(name: str) -> bool:
    """Whether an input can be called that: it becomes an argument's name, also where a model is served."""
    fits = re.fullmatch("[A-Za-z][A-Za-z0-9_]*", name) is not None
    return fits and not keyword.iskeyword(name) and name not in TAKEN


def by_width(spaces: Sequence[LabelSpace]) -> list[list[LabelSpace]]:
    """Label spaces that the same layer can serve put together, as modules of one kind can."""
    groups: dict[tuple[int, bool], list[LabelSpace]] = {}
    for space in spaces:
        groups.setdefault((space.width, space.tasks == 1), []).append(space)
    return list(groups.values())
