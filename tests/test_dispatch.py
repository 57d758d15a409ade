"""Waves and dispatch, against running each example alone and against running everything everywhere."""

import collections
import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from lrn_tf.modules import pools
from lrn_tf.modules.dispatch import Modules, run_all
from lrn_tf.modules.pool import HIDDEN, INPUT, OUTPUT, Kind, Pool
from lrn_tf.modules.waves import Waves
from lrn_tf.modules.weights import split

BATCH, DEPTH = 12, 5


def with_passes(networks, depth, no_module, rng):
    """Episodes `[n, depth]` that build the networks, with PASS at random places after the first step."""
    episodes = np.full((len(networks), depth), no_module, np.int32)
    for row, network in enumerate(networks):
        steps = [0, *sorted(rng.choice(np.arange(1, depth), len(network) - 1, replace=False))]
        episodes[row, steps] = network
    return episodes


# --- Waves


@pytest.mark.parametrize("depth", [3, 4, 6])
def test_every_network_runs_in_its_order(any_pool, depth, rules):
    networks = list(rules(any_pool, depth).networks())
    paths = with_passes(networks, depth, any_pool.pass_id, np.random.default_rng(0))
    waves = Waves(any_pool, depth)
    schedule = waves.schedule(tf.constant(paths))
    ran = [[] for _ in networks]
    for modules, order, counts in zip(
        waves.modules, schedule.order.numpy(), schedule.counts.numpy(), strict=True
    ):
        assert sorted(order) == list(range(len(networks)))
        assert not counts[len(modules) :].any()
        rest = list(order)
        for module, count in zip(modules, counts, strict=False):
            rows, rest = rest[:count], rest[count:]
            # Neighbours in the batch stay neighbours, which keeps memory access in order.
            assert rows == sorted(rows)
            for row in rows:
                ran[row].append(module)
    assert ran == [list(network) for network in networks]


def test_waves_of_the_papers_pool():
    pool = pools.paper((8, 8, 1), 2, 5)
    names = [[pool.kinds[k].name for k in kinds] for kinds in Waves(pool, 4).kinds]
    assert names == [["conv_in"], ["conv"], ["conv"], ["flat_fc"], ["fc"], ["flat_out"], ["fc_out"]]


def test_no_more_waves_than_copies():
    assert len(Waves(pools.paper((8, 8, 1), 2, 1), 6).kinds) == 6


# --- Dispatch


def odd_layers():
    """Layers that the built-in pools do not have; those of one kind have no weights."""
    image, half = (4, 4, 2), (2, 2, 2)
    return Pool(
        [
            Kind("in", INPUT, image, image, lambda: keras.layers.SeparableConv2D(2, 3, padding="same"), 2),
            Kind("no_bias", HIDDEN, image, image, lambda: keras.layers.Dense(2, use_bias=False), 2),
            Kind("no_weights", HIDDEN, image, half, lambda: keras.layers.MaxPooling2D(), 2),
            Kind("depthwise", HIDDEN, image, half, lambda: keras.layers.DepthwiseConv2D(2, strides=2), 1),
            Kind("norm", HIDDEN, half, half, lambda: keras.layers.LayerNormalization(), 3),
            Kind("out", OUTPUT, half, (3,), dense_of_flat, 2),
        ],
        image,
    )


def dense_of_flat():
    return keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(3)])


LARGER = {
    "paper": lambda: pools.paper((8, 8, 1), 3, 2),
    "pyramid": lambda: pools.pyramid((8, 8, 3), 3, 2),
    "odd_layers": odd_layers,
}
CUSTOM = ["cycle", "cycle_reversed", "same_signature", "dead_end", "lost_input"]


def make_modules(pool, policy="float32"):
    """Modules with biases other than 0 and scales other than 1, so that no weight goes unnoticed."""
    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy(policy)
    try:
        modules = Modules(pool, DEPTH)
    finally:
        keras.config.set_dtype_policy("float32")
    for weight in tf.nest.flatten(modules.weights):
        weight.assign_add(0.1 * tf.random.normal(weight.shape, dtype=weight.dtype))
    return modules


