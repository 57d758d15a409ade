"""Equations 6 and 7, against plain loops."""

import numpy as np
import pytest
import tensorflow as tf

from lrn_tf.learning.reward import module_bonus, rewards
from lrn_tf.settings.table import Settings

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


def bonus_of(chosen, could, counts, largest):
    """A module at a time: how far its share of those who could choose it is from the largest share."""
    share = {m: chosen[m] / could[m] for m in range(len(chosen)) if counts[m] and could[m]}
    # What eight examples or more could choose says what is little and what is much, if there is any.
    telling = [s for m, s in share.items() if could[m] >= 8] or list(share.values()) or [0]
    low, high = min(telling), max(telling)
    found = np.zeros(len(chosen) + 1)
    for m, s in share.items():
        rarity = 1 - (s - low) / (high - low) if high > low else 1
        found[m] = largest * min(max(rarity, 0), 1)
    return found


def bonus(chosen, could=None, counts=None, largest=1.0):
    """`module_bonus` of lists; by default every example could choose every module, and all take part."""
    could = [BATCH] * len(chosen) if could is None else could
    counts = [True] * len(chosen) if counts is None else counts
    return module_bonus(tf.constant(chosen), tf.constant(could), np.array(counts), largest).numpy()


@pytest.mark.parametrize("largest", [1.0, 0.3, 0.0])
@pytest.mark.parametrize("chosen", [[3, 0, 7, 7, 1, 2], [5, 4, 128, 9, 4, 6], [0, 1, 0, 0, 0, 0]])
def test_the_bonus_is_equation_6_where_every_example_could_choose_every_module(chosen, largest):
    found = bonus(chosen, [128] * MODULES, largest=largest)
    for c, b in zip(chosen, found, strict=False):
        expected = largest * (1 - (c - min(chosen)) / (max(chosen) - min(chosen)))
        assert b == pytest.approx(expected, rel=1e-5, abs=1e-6)
    assert found.shape == (MODULES + 1,)
    assert found[PASS] == 0


@pytest.mark.parametrize("count", [0, 4])
def test_all_chosen_equally_often(count):
    np.testing.assert_allclose(bonus([count] * MODULES, largest=0.7), [0.7] * MODULES + [0], rtol=1e-6)


def test_all_chosen_equally_often_by_those_who_could():
    """The first half by a third of few, the other by a third of many."""
    found = bonus([1, 1, 1, 7, 7, 7], [3, 3, 3, 21, 21, 21], largest=0.7)
    np.testing.assert_allclose(found, [0.7] * MODULES + [0], rtol=1e-6)


@pytest.mark.parametrize("seed", range(20))
def test_the_bonus_goes_by_the_share_of_those_who_could(seed):
    rng = np.random.default_rng(seed)
    could = rng.integers(0, 30, MODULES).astype(np.int32)
    chosen = rng.integers(0, could + 1).astype(np.int32)
    counts = rng.random(MODULES) < 0.7
    found = bonus(chosen, could, counts, 3.0)
    np.testing.assert_allclose(found, bonus_of(chosen, could, counts, 3.0), rtol=1e-4, atol=1e-5)
    assert (found >= 0).all() and (found <= 3).all()


def test_who_is_chosen_by_all_few_that_could_is_used_more_than_who_is_by_half_of_many():
    found = bonus([9, 10, 0, 0, 0, 0], [9, 20, 20, 20, 20, 20])
    np.testing.assert_allclose(found, [0, 0.5, 1, 1, 1, 1, 0], atol=1e-6)


def test_who_could_be_chosen_by_very_few_does_not_set_the_measure():
    found = bonus([2, 10, 5, 0, 0, 0], [2, 20, 20, 20, 20, 1])
    np.testing.assert_allclose(found, [0, 0, 0.5, 1, 1, 1, 0], atol=1e-6)


def test_modules_that_take_no_part_have_no_bonus_and_do_not_shift_the_others():
    chosen, could = [3, 0, 7, 7, 1, 2], [BATCH] * MODULES
    without = bonus(chosen[:4], could[:4])
    # One is used less than any other, one more, and one cannot be chosen by anyone.
    for last, able in (([0, 20], [20, 20]), ([20, 0], [20, 0])):
        found = bonus(chosen[:4] + last, could[:4] + able, [True] * 4 + [False] * 2)
        np.testing.assert_allclose(found, [*without[:4], 0, 0, 0], atol=1e-6)
    # Nor does one that takes part, but that no example of the batch could choose.
    found = bonus([*chosen[:4], 0, 0], [*could[:4], 0, 0])
    np.testing.assert_allclose(found, [*without[:4], 0, 0, 0], atol=1e-6)


def test_no_bonus_where_no_module_takes_part():
    assert not bonus([3, 0, 7, 7, 1, 2], counts=[False] * MODULES).any()


@pytest.mark.parametrize("placement", Settings.__dataclass_fields__["pay_loss"].metadata["choices"])
def test_rewards(placement):
    rng = np.random.default_rng(0)
    actions, is_open = random_episodes(rng)
    loss = rng.exponential(size=BATCH).astype(np.float32)
    bonuses = np.append(rng.random(MODULES), 0).astype(np.float32)
    given = tf.constant(loss), tf.constant(actions), tf.constant(is_open)
    found = rewards(*given, bonuses, placement).numpy()
    for i in range(BATCH):
        for t in range(DEPTH):
            expected = 0.0 if actions[i, t] == PASS else bonuses[actions[i, t]]
            if placement == "every_step":
                expected -= loss[i]
            elif placement == "until_output" and is_open[i, t]:
                expected -= loss[i]
            elif placement == "terminal" and t == DEPTH - 1:
                expected -= loss[i]
            assert found[i, t] == pytest.approx(expected, rel=1e-5)


def paid(placement):
    """What of the negative loss an episode gets in all, by its steps until the network is finished."""
    is_open = np.arange(DEPTH) < np.arange(1, DEPTH + 1)[:, None]
    actions = np.where(is_open, 0, PASS).astype(np.int32)
    none = tf.zeros(MODULES + 1)
    found = rewards(tf.fill([DEPTH], 2.0), tf.constant(actions), tf.constant(is_open), none, placement)
    return found.numpy().sum(axis=1).tolist()


def test_short_networks_pay_as_much_as_long_ones():
    """Were they cheaper, the router would learn to build short ones whatever they answer."""
    assert paid("every_step") == [-2.0 * DEPTH] * DEPTH
    assert paid("terminal") == [-2.0] * DEPTH
    assert paid("until_output") == [-2.0, -4.0, -6.0, -8.0]
