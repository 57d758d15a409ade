"""A shared convolutional trunk and three layers of fully connected blocks (Rosenbaum et al. 2017).

Routing networks are made of it, and the networks that they are compared with. A layer has several
blocks; which one an example takes is not decided here.
"""

from collections.abc import Callable, Sequence

import keras
import tensorflow as tf

from lrn_tf.data.problem import Problem
from lrn_tf.devices import replicas
from lrn_tf.errors import UserError
from lrn_tf.methods.method import count_weights
from lrn_tf.modules.dispatch import Modules
from lrn_tf.modules.pool import HIDDEN, INPUT, OUTPUT, Given, Kind, Pool

LAYERS = 3
FILTERS, UNITS = 32, 128
CONVOLUTIONS = 4
# PyTorch's values, which the published code of routing networks has; Keras' differ (ours).
MOMENTUM, EPSILON = 0.9, 1e-5


def make_trunk(problem: Problem) -> keras.Sequential:
    """Four times a 3x3 convolution, batch norm, ReLU and 2x2 max pooling, which stops at one pixel.

    Raises:
        UserError: the problem has other inputs than images of one size.
    """
    try:
        image = problem.the_image("a method with a trunk").shape
    except ValueError as error:
        raise UserError(f"{error}; choose --method=lrn with a pool for them") from error
    layers, side = [], min(image[:2])
    for _ in range(CONVOLUTIONS):
        layers += [
            keras.layers.Conv2D(FILTERS, 3, padding="same"),
            keras.layers.BatchNormalization(
                momentum=MOMENTUM, epsilon=EPSILON, synchronized=replicas.count() > 1
            ),
            keras.layers.ReLU(),
        ]
        if side >= 2:
            layers.append(keras.layers.MaxPooling2D())
            side //= 2
    trunk = keras.Sequential([*layers, keras.layers.Flatten()])
    trunk.build((None, *image))
    return trunk


def make_blocks(features: int, width: int, blocks: Sequence[int]) -> Pool:
    """The blocks as a pool: one kind per layer, of which every network holds one module each."""

    def hidden():
        return keras.layers.Dense(UNITS, activation="relu")

    first, second, third = blocks
    return Pool(
        [
            Kind("fc_1", INPUT, (features,), (UNITS,), hidden, first),
            Kind("fc_2", HIDDEN, (UNITS,), (UNITS,), hidden, second),
            Kind("fc_3", OUTPUT, (UNITS,), (width,), lambda: keras.layers.Dense(width), third),
        ],
        [Given("features", (features,))],
    )


class FCNetwork:
    """The trunk and the blocks.

    Args:
        problem: the tasks, whose answers have C numbers at the most.
        blocks: the number of blocks in each layer.
        told: how many numbers besides the trunk's features the first layer gets.

    Attributes:
        trunk: the trunk.
        features: the width of what it returns, F.
        pool: the blocks.
        weights: all trainable weights.
    """

    def __init__(self, problem: Problem, blocks: Sequence[int], told: int = 0):
        self.trunk = make_trunk(problem)
        self.features = self.trunk.output_shape[1]
        self.pool = make_blocks(self.features + told, problem.width, blocks)
        self._blocks = Modules(self.pool, LAYERS)
        self.weights = [w.value for w in self.trunk.trainable_variables]
        self.weights += tf.nest.flatten(self._blocks.weights)

    @property
    def variables(self) -> dict[str, object]:
        """All state: the weights, and the trunk's moving averages."""
        averages = [v.value for v in self.trunk.non_trainable_variables]
        return {"weights": self.weights, "averages": averages}

    def count_parameters(self) -> dict[str, int]:
        """Trainable parameters of the trunk and of each layer's blocks."""
        return {"trunk": count_weights(self.trunk), **self.pool.count_parameters()}

    def run(self, features, choose: Callable):
        """Runs the three layers.

        Args:
            features: `[B, F]`, what the trunk returned.
            choose: called with a layer's number and its input `[B, ..]`, before the layer runs;
                returns int32 `[B]`, which of its blocks each example takes.

        Returns:
            logits: float32 `[B, C]`.
            paths: int32 `[B, 3]`, the blocks by their number in the pool.
        """
        x, paths = features, []
        for layer in range(LAYERS):
            block = choose(layer, x)
            paths.append(self.pool.modules(layer)[0] + block)
            x = self._blocks.run_kind(layer, x, block)
        return tf.cast(x, tf.float32), tf.stack(paths, axis=1)