def random_images(pool, dtype=tf.float32):
    return tf.constant(np.random.default_rng(0).normal(size=(BATCH, *pool.image)), dtype)


def in_graph(modules):
    """Dispatch as in training, where an empty group must not run."""
    return tf.function(functools.partial(results, modules, dispatched), autograph=False)


def dispatched(modules, images, paths):
    return modules(images, paths)[0]


def one_by_one(modules, images, paths):
    """Each example alone through the layers of its path."""
    logits = []
    for row, path in enumerate(paths.numpy()):
        x = images[row : row + 1]
        for m in path[path < modules.pool.pass_id]:
            x = modules.run_module(m, x)
        logits.append(tf.cast(x, tf.float32))
    return tf.concat(logits, axis=0)


def results(modules, run, images, paths):
    """Logits, and the gradients of images and of all weights: one tuple per module."""
    with tf.GradientTape() as tape:
        tape.watch(images)
        logits = run(modules, images, paths)
        # A sum would give every example and class the same gradient.
        factors = tf.reshape(tf.linspace(0.5, 2.0, tf.size(logits)), tf.shape(logits))
        loss = tf.reduce_mean(tf.sin(logits) * factors)
    of_images, of_kinds = tape.gradient(loss, [images, modules.weights], unconnected_gradients="zero")
    kinds = zip(modules.pool.kinds, of_kinds, strict=True)
    of_modules = [module for kind, mine in kinds for module in split(mine) or [()] * kind.dup]
    return logits, of_images, of_modules


