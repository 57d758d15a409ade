"""Cross-stitch networks (Misra et al. 2016) as in Rosenbaum et al. 2017: a column of layers per task.

The input of task i's layer l is a learned mix of what layer l - 1 of all tasks returned, sum_j w_ij h_j.
All columns of a layer run as one batched matrix product. The last mix is made for the example's own task
alone, which changes nothing; the earlier layers must run for all tasks, since all are mixed.
"""

import keras
import tensorflow as tf

from lrn_tf.data.problem import Problem
from lrn_tf.methods import fc_network
from lrn_tf.methods.columns import make_columns
from lrn_tf.methods.fc_network import UNITS
from lrn_tf.methods.method import count_weights
from lrn_tf.methods.supervised import Supervised
from lrn_tf.settings.table import Settings

# How much of its own column a layer takes in at first; the others share the rest (ours; Misra et al. found
# that a start near the own column is best).
OWN = 0.9


class Stitch(keras.layers.Layer):
    """A learned mix of the tasks' columns."""

    def build(self, shape):
        num_tasks = shape[1]
        others = (1 - OWN) / max(num_tasks - 1, 1)
        start = tf.eye(num_tasks) * (OWN - others) + others
        # (K, K): row i says what task i takes from each column
        self.weight = self.add_weight(shape=start.shape, initializer=lambda *_, **__: start)

    def call(self, x, tasks=None):
        """`[B, K, units]` to the same, or to `[B, units]`: what one task takes, int32 `[B]`."""
        if tasks is None:
            return tf.einsum("ij,bju->biu", self.weight, x)
        return tf.einsum("bj,bju->bu", tf.gather(self.weight, tasks), x)


class CrossStitch(Supervised):
    """The trunk and three stitched layers; its examples have no paths."""

    def __init__(self, problem: Problem):
        super().__init__(problem)
        num_tasks = problem.num_tasks
        self.trunk = fc_network.make_trunk(problem)
        # The last one is given what one task takes.
        self.columns = [
            make_columns(num_tasks, self.trunk.output_shape[1], UNITS, alike=True),
            make_columns(num_tasks, UNITS, UNITS),
            make_columns(num_tasks, UNITS, problem.width, alike=True),
        ]
        self.stitches = [Stitch(), Stitch()]
        for stitch in self.stitches:
            stitch.build((None, num_tasks, UNITS))
        layers = (self.trunk, *self.columns, *self.stitches)
        self.weights = [w.value for layer in layers for w in layer.trainable_variables]

    @classmethod
    def count_parameters(cls, problem: Problem, settings: Settings, kinds=None) -> dict[str, int]:
        """Trainable parameters of the trunk, the layers of all tasks, and the mixes."""
        made = cls.build(problem, settings)
        layers = {f"fc_{i + 1}": count_weights(layer) for i, layer in enumerate(made.columns)}
        return {"trunk": count_weights(made.trunk), **layers, "stitches": count_weights(*made.stitches)}

    @property
    def variables(self) -> dict[str, object]:
        """All state that training changes, for a checkpoint."""
        averages = [v.value for v in self.trunk.non_trainable_variables]
        return {"weights": self.weights, "averages": averages}

    def layers(self, features, tasks):
        """See `Supervised.layers`."""
        first, second, third = self.columns
        # The first layer would mix what is the same for all tasks: nothing to learn there.
        x = tf.nn.relu(first(features))  # (B, K, units)
        x = tf.nn.relu(second(self.stitches[0](x)))  # (B, K, units)
        x = self.stitches[1](x, tasks)  # (B, units)
        # All tasks' outputs are so few that computing them costs less than gathering matrices.
        logits = tf.gather(third(x), tasks, batch_dims=1)  # (B, K, C) -> (B, C)
        return tf.cast(logits, tf.float32), tf.zeros((tf.shape(tasks)[0], 0), tf.int32)
