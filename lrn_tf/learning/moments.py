"""The scale that the critic works in: returns are standardised by their running moments (ours)."""

import tensorflow as tf

from lrn_tf.learning.averages import of_each_step

# A batch's weight in the moments, once there have been enough of them for a plain mean to weigh less.
RATE = 0.02
EPSILON = 1e-3


class RunningMoments:
    """Mean and variance of the returns of each step, over the latest batches.

    Returns lie around -5, shrink with t and spread by several nats. A critic that had to find that out by
    itself would need hundreds of steps. Meanwhile its errors would drown the actor's gradient, as the norm
    of both together is clipped.

    Args:
        depth: T.
    """

    def __init__(self, depth: int):
        self.mean = tf.Variable(tf.zeros(depth), trainable=False)
        self.variance = tf.Variable(tf.ones(depth), trainable=False)
        self.batches = tf.Variable(tf.zeros(depth), trainable=False)  # float: int32 would lie on the host

    @property
    def variables(self) -> dict[str, tf.Variable]:
        """All state, for a checkpoint."""
        return {"mean": self.mean, "variance": self.variance, "batches": self.batches}

    @property
    def _spread(self):
        return tf.sqrt(self.variance) + EPSILON

    def standardise(self, returns) -> tf.Tensor:
        """From nats to the critic's scale. Args and result: `[B, T]`."""
        return (returns - self.mean) / self._spread

    def in_nats(self, values) -> tf.Tensor:
        """The inverse of `standardise`. Args and result: `[B, T]`."""
        return self.mean + self._spread * values

    def update(self, returns, open) -> None:
        """Takes in a batch of returns `[B, T]`; steps of finished networks, bool `[B, T]`, do not count."""
        mean, variance = of_each_step(returns, open)
        count = tf.reduce_sum(tf.cast(open, tf.float32), axis=0)
        # As if one more return were a nat from the mean: a single one does not spread.
        variance = (count * variance + 1) / (count + 1)
        there = tf.minimum(count, 1)
        rate = there * tf.maximum(RATE, 1 / (self.batches + 1))
        moved = mean - self.mean
        self.mean.assign_add(rate * moved)
        self.variance.assign_add(rate * (variance + (1 - rate) * moved**2 - self.variance))
        self.batches.assign_add(there)
