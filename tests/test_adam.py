"""Adam against Keras', and GroupedAdam: each module against plain Adam over the steps that used it."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from lrn_tf.learning.adam import Adam, GroupedAdam
from lrn_tf.modules.weights import join

# Shapes of the weights of each kind's modules; those of the third kind are large: a variable each.
MODULES = [2, 1, 2, 3]
SHAPES = [[(3, 2), (2,)], [], [(4,), ()], [(2, 2, 2), (), (5,)]]
COUNT = sum(MODULES)


def make_weights(rng):
    def variable(*shape):
        return tf.Variable(rng.normal(size=shape).astype(np.float32))

    return [
        [[variable(*s) for _ in range(n)] if k == 2 else variable(n, *s) for s in shapes]
        for k, (n, shapes) in enumerate(zip(MODULES, SHAPES, strict=True))
    ]


def make(rng):
    weights = make_weights(rng)
    return weights, GroupedAdam(weights, MODULES)


def random_like(rng, weights):
    return tf.nest.map_structure(lambda w: tf.constant(rng.normal(size=w.shape), tf.float32), weights)


def by_module(weights):
    """Arrays, in a list for each module."""
    kinds = zip(MODULES, weights, strict=True)
    return [[w[i].numpy() for w in kind] for count, kind in kinds for i in range(count)]


def arrays(tensors):
    return [x.numpy().copy() for x in tf.nest.flatten(tensors)]


def apply_in(mode, adam):
    return tf.function(adam.apply, autograph=False) if mode == "graph" else adam.apply


@pytest.mark.parametrize("mode", ["eager", "graph"])
def test_each_module_counts_its_own_steps(mode):
    rng = np.random.default_rng(0)
    weights, adam = make(rng)
    modules = [[w.astype(np.float64) for w in module] for module in by_module(weights)]
    first, second = ([[0 * w for w in module] for module in modules] for _ in range(2))
    steps = [0] * COUNT
    apply = apply_in(mode, adam)
    for step in range(20):
        gradients, used = random_like(rng, weights), rng.random(COUNT) < 0.5
        used[[0, 3]] &= step > 10  # whose first updates come late
        rate = 0.1 / (1 + step)
        apply(gradients, tf.constant(used), tf.constant(rate, tf.float32))
        of_modules = by_module(gradients)
        for m in np.flatnonzero(used):
            steps[m] += 1
            for i, gradient in enumerate(of_modules[m]):
                first[m][i] = 0.9 * first[m][i] + 0.1 * gradient
                second[m][i] = 0.999 * second[m][i] + 0.001 * gradient**2
                mean = first[m][i] / (1 - 0.9 ** steps[m])
                scale = np.sqrt(second[m][i] / (1 - 0.999 ** steps[m]))
                modules[m][i] = modules[m][i] - rate * mean / (scale + 1e-8)
    assert adam.counts.numpy().tolist() == steps
    found = [by_module(x) for x in (weights, adam.first, adam.second)]
    for a, b in zip(tf.nest.flatten(found), tf.nest.flatten([modules, first, second]), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mode", ["eager", "graph"])
def test_unused_modules_stay_bit_identical(mode):
    """They would move along their old moments in Adam as it is usually written."""
    rng = np.random.default_rng(0)
    weights, adam = make(rng)
    used = np.arange(COUNT) % 2 == 0
    apply = apply_in(mode, adam)
    apply(random_like(rng, weights), tf.constant([True] * COUNT), 0.1)
    state = weights, adam.first, adam.second
    before = [by_module(x) for x in state]
    apply(random_like(rng, weights), tf.constant(used), 0.1)
    for old, new in zip(before, (by_module(x) for x in state), strict=True):
        for m, on in enumerate(used):
            changed = [a != b for a, b in zip(old[m], new[m], strict=True)]
            assert all(np.all(c) for c in changed) if on else not any(np.any(c) for c in changed), m
    assert adam.counts.numpy().tolist() == (1 + used).tolist()


def test_learning_rate_0_moves_moments_only():
    rng = np.random.default_rng(0)
    weights, adam = make(rng)
    before = arrays(weights)
    adam.apply(random_like(rng, weights), tf.constant([True] * COUNT), 0.0)
    assert all((a == b).all() for a, b in zip(before, arrays(weights), strict=True))
    assert all(m.any() for m in arrays([adam.first, adam.second]))


def assert_steps_are_those_of(reference, twins, adam, weights, rng):
    """Ten steps of an optimizer of Keras' on twins of the weights, and of ours."""
    for _ in range(10):
        gradients = random_like(rng, weights)
        if isinstance(adam, GroupedAdam):
            adam.apply(gradients, tf.constant([True] * COUNT), 0.01)
        else:
            adam.apply(tf.nest.flatten(gradients), 0.01)
        reference.apply_gradients(zip(tf.nest.flatten(gradients), twins, strict=True))
    for weight, twin in zip(tf.nest.flatten(weights), twins, strict=True):
        np.testing.assert_allclose(weight, twin.value, atol=1e-6)


