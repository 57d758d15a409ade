"""GroupedAdam: each group against plain Adam over the steps that used it."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from lrn_tf.modules.adam import GroupedAdam

SHAPES = [[(3, 2), (2,)], [(4,)], [], [(2, 2, 2), (), (5,)]]


def make_groups(rng):
    return [[tf.Variable(rng.normal(size=s).astype(np.float32)) for s in group] for group in SHAPES]


def random_like(rng, groups):
    return [[tf.constant(rng.normal(size=w.shape), tf.float32) for w in group] for group in groups]


def arrays(tensors):
    return [x.numpy().copy() for x in tf.nest.flatten(tensors)]


def apply_in(mode, adam):
    return tf.function(adam.apply, autograph=False) if mode == "graph" else adam.apply


@pytest.mark.parametrize("mode", ["eager", "graph"])
def test_each_group_counts_its_own_steps(mode):
    rng = np.random.default_rng(0)
    groups = make_groups(rng)
    weights = [[w.numpy().astype(np.float64) for w in group] for group in groups]
    first, second = ([[0 * w for w in group] for group in weights] for _ in range(2))
    steps = [0] * len(groups)
    adam = GroupedAdam(groups)
    apply = apply_in(mode, adam)
    for step in range(20):
        gradients, used = random_like(rng, groups), rng.random(len(groups)) < 0.5
        used[3] &= step > 10  # its first update comes late
        rate = 0.1 / (1 + step)
        apply(gradients, tf.constant(used), tf.constant(rate, tf.float32))
        for g in np.flatnonzero(used):
            steps[g] += 1
            for i, gradient in enumerate(gradients[g]):
                gradient = gradient.numpy()
                first[g][i] = 0.9 * first[g][i] + 0.1 * gradient
                second[g][i] = 0.999 * second[g][i] + 0.001 * gradient**2
                mean = first[g][i] / (1 - 0.9 ** steps[g])
                scale = np.sqrt(second[g][i] / (1 - 0.999 ** steps[g]))
                weights[g][i] = weights[g][i] - rate * mean / (scale + 1e-8)
    assert adam.counts.numpy().tolist() == steps
    found = arrays([groups, adam.first, adam.second])
    for a, b in zip(found, tf.nest.flatten([weights, first, second]), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mode", ["eager", "graph"])
def test_unused_groups_stay_bit_identical(mode):
    """They would move along their old moments in Adam as it is usually written."""
    rng = np.random.default_rng(0)
    groups = make_groups(rng)
    adam = GroupedAdam(groups)
    apply = apply_in(mode, adam)
    apply(random_like(rng, groups), tf.constant([True] * 4), 0.1)
    before = [arrays([groups[g], adam.first[g], adam.second[g]]) for g in range(4)]
    apply(random_like(rng, groups), tf.constant([True, False, False, False]), 0.1)
    after = [arrays([groups[g], adam.first[g], adam.second[g]]) for g in range(4)]
    assert all((a != b).all() for a, b in zip(before[0], after[0], strict=True))
    for g in (1, 2, 3):
        assert all((a == b).all() for a, b in zip(before[g], after[g], strict=True))
    assert adam.counts.numpy().tolist() == [2, 1, 1, 1]


def test_learning_rate_0_moves_moments_only():
    rng = np.random.default_rng(0)
    groups = make_groups(rng)
    adam = GroupedAdam(groups)
    before = arrays(groups)
    adam.apply(random_like(rng, groups), tf.constant([True] * 4), 0.0)
    assert all((a == b).all() for a, b in zip(before, arrays(groups), strict=True))
    assert all(m.any() for m in arrays([adam.first, adam.second]))


def test_equals_keras_when_all_is_used():
    rng = np.random.default_rng(0)
    groups = make_groups(rng)
    twins = [keras.Variable(w.numpy()) for w in tf.nest.flatten(groups)]
    adam, reference = GroupedAdam(groups), keras.optimizers.Adam(0.01, epsilon=1e-8)
    reference.build(twins)
    for _ in range(10):
        gradients = random_like(rng, groups)
        adam.apply(gradients, tf.constant([True] * 4), 0.01)
        reference.apply_gradients(zip(tf.nest.flatten(gradients), twins, strict=True))
    for weight, twin in zip(tf.nest.flatten(groups), twins, strict=True):
        np.testing.assert_allclose(weight, twin.value, atol=1e-6)


def test_sparse_gradients():
    """An embedding's gradient holds only the rows looked up; the others count as 0."""
    dense, sparse = ([[tf.Variable(tf.ones((4, 2)))]] for _ in range(2))
    adams = [GroupedAdam(dense), GroupedAdam(sparse)]
    for _ in range(3):
        with tf.GradientTape(persistent=True) as tape:
            losses = [tf.reduce_sum(tf.gather(g[0][0], [1, 2, 1]) ** 2) for g in (dense, sparse)]
        slices = tape.gradient(losses[1], sparse[0][0])
        assert isinstance(slices, tf.IndexedSlices)
        adams[0].apply(
            [[tf.convert_to_tensor(tape.gradient(losses[0], dense[0][0]))]], tf.constant([True]), 0.1
        )
        adams[1].apply([[slices]], tf.constant([True]), 0.1)
    assert (dense[0][0].numpy() == sparse[0][0].numpy()).all()
    assert (sparse[0][0].numpy() != 1).any(axis=1).tolist() == [False, True, True, False]


def test_a_checkpoint_holds_all_state(tmp_path):
    rng = np.random.default_rng(0)

    def train(groups, adam, steps, seed):
        rng = np.random.default_rng(seed)
        for _ in range(steps):
            adam.apply(random_like(rng, groups), tf.constant(rng.random(4) < 0.7), 0.01)
        return arrays(groups)

    groups, fresh = make_groups(rng), make_groups(rng)
    adam, fresh_adam = GroupedAdam(groups), GroupedAdam(fresh)
    train(groups, adam, 5, seed=1)
    path = tf.train.Checkpoint(groups=groups, **adam.variables).save(str(tmp_path / "adam"))
    tf.train.Checkpoint(groups=fresh, **fresh_adam.variables).restore(path).assert_consumed()
    found, expected = (train(g, a, 5, seed=2) for g, a in ((fresh, fresh_adam), (groups, adam)))
    assert all((a == b).all() for a, b in zip(found, expected, strict=True))
