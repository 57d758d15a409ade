"""Mixup: of which two examples each was made, read off a batch in which each has a column of its own."""

import numpy as np
import pytest
import tensorflow as tf

from lrn_tf.data.mixup import mix
from lrn_tf.data.problem import CLASSES, InputSpec, Problem, TaskSpec

BATCH = 60


def problem(tasks=3, words=False):
    """Tasks of numbers, and perhaps one of tokens."""
    specs = [TaskSpec(f"task {k}", "rows", CLASSES, ("a", "b")) for k in range(tasks)]
    inputs = [InputSpec("rows", (BATCH,), "float32", (0.0,) * BATCH, (1.0,) * BATCH)]
    if words:
        specs.append(TaskSpec("reading", "words", CLASSES, ("a", "b")))
        inputs.append(InputSpec("words", (4,), "int32", (), (), vocabulary=1000))
    return Problem("made up", tuple(inputs), tuple(specs))


def mixed(most=0.5, seed=0, tasks=3, columns=None):
    """Which example each was made of besides itself, by what share; and the batch's tasks and targets."""
    task = np.random.default_rng(seed).integers(0, tasks, BATCH).astype(np.int32)
    targets = np.arange(BATCH, dtype=np.int32) if columns is None else columns
    rows, found = mix(
        tf.eye(BATCH), tf.constant(task), tf.constant(targets), problem(tasks), most, tf.constant([7, seed])
    )
    rows, share = rows.numpy(), found.share.numpy()
    mine = rows[np.arange(BATCH), np.arange(BATCH)].copy()
    rows[np.arange(BATCH), np.arange(BATCH)] = 0
    partner = np.where(rows.any(axis=1), rows.argmax(axis=1), np.arange(BATCH))
    np.testing.assert_allclose(mine + rows.sum(axis=1), 1, rtol=1e-6)
    assert (np.count_nonzero(rows, axis=1) <= 1).all()
    np.testing.assert_allclose(mine, np.where(partner == np.arange(BATCH), 1, share), rtol=1e-6)
    return partner, share, task, found


@pytest.mark.parametrize("columns", [None, np.arange(2 * BATCH, dtype=np.float32).reshape(BATCH, 2)])
def test_an_example_is_mixed_with_one_of_its_task_and_so_is_its_target(columns):
    partner, share, task, found = mixed(columns=columns)
    np.testing.assert_array_equal(task[partner], task)
    targets = np.arange(BATCH) if columns is None else columns
    np.testing.assert_array_equal(found.targets, targets)
    np.testing.assert_array_equal(found.others, targets[partner])
    assert ((share >= 0.5) & (share <= 1)).all()


def test_every_other_example_of_a_task_is_as_likely():
    times = np.zeros(BATCH)
    for seed in range(200):
        partner, *_ = mixed(seed=seed, tasks=1)
        assert (partner != np.arange(BATCH)).all()
        times += np.bincount(partner, minlength=BATCH)
    assert abs(times - 200).max() < 5 * 200**0.5


def test_who_is_alone_of_a_task_stays_as_it_is():
    partner, _, task, _ = mixed(tasks=BATCH)
    alone = np.bincount(task, minlength=BATCH)[task] == 1
    np.testing.assert_array_equal(partner == np.arange(BATCH), alone)
    assert 5 < alone.sum() < BATCH - 5


@pytest.mark.parametrize("most", [0.2, 0.5])
def test_how_much_the_other_counts_is_uniform(most):
    found = np.concatenate([1 - mixed(most, seed)[1] for seed in range(50)])
    for q in (0.0, 0.1, 0.5, 0.9, 1.0):
        assert np.quantile(found, q) == pytest.approx(q * most, abs=0.02)


def test_at_a_half_shares_are_as_of_beta_1_1():
    found = np.concatenate([mixed(0.5, seed)[1] for seed in range(50)])
    drawn = np.random.default_rng(0).beta(1, 1, 100_000)
    expected = np.quantile(np.maximum(drawn, 1 - drawn), (0.1, 0.5, 0.9))
    np.testing.assert_allclose(np.quantile(found, (0.1, 0.5, 0.9)), expected, atol=0.02)


def test_the_seed_decides():
    (first, one, *_), (same, two, *_), (other, three, *_) = (mixed(seed=s) for s in (1, 1, 2))
    np.testing.assert_array_equal(first, same)
    np.testing.assert_array_equal(one, two)
    assert (first != other).any() and (one != three).all()


def test_tokens_and_their_targets_stay_as_they_are():
    rng = np.random.default_rng(0)
    task = rng.integers(0, 3, BATCH).astype(np.int32)  # the last one reads
    words = rng.integers(0, 1000, (BATCH, 4)).astype(np.int32)
    targets = tf.range(BATCH)
    inputs = (tf.eye(BATCH), tf.constant(words))
    (rows, read), found = mix(
        inputs, tf.constant(task), targets, problem(2, words=True), 0.5, tf.zeros(2, tf.int32)
    )
    np.testing.assert_array_equal(read, words)
    np.testing.assert_array_equal(found.others.numpy()[task == 2], np.arange(BATCH)[task == 2])
    assert (found.others.numpy() != np.arange(BATCH))[task < 2].all()
    np.testing.assert_allclose(rows.numpy()[task == 2], np.eye(BATCH)[task == 2])
