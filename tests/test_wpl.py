"""The Weighted Policy Learner: against NumPy, and in games whose solution is known."""

import numpy as np
import pytest
import tensorflow as tf

from lrn_tf.methods.wpl import SingleReturnLearner, WeightedPolicyLearner, project_to_simplex, sample


def nearest_probabilities(x):
    """By bisection on the threshold, of which the sum is a falling function."""
    low, high = x.min() - 1, x.max()
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if np.maximum(x - middle, 0).sum() > 1 else (low, middle)
    return np.maximum(x - low, 0)


def test_projection_finds_the_nearest_probabilities():
    x = np.random.default_rng(0).normal(size=(200, 3, 5)).astype(np.float32)
    found = project_to_simplex(tf.constant(x)).numpy()
    expected = np.apply_along_axis(nearest_probabilities, 2, x.astype(np.float64))
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("kept", [[0.2, 0.3, 0.5], [1.0, 0.0, 0.0]])
def test_probabilities_are_their_own_projection(kept):
    np.testing.assert_allclose(project_to_simplex(tf.constant(kept)), kept, atol=1e-7)


class PlainSingleReturns:
    """One agent in one state, decision by decision, as the rule is written."""

    def __init__(self, actions):
        self.policy, self.baseline = np.full(actions, 1 / actions), 0.0

    def update(self, action, earned):
        advantage = earned - self.baseline
        advantage *= 1 - self.policy[action] if advantage >= 0 else self.policy[action]
        policy = self.policy.copy()
        policy[action] += RATE * advantage
        policy = np.maximum(nearest_probabilities(policy), FLOOR)
        self.policy = policy / policy.sum()
        self.baseline = (1 - RATE) * self.baseline + RATE * earned


class PlainMeanReturns:
    """The same, from the mean return of each action."""

    def __init__(self, actions):
        self.policy, self.values = np.full(actions, 1 / actions), np.full(actions, LOWEST)

    def update(self, action, earned):
        self.values[action] += (earned - self.values[action]) / MEMORY
        gain = self.values - self.policy @ self.values
        for i, p in enumerate(self.policy):
            gain[i] *= 1 - p if gain[i] >= 0 else p
        policy = np.maximum(nearest_probabilities(self.policy + RATE * gain), FLOOR)
        self.policy = policy / policy.sum()


RATE, FLOOR, MEMORY, LOWEST = 0.3, 0.01, 5, -1.0


def from_mean_returns(agents, states, actions, rate=RATE, floor=FLOOR, memory=MEMORY):
    return WeightedPolicyLearner(agents, states, actions, rate, floor, memory, LOWEST)


def from_single_returns(agents, states, actions, rate=RATE, floor=FLOOR):
    return SingleReturnLearner(agents, states, actions, rate, floor)


LEARNERS = [from_mean_returns, from_single_returns]


@pytest.mark.parametrize(
    "make, plain", [(from_mean_returns, PlainMeanReturns), (from_single_returns, PlainSingleReturns)]
)
def test_one_decision_at_a_time_is_the_plain_rule(make, plain):
    rng = np.random.default_rng(0)
    agents, states, actions = 3, 2, 4
    learner = make(agents, states, actions)
    expected = [[plain(actions) for _ in range(states)] for _ in range(agents)]
    for _ in range(300):
        agent, taken = rng.integers(agents), rng.integers(actions, size=states)
        earned = rng.normal(size=states).astype(np.float32)
        learner.update(
            *(tf.constant([x], t) for x, t in ((agent, tf.int32), (taken, tf.int32), (earned, tf.float32)))
        )
        for state in range(states):
            expected[agent][state].update(taken[state], earned[state])
    for name, found in learner.variables.items():
        wanted = [[getattr(one, name) for one in row] for row in expected]
        np.testing.assert_allclose(found, wanted, atol=1e-4, err_msg=name)
    assert np.ptp(learner.policy) > 0.5


def test_single_returns_of_an_agent_are_averaged_and_idle_agents_stay():
    learner = SingleReturnLearner(2, 1, 2, 0.5, 0.01)
    learner.baseline.assign([[0.0], [5.0]])
    agents = tf.zeros(4, tf.int32)
    learner.update(agents, tf.constant([[0], [0], [1], [0]]), tf.constant([[1.0], [1.0], [-1.0], [1.0]]))
    # Three decisions for action 0 and one against action 1, each weighted by one half.
    difference = 0.5 * (3 * 0.5 + 0.5) / 4
    expected = [0.5 + difference / 2, 0.5 - difference / 2]
    np.testing.assert_allclose(learner.policy[:, 0], [expected, [0.5, 0.5]], atol=1e-6)
    np.testing.assert_allclose(learner.baseline[:, 0], [0.5 * 0.5, 5.0], atol=1e-6)


