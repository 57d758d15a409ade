"""Methods that learn by gradient descent on the cross-entropy and nothing else."""

import abc

import keras
import tensorflow as tf

from lrn_tf import replicas
from lrn_tf.data.benchmarks import Problem
from lrn_tf.methods.losses import cross_entropy, right
from lrn_tf.methods.method import Prediction
from lrn_tf.modules.pool import Pool
from lrn_tf.settings import Settings


class Supervised(abc.ABC):
    """A trunk and what comes after it. A `lrn_tf.methods.method.Method`; subclasses say what network it is.

    Attributes:
        trunk: the layers that all tasks share.
        weights: all trainable weights.
    """

    # Weights and gradients, four bytes each.
    BYTES_PER_PARAMETER = 8

    metrics = ("train/loss", "train/accuracy")
    kinds: dict[str, range] = {}
    pool: Pool | None = None
    trunk: keras.Sequential
    weights: list[tf.Variable]

    @classmethod
    def build(cls, problem: Problem, settings: Settings):
        """See `lrn_tf.methods.build.build`."""
        return cls(problem.image_shape, problem.num_tasks, problem.num_classes)

    @abc.abstractmethod
    def layers(self, features, tasks):
        """What comes after the trunk: logits float32 `[B, C]`, and paths as in `Prediction`."""

    def train_step(self, images, tasks, labels, seed, learning_rate) -> dict[str, tf.Tensor]:
        """One step of SGD; see `Method.train_step`."""
        images, tasks, labels = replicas.mine((images, tasks, labels))
        with tf.GradientTape() as tape:
            logits, _ = self.layers(self.trunk(images, training=True), tasks)
            loss = tf.reduce_mean(cross_entropy(logits, labels)) / replicas.count()
        # A gather's gradient comes as rows.
        gradients = [tf.convert_to_tensor(g) for g in tape.gradient(loss, self.weights)]
        accuracy = tf.reduce_mean(right(logits, labels)) / replicas.count()
        gradients, loss, accuracy = replicas.total((gradients, loss, accuracy))
        descend(self.weights, gradients, learning_rate)
        return {"train/loss": loss, "train/accuracy": accuracy}

    def predict(self, images, tasks) -> Prediction:
        """See `Method.predict`."""
        logits, paths = self.layers(self.trunk(images, training=False), tasks)
        return Prediction(logits, paths, tf.zeros_like(tasks, tf.float32))


def descend(weights, gradients, rate) -> None:
    """A step of plain stochastic gradient descent."""
    for weight, gradient in zip(weights, gradients, strict=True):
        tf.raw_ops.ResourceApplyGradientDescent(var=weight.handle, alpha=rate, delta=gradient)
