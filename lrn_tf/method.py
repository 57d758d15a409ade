"""What the trainer needs of a method, and what a method's predictions look like."""

from typing import NamedTuple, Protocol

import tensorflow as tf


class Prediction(NamedTuple):
    """What a method answers for a batch."""

    logits: tf.Tensor  # (B, C) float32
    # (B, T) int32, the modules of each example's network; a number past the last of them adds none
    paths: tf.Tensor
    log_policy: tf.Tensor  # (B,) float32, the log-probability of the path


class Method(Protocol):
    """Something that learns a benchmark. The trainer knows no more of it than this.

    Attributes:
        kinds: the modules that its paths are made of, by the name of their kind; numbered from 0 on
            without a gap. Empty for a method that does not route.
        weights: all weights that training changes.
        metrics: the names of the scalars that `train_step` returns, as TensorBoard tags.
    """

    kinds: dict[str, range]
    weights: list[tf.Variable]
    metrics: tuple[str, ...]

    @property
    def variables(self) -> dict[str, object]:
        """All state that training changes: nested dicts and lists of `tf.Variable`."""

    def train_step(self, images, tasks, labels, seed, learning_rate) -> dict[str, tf.Tensor]:
        """One step on a batch, inside a `tf.function`.

        Args:
            images: float32 `[B, H, W, c]`, standardised; B static.
            tasks: int32 `[B]`.
            labels: int32 `[B]`.
            seed: int32 `[2]`, of everything random in this step.
            learning_rate: float32 scalar.

        Returns:
            a scalar for each of `metrics`.
        """

    def predict(self, images, tasks) -> Prediction:
        """The answers for a batch, without chance. Args as above, but B may be unknown.

        A method whose networks can be run along a path of the caller's has besides:
        `follow(images, paths) -> logits`.
        """