def test_a_batch_of_equal_returns_changes_mean_returns_as_one_after_the_other_and_idle_agents_stay():
    batch, single = from_mean_returns(2, 1, 3), from_mean_returns(2, 1, 3)
    for learner in (batch, single):
        learner.values.assign([[[0.5, -0.5, 0.0]], [[0.1, 0.2, 0.3]]])
    actions, earned = tf.constant([[0], [2], [2], [2]]), tf.constant([[1.0], [-1.0], [-1.0], [-1.0]])
    batch.update(tf.zeros(4, tf.int32), actions, earned)
    for i in range(4):
        single.update(tf.zeros(1, tf.int32), actions[i : i + 1], earned[i : i + 1])
    np.testing.assert_allclose(batch.values, single.values, atol=1e-6)
    np.testing.assert_allclose(batch.values[1, 0], [0.1, 0.2, 0.3], atol=1e-7)
    np.testing.assert_allclose(batch.policy[1, 0], [1 / 3] * 3, atol=1e-7)
    assert batch.policy[0, 0, 0] > 1 / 3 > batch.policy[0, 0, 2]


def test_chance_keeps_single_returns_undecided_but_not_mean_returns():
    """Action 0 earns +1 in six of ten decisions and -1 in the others, action 1 in two of ten."""
    agents, right = 200, tf.constant([0.6, 0.2])
    chosen = []
    for learner in (
        from_mean_returns(agents, 1, 2, rate=1.0, memory=100),
        from_single_returns(agents, 1, 2, rate=0.01),
    ):

        @tf.function
        def run(learner=learner):
            for i in tf.range(1500):
                chance = tf.random.stateless_uniform((2, agents, 1), [0, i])
                actions = sample(learner.policy, chance[0])
                earned = tf.where(chance[1] < tf.gather(right, actions), 1.0, -1.0)
                learner.update(tf.range(agents), actions, earned)

        run()
        chosen.append(learner.policy.numpy()[:, 0, 0])
    by_mean_returns, by_single_returns = chosen
    assert (by_mean_returns > 0.95).mean() > 0.95
    assert by_single_returns.max() < 0.8


def play(make, payoff, start, rounds, rate=0.01, seed=0):
    """Two players of a matrix game; the probability that each gives to its action 0, round by round."""
    learner = make(2, 1, 2, rate, 0.001)
    learner.policy.assign([[[p, 1 - p]] for p in start])
    payoff = tf.constant(payoff, tf.float32)  # (2 players, 2 of the first, 2 of the second)

    @tf.function
    def run():
        history = tf.TensorArray(tf.float32, rounds)
        for i in tf.range(rounds):
            actions = sample(learner.policy, tf.random.stateless_uniform((2, 1), [seed, i]))
            earned = payoff[:, actions[0, 0], actions[1, 0]]
            learner.update(tf.range(2), actions, earned[:, None])
            history = history.write(i, learner.policy[:, 0, 0])
        return history.stack()

    return run().numpy()


@pytest.mark.parametrize("make", LEARNERS)
def test_the_better_action_wins(make):
    """Action 0 pays 1 and action 1 pays 0, whatever the other does."""
    history = play(make, [[[1, 1], [0, 0]], [[1, 0], [1, 0]]], (0.3, 0.3), 4000)
    assert (history[-500:].mean(axis=0) > 0.95).all()


@pytest.mark.parametrize("make", LEARNERS)
@pytest.mark.parametrize("start", [(0.5, 0.5), (0.9, 0.2)])
def test_matching_pennies_are_thrown_evenly_on_average(make, start):
    """One player wins when the coins match, the other when they do not."""
    history = play(make, [[[1, -1], [-1, 1]], [[-1, 1], [1, -1]]], start, 30_000)
    np.testing.assert_allclose(history[5000:].mean(axis=0), 0.5, atol=0.05)


def test_sampling_follows_the_policy():
    policy = np.array([[[0.2, 0.3, 0.5], [0.01, 0.01, 0.98]], [[0.6, 0.2, 0.2], [1 / 3] * 3]], np.float32)
    actions = sample(tf.repeat(policy, 20_000, axis=0), tf.random.stateless_uniform((40_000, 2), [0, 1]))
    actions = actions.numpy().reshape(2, -1, 2)
    for agent in range(2):
        for state in range(2):
            share = np.bincount(actions[agent, :, state], minlength=3) / 20_000
            np.testing.assert_allclose(share, policy[agent, state], atol=0.015)
    np.testing.assert_array_equal(sample(tf.constant(policy), None), policy.argmax(axis=2))


@pytest.mark.parametrize("make", LEARNERS)
@pytest.mark.parametrize("floor", [0.0, 0.6])
def test_an_impossible_floor_is_refused(make, floor):
    with pytest.raises(ValueError, match="floor is"):
        make(1, 1, 2, 0.1, floor)
