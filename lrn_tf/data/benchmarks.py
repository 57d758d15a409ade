"""The multi-task benchmarks of the paper (Sec. 5.1) and Rosenbaum et al. 2017, and one of ours."""

import dataclasses
import functools
import typing

import numpy as np

from lrn_tf.data import data_sets
from lrn_tf.data import images as preprocessing
from lrn_tf.errors import UserError

DIGIT_TASKS = tuple(f"digit {digit}" for digit in range(10))
DIGIT_CLASSES = tuple((f"other than {digit}", f"{digit}") for digit in range(10))

# Mini-ImageNet's images per class: training and test. Per task means: divided among its five classes.
MIN_TASKS = 10
MIN_LABELS = 5
MIN_PER_CLASS = {"task": (800 // MIN_LABELS, 50 // MIN_LABELS), "label": (800, 50)}


@dataclasses.dataclass(frozen=True, eq=False)
class Examples:
    """Examples of all tasks; tasks may share images, which are held once.

    Attributes:
        image: int32 `[n]`, the example's row in `images`.
        task: int32 `[n]`.
        label: int32 `[n]`, the class within the task's label space.
        images: uint8 `[m, H, W, c]`, every one used by some example.
    """

    image: np.ndarray
    task: np.ndarray
    label: np.ndarray
    images: np.ndarray

    def __len__(self):
        return len(self.image)


@dataclasses.dataclass(frozen=True, eq=False)
class Tasks:
    """K tasks of C classes each, by name.

    Attributes:
        name: what `--benchmark` calls them.
        tasks: names of the K tasks.
        classes: K x C names of the classes.
    """

    name: str
    tasks: tuple[str, ...]
    classes: tuple[tuple[str, ...], ...]

    @property
    def num_tasks(self) -> int:
        """K."""
        return len(self.tasks)

    @property
    def num_classes(self) -> int:
        """C, the same for all tasks."""
        return len(self.classes[0])


@dataclasses.dataclass(frozen=True, eq=False)
class Problem(Tasks):
    """All that a network needs to know of the tasks.

    Attributes, besides those of `Tasks`:
        image_shape: (H, W, c).
        mean: `c` numbers, of the training images in units of 0..255.
        std: `c` numbers, likewise.
    """

    image_shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Benchmark(Tasks):
    """The tasks and their examples.

    Attributes, besides those of `Tasks`:
        train: what is trained on.
        test: what is evaluated on; no image is in both.
    """

    train: Examples
    test: Examples

    @functools.cached_property
    def problem(self) -> Problem:
        """What it is apart from its examples."""
        moments = [tuple(map(float, moment)) for moment in (self.mean, self.std)]
        return Problem(self.name, self.tasks, self.classes, self.image_shape, *moments)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(H, W, c)."""
        return self.train.images.shape[1:]

    @property
    def mean(self) -> np.ndarray:
        """float32 `[c]`, of the training images in units of 0..255; an image counts once."""
        return self._moments[0]

    @property
    def std(self) -> np.ndarray:
        """float32 `[c]`, likewise; 1 for a channel that is constant."""
        return self._moments[1]

    @functools.cached_property
    def _moments(self):
        # From the counts of the 256 values: exact, and without a float copy of the images.
        counts = np.zeros((self.image_shape[-1], 256))
        for chunk in _chunks(self.train.images):
            for channel, of_channel in enumerate(counts):
                of_channel += np.bincount(chunk[..., channel].ravel(), minlength=256)
        share = counts / counts.sum(axis=1, keepdims=True)
        values = np.arange(256)
        mean = share @ values
        std = np.sqrt((share * (values - mean[:, None]) ** 2).sum(axis=1))
        return mean.astype(np.float32), np.where(std > 0, std, 1).astype(np.float32)


def load(settings) -> Benchmark:
    """Loads the benchmark that the settings name; which examples it has depends on the seed alone.

    Args:
        settings: a `Settings`, of which benchmark, seed, image_size, examples_per, data_dir and
            examples and validation count.

    Raises:
        UserError: data are missing and cannot be downloaded, unreadable or too few.
    """
    drawn = LOADERS[settings.benchmark](settings)
    train, test = drawn.train, drawn.test
    if settings.validation:
        rng = np.random.default_rng((settings.seed, 1))
        train, test = _hold_out(train, drawn.strata, settings.validation, rng)
    if settings.examples:
        train = _some(train, settings.examples, np.random.default_rng((settings.seed, 2)))
    return Benchmark(
        name=settings.benchmark,
        tasks=drawn.tasks,
        classes=drawn.classes,
        train=_packed(train, settings.image_size),
        test=_packed(test, settings.image_size),
    )


def _some(examples, count, rng):
    """So many of the examples."""
    if count > len(examples):
        raise UserError(f"--examples={count} is more than there are, {len(examples)}; choose fewer")
    rows = np.sort(rng.choice(len(examples), count, replace=False))
    columns = (column[rows] for column in (examples.image, examples.task, examples.label))
    return Examples(*columns, examples.images)


class _Drawn(typing.NamedTuple):
    """A benchmark as its loader draws it, from images of which not all need be used."""

    tasks: tuple[str, ...]
    classes: tuple[tuple[str, ...], ...]
    train: Examples
    test: Examples
    strata: np.ndarray  # of each of train.images: its class in the data set it is from


def _digits_mtl(settings):
    import sklearn.datasets

    source = sklearn.datasets.load_digits()
    # The values are whole numbers from 0 to 16.
    images = (15 * source.images[..., None]).astype(np.uint8)
    held_out = _stratified(source.target, 0.2, np.random.default_rng((settings.seed, 0)))
    train, test = (
        _one_vs_all(images, source.target, [np.flatnonzero(part)] * len(DIGIT_TASKS))
        for part in (~held_out, held_out)
    )
    return _Drawn(DIGIT_TASKS, DIGIT_CLASSES, train, test, strata=source.target)


def _mnist_mtl(settings):
    _, train, test = data_sets.splits("mnist", data_sets.folder(settings.data_dir))
    rng = np.random.default_rng((settings.seed, 0))
    of_digit = [np.flatnonzero(train["label"] == digit) for digit in range(10)]
    train_rows = [
        np.concatenate([rng.choice(rows, 1000, replace=False) for rows in of_digit]) for _ in DIGIT_TASKS
    ]
    test_rows = [rng.choice(len(test["label"]), 200, replace=False) for _ in DIGIT_TASKS]
    return _Drawn(
        DIGIT_TASKS,
        DIGIT_CLASSES,
        train=_one_vs_all(train["image"], train["label"], train_rows),
        test=_one_vs_all(test["image"], test["label"], test_rows),
        strata=train["label"],
    )


def _cifar_mtl(settings):
    features, train, test = data_sets.splits("cifar100", data_sets.folder(settings.data_dir))
    fine, coarse = features["label"].names, features["coarse_label"].names
    # The fine labels of a coarse one are not consecutive, so look which occur with it.
    members = [np.unique(train["label"][train["coarse_label"] == task]) for task in range(len(coarse))]
    place = np.zeros(len(fine), np.int32)
    for labels in members:
        place[labels] = np.arange(len(labels))

    def examples(split):
        image = np.arange(len(split["label"]))
        return Examples(image, split["coarse_label"], place[split["label"]], split["image"])

    classes = tuple(tuple(fine[label] for label in labels) for labels in members)
    return _Drawn(tuple(coarse), classes, examples(train), examples(test), strata=train["label"])


def _min_mtl(settings):
    wanted, held_out = MIN_PER_CLASS[settings.examples_per]
    # Per label one takes what is there, but something to learn from and something to validate on.
    needed = held_out + (wanted if settings.examples_per == "task" else 2)
    jpegs = data_sets.mini_imagenet_jpegs(
        data_sets.folder(settings.data_dir), MIN_TASKS * MIN_LABELS, needed
    )
    rng = np.random.default_rng((settings.seed, 0))
    shuffled = [rng.permutation(of_class) for of_class in jpegs.values()]
    train = _by_class([of_class[held_out : held_out + wanted] for of_class in shuffled])
    test = _by_class([of_class[:held_out] for of_class in shuffled])
    wnids = tuple(jpegs)
    classes = tuple(wnids[i : i + MIN_LABELS] for i in range(0, len(wnids), MIN_LABELS))
    tasks = tuple(f"{of_task[0]}..{of_task[-1]}" for of_task in classes)
    return _Drawn(tasks, classes, train, test, strata=train.task * MIN_LABELS + train.label)


LOADERS = {
    "digits_mtl": _digits_mtl,
    "mnist_mtl": _mnist_mtl,
    "cifar_mtl": _cifar_mtl,
    "min_mtl": _min_mtl,
}


def _one_vs_all(images, digits, rows_per_task):
    """Task k asks of the images in rows_per_task[k] whether they show the digit k."""
    image = np.concatenate(rows_per_task)
    task = np.repeat(np.arange(len(rows_per_task)), [len(rows) for rows in rows_per_task])
    return Examples(image, task, digits[image] == task, images)


def _by_class(jpegs_per_class):
    """Examples of Mini-ImageNet, whose tasks are runs of five classes."""
    from lrn_tf.data import mini_imagenet

    number = np.repeat(np.arange(len(jpegs_per_class)), [len(jpegs) for jpegs in jpegs_per_class])
    images = mini_imagenet.decode(np.concatenate(jpegs_per_class))
    return Examples(np.arange(len(number)), number // MIN_LABELS, number % MIN_LABELS, images)


def _stratified(strata, fraction, rng):
    """Marks a fraction of each stratum, one member at least: bool `[n]`."""
    marked = np.zeros(len(strata), bool)
    for stratum in np.unique(strata):
        rows = np.flatnonzero(strata == stratum)
        marked[rng.choice(rows, max(1, round(fraction * len(rows))), replace=False)] = True
    return marked


def _hold_out(examples, strata, fraction, rng):
    """Parts the examples by image, so that no image is on both sides: what stays, what is held out."""
    used = np.unique(examples.image)
    held_out = np.isin(examples.image, used[_stratified(strata[used], fraction, rng)])
    return [
        Examples(examples.image[part], examples.task[part], examples.label[part], examples.images)
        for part in (~held_out, held_out)
    ]


def _packed(examples, size):
    """Drops the images that no example uses, resizes the others unless size is 0, and sets the types."""
    used, image = np.unique(examples.image, return_inverse=True)
    images = examples.images if len(used) == len(examples.images) else examples.images[used]
    if size:
        images = np.concatenate(
            [preprocessing.resize(chunk, (size, size)).numpy() for chunk in _chunks(images)]
        )
    columns = (column.astype(np.int32) for column in (image, examples.task, examples.label))
    return Examples(*columns, images)


def _chunks(images, size=1024):
    return (images[start : start + size] for start in range(0, len(images), size))