@pytest.mark.parametrize("grouped", [False, True])
def test_equals_keras_when_all_is_used(grouped):
    rng = np.random.default_rng(0)
    weights = make_weights(rng)
    flat = tf.nest.flatten(weights)
    adam = GroupedAdam(weights, MODULES) if grouped else Adam(flat)
    twins = [keras.Variable(w.numpy()) for w in flat]
    reference = keras.optimizers.Adam(0.01, epsilon=1e-8)
    reference.build(twins)
    assert_steps_are_those_of(reference, twins, adam, weights, rng)


def test_decay_of_kernels_equals_keras():
    rng = np.random.default_rng(0)
    weights = make_weights(rng)
    flat, adam = tf.nest.flatten(weights), GroupedAdam(weights, MODULES, 0.3)
    # A stack has a dimension more than the weights in it.
    stacked = [not isinstance(of_kind, list) for kind in weights for of_kind in kind]
    sizes = [1 if of_kind else MODULES[2] for of_kind in stacked]
    stacked = np.repeat(stacked, sizes)
    twins = [keras.Variable(w.numpy()) for w in flat]
    reference = keras.optimizers.AdamW(0.01, weight_decay=0.3, epsilon=1e-8)
    few = [t for t, in_stack in zip(twins, stacked, strict=True) if len(t.shape) - in_stack < 2]
    assert 0 < len(few) < len(twins)
    reference.exclude_from_weight_decay(var_list=few)
    reference.build(twins)
    assert_steps_are_those_of(reference, twins, adam, weights, rng)


def test_biases_of_two_dimensions_do_not_decay():
    """As those of a GRU, and of attention."""
    layers = [keras.layers.GRU(4), keras.layers.MultiHeadAttention(2, 3)]
    layers[0].build((None, 5, 3)), layers[1].build((None, 5, 6), (None, 5, 6))
    weights = [[join([w.value, w.value]) for w in layer.trainable_variables] for layer in layers]
    before = [[w.numpy() for w in kind] for kind in weights]
    nothing = tf.nest.map_structure(tf.zeros_like, weights)
    GroupedAdam(weights, [2, 2], 0.3).apply(nothing, tf.fill([4], True), 0.1)
    for layer, kind, old in zip(layers, weights, before, strict=True):
        for variable, new, was in zip(layer.trainable_variables, kind, old, strict=True):
            left = 1 if variable.name == "bias" else 1 - 0.1 * 0.3
            np.testing.assert_allclose(new, left * was, rtol=1e-6)


def test_what_is_not_used_does_not_decay():
    rng = np.random.default_rng(0)
    weights = make_weights(rng)
    adam, before = GroupedAdam(weights, MODULES, 0.3), by_module(weights)
    adam.apply(random_like(rng, weights), tf.constant([False] * COUNT), 0.1)
    for old, new in zip(before, by_module(weights), strict=True):
        assert all((a == b).all() for a, b in zip(old, new, strict=True))


@pytest.mark.parametrize("grouped", [False, True])
def test_a_checkpoint_holds_all_state(tmp_path, grouped):
    def made(rng):
        weights = make_weights(rng)
        return weights, GroupedAdam(weights, MODULES) if grouped else Adam(tf.nest.flatten(weights))

    def train(weights, adam, steps, seed):
        rng = np.random.default_rng(seed)
        for _ in range(steps):
            gradients, used = random_like(rng, weights), tf.constant(rng.random(COUNT) < 0.7)
            if grouped:
                adam.apply(gradients, used, 0.01)
            else:
                adam.apply(tf.nest.flatten(gradients), 0.01)
        return arrays(weights)

    rng = np.random.default_rng(0)
    (weights, adam), (fresh, fresh_adam) = made(rng), made(rng)
    train(weights, adam, 5, seed=1)
    path = tf.train.Checkpoint(weights=weights, **adam.variables).save(str(tmp_path / "adam"))
    tf.train.Checkpoint(weights=fresh, **fresh_adam.variables).restore(path).assert_consumed()
    found, expected = (train(w, a, 5, seed=2) for w, a in ((fresh, fresh_adam), (weights, adam)))
    assert all((a == b).all() for a, b in zip(found, expected, strict=True))
