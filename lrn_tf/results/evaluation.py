"""Evaluation: the whole test set, or what is held out for validation, under the most probable paths."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from lrn_tf.data.batches import DeviceExamples, consecutive_rows
from lrn_tf.methods.losses import cross_entropy
from lrn_tf.methods.method import Method
from lrn_tf.modules.pool import module_names
from lrn_tf.storage.metrics import Routes

BATCH_SIZE = 256


@dataclasses.dataclass(frozen=True, eq=False)
class Evaluation:
    """What a method does on n examples, one by one and in their order; the rest follows from that.

    Attributes:
        num_tasks: K.
        kinds: the N modules by the name of their kind; empty for a method that does not route.
        task: int `[n]`.
        label: int `[n]`.
        predicted: int `[n]`, the most probable class.
        probability: float `[n]`, what the method gives that class.
        cross_entropy: float `[n]`, in nats.
        paths: int `[n, T]`, the modules of each network; a number past the last of them adds none.
        path_probability: float `[n]`, what the method gives the path.
    """

    num_tasks: int
    kinds: dict[str, range]
    task: np.ndarray
    label: np.ndarray
    predicted: np.ndarray
    probability: np.ndarray
    cross_entropy: np.ndarray
    paths: np.ndarray
    path_probability: np.ndarray

    @property
    def num_modules(self) -> int:
        """N."""
        return sum(map(len, self.kinds.values()))

    @property
    def right(self) -> np.ndarray:
        """bool `[n]`, which are classified correctly."""
        return self.predicted == self.label

    @property
    def examples(self) -> np.ndarray:
        """int `[K]`, the number of examples of each task."""
        return np.bincount(self.task, minlength=self.num_tasks)

    @property
    def accuracy(self) -> float:
        return float(self.right.mean())

    @property
    def accuracy_per_task(self) -> np.ndarray:
        """`[K]`; 0 for a task without examples."""
        right = np.bincount(self.task[self.right], minlength=self.num_tasks)
        return right / np.maximum(self.examples, 1)

    @property
    def ce(self) -> float:
        """Mean cross-entropy in nats."""
        return float(self.cross_entropy.mean(dtype=np.float64))

    @property
    def confidence(self) -> float:
        """Mean probability of the chosen path."""
        return float(self.path_probability.mean(dtype=np.float64))

    @property
    def lengths(self) -> np.ndarray:
        """int `[n]`, the number of modules in each network."""
        return (self.paths < self.num_modules).sum(axis=1)

    @property
    def mean_length(self) -> float:
        """Modules in a network."""
        return float(self.lengths.mean())

    @functools.cached_property
    def chosen(self) -> np.ndarray:
        """int `[K, N]`, how many networks of each task hold each module."""
        added = self.paths < self.num_modules
        cell = (self.task[:, None] * self.num_modules + self.paths)[added]
        counts = np.bincount(cell, minlength=self.num_tasks * self.num_modules)
        return counts.reshape(self.num_tasks, self.num_modules)

    @property
    def unused_modules(self) -> int:
        """Modules in nobody's network (Sec. 5.3)."""
        return int((self.chosen.sum(axis=0) == 0).sum())

    def task_information(self, modules) -> float:
        """`task_information` of some of the modules."""
        return task_information(self.chosen[:, list(modules)])

    @property
    def sharing(self) -> np.ndarray:
        """`[K, K]`, how much of two tasks' networks is the same; NaN for a task without a module.

        Of the modules in the networks of two examples, the share that is in both: |A and B| over the mean
        of |A| and |B|, each as expected for two examples drawn at random, one from each task. Beside the
        diagonal 1 means that the two tasks have one network; on it, that the task has a single one.
        """
        use = self.chosen / np.maximum(self.examples, 1)[:, None]  # (K, N)
        length = use.sum(axis=1)
        mean = (length[:, None] + length) / 2
        mean[(length == 0)[:, None] | (length == 0)] = np.nan
        return use @ use.T / mean

    @functools.cached_property
    def networks(self) -> tuple[np.ndarray, np.ndarray]:
        """The distinct networks, and whose they are.

        Returns:
            int `[U, T]`, the paths without gaps, filled up with N, most used first; and int `[n]`, which
            of them each example has.
        """
        paths = np.minimum(self.paths, self.num_modules)
        order = np.argsort(paths == self.num_modules, axis=1, kind="stable")
        paths = np.take_along_axis(paths, order, axis=1)
        found, which, count = np.unique(paths, axis=0, return_inverse=True, return_counts=True)
        rank = np.argsort(-count, kind="stable")
        return found[rank], np.argsort(rank)[which]

    def metrics(self, tasks: Sequence[str]) -> dict[str, Any]:
        """What `EpochMetrics` has of it; `tasks` are the names of the K tasks."""
        bits = {kind: self.task_information(of) for kind, of in self.kinds.items()}
        return {
            "eval_loss": self.ce,
            "eval_accuracy": self.accuracy,
            "eval_accuracy_per_task": dict(zip(tasks, map(float, self.accuracy_per_task), strict=True)),
            "routes": Routes(self.unused_modules, self.mean_length, bits) if self.kinds else None,
        }

    def names(self, path) -> list[str]:
        """The modules of a path, such as `conv.3`."""
        known = module_names(self.kinds)
        return [known[module] for module in path if module < len(known)]


def task_information(chosen: np.ndarray) -> float:
    """Mutual information in bits between an example's task and which module it uses.

    0 means that tasks share them alike; log2 of the number of tasks, that each has its own.

    Args:
        chosen: int `[K, modules]`, how many networks of each task hold each of the modules.
    """
    if not chosen.sum():
        return 0.0
    joint = chosen / chosen.sum()
    independent = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
    some = joint > 0
    # Rounding can leave a tiny negative number.
    return float(max(0.0, (joint[some] * np.log2(joint[some] / independent[some])).sum()))


class Evaluator:
    """Evaluates a method on examples that stay on the device."""

    def __init__(self, method: Method, examples: DeviceExamples, num_tasks: int):
        self._method = method
        self._examples = examples
        self._num_tasks = num_tasks
        self._evaluate_batch = tf.function(self._evaluate_batch, autograph=False)

    def __call__(self) -> Evaluation:
        size = self._examples.size
        rows = consecutive_rows(size, min(BATCH_SIZE, size))
        # Fetched after the last batch: until then nothing waits for the device.
        batches = [self._evaluate_batch(tf.constant(of_batch)) for of_batch in rows]
        # The rows that fill up the last batch come last.
        columns = {name: np.concatenate([b[name].numpy() for b in batches])[:size] for name in batches[0]}
        return Evaluation(self._num_tasks, self._method.kinds, **columns)

    def _evaluate_batch(self, rows):
        """The columns of Evaluation, by name, for some rows."""
        images, tasks, labels = self._examples.batch(rows)
        prediction = self._method.predict(images, tasks)
        return {
            "task": tasks,
            "label": labels,
            "predicted": tf.argmax(prediction.logits, axis=1, output_type=tf.int32),
            "probability": tf.reduce_max(tf.nn.softmax(prediction.logits), axis=1),
            "cross_entropy": cross_entropy(prediction.logits, labels),
            "paths": prediction.paths,
            "path_probability": tf.exp(prediction.log_policy),
        }
