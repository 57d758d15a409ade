"""The running moments that returns are standardised by."""

import numpy as np
import tensorflow as tf

from lrn_tf.learning.moments import EPSILON, RATE, RunningMoments

STEPS = 3


def test_moments_against_a_loop():
    """Means over the first batches, then moving averages; what is finished does not count."""
    rng = np.random.default_rng(0)
    moments = RunningMoments(STEPS)
    mean, variance, batches = np.zeros(STEPS), np.ones(STEPS), np.zeros(STEPS)
    for i in range(80):
        returns = rng.normal(-3, 2, (16, STEPS))
        is_open = rng.random((16, STEPS)) < 0.5
        is_open[:, 0] = True
        is_open[:, 2] &= i % 2 == 0
        moments.update(tf.constant(returns, tf.float32), tf.constant(is_open))
        for t in range(STEPS):
            counted = returns[is_open[:, t], t]
            if counted.size:
                rate = max(RATE, 1 / (batches[t] + 1))
                # Of a mixture of what was known and this batch.
                spread = (counted.size * counted.var() + 1) / (counted.size + 1)
                both = rate * counted.mean() + (1 - rate) * mean[t]
                variance[t] = (1 - rate) * (variance[t] + (mean[t] - both) ** 2)
                variance[t] += rate * (spread + (counted.mean() - both) ** 2)
                mean[t] = both
                batches[t] += 1
        np.testing.assert_allclose(moments.mean, mean, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(moments.variance, variance, rtol=1e-4)
    assert abs(mean[0] + 3) < 0.3 and abs(variance[0] - 4) < 0.5


def test_returns_that_come_one_by_one_spread_as_if_they_came_together():
    rng, moments = np.random.default_rng(0), RunningMoments(1)
    for count in [128] * 20 + [1] * 600:
        moments.update(rng.normal(-3, 2, (count, 1)).astype(np.float32), np.ones((count, 1), bool))
    assert 1.4 < moments.variance.numpy()[0] ** 0.5 < 2.6


def test_standardised_returns_and_back():
    moments = RunningMoments(STEPS)
    returns = np.random.default_rng(1).normal([-6, -4, -2], [3, 2, 1], (5000, STEPS)).astype(np.float32)
    for _ in range(3):
        moments.update(returns, np.ones_like(returns, bool))
    standard = moments.standardise(returns).numpy()
    np.testing.assert_allclose(standard.mean(axis=0), 0, atol=1e-3)
    np.testing.assert_allclose(standard.std(axis=0), 1, atol=2 * EPSILON)
    np.testing.assert_allclose(moments.in_nats(standard), returns, rtol=1e-4, atol=1e-4)
