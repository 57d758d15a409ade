"""Examples of several tasks, on the host and on the device, and in which order they are learned."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from lrn_tf.data.images import resize, standardise
from lrn_tf.data.problem import InputSpec, Problem

PROPORTIONAL, SQRT = "proportional", "sqrt"


@dataclasses.dataclass(frozen=True, eq=False)
class Examples:
    """Examples of all tasks; tasks may share what they are shown, which is held once.

    Attributes:
        row: int32 `[n]`, where in the array of its task's input the example's is.
        task: int32 `[n]`.
        target: int32 `[n]`, the class within the task, where all tasks have classes; otherwise float32
            `[n, C]`: the class in column 0, numbers in the user's units, or 0 and 1 for labels; then 0.
        inputs: for each input `[m, *shape]`, every row used by some example.
    """

    row: np.ndarray
    task: np.ndarray
    target: np.ndarray
    inputs: tuple[np.ndarray, ...]

    def __len__(self):
        return len(self.row)

    def some(self, rows) -> "Examples":
        """Those examples; what they are shown is not copied."""
        return Examples(self.row[rows], self.task[rows], self.target[rows], self.inputs)

    def shown(self, problem: Problem, example: int) -> np.ndarray | None:
        """The image that an example brings, uint8 `[H, W, 1 or 3]`; None if it brings no image."""
        number = problem.input_of[self.task[example]]
        if not problem.inputs[number].is_image:
            return None
        image = self.inputs[number][self.row[example]]
        return image if image.shape[-1] in (1, 3) else image[..., :1]

    @property
    def nbytes(self) -> int:
        """Of what they are shown, and of their targets."""
        return sum(array.nbytes for array in (*self.inputs, self.target))


class DeviceExamples:
    """Examples in device memory, gathered and standardised a batch at a time.

    The step reads all it needs from here, so that training never waits for a pipeline.
    """

    def __init__(self, examples: Examples, problem: Problem):
        self.size = len(examples)
        self._problem = problem
        # Variables: GPUs can take rows of them, but cannot of a constant of bytes.
        self._inputs = [tf.Variable(_not_empty(array), trainable=False) for array in examples.inputs]
        # The host takes rows of whole numbers, which steer what runs.
        with tf.device("CPU:0"):
            self._row, self._task = tf.constant(examples.row), tf.constant(examples.task)
            self._target = tf.constant(examples.target)
        if self._target.dtype.is_floating:
            self._target = tf.Variable(self._target, trainable=False)

    def batch(self, rows):
        """A batch.

        Args:
            rows: int32 `[B]`.

        Returns:
            inputs: float32 `[B, *shape]`, standardised, or int32 tokens; a tuple of them where the problem
                has several inputs, in which rows of examples with another input are any.
            tasks: int32 `[B]`.
            targets: as in `Examples`, `[B, ..]`.
        """
        with tf.device("CPU:0"):
            row, task = tf.gather(self._row, rows), tf.gather(self._task, rows)
            mine = [row]
            if len(self._inputs) > 1:
                of_task = tf.gather(tf.constant(self._problem.input_of), task)
                mine = [tf.where(of_task == i, row, 0) for i in range(len(self._inputs))]
        with tf.device("CPU:0" if self._target.dtype.is_integer else None):
            target = tf.gather(self._target, rows)
        inputs = [
            prepare(tf.gather(array, row), spec)
            for array, row, spec in zip(self._inputs, mine, self._problem.inputs, strict=True)
        ]
        return inputs[0] if len(inputs) == 1 else tuple(inputs), task, target


def _not_empty(array):
    """The array, or a row of it where no example needs one, which yet are gathered."""
    return array if len(array) else np.zeros((1, *array.shape[1:]), array.dtype)


def prepare(values, spec: InputSpec):
    """What the network sees of an input `[B, *shape]`: tokens as they are, all else standardised."""
    if not spec.mean:
        return values
    return standardise(values, tf.constant(spec.mean), tf.constant(spec.std))


def prepare_all(inputs, tasks, problem: Problem):
    """What the network sees of what a user brings.

    Args:
        inputs: an array `[B, *shape]`, or one by the name of each input; images uint8 of any size.
        tasks: int32 `[B]`.
        problem: whose inputs they are.

    Returns:
        as in `DeviceExamples.batch`, with 0 in the rows of inputs that an example does not bring.
    """
    if not isinstance(inputs, Mapping):
        inputs = {given.name: inputs for given in problem.inputs[:1]}
    prepared = []
    for given in problem.inputs:
        x = inputs[given.name]
        if given.is_image:
            # Resizing to the size that they have changes nothing.
            x = tf.ensure_shape(resize(x, given.shape[:2]), (None, *given.shape))
        prepared.append(prepare(x, given))
    if len(prepared) == 1:
        return prepared[0]
    of_task = tf.gather(tf.constant(problem.input_of), tasks)
    needed = [tf.reshape(of_task == i, [-1] + [1] * (len(x.shape) - 1)) for i, x in enumerate(prepared)]
    return tuple(tf.where(mine, x, tf.zeros((), x.dtype)) for mine, x in zip(needed, prepared, strict=True))


def shuffled_rows(task: np.ndarray, batch_size: int, seed: int, epoch: int, sampling: str) -> np.ndarray:
    """The rows of each batch of an epoch, int32 `[steps, batch_size]`; what fills no batch is dropped.

    Args:
        task: int `[n]`, the task of each example.
        batch_size: B.
        seed: of the run.
        epoch: counted from 0.
        sampling: how often a task with n_k examples is drawn. `proportional`: every example once, so in
            proportion to n_k. `equal`: all tasks alike. `sqrt`: in proportion to the root of n_k.
    """
    steps = len(task) // batch_size
    rng = np.random.default_rng((seed, epoch))
    if sampling == PROPORTIONAL:
        order = rng.permutation(len(task))[: steps * batch_size]
    else:
        order = rng.permutation(_drawn(task, steps * batch_size, rng, 0.5 if sampling == SQRT else 0.0))
    return order.reshape(steps, batch_size).astype(np.int32)


def _drawn(task, count, rng, power):
    """So many rows; a task's come in whole rounds of all its examples, and one round that is cut short."""
    members = [np.flatnonzero(task == k) for k in np.unique(task)]
    share = np.array([len(rows) for rows in members], float) ** power
    ends = np.round(np.cumsum(share) / share.sum() * count).astype(int)
    drawn = []
    for rows, wanted in zip(members, np.diff(ends, prepend=0), strict=True):
        rounds = [rng.permutation(rows) for _ in range(-(-wanted // len(rows)))]
        drawn.append(np.concatenate([*rounds, rows[:0]])[:wanted])
    return np.concatenate(drawn)


def consecutive_rows(size: int, batch_size: int) -> np.ndarray:
    """All rows once and in order, in batches of one size, int32 `[batches, batch_size]`.

    The last batch is filled up with row 0.
    """
    rows = np.arange(-(-size // batch_size) * batch_size, dtype=np.int32)
    return np.where(rows < size, rows, 0).reshape(-1, batch_size)


def joined(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Targets of several tasks, `[n_k]` or `[n_k, C_k]` each, as one array; see `Examples`."""
    if all(part.ndim == 1 for part in parts):
        return np.concatenate(parts).astype(np.int32)
    parts = [part.reshape(len(part), -1).astype(np.float32) for part in parts]
    width = max(part.shape[1] for part in parts)
    return np.concatenate([np.pad(part, ((0, 0), (0, width - part.shape[1]))) for part in parts])
