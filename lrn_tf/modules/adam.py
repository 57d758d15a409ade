"""Adam that leaves untouched what the batch did not use."""

import functools
from collections.abc import Sequence

import tensorflow as tf

BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8


class GroupedAdam:
    """Adam (Kingma and Ba 2015) over groups of weights, each of which has a step count of its own.

    A module that no example used gets no update: "its parameters will not be updated after that batch"
    (Sec. 5.3). Plain Adam would still move it along its old moments. For the same reason the bias
    correction counts the updates of the group, not of the run.

    Args:
        groups: the weights of each group, for instance of each module.
    """

    def __init__(self, groups: Sequence[Sequence[tf.Variable]]):
        self.groups = [list(group) for group in groups]
        self.first = [[_zeros_like(w) for w in group] for group in self.groups]
        self.second = [[_zeros_like(w) for w in group] for group in self.groups]
        with tf.device("CPU:0"):
            self.counts = tf.Variable(tf.zeros(len(self.groups), tf.int64), trainable=False, name="counts")

    @property
    def variables(self) -> dict[str, object]:
        """All state, for a checkpoint."""
        return {"counts": self.counts, "first": self.first, "second": self.second}

    def apply(self, gradients: Sequence[Sequence[tf.Tensor]], used, learning_rate) -> None:
        """One step.

        Args:
            gradients: of each weight of each group.
            used: bool `[number of groups]` in host memory; other groups stay bit-identical.
            learning_rate: float32 scalar.
        """
        counts = self.counts.assign_add(tf.cast(used, tf.int64), read_value=True)
        powers = tf.cast(counts, tf.float32)
        powers = tf.unstack(BETA_1**powers), tf.unstack(BETA_2**powers)
        for i, on in enumerate(tf.unstack(used, len(self.groups))):
            update = functools.partial(
                self._update, i, gradients[i], powers[0][i], powers[1][i], learning_rate
            )
            tf.cond(on, update, lambda: None)

    def _update(self, group, gradients, power_1, power_2, learning_rate):
        slots = zip(self.groups[group], self.first[group], self.second[group], gradients, strict=True)
        for weight, first, second, gradient in slots:
            # One pass over memory on any device; written out in tensor operations it would be seven.
            tf.raw_ops.ResourceApplyAdam(
                var=weight.handle,
                m=first.handle,
                v=second.handle,
                beta1_power=power_1,
                beta2_power=power_2,
                lr=learning_rate,
                beta1=BETA_1,
                beta2=BETA_2,
                epsilon=EPSILON,
                grad=gradient,
            )


def _zeros_like(weight):
    return tf.Variable(tf.zeros_like(weight), trainable=False)
