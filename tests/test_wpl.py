"""The Weighted Policy Learner: against NumPy, and in games whose solution is known."""

import numpy as np
import pytest
import tensorflow as tf

from lrn_tf.methods.wpl import WeightedPolicyLearner, project_to_simplex, sample


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


class Plain:
    """One agent in one state, decision by decision, as the rule is written."""

    def __init__(self, actions, rate, floor):
        self.policy, self.baseline = np.full(actions, 1 / actions), 0.0
        self.rate, self.floor = rate, floor

    def update(self, action, value):
        advantage = value - self.baseline
        advantage *= 1 - self.policy[action] if advantage >= 0 else self.policy[action]
        policy = self.policy.copy()
        policy[action] += self.rate * advantage
        policy = np.maximum(nearest_probabilities(policy), self.floor)
        self.policy = policy / policy.sum()
        self.baseline = (1 - self.rate) * self.baseline + self.rate * value


def test_one_decision_at_a_time_is_the_plain_rule():
    rng = np.random.default_rng(0)
    agents, states, actions = 3, 2, 4
    learner = WeightedPolicyLearner(agents, states, actions, 0.3, 0.01)
    plain = [[Plain(actions, 0.3, 0.01) for _ in range(states)] for _ in range(agents)]
    for _ in range(300):
        agent, taken = rng.integers(agents), rng.integers(actions, size=states)
        values = rng.normal(size=states).astype(np.float32)
        learner.update(
            *(tf.constant([x], t) for x, t in ((agent, tf.int32), (taken, tf.int32), (values, tf.float32)))
        )
        for state in range(states):
            plain[agent][state].update(taken[state], values[state])
    np.testing.assert_allclose(learner.policy, [[p.policy for p in row] for row in plain], atol=1e-4)
    np.testing.assert_allclose(learner.baseline, [[p.baseline for p in row] for row in plain], atol=1e-4)
    assert np.ptp(learner.policy) > 0.5


def test_decisions_of_an_agent_are_averaged_and_idle_agents_stay():
    learner = WeightedPolicyLearner(2, 1, 2, 0.5, 0.01)
    learner.baseline.assign([[0.0], [5.0]])
    agents = tf.zeros(4, tf.int32)
    learner.update(agents, tf.constant([[0], [0], [1], [0]]), tf.constant([[1.0], [1.0], [-1.0], [1.0]]))
    # Three decisions for action 0 and one against action 1, each weighted by one half.
    difference = 0.5 * (3 * 0.5 + 0.5) / 4
    expected = [0.5 + difference / 2, 0.5 - difference / 2]
    np.testing.assert_allclose(learner.policy[:, 0], [expected, [0.5, 0.5]], atol=1e-6)
    np.testing.assert_allclose(learner.baseline[:, 0], [0.5 * 0.5, 5.0], atol=1e-6)


def play(payoff, start, rounds, rate=0.01, seed=0):
    """Two players of a matrix game; the probability that each gives to its action 0, round by round."""
    learner = WeightedPolicyLearner(2, 1, 2, rate, 0.001)
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


def test_the_better_action_wins():
    """Action 0 pays 1 and action 1 pays 0, whatever the other does."""
    history = play([[[1, 1], [0, 0]], [[1, 0], [1, 0]]], (0.3, 0.3), 4000)
    assert (history[-500:].mean(axis=0) > 0.95).all()


@pytest.mark.parametrize("start", [(0.5, 0.5), (0.9, 0.2)])
def test_matching_pennies_are_thrown_evenly_on_average(start):
    """One player wins when the coins match, the other when they do not."""
    history = play([[[1, -1], [-1, 1]], [[-1, 1], [1, -1]]], start, 30_000)
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


@pytest.mark.parametrize("floor", [0.0, 0.6])
def test_an_impossible_floor_is_refused(floor):
    with pytest.raises(ValueError, match="floor is"):
        WeightedPolicyLearner(1, 1, 2, 0.1, floor)
