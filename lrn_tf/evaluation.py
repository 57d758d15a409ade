"""Evaluation: the whole test set under the most probable paths."""

import dataclasses

import numpy as np
import tensorflow as tf

from lrn_tf.batches import DeviceExamples, consecutive_rows
from lrn_tf.method import Method

BATCH_SIZE = 256


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What a method does on a set of examples; K tasks, N modules.

    Attributes:
        examples: int `[K]`, the number of examples of each task.
        right: int `[K]`, how many of them are classified correctly.
        ce: mean cross-entropy in nats.
        chosen: int `[K, N]`, how many networks of each task hold each module.
        confidence: mean probability of the chosen path.
    """

    examples: np.ndarray
    right: np.ndarray
    ce: float
    chosen: np.ndarray
    confidence: float

    @property
    def accuracy(self) -> float:
        return float(self.right.sum() / self.examples.sum())

    @property
    def accuracy_per_task(self) -> np.ndarray:
        return self.right / np.maximum(self.examples, 1)

    @property
    def unused_modules(self) -> int:
        """Modules in nobody's network (Sec. 5.3)."""
        return int((self.chosen.sum(axis=0) == 0).sum())

    @property
    def mean_length(self) -> float:
        """Modules in a network."""
        return float(self.chosen.sum() / self.examples.sum())

    def task_information(self, modules) -> float:
        """`task_information` of some of the modules."""
        return task_information(self.chosen[:, list(modules)])


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
        self._num_modules = sum(len(modules) for modules in method.kinds.values())
        self._evaluate_batch = tf.function(self._evaluate_batch, autograph=False)

    def __call__(self) -> Evaluation:
        totals = None
        rows, real = consecutive_rows(self._examples.size, min(BATCH_SIZE, self._examples.size))
        for batch in zip(rows, real, strict=True):
            sums = self._evaluate_batch(*(tf.constant(b) for b in batch))
            totals = sums if totals is None else [a + b for a, b in zip(totals, sums, strict=True)]
        examples, right, ce, chosen, probability = (total.numpy() for total in totals)
        count = examples.sum()
        return Evaluation(
            examples=examples,
            right=right,
            ce=float(ce / count),
            chosen=chosen,
            confidence=float(probability / count),
        )

    def _evaluate_batch(self, rows, real):
        """Sums over the real rows: the fields of Evaluation, before division."""
        images, tasks, labels = self._examples.batch(rows)
        prediction = self._method.predict(images, tasks)
        weight = tf.cast(real, tf.int32)
        right = weight * tf.cast(tf.argmax(prediction.logits, 1, tf.int32) == labels, tf.int32)
        ce = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, prediction.logits)
        used = tf.reduce_sum(tf.one_hot(prediction.paths, self._num_modules, dtype=tf.int32), axis=1)

        def per_task(x):
            # A matrix product: sums over rows in an order that does not depend on the device.
            return tf.matmul(tf.one_hot(tasks, self._num_tasks, dtype=tf.int32), x, transpose_a=True)

        return [
            per_task(weight[:, None])[:, 0],
            per_task(right[:, None])[:, 0],
            tf.reduce_sum(tf.cast(ce, tf.float64) * tf.cast(weight, tf.float64)),
            per_task(used * weight[:, None]),
            tf.reduce_sum(tf.exp(tf.cast(prediction.log_policy, tf.float64)) * tf.cast(weight, tf.float64)),
        ]
