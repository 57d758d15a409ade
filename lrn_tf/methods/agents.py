"""The policies of a routing network's agents (Rosenbaum et al. 2017): tables or small networks.

Both kinds say how probable each action is for an agent that sees this, and learn from what was earned:
a table in one step of its own, a network by gradient descent on a loss.
"""

from collections.abc import Callable, Sequence
from functools import partial

import tensorflow as tf

from lrn_tf.methods.columns import make_columns
from lrn_tf.methods.wpl import PolicyTable, SingleReturnLearner, WeightedPolicyLearner

# Ours: the step size of tables, how many decisions an action's mean return reaches back, and the least
# probability, relative to a uniform policy's. The step size from single returns, which are noisier.
RATE, MEMORY, FLOOR = 1.0, 100, 0.01
SINGLE_RATE = 0.3
# What a wrong class earns, where there is no collaboration reward.
LOWEST = -1.0
# Units in both hidden layers of an approximate policy (Rosenbaum et al. 2017), and the weight of the
# error of its value (ours).
HIDDEN, VALUE = 64, 0.5


class TabularPolicy:
    """A table for each agent and state, which sees nothing of the example.

    Args:
        learner: makes the tables of A agents, S states and M actions, whose least probability it is told.
        agents: number of agents, A.
        seen: the width of what an agent sees in each of the S states, one decision after the other.
        actions: number of actions, M.

    Attributes:
        weights: what gradient descent changes: nothing.
    """

    def __init__(self, learner: Callable[..., PolicyTable], agents: int, seen: Sequence[int], actions: int):
        self._learner = learner(agents, len(seen), actions, floor=FLOOR / actions)
        self.weights: list[tf.Variable] = []

    @property
    def variables(self) -> dict[str, object]:
        """All state that training changes."""
        return self._learner.variables

    def decide(self, agents, state: int, seen):
        """How agents decide.

        Args:
            agents: int32 `[B]`.
            state: which decision.
            seen: float `[B, width]`.

        Returns:
            the probability of each action, float32 `[B, M]`, and the return that is expected, `[B]`.
        """
        expected = tf.gather(self._learner.expected[:, state], agents)
        return tf.gather(self._learner.policy[:, state], agents), expected

    def loss(self, probability, expected, returns):
        """What gradient descent should make small: 0. Args: float32 `[B, S]` each."""
        return tf.zeros([])

    def learn(self, agents, actions, returns) -> None:
        """Learns. Args: agents int32 `[B]`, actions int32 `[B, S]`, returns float32 `[B, S]`."""
        self._learner.update(agents, actions, returns)


class ApproximatePolicy:
    """A small network for each agent and state, learned by REINFORCE with a learned baseline.

    All agents' networks run, as one product. Methods and other args as in `TabularPolicy`.
    """

    def __init__(self, agents: int, seen: Sequence[int], actions: int):
        self._networks = [
            (
                make_columns(agents, width, HIDDEN, alike=True),
                make_columns(agents, HIDDEN, HIDDEN),
                make_columns(agents, HIDDEN, actions + 1),
            )
            for width in seen
        ]
        self.weights = [w.value for net in self._networks for x in net for w in x.trainable_variables]

    @property
    def variables(self) -> dict[str, object]:
        return {"weights": self.weights}

    def decide(self, agents, state: int, seen):
        first, second, last = self._networks[state]
        y = last(tf.nn.relu(second(tf.nn.relu(first(seen)))))  # (B, A, M + 1)
        y = tf.cast(tf.gather(y, agents, batch_dims=1), tf.float32)  # (B, M + 1)
        return tf.nn.softmax(y[:, :-1]), y[:, -1]

    def loss(self, probability, expected, returns):
        surprise = returns - expected
        gain = tf.math.log(probability + 1e-8) * tf.stop_gradient(surprise)
        return tf.reduce_mean(tf.reduce_sum(VALUE * surprise**2 - gain, axis=1))

    def learn(self, agents, actions, returns) -> None:
        """Nothing: it all happens in the descent on the loss."""


POLICIES = {
    "tabular": partial(
        TabularPolicy, partial(WeightedPolicyLearner, rate=RATE, memory=MEMORY, lowest=LOWEST)
    ),
    "tabular_literal": partial(TabularPolicy, partial(SingleReturnLearner, rate=SINGLE_RATE)),
    "approximate": ApproximatePolicy,
}
