"""What a network's answers to a batch are worth, example by example, whatever its task asks for."""

import functools

import numpy as np
import tensorflow as tf

from lrn_tf.data.mixup import Mixed
from lrn_tf.data.problem import CLASSES, LABELS, NUMBERS, Problem

IMPOSSIBLE = -1e9  # the logit of a class that a task does not have
RATED = "train/rated"  # whether a batch has an accuracy


class Objectives:
    """The losses of a problem's tasks, by the form of their answers.

    Args:
        problem: the tasks.
        smoothing: the share of its probability that a target class gives to all classes alike.

    Attributes:
        forms: the forms of answers that any task asks for.
        metrics: the names of those of `means` that mean something.

    All methods take `logits`, float32 `[B, C]`, what output modules return, with arbitrary numbers after a
    task's own answers; `tasks`, int32 `[B]`; and `targets` as in `lrn_tf.data.examples.Examples`, or mixed.
    """

    def __init__(self, problem: Problem, smoothing: float = 0.0):
        self._smoothing = smoothing
        tasks, width = problem.tasks, problem.width
        self.forms = list(dict.fromkeys(task.form for task in tasks))
        self._form = np.array([task.form for task in tasks])
        self._own = np.array([np.arange(width) < task.width for task in tasks])  # (K, C)
        self._mean = np.zeros(self._own.shape, np.float32)
        self._std = np.ones(self._own.shape, np.float32)
        for k, task in enumerate(tasks):
            if task.form == NUMBERS and task.mean:
                self._mean[k, : task.width], self._std[k, : task.width] = task.mean, task.std
        self._weight = np.array([task.weight for task in tasks], np.float32)
        self.metrics = ("train/loss", "train/accuracy", RATED)
        if NUMBERS not in self.forms:
            self.metrics = self.metrics[:2]
        elif self.forms == [NUMBERS]:
            self.metrics = self.metrics[:1]

    def loss(self, logits, tasks, targets):
        """The loss of each example, float32 `[B]`, without its task's weight.

        Cross-entropy in nats of a class; the mean over labels of theirs; the mean over numbers of the
        squared error, standardised by the training targets. Of mixed targets the mean, by share.
        """
        if isinstance(targets, Mixed):
            one, other = (self.loss(logits, tasks, t) for t in (targets.targets, targets.others))
            return targets.share * one + (1 - targets.share) * other
        return self._of_forms(
            {
                CLASSES: functools.partial(_cross_entropy, self._smoothing),
                NUMBERS: _squared_error,
                LABELS: _label_entropy,
            },
            logits,
            tasks,
            targets,
        )

    def right(self, logits, tasks, targets):
        """How much of each answer is right, `[B]`: a class, or a share of the labels; 0 for numbers.

        Of two mixed targets the one that counts for more is asked for.
        """
        if isinstance(targets, Mixed):
            targets = targets.targets
        return self._of_forms(
            {CLASSES: _right, NUMBERS: _nothing, LABELS: _right_labels}, logits, tasks, targets
        )

    def weights(self, tasks):
        """What each example's loss counts: float32 `[B]`, or 1 where all tasks count the same."""
        if (self._weight == 1).all():
            return 1.0
        return tf.gather(tf.constant(self._weight), tasks)

    def means(self, losses, right, tasks) -> dict[str, tf.Tensor]:
        """The mean loss and accuracy of a batch, by their names as TensorBoard tags: those in `metrics`.

        `RATED` is 1, or 0 where all examples ask for numbers and the accuracy, 0, means nothing.
        """
        found = {"train/loss": tf.reduce_mean(losses), "train/accuracy": self.mean_right(right, tasks)}
        if RATED in self.metrics:
            found[RATED] = 1 - tf.reduce_min(tf.cast(self.asks_for(NUMBERS, tasks), tf.float32))
        return {name: found[name] for name in self.metrics}

    def mean_right(self, right, tasks):
        """The mean of `right` over examples whose tasks do not ask for numbers; 0 where there are none."""
        if NUMBERS not in self.forms:
            return tf.reduce_mean(right)
        counts = 1 - tf.cast(self.asks_for(NUMBERS, tasks), tf.float32)
        return tf.math.divide_no_nan(tf.reduce_sum(right * counts), tf.reduce_sum(counts))

    def answers(self, logits, tasks):
        """What a user is told, `[B, C]`: probabilities of classes or labels, or numbers in their units.

        0 after a task's own answers.
        """
        made = {CLASSES: lambda x, *_: tf.nn.softmax(x), LABELS: lambda x, *_: tf.sigmoid(x)}
        made[NUMBERS] = lambda x, _, mean, std, __: x * std + mean
        answers = self._of_forms(made, logits, tasks, None)
        if self._own.all():
            return answers
        return tf.where(tf.gather(tf.constant(self._own), tasks), answers, 0.0)

    def _of_forms(self, functions, logits, tasks, targets):
        """For each example what the function of its task's form makes of it."""
        mean, std, own = (None,) * 3
        if targets is not None and len(targets.shape) == 2:
            targets = tf.pad(targets, [[0, 0], [0, self._own.shape[1] - targets.shape[1]]])
        if not self._own.all():
            own = tf.gather(tf.constant(self._own), tasks)  # (B, C)
        if NUMBERS in self.forms:
            mean, std = (tf.gather(tf.constant(table), tasks) for table in (self._mean, self._std))
        found = []
        for form in self.forms:
            x = logits
            if own is not None:
                x = tf.where(own, logits, IMPOSSIBLE if form == CLASSES else 0.0)
            found.append(functions[form](x, targets, mean, std, own))
        if len(found) == 1:
            return found[0]
        result = found[0]
        for form, values in list(zip(self.forms, found, strict=True))[1:]:
            mine = self.asks_for(form, tasks)
            result = tf.where(tf.reshape(mine, [-1] + [1] * (len(values.shape) - 1)), values, result)
        return result

    def asks_for(self, form, tasks):
        """Which examples ask for a form of answers, bool `[B]`."""
        # No comparison of whole numbers, which GPUs leave to the host.
        return tf.gather(tf.constant(self._form == form), tasks)


