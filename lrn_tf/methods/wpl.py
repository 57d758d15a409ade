"""The Weighted Policy Learner (Abdallah and Lesser 2008) as in routing networks (Rosenbaum et al. 2017).

Agents play one repeated game, all at once, each with a policy of its own. An agent that gains from an
action moves towards it more slowly the more probable it already is, and away from it faster; so policies
spiral into equilibria instead of circling around them. Where an action's return varies much by itself, the
same weighting keeps its probability away from 0 and 1.
"""

import tensorflow as tf


class WeightedPolicyLearner:
    """Tabular policies of several agents in several states.

    Args:
        agents: number of agents, A.
        states: number of states in which an agent decides, S; routing networks have one per layer.
        actions: number of actions, M.
        rate: step size of policies and baselines.
        floor: the least probability of an action.

    Attributes:
        policy: float32 `[A, S, M]`, uniform at the start.
        baseline: float32 `[A, S]`, the running mean of the returns; 0 at the start.
    """

    def __init__(self, agents: int, states: int, actions: int, rate: float, floor: float):
        if not 0 < floor <= 1 / actions:
            raise ValueError(
                f"floor is {floor}; it must be above 0 and at most 1 / actions = {1 / actions}"
            )
        self.rate, self.floor = rate, floor
        self.policy = tf.Variable(tf.fill([agents, states, actions], 1 / actions), trainable=False)
        self.baseline = tf.Variable(tf.zeros([agents, states]), trainable=False)

    def update(self, agents, actions, returns) -> None:
        """One step on the policies of the agents that decided, and on their baselines.

        Decisions of an agent in a state are averaged, so that it is one step however often it decided.

        Args:
            agents: int32 `[B]`.
            actions: int32 `[B, S]`.
            returns: float32 `[B, S]`, what was earned from each state on.
        """
        count, states, width = self.policy.shape
        taken = tf.one_hot(actions, width)  # (B, S, M)
        policy = tf.gather(self.policy, agents)  # (B, S, M)
        probability = tf.reduce_sum(policy * taken, axis=2)  # (B, S)
        surprise = returns - tf.gather(self.baseline, agents)
        weighted = surprise * tf.where(surprise >= 0, 1 - probability, probability)
        decided = tf.math.unsorted_segment_sum(tf.ones_like(agents, tf.float32), agents, count)  # (A,)

        def mean(x):
            total = tf.math.unsorted_segment_sum(x, agents, count)
            return tf.math.divide_no_nan(total, tf.reshape(decided, [count] + [1] * (len(total.shape) - 1)))

        step = self.rate * mean(weighted[:, :, None] * taken)  # (A, S, M)
        moved = tf.maximum(project_to_simplex(self.policy + step), self.floor)
        moved /= tf.reduce_sum(moved, axis=2, keepdims=True)
        some = decided > 0
        self.policy.assign(tf.where(some[:, None, None], moved, self.policy))
        self.baseline.assign_add(self.rate * mean(surprise))


def sample(policy, uniform) -> tf.Tensor:
    """Actions, by probability.

    Args:
        policy: float32 `[.., M]`.
        uniform: float32 `[..]` in [0, 1), the chance; None takes the most probable actions.

    Returns:
        int32 `[..]`.
    """
    if uniform is None:
        return tf.argmax(policy, axis=-1, output_type=tf.int32)
    passed = tf.reduce_sum(tf.cast(uniform[..., None] >= tf.cumsum(policy, axis=-1), tf.int32), axis=-1)
    # Probabilities may add up to a little less than 1.
    return tf.minimum(passed, policy.shape[-1] - 1)


def project_to_simplex(x) -> tf.Tensor:
    """The nearest probabilities to `[.., M]` numbers (Duchi et al. 2008)."""
    ordered = tf.sort(x, axis=-1, direction="DESCENDING")
    excess = tf.cumsum(ordered, axis=-1) - 1
    rank = tf.range(1, x.shape[-1] + 1, dtype=x.dtype)
    kept = tf.reduce_sum(tf.cast(ordered * rank > excess, tf.int32), axis=-1, keepdims=True)
    threshold = tf.gather(excess, kept - 1, batch_dims=len(x.shape) - 1) / tf.cast(kept, x.dtype)
    return tf.maximum(x - threshold, 0)