def assert_near(found, expected):
    for a, b in zip(tf.nest.flatten(found), tf.nest.flatten(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


# From many random episodes to the first BATCH of a kind.
SCENARIOS = {
    "random": lambda episodes: episodes,
    "all on one network": lambda episodes: episodes[:1].repeat(BATCH, axis=0),
    "one module in all networks": lambda episodes: episodes[episodes[:, 0] == episodes[0, 0]],
    "short networks": lambda episodes: episodes[np.argsort(-(episodes == episodes.max()).sum(axis=1))],
}


@pytest.fixture(scope="module", params=[*LARGER, *CUSTOM])
def exact_modules(request, named_pool):
    """In float64: in float32 a ReLU whose input is 0 up to rounding makes gradients jump."""
    pool = LARGER[request.param]() if request.param in LARGER else named_pool(request.param)
    modules = make_modules(pool, "float64")
    return modules, in_graph(modules)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_equals_both_oracles(exact_modules, scenario, rules):
    modules, dispatch = exact_modules
    episodes = rules(modules.pool, DEPTH).sample(20 * BATCH, np.random.default_rng(1))
    paths = tf.constant(SCENARIOS[scenario](episodes)[:BATCH])
    images = random_images(modules.pool, tf.float64)
    found = dispatch(images, paths)
    assert_near(found, results(modules, run_all, images, paths))
    assert_near(found, results(modules, one_by_one, images, paths))
    for m, gradients in enumerate(found[2]):
        if m not in paths.numpy():
            assert not any(np.any(g) for g in gradients)


@pytest.mark.parametrize("name", LARGER)
def test_float32(name, rules):
    """As it is used: with gradients, and without them, where TensorFlow may optimise more away."""
    pool = LARGER[name]()
    modules = make_modules(pool)
    episodes = rules(pool, DEPTH).sample(BATCH, np.random.default_rng(2))
    images = random_images(pool)
    dispatch, forward = in_graph(modules), tf.function(modules, autograph=False)
    for paths in (episodes, episodes[:1].repeat(BATCH, axis=0)):
        expected = results(modules, run_all, images, tf.constant(paths))
        logits, *gradients = dispatch(images, tf.constant(paths))
        assert_near(logits, expected[0])
        # One ReLU that jumps stays far below this bound, a wrong gradient far above.
        pairs = zip(tf.nest.flatten(gradients), tf.nest.flatten(expected[1:]), strict=True)
        error = tf.linalg.global_norm([a - b for a, b in pairs])
        assert error < 0.05 * tf.linalg.global_norm(tf.nest.flatten(expected[1:]))

        logits, chosen = forward(images, tf.constant(paths))
        assert_near(logits, expected[0])
        assert_near(dispatched(modules, images, tf.constant(paths)), logits)
        assert logits.dtype == tf.float32
        assert chosen.numpy().tolist() == [int((paths == m).sum()) for m in range(len(pool))]
    assert (chosen.numpy() == 0).any()


class Recorder(keras.layers.Layer):
    """Adds its weight, which is its module's number, and notes on how many rows."""

    calls = []

    def build(self, shape):
        self.number = self.add_weight(shape=(), initializer="zeros")
        self.built = True

    def call(self, x):
        tf.py_function(
            lambda *call: self.calls.append(tuple(map(int, call))), [self.number, tf.shape(x)[0]], []
        )
        return x + self.number

    def compute_output_shape(self, shape):
        return shape


def recorder_pool():
    return Pool(
        [
            Kind("in", INPUT, (3,), (3,), Recorder, 3),
            Kind("a", HIDDEN, (3,), (3,), Recorder, 4),
            Kind("out", OUTPUT, (3,), (3,), Recorder, 2),
        ],
        (3,),
    )


def test_modules_run_on_just_the_examples_that_chose_them(rules):
    pool = recorder_pool()
    modules = Modules(pool, DEPTH)
    for k, (numbers,) in enumerate(modules.weights):
        numbers.assign(tf.cast(pool.modules(k), tf.float32))
    forward = tf.function(modules, autograph=False)
    # The last hidden module and the first output module are in no network.
    left_out = [6, 7]
    episodes = rules(pool, DEPTH).sample(300, np.random.default_rng(3))
    paths = episodes[~np.isin(episodes, left_out).any(axis=1)][:40]
    Recorder.calls.clear()
    logits, _ = forward(tf.zeros((len(paths), 3)), tf.constant(paths))
    assert np.allclose(logits[:, 0], np.where(paths < pool.pass_id, paths, 0).sum(axis=1))

    calls, rows = collections.Counter(), collections.Counter()
    for module, count in Recorder.calls:
        calls[module] += 1
        rows[module] += count
        assert count > 0
    assert rows == collections.Counter(paths[paths < pool.pass_id].tolist())
    assert not set(left_out) & set(calls)
    waves = Waves(pool, DEPTH)
    assert all(calls[m] <= sum(m in wave for wave in waves.modules) for m in calls)


def test_examples_share_a_run_whatever_step_they_chose_it_at():
    """A kind that cannot follow itself runs once: its large gradient is made once, too."""
    pool = Pool(
        [
            Kind("in", INPUT, (3,), (3,), Recorder, 1),
            Kind("out", OUTPUT, (3,), (3,), Recorder, 1),
        ],
        (3,),
    )
    modules = Modules(pool, 4)
    Recorder.calls.clear()
    modules(tf.zeros((3, 3)), tf.constant([[0, 1, 2, 2], [0, 2, 1, 2], [0, 2, 2, 1]]))
    assert [rows for _, rows in Recorder.calls] == [3, 3]


def test_bfloat16(rules):
    """Layers compute in bfloat16; weights and logits stay in float32."""
    pool = LARGER["paper"]()
    paths = tf.constant(rules(pool, DEPTH).sample(BATCH, np.random.default_rng(4)))
    images = random_images(pool)
    half, full = make_modules(pool, "mixed_bfloat16"), make_modules(pool)
    for mine, theirs in zip(*(tf.nest.flatten(m.weights) for m in (full, half)), strict=True):
        mine.assign(theirs)
    found, expected = in_graph(half)(images, paths), results(full, run_all, images, paths)
    assert {x.dtype for x in tf.nest.flatten(found)} == {tf.float32}
    np.testing.assert_allclose(found[0], expected[0], atol=0.1)
    assert np.any(found[0] != expected[0])
