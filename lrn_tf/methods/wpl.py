"""The Weighted Policy Learner (Abdallah and Lesser 2008), for the agents of routing networks.

Agents play one repeated game, all at once, each with a policy of its own. An agent that gains from an
action moves towards it more slowly the more probable it already is, and away from it faster; so policies
spiral into equilibria instead of circling around them.

What an agent gains is learned in one of two ways. `WeightedPolicyLearner` knows what each action has
earned on average, as Abdallah and Lesser do. `SingleReturnLearner` takes every single return for what its
action is worth, as routing networks do (Rosenbaum et al. 2017): where returns vary much by themselves, the
weighting then keeps even the best action's probability near one half.
"""

import abc

import tensorflow as tf


class PolicyTable(abc.ABC):
    """Policies of several agents in several states, and how they move.

    Args:
        agents: number of agents, A.
        states: number of states in which an agent decides, S; routing networks have one per layer.
        actions: number of actions, M.
        rate: step size of policies.
        floor: the least probability of an action.

    Attributes:
        policy: float32 `[A, S, M]`, uniform at the start.
    """

    def __init__(self, agents: int, states: int, actions: int, rate: float, floor: float):
        if not 0 < floor <= 1 / actions:
            raise ValueError(
                f"floor is {floor}; it must be above 0 and at most 1 / actions = {1 / actions}"
            )
        self.rate, self.floor = rate, floor
        self.policy = tf.Variable(tf.fill([agents, states, actions], 1 / actions), trainable=False)

    @property
    @abc.abstractmethod
    def variables(self) -> dict[str, tf.Variable]:
        """All state that learning changes."""

    @property
    @abc.abstractmethod
    def expected(self) -> tf.Tensor:
        """The return that each agent expects in each state: float32 `[A, S]`."""

    @abc.abstractmethod
    def update(self, agents, actions, returns) -> None:
        """One step on the policies of the agents that decided.

        Args:
            agents: int32 `[B]`.
            actions: int32 `[B, S]`.
            returns: float32 `[B, S]`, what was earned from each state on.
        """

    def _move(self, gain, agents):
        """Policies of the agents that decided, int32 `[B]`, move by `rate` times the gain `[A, S, M]`."""
        decisions = tf.math.unsorted_segment_sum(tf.ones_like(agents), agents, self.policy.shape[0])
        moved = tf.maximum(project_to_simplex(self.policy + self.rate * gain), self.floor)
        moved /= tf.reduce_sum(moved, axis=2, keepdims=True)
        self.policy.assign(tf.where(decisions[:, None, None] > 0, moved, self.policy))


class WeightedPolicyLearner(PolicyTable):
    """Learns from the mean return of each action, for all actions at once.

    Args:
        agents, states, actions, rate, floor: see `PolicyTable`.
        memory: how many decisions for an action its mean return reaches back, about; 1 or more.
        lowest: the least that can be earned, which all actions are thought to be worth at the start, so
            that an agent comes back to what has earned anything.

    Attributes:
        policy: see `PolicyTable`.
        values: float32 `[A, S, M]`, what the actions earn.
    """

    def __init__(self, agents, states, actions, rate, floor, memory: float, lowest: float):
        super().__init__(agents, states, actions, rate, floor)
        self.memory = memory
        self.values = tf.Variable(tf.fill([agents, states, actions], lowest), trainable=False)

    @property
    def variables(self):
        return {"policy": self.policy, "values": self.values}

    @property
    def expected(self):
        return tf.reduce_sum(self.policy * self.values, axis=2)

    def update(self, agents, actions, returns):
        count, _, width = self.policy.shape
        taken = tf.one_hot(actions, width)  # (B, S, M)
        times = tf.math.unsorted_segment_sum(taken, agents, count)  # (A, S, M)
        earned = tf.math.unsorted_segment_sum(taken * returns[:, :, None], agents, count)
        # As if the decisions had come one after the other, each with the batch's mean for the action.
        kept = (1 - 1 / self.memory) ** times
        self.values.assign(kept * self.values + (1 - kept) * tf.math.divide_no_nan(earned, times))
        gain = self.values - self.expected[:, :, None]
        gain *= tf.where(gain >= 0, 1 - self.policy, self.policy)
        self._move(gain, agents)


class SingleReturnLearner(PolicyTable):
    """Learns from each return by itself, for the action that was taken.

    Decisions of an agent in a state are averaged, so that it is one step however often it decided.

    Attributes:
        policy: see `PolicyTable`.
        baseline: float32 `[A, S]`, the running mean of the returns; 0 at the start.
    """

    def __init__(self, agents, states, actions, rate, floor):
        super().__init__(agents, states, actions, rate, floor)
        self.baseline = tf.Variable(tf.zeros([agents, states]), trainable=False)

    @property
    def variables(self):
        return {"policy": self.policy, "baseline": self.baseline}

    @property
    def expected(self):
        return tf.convert_to_tensor(self.baseline)

    def update(self, agents, actions, returns):
        count, _, width = self.policy.shape
        taken = tf.one_hot(actions, width)  # (B, S, M)
        probability = tf.reduce_sum(tf.gather(self.policy, agents) * taken, axis=2)  # (B, S)
        surprise = returns - tf.gather(self.baseline, agents)
        weighted = surprise * tf.where(surprise >= 0, 1 - probability, probability)
        decisions = tf.math.unsorted_segment_sum(tf.ones_like(returns), agents, count)  # (A, S)

        def mean(x, number):
            return tf.math.divide_no_nan(tf.math.unsorted_segment_sum(x, agents, count), number)

        self._move(mean(weighted[:, :, None] * taken, decisions[:, :, None]), agents)
        self.baseline.assign_add(self.rate * mean(surprise, decisions))


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
