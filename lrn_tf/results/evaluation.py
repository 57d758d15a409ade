"""Evaluation: the whole test set, or what is held out for validation, under the most probable paths."""

import dataclasses
import functools
from typing import Any

import numpy as np
import tensorflow as tf

from lrn_tf.data.arrays import ENORMOUS
from lrn_tf.data.examples import DeviceExamples, Examples, consecutive_rows
from lrn_tf.data.problem import NUMBERS, Problem
from lrn_tf.learning.objectives import Objectives
from lrn_tf.modules.pool import module_names
from lrn_tf.storage.metrics import Routes

BATCH_SIZE = 256


@dataclasses.dataclass(frozen=True, eq=False)
class Evaluation:
    """What a method does on n examples, one by one and in their order; the rest follows from that.

    Attributes:
        problem: the K tasks.
        kinds: the N modules by the name of their kind; empty for a method without paths.
        task: int `[n]`.
        target: as in `lrn_tf.data.examples.Examples`.
        answers: float `[n, C]`, probabilities of classes or labels, or numbers in the user's units.
        right: float `[n]`, 1 or 0 for a class, the share of labels that are right; 0 for numbers.
        loss: float `[n]`, of `lrn_tf.learning.objectives.Objectives`; in nats for a class.
        paths: int `[n, T]`, the modules of each network; a number past the last of them adds none.
        path_probability: float `[n]`, what the method gives the path.
    """

    problem: Problem
    kinds: dict[str, range]
    task: np.ndarray
    target: np.ndarray
    answers: np.ndarray
    right: np.ndarray
    loss: np.ndarray
    paths: np.ndarray
    path_probability: np.ndarray

    @property
    def num_modules(self) -> int:
        """N."""
        return sum(map(len, self.kinds.values()))

    @property
    def num_tasks(self) -> int:
        """K."""
        return self.problem.num_tasks

    @property
    def label(self) -> np.ndarray:
        """int `[n]`, the class; of no meaning for a task without classes."""
        return (self.target if self.target.ndim == 1 else self.target[:, 0]).astype(int)

    @property
    def predicted(self) -> np.ndarray:
        """int `[n]`, the most probable class; of no meaning for a task without classes."""
        return self.answers.argmax(axis=1)

    @property
    def probability(self) -> np.ndarray:
        """float `[n]`, what the method gives the most probable class."""
        return self.answers.max(axis=1)

    @property
    def examples(self) -> np.ndarray:
        """int `[K]`, the number of examples of each task."""
        return np.bincount(self.task, minlength=self.num_tasks)

    def tasks_of(self, *forms: str) -> list[int]:
        """The numbers of the tasks that ask for one of these forms of answers."""
        return [k for k, task in enumerate(self.problem.tasks) if task.form in forms]

    @property
    def accuracy(self) -> float | None:
        """The mean of `right` over examples whose tasks do not ask for numbers; None if there are none."""
        counts = ~np.isin(self.task, self.tasks_of(NUMBERS))
        return float(self.right[counts].mean(dtype=np.float64)) if counts.any() else None

    @property
    def accuracy_per_task(self) -> np.ndarray:
        """`[K]`; 0 for a task without examples, NaN for one that asks for numbers."""
        right = np.bincount(self.task, weights=self.right, minlength=self.num_tasks)
        share = right / np.maximum(self.examples, 1)
        share[self.tasks_of(NUMBERS)] = np.nan
        return share

    def errors(self, task: int) -> tuple[np.ndarray, np.ndarray]:
        """Of a task that asks for d numbers: mean absolute errors `[d]` in its units, and R2 `[d]`.

        R2 is 1 for what is always right and 0 for what a constant can do, the mean of these targets; it is
        0 where all targets are the same.
        """
        mine, width = self.task == task, self.problem.tasks[task].width
        target, answer = (a[mine, :width].astype(np.float64) for a in (self.target, self.answers))
        if not len(target):
            return np.zeros(width), np.zeros(width)
        spread = ((target - target.mean(axis=0)) ** 2).sum(axis=0)
        missed = ((target - answer) ** 2).sum(axis=0)
        r2 = np.where(spread > 0, 1 - missed / np.where(spread > 0, spread, 1), 0.0)
        r2 = np.maximum(r2, -ENORMOUS)  # which a file can hold
        return np.abs(target - answer).mean(axis=0), r2

    @property
    def mean_loss(self) -> float:
        """Over all examples."""
        return float(self.loss.mean(dtype=np.float64))

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

    def metrics(self) -> dict[str, Any]:
        """What `EpochMetrics` has of it."""
        names, per_task = self.problem.task_names, self.accuracy_per_task
        bits = {kind: self.task_information(of) for kind, of in self.kinds.items()}
        errors = {names[k]: [float(e.mean()) for e in self.errors(k)] for k in self.tasks_of(NUMBERS)}
        return {
            "eval_loss": self.mean_loss,
            "eval_accuracy": self.accuracy,
            "eval_accuracy_per_task": {
                name: float(share) for name, share in zip(names, per_task, strict=True) if share == share
            },
            "eval_mae_per_task": {name: mae for name, (mae, _) in errors.items()},
            "eval_r2_per_task": {name: r2 for name, (_, r2) in errors.items()},
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

    def __init__(self, method, examples: Examples, problem: Problem):
        """Args: method: a `lrn_tf.methods.method.Method`. examples: on the host. problem: the tasks."""
        self._method = method
        self._examples = DeviceExamples(examples, problem)
        self._problem = problem
        self._objectives = Objectives(problem)
        self._evaluate_batch = tf.function(self._evaluate_batch, autograph=False)

    @property
    def _batch_size(self):
        return min(BATCH_SIZE, self._examples.size)

    def trace(self) -> None:
        """Makes the graph, so that a call need not."""
        self._evaluate_batch.get_concrete_function(tf.TensorSpec([self._batch_size], tf.int32))

    def __call__(self) -> Evaluation:
        size = self._examples.size
        rows = consecutive_rows(size, self._batch_size)
        # Fetched after the last batch: until then nothing waits for the device.
        batches = [self._evaluate_batch(tf.constant(of_batch)) for of_batch in rows]
        # The rows that fill up the last batch come last.
        columns = {name: np.concatenate([b[name].numpy() for b in batches])[:size] for name in batches[0]}
        return Evaluation(self._problem, self._method.kinds, **columns)

    def _evaluate_batch(self, rows):
        """The columns of Evaluation, by name, for some rows."""
        inputs, tasks, targets = self._examples.batch(rows)
        prediction = self._method.predict(inputs, tasks)
        logits = prediction.logits
        return {
            "task": tasks,
            "target": targets,
            "answers": self._objectives.answers(logits, tasks),
            "right": self._objectives.right(logits, tasks, targets),
            "loss": self._objectives.loss(logits, tasks, targets),
            "paths": prediction.paths,
            "path_probability": tf.exp(prediction.log_policy),
        }
