"""Equations 6 and 7, against plain loops."""

import numpy as np
import pytest
import tensorflow as tf

from lrn_tf.policy.reward import module_bonus, rewards
from lrn_tf.settings import Settings

MODULES, DEPTH, BATCH = 6, 4, 20
PASS = MODULES


def random_episodes(rng):
    """Actions, and which steps came before the network was finished; the last ones are PASS."""
    actions = rng.integers(0, MODULES, (BATCH, DEPTH))
    length = rng.integers(2, DEPTH + 1, BATCH)
    is_open = np.arange(DEPTH) < length[:, None]
    actions[~is_open] = PASS
    # PASS also comes before the end.
    actions[(length == DEPTH) & (rng.random(BATCH) < 0.5), 1] = PASS
    return actions.astype(np.int32), is_open


@pytest.mark.parametrize("largest", [1.0, 0.3, 0.0])
@pytest.mark.parametrize("counts", [[3, 0, 7, 7, 1, 2], [5, 4, 128, 9, 4, 6], [0, 1, 0, 0, 0, 0]])
def test_bonus(counts, largest):
    bonus = module_bonus(tf.constant(counts), largest).numpy()
    for c, b in zip(counts, bonus, strict=False):
        assert b == pytest.approx(largest * (1 - (c - min(counts)) / (max(counts) - min(counts))))
    assert bonus.shape == (MODULES + 1,)
    assert bonus[PASS] == 0


@pytest.mark.parametrize("count", [0, 4])
def test_all_chosen_equally_often(count):
    bonus = module_bonus(tf.fill([MODULES], count), 0.7)
    np.testing.assert_allclose(bonus, [0.7] * MODULES + [0], rtol=1e-6)


@pytest.mark.parametrize("placement", Settings.__dataclass_fields__["reward"].metadata["choices"])
def test_rewards(placement):
    rng = np.random.default_rng(0)
    actions, is_open = random_episodes(rng)
    ce = rng.exponential(size=BATCH).astype(np.float32)
    bonus = np.append(rng.random(MODULES), 0).astype(np.float32)
    found = rewards(tf.constant(ce), tf.constant(actions), tf.constant(is_open), bonus, placement).numpy()
    for i in range(BATCH):
        for t in range(DEPTH):
            expected = 0.0 if actions[i, t] == PASS else bonus[actions[i, t]]
            if placement == "every_step":
                expected -= ce[i]
            elif placement == "until_output" and is_open[i, t]:
                expected -= ce[i]
            elif placement == "terminal" and t == DEPTH - 1:
                expected -= ce[i]
            assert found[i, t] == pytest.approx(expected, rel=1e-5)


def paid(placement):
    """What of -CE an episode gets in all, by the number of steps until its network is finished."""
    is_open = np.arange(DEPTH) < np.arange(1, DEPTH + 1)[:, None]
    actions = np.where(is_open, 0, PASS).astype(np.int32)
    bonus = tf.zeros(MODULES + 1)
    found = rewards(tf.fill([DEPTH], 2.0), tf.constant(actions), tf.constant(is_open), bonus, placement)
    return found.numpy().sum(axis=1).tolist()


def test_short_networks_pay_as_much_as_long_ones():
    """Were they cheaper, the router would learn to build short ones whatever they answer."""
    assert paid("every_step") == [-2.0 * DEPTH] * DEPTH
    assert paid("terminal") == [-2.0] * DEPTH
    assert paid("until_output") == [-2.0, -4.0, -6.0, -8.0]