def _cross_entropy(smoothing, logits, targets, mean, std, own):
    loss = tf.nn.sparse_softmax_cross_entropy_with_logits(_classes(targets, logits), logits)
    if not smoothing:
        return loss
    return (1 - smoothing) * loss + smoothing * _mean(-tf.nn.log_softmax(logits), own)


def _right(logits, targets, *_):
    # As int64, which GPUs compare themselves.
    return tf.cast(
        tf.equal(tf.argmax(logits, axis=1), tf.cast(_classes(targets, logits), tf.int64)), tf.float32
    )


def _classes(targets, logits):
    """The classes in the targets of a batch, of which some may be no classes but numbers."""
    if len(targets.shape) == 1:
        return targets
    classes = tf.clip_by_value(targets[:, 0], 0.0, float(logits.shape[1] - 1))
    return tf.cast(classes, tf.int32)


def _squared_error(logits, targets, mean, std, own):
    return _mean((logits - (targets - mean) / std) ** 2, own)


def _label_entropy(logits, targets, mean, std, own):
    return _mean(tf.nn.sigmoid_cross_entropy_with_logits(targets, logits), own)


def _right_labels(logits, targets, mean, std, own):
    return _mean(tf.cast(tf.equal(logits > 0, targets > 0.5), tf.float32), own)


def _nothing(logits, *_):
    return tf.zeros_like(logits[:, 0])


def _mean(values, own):
    """The mean over a task's own answers."""
    if own is None:
        return tf.reduce_mean(values, axis=1)
    own = tf.cast(own, values.dtype)
    return tf.math.divide_no_nan(tf.reduce_sum(values * own, axis=1), tf.reduce_sum(own, axis=1))
