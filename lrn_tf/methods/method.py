"""What the trainer needs of a method, and what a method's predictions look like."""

from typing import NamedTuple, Protocol

import keras
import tensorflow as tf

from lrn_tf.data.problem import Problem
from lrn_tf.modules.pool import Pool
from lrn_tf.settings.table import Settings


class Prediction(NamedTuple):
    """What a method answers for a batch."""

    logits: tf.Tensor  # (B, C) float32, arbitrary after the answers of the example's task
    # (B, T) int32, the modules of each example's network; a number past the last of them adds none
    paths: tf.Tensor
    log_policy: tf.Tensor  # (B,) float32, the log-probability of the path


class Method(Protocol):
    """Something that learns a benchmark. The trainer knows no more of it than this.

    A new one is a file, a line in `lrn_tf.methods.build.METHODS` and its name in `lrn_tf.settings.table`.

    Attributes:
        BYTES_PER_PARAMETER: of memory while it learns, for weights, gradients and the optimizer.
        kinds: the modules that its paths are made of, by the name of their kind; numbered from 0 on
            without a gap. Empty where examples have no paths.
        pool: what the modules are; None where examples have no paths.
        trunk: what every example passes before its first module; None if there is no such thing.
        weights: all weights that training changes.
        metrics: the names of the scalars that `train_step` returns, as TensorBoard tags.
    """

    BYTES_PER_PARAMETER: int
    kinds: dict[str, range]
    pool: Pool | None
    trunk: keras.Sequential | None
    weights: list[tf.Variable]
    metrics: tuple[str, ...]

    @classmethod
    def build(cls, problem: Problem, settings: Settings, kinds=None) -> "Method":
        """Makes it, as `lrn_tf.methods.build.build` does.

        Raises:
            UserError: the settings and the problem do not go together.
        """

    @staticmethod
    def count_parameters(problem: Problem, settings: Settings, kinds=None) -> dict[str, int]:
        """Trainable parameters by the name of a part; called where nothing large may be allocated."""

    @property
    def variables(self) -> dict[str, object]:
        """All state that training changes: nested dicts and lists of `tf.Variable`."""

    def train_step(self, inputs, tasks, targets, seed, learning_rate) -> dict[str, tf.Tensor]:
        """One step on a batch, inside a `tf.function`.

        Where several replicas share the batch, all call it with the whole batch and take their parts
        themselves (`lrn_tf.devices.replicas`); what they return and change must then be the same.

        Args:
            inputs: float32 `[B, *shape]`, standardised, or int32 tokens; B static. A tuple of them where
                the problem has several inputs; rows of examples that bring another one are any.
            tasks: int32 `[B]`.
            targets: as in `lrn_tf.data.examples.Examples`, or `lrn_tf.data.mixup.Mixed`.
            seed: int32 `[2]`, of everything random in this step.
            learning_rate: float32 scalar.

        Returns:
            a scalar for each of `metrics`.
        """

    def predict(self, inputs, tasks) -> Prediction:
        """The answers for a batch, without chance. Args as above, but B may be unknown.

        A method whose networks can be run along a path of the caller's has besides:
        `follow(inputs, tasks, paths) -> logits`; and one that embeds modules, tasks and examples into one
        space `embeddings(inputs, tasks) -> dict`, by what they are of.
        """


def count_weights(*layers: keras.layers.Layer) -> int:
    """Trainable parameters."""
    return sum(w.shape.num_elements() for layer in layers for w in layer.trainable_variables)
