"""The benchmarks of the paper (Sec. 5.1) and Rosenbaum et al. 2017, some of ours, and the user's."""

import dataclasses
import os
from collections.abc import Callable, Sequence

import numpy as np

from lrn_tf.data import data_sets, image_folder
from lrn_tf.data import images as preprocessing
from lrn_tf.data.examples import Examples, shuffled_rows
from lrn_tf.data.problem import CLASSES, NUMBERS, SHARED, InputSpec, Problem, TaskSpec
from lrn_tf.data.tasks import Task
from lrn_tf.data.together import TEST, Drawn, draw_lots, stratified, together
from lrn_tf.errors import UserError

IMAGES = "images"
DIGIT_TASKS = tuple(
    TaskSpec(f"digit {digit}", IMAGES, CLASSES, (f"other than {digit}", f"{digit}")) for digit in range(10)
)

# Mini-ImageNet's images per class: training and test. Per task means: divided among its five classes.
MIN_TASKS = 10
MIN_LABELS = 5
MIN_PER_CLASS = {"task": (800 // MIN_LABELS, 50 // MIN_LABELS), "label": (800, 50)}


@dataclasses.dataclass(frozen=True, eq=False)
class Benchmark:
    """Tasks and their examples.

    Attributes:
        problem: what it is apart from its examples.
        train: what is trained on.
        test: what is evaluated on; nothing that is shown is in both.
        notes: what there is to say of where they come from, a line each.
    """

    problem: Problem
    train: Examples
    test: Examples
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What `--benchmark` calls it."""
        return self.problem.name

    def steps_per_epoch(self, batch_size: int) -> int:
        """How many batches the training examples fill.

        Raises:
            UserError: not one.
        """
        steps = len(self.train) // batch_size
        if not steps:
            raise UserError(
                f"--batch_size={batch_size} is more than the {len(self.train)} training examples of"
                f" {self.name}; choose a smaller one"
            )
        return steps

    def batches(self, settings, epoch: int) -> np.ndarray:
        """The rows of the training examples in each batch of an epoch, int32 `[steps, B]`.

        `settings` is a `lrn_tf.settings.table.Settings`.
        """
        return shuffled_rows(self.train.task, settings.batch_size, settings.seed, epoch, settings.sampling)


@dataclasses.dataclass(frozen=True)
class Choice:
    """Which examples of a benchmark are taken, and how; fields are the settings of the same names."""

    seed: int = 0
    image_size: int = 0
    examples: int = 0
    validation: float = 0.0
    heads: str = SHARED
    examples_per: str = "task"
    data_dir: str = ""


def choice_of(settings) -> Choice:
    """The choice that a `lrn_tf.settings.table.Settings` makes."""
    return Choice(**{field.name: getattr(settings, field.name) for field in dataclasses.fields(Choice)})


def benchmark_of(settings, source: Callable[[Choice], Drawn] | None = None) -> Benchmark:
    """The benchmark that a `lrn_tf.settings.table.Settings` asks for; see `load`.

    Args:
        settings: the settings.
        source: draws the examples, instead of what `settings.benchmark` names.
    """
    return load(source or _source(settings), choice_of(settings))


def _source(settings):
    name = settings.benchmark
    if name in LOADERS:
        return LOADERS[name]
    if (function := settings.own("benchmark")) is None:
        return image_folder.source(name)
    called = os.path.basename(name).replace(".py:", ":")
    return own(called, function())


def load(source: Callable[[Choice], Drawn], choice: Choice) -> Benchmark:
    """Loads a benchmark; which examples it has depends on the choice alone.

    Args:
        source: draws the examples: one of `LOADERS`, `lrn_tf.data.image_folder.source`, or `own`.
        choice: of what it draws.

    Raises:
        UserError: data are missing and cannot be downloaded, unreadable or too few.
    """
    drawn = source(choice)
    train, test = drawn.train, drawn.test
    if choice.image_size and not any(map(_are_images, train.inputs)):
        raise UserError(f"--image_size={choice.image_size} has no images to resize; leave it out")
    if choice.validation:
        train, test = _hold_out(train, drawn, choice.validation, choice.seed)
        if name := _left_out(drawn, test):
            raise UserError(
                f"--validation={choice.validation} leaves task {name!r} no examples to evaluate on; choose"
                " a larger share, or 0"
            )
    if choice.examples:
        train = _some(train, choice.examples, np.random.default_rng((choice.seed, 2)))
    train, test = (_packed(part, drawn, choice.image_size) for part in (train, test))
    if (name := _left_out(drawn, train)) and not choice.examples:
        raise UserError(f"task {name!r} has no training examples; add some")
    return Benchmark(_problem(drawn, train, choice.heads), train, test, drawn.notes)


def _left_out(drawn, examples):
    """The name of the first task that has none of the examples; empty if all have some."""
    there = set(examples.task.tolist())
    return next((task.name for k, task in enumerate(drawn.tasks) if k not in there), "")


def own(name: str, tasks: Sequence[Task]) -> Callable[[Choice], Drawn]:
    """A source of tasks that the user has in arrays."""
    return lambda choice: together(name, tasks, choice.seed)


def _problem(drawn, train, heads):
    inputs = []
    for name, array in zip(drawn.inputs, train.inputs, strict=True):
        if array.dtype == np.int32:
            most = max(int(part.inputs[len(inputs)].max(initial=0)) for part in (drawn.train, drawn.test))
            known = drawn.vocabulary[len(inputs)] if drawn.vocabulary else 0
            spec = InputSpec(name, array.shape[1:], "int32", (), (), max(most + 1, known))
        else:
            mean, std = (tuple(map(float, moment)) for moment in moments(array))
            spec = InputSpec(name, array.shape[1:], str(array.dtype), mean, std)
        inputs.append(spec)
    tasks = [_measured(task, train.target[train.task == k]) for k, task in enumerate(drawn.tasks)]
    return Problem(drawn.name, tuple(inputs), tuple(tasks), heads)


def _measured(task, targets):
    """A task with the moments of its training targets, if they are numbers."""
    if task.form != NUMBERS:
        return task
    mean, std = (tuple(map(float, moment)) for moment in moments(targets[:, : task.width]))
    return dataclasses.replace(task, mean=mean, std=std)


def moments(array: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation over all but the last axis, float32; std is 1 for a constant."""
    width = array.shape[-1]
    if not len(array):
        return np.zeros(width, np.float32), np.ones(width, np.float32)
    if array.dtype != np.uint8:
        rows = array.reshape(-1, width).astype(np.float64)
        mean, std = rows.mean(axis=0), rows.std(axis=0)
    else:
        # From the counts of the 256 values: exact, and without a float copy of the images.
        counts = np.zeros((width, 256))
        for chunk in _chunks(array):
            for channel, of_channel in enumerate(counts):
                of_channel += np.bincount(chunk[..., channel].ravel(), minlength=256)
        share = counts / counts.sum(axis=1, keepdims=True)
        values = np.arange(256)
        mean = share @ values
        std = np.sqrt((share * (values - mean[:, None]) ** 2).sum(axis=1))
    smallest = np.finfo(np.float32).tiny  # TensorFlow takes what is smaller for 0
    return mean.astype(np.float32), np.where(std > smallest, std, 1).astype(np.float32)


def _some(examples, count, rng):
    """So many of the examples."""
    if count > len(examples):
        raise UserError(f"--examples={count} is more than there are, {len(examples)}; choose fewer")
    return examples.some(np.sort(rng.choice(len(examples), count, replace=False)))


def _digits_mtl(choice):
    import sklearn.datasets

    source = sklearn.datasets.load_digits()
    # The values are whole numbers from 0 to 16.
    images = (15 * source.images[..., None]).astype(np.uint8)
    held_out = stratified(source.target, TEST, draw_lots(images, choice.seed))
    train, test = (
        _one_vs_all(images, source.target, [np.flatnonzero(part)] * len(DIGIT_TASKS))
        for part in (~held_out, held_out)
    )
    return Drawn("digits_mtl", (IMAGES,), DIGIT_TASKS, train, test, strata=(source.target,))


def _mnist_mtl(choice):
    _, train, test = data_sets.splits("mnist", data_sets.folder(choice.data_dir))
    rng = np.random.default_rng((choice.seed, 0))
    of_digit = [np.flatnonzero(train["label"] == digit) for digit in range(10)]
    train_rows = [
        np.concatenate([rng.choice(rows, 1000, replace=False) for rows in of_digit]) for _ in DIGIT_TASKS
    ]
    test_rows = [rng.choice(len(test["label"]), 200, replace=False) for _ in DIGIT_TASKS]
    return Drawn(
        "mnist_mtl",
        (IMAGES,),
        DIGIT_TASKS,
        train=_one_vs_all(train["image"], train["label"], train_rows),
        test=_one_vs_all(test["image"], test["label"], test_rows),
        strata=(train["label"],),
    )


def _cifar_mtl(choice):
    features, train, test = data_sets.splits("cifar100", data_sets.folder(choice.data_dir))
    fine, coarse = features["label"].names, features["coarse_label"].names
    # The fine labels of a coarse one are not consecutive, so look which occur with it.
    members = [np.unique(train["label"][train["coarse_label"] == task]) for task in range(len(coarse))]
    place = np.zeros(len(fine), np.int32)
    for labels in members:
        place[labels] = np.arange(len(labels))

    def examples(split):
        image = np.arange(len(split["label"]))
        return Examples(image, split["coarse_label"], place[split["label"]], (split["image"],))

    tasks = tuple(
        TaskSpec(name, IMAGES, CLASSES, tuple(fine[label] for label in labels))
        for name, labels in zip(coarse, members, strict=True)
    )
    return Drawn("cifar_mtl", (IMAGES,), tasks, examples(train), examples(test), strata=(train["label"],))


def _min_mtl(choice):
    wanted, held_out = MIN_PER_CLASS[choice.examples_per]
    # Per label one takes what is there, but something to learn from and something to validate on.
    needed = held_out + (wanted if choice.examples_per == "task" else 2)
    jpegs = data_sets.mini_imagenet_jpegs(data_sets.folder(choice.data_dir), MIN_TASKS * MIN_LABELS, needed)
    rng = np.random.default_rng((choice.seed, 0))
    shuffled = [rng.permutation(of_class) for of_class in jpegs.values()]
    train = _by_class([of_class[held_out : held_out + wanted] for of_class in shuffled])
    test = _by_class([of_class[:held_out] for of_class in shuffled])
    wnids = tuple(jpegs)
    classes = [wnids[i : i + MIN_LABELS] for i in range(0, len(wnids), MIN_LABELS)]
    tasks = tuple(TaskSpec(f"{names[0]}..{names[-1]}", IMAGES, CLASSES, names) for names in classes)
    strata = train.task * MIN_LABELS + train.target
    return Drawn("min_mtl", (IMAGES,), tasks, train, test, strata=(strata,))


def _mixed_mtl(choice):
    import sklearn.datasets

    digits, wine = sklearn.datasets.load_digits(), sklearn.datasets.load_wine()
    cancer, diabetes = sklearn.datasets.load_breast_cancer(), sklearn.datasets.load_diabetes()
    images = (15 * digits.images[..., None]).astype(np.uint8)
    # The same digits are held out in both of their tasks.
    held_out = stratified(digits.target, TEST, draw_lots(images, choice.seed))
    names = tuple(map(str, range(10)))

    def of_digits(name, x):
        test = x[held_out], digits.target[held_out]
        return Task(name, x[~held_out], digits.target[~held_out], test, names)

    def of_table(name, table, answers):
        return Task(name, table.data, table.target, answers=answers, input=name)

    tasks = [
        of_digits("digit_images", images),
        of_digits("digit_rows", digits.images.astype(np.float32)),
        of_table("wine", wine, wine.target_names),
        of_table("breast_cancer", cancer, cancer.target_names),
        of_table("diabetes", diabetes, ("progression",)),
    ]
    return together("mixed_mtl", tasks, choice.seed)


LOADERS = {
    "digits_mtl": _digits_mtl,
    "mnist_mtl": _mnist_mtl,
    "cifar_mtl": _cifar_mtl,
    "min_mtl": _min_mtl,
    "mixed_mtl": _mixed_mtl,
}


def _one_vs_all(images, digits, rows_per_task):
    """Task k asks of the images in rows_per_task[k] whether they show the digit k."""
    image = np.concatenate(rows_per_task)
    task = np.repeat(np.arange(len(rows_per_task)), [len(rows) for rows in rows_per_task])
    return Examples(image, task, digits[image] == task, (images,))


def _by_class(jpegs_per_class):
    """Examples of Mini-ImageNet, whose tasks are runs of five classes."""
    from lrn_tf.data import mini_imagenet

    number = np.repeat(np.arange(len(jpegs_per_class)), [len(jpegs) for jpegs in jpegs_per_class])
    images = mini_imagenet.decode(np.concatenate(jpegs_per_class))
    return Examples(np.arange(len(number)), number // MIN_LABELS, number % MIN_LABELS, (images,))


def _hold_out(examples, drawn, fraction, seed):
    """What stays and what is held out, parted by what examples are shown: nothing is on both sides."""
    held_out = np.zeros(len(examples), bool)
    by_input = zip(_by_input(examples, drawn), examples.inputs, drawn.strata, strict=True)
    for mine, array, strata in by_input:
        used = np.unique(examples.row[mine])
        marked = stratified(strata[used], fraction, draw_lots(array[used], seed))
        held_out |= mine & np.isin(examples.row, used[marked])
    return examples.some(~held_out), examples.some(held_out)


def _by_input(examples, drawn):
    """For each input, which examples bring it: bool `[n]`."""
    of_task = np.array([drawn.inputs.index(task.input) for task in drawn.tasks])
    return [of_task[examples.task] == i for i in range(len(drawn.inputs))]


def _packed(examples, drawn, size):
    """Drops what no example is shown, resizes images unless size is 0, and sets the types."""
    row, inputs = np.zeros(len(examples), np.int32), []
    for mine, array in zip(_by_input(examples, drawn), examples.inputs, strict=True):
        used, row[mine] = np.unique(examples.row[mine], return_inverse=True)
        array = array if len(used) == len(array) else array[used]
        if size and _are_images(array) and array.shape[1:3] != (size, size):
            array = np.concatenate(
                [np.zeros((0, size, size, array.shape[3]), np.uint8)]  # there may be none
                + [preprocessing.resize(chunk, (size, size)).numpy() for chunk in _chunks(array)]
            )
        inputs.append(array)
    target = examples.target if examples.target.ndim == 2 else examples.target.astype(np.int32)
    return Examples(row, examples.task.astype(np.int32), target, tuple(inputs))


def _are_images(array):
    return array.dtype == np.uint8 and array.ndim == 4


def _chunks(images, size=1024):
    return (images[start : start + size] for start in range(0, len(images), size))
