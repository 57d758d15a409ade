"""Methods that learn by gradient descent on the loss of their answers and nothing else."""

import abc

import keras
import tensorflow as tf

from lrn_tf.data.problem import Problem
from lrn_tf.devices import replicas
from lrn_tf.learning.objectives import Objectives
from lrn_tf.methods.method import Prediction
from lrn_tf.modules.pool import Pool
from lrn_tf.settings.table import Settings


class Supervised(abc.ABC):
    """A trunk and what comes after it. A `lrn_tf.methods.method.Method`; subclasses say what network it is.

    Attributes:
        trunk: the layers that all tasks share.
        weights: all trainable weights.
    """

    # Weights and gradients, four bytes each.
    BYTES_PER_PARAMETER = 8

    kinds: dict[str, range] = {}
    pool: Pool | None = None
    trunk: keras.Sequential
    weights: list[tf.Variable]

    def __init__(self, problem: Problem):
        self.objectives = Objectives(problem)
        self.metrics = self.objectives.metrics

    @classmethod
    def build(cls, problem: Problem, settings: Settings, kinds=None):
        """See `lrn_tf.methods.build.build`."""
        return cls(problem)

    @abc.abstractmethod
    def layers(self, features, tasks):
        """What comes after the trunk: logits float32 `[B, C]`, and paths as in `Prediction`."""

    def train_step(self, inputs, tasks, targets, seed, learning_rate) -> dict[str, tf.Tensor]:
        """One step of SGD; see `Method.train_step`."""
        whole = tasks
        inputs, tasks, targets = replicas.mine((inputs, tasks, targets))
        with tf.GradientTape() as tape:
            logits, _ = self.layers(self.trunk(inputs, training=True), tasks)
            losses = self.objectives.loss(logits, tasks, targets)
            loss = tf.reduce_mean(losses * self.objectives.weights(tasks)) / replicas.count()
        # A gather's gradient comes as rows.
        gradients = [tf.convert_to_tensor(g) for g in tape.gradient(loss, self.weights)]
        gradients = replicas.total(gradients)
        descend(self.weights, gradients, learning_rate)
        losses, right = replicas.gather((losses, self.objectives.right(logits, tasks, targets)))
        return self.objectives.means(losses, right, whole)

    def predict(self, inputs, tasks) -> Prediction:
        """See `Method.predict`."""
        logits, paths = self.layers(self.trunk(inputs, training=False), tasks)
        return Prediction(logits, paths, tf.zeros_like(tasks, tf.float32))


def descend(weights, gradients, rate) -> None:
    """A step of plain stochastic gradient descent."""
    for weight, gradient in zip(weights, gradients, strict=True):
        tf.raw_ops.ResourceApplyGradientDescent(var=weight.handle, alpha=rate, delta=gradient)
