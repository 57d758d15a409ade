"""Dispatch, against running each example alone and against running everything everywhere."""

import collections
import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from small_pools import (
    IMAGES_4,
    POOLS,
    ROWS,
    SAME,
    SEQUENCES,
    TOKENS,
    any_inputs,
    networks_of_all_tasks,
    pool_of,
    problem,
    with_passes,
)

from lrn_tf.data.problem import CLASSES, NUMBERS
from lrn_tf.modules.blocks import StandardisedConvolution
from lrn_tf.modules.dispatch import Modules, run_all
from lrn_tf.modules.pool import HIDDEN, INPUT, OUTPUT, Demand, Given, Kind, Pool, build_layer
from lrn_tf.modules.rows import recurring
from lrn_tf.modules.waves import Waves
from lrn_tf.modules.weights import LARGE, is_stack, split
from lrn_tf.serving.operations import COMPUTING, SERVING

BATCH, DEPTH = 12, 5
IMAGES_8 = ("images", (8, 8, 1))


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
        [Given("images", image)],
    )


def large_kernels():
    """Kernels that are standardised, and so large that each module has its own."""
    image, channels = (2, 2, 128), -(-LARGE // (9 * 128))
    return Pool(
        [
            Kind("in", INPUT, image, (2, 2, channels), lambda: StandardisedConvolution(channels, 3), 2),
            Kind("out", OUTPUT, (2, 2, channels), (3,), dense_of_flat, 2),
        ],
        [Given("images", image)],
    )


def recurrent():
    """Layers that loop over a sequence, and hold seeds that they do not need."""
    return Pool(
        [
            Kind("lstm", INPUT, (5, 3), (5, 4), lambda: keras.layers.LSTM(4, return_sequences=True), 2),
            Kind("gru", HIDDEN, (5, 4), (5, 4), lambda: keras.layers.GRU(4, return_sequences=True), 2),
            Kind("both", HIDDEN, (5, 4), (4,), lambda: keras.layers.Bidirectional(keras.layers.LSTM(2)), 2),
            Kind("out", OUTPUT, (4,), (3,), dense_of_flat, 2),
        ],
        [Given("sequences", (5, 3))],
    )


def large_vocabulary():
    """Tokens whose modules have a large table each, beside small ones."""
    words = -(-LARGE // 4)
    return Pool(
        [
            Kind("large", INPUT, (3,), (3, 4), lambda: keras.layers.Embedding(words, 4), 2),
            Kind("small", INPUT, (3,), (3, 4), lambda: keras.layers.Embedding(9, 4), 2),
            Kind("out", OUTPUT, (3, 4), (3,), dense_of_flat, 2),
        ],
        [Given("tokens", (3,), True)],
    )


def dense_of_flat():
    return keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(3)])


OF_IMAGES = [("images", CLASSES, 3)] * 2 + [("images", CLASSES, 5)] * 2 + [("images", NUMBERS, 1)]
OF_ALL = [("images", CLASSES, 3), ("sequences", CLASSES, 3), ("rows", NUMBERS, 1), ("tokens", CLASSES, 2)]
BUILT_IN = {
    "paper": lambda: pool_of("paper", problem([IMAGES_8], SAME), 2),
    "paper_by_task": lambda: pool_of("paper", problem([IMAGES_8], OF_IMAGES, heads="task"), 2),
    "residual": lambda: pool_of("residual", problem([("images", (8, 8, 3))], SAME), 2),
    "wide_1": lambda: pool_of("wide_1", problem([("images", (4, 4, 3))], SAME), 3),
    "transformer": lambda: pool_of("transformer", problem([("images", (8, 8, 3))], OF_IMAGES), 2),
    "mixed": lambda: pool_of("mixed", problem([IMAGES_4, SEQUENCES, ROWS, TOKENS], OF_ALL), 2),
}
LARGER = {
    **BUILT_IN,
    "odd_layers": odd_layers,
    "large_kernels": large_kernels,
    "large_vocabulary": large_vocabulary,
    "recurrent": recurrent,
}
CUSTOM = ["cycle", "cycle_reversed", "same_signature", "dead_end", "lost_input"]
CUSTOM += ["two_widths", "heads_by_task", "two_inputs", "same_shape", "tokens"]


def make_pool(name):
    return {**POOLS, **LARGER}[name]()


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


def random_inputs(pool, dtype="float32", count=BATCH):
    given = any_inputs(pool, count, np.random.default_rng(0), dtype)
    return tf.nest.map_structure(tf.constant, given)


def sample(pool, rules, count, rng, depth=DEPTH):
    """Random legal episodes of all tasks, int32 `[count, depth]`, in random order."""
    tasks = len(pool.demands)
    of_task = [rules(pool, depth, task).sample(-(-count // tasks), rng) for task in range(tasks)]
    return rng.permutation(np.concatenate(of_task))[:count]


def in_graph(modules):
    """Dispatch as in training, where an empty group must not run."""
    return tf.function(functools.partial(results, modules, dispatched), autograph=False)


def dispatched(modules, inputs, paths):
    return modules(inputs, paths)[0]


@pytest.mark.parametrize("name", ["paper", "residual", "wide_1", "odd_layers", "large_kernels"])
def test_a_module_is_its_layer(name):
    """In what it returns and in the gradients of its weights, whatever is done for all modules at once."""
    pool, rng = make_pool(name), np.random.default_rng(0)
    modules = make_modules(pool)
    for m in range(len(pool)):
        kind, k = pool.kinds[pool.kind[m]], pool.kind[m]
        layer = build_layer(kind)
        layer.set_weights([tf.convert_to_tensor(w).numpy() for w in modules.weights_of(m)])
        x, r = (tf.constant(rng.normal(size=(5, *s)), tf.float32) for s in (kind.input, kind.output))
        weights = layer.trainable_variables
        with tf.GradientTape() as tape:
            expected = layer(x)
            score = tf.reduce_sum(r * expected)
        expected_gradients = tape.gradient(score, weights) if weights else []
        place = m - pool.modules(k)[0]
        with tf.GradientTape(persistent=True) as tape:
            alone = modules.run_module(m, x)
            among_others = modules.run_kind(k, x, tf.fill([5], place))
            scores = [tf.reduce_sum(r * y) for y in (alone, among_others)]
        for y, score in zip((alone, among_others), scores, strict=True):
            np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)
            gradients = tape.gradient(score, modules.weights[k], unconnected_gradients="zero")
            for found, wanted in zip(gradients, expected_gradients, strict=True):
                np.testing.assert_allclose(found[place], wanted, rtol=1e-3, atol=1e-4)


def brought_by(pool, path):
    """The number of the input that the first module of a path takes."""
    kind = pool.kinds[pool.kind[path[0]]]
    inputs = enumerate(pool.inputs)
    return next(i for i, (n, shape, _) in inputs if shape == kind.input and kind.given in ("", n))


def one_by_one(modules, inputs, paths):
    """Each path's examples alone through its layers, from the input that the first of them takes."""
    pool, inputs = modules.pool, tf.nest.flatten(inputs)
    networks, which = np.unique(paths, axis=0, return_inverse=True)
    rows, logits = [np.flatnonzero(which.ravel() == n) for n in range(len(networks))], []
    for path, mine in zip(networks, rows, strict=True):
        x = tf.gather(inputs[brought_by(pool, path)], mine)
        for m in path[path < pool.pass_id]:
            x = modules.run_module(m, x)
        x = tf.cast(x, tf.float32)
        logits.append(tf.pad(x, [[0, 0], [0, pool.width - x.shape[1]]]))
    return tf.gather(tf.concat(logits, axis=0), np.argsort(np.concatenate(rows)))


def results(modules, run, inputs, paths):
    """Logits, and the gradients of inputs (but tokens) and of all weights: one tuple per module."""
    watched = [x for x in tf.nest.flatten(inputs) if x.dtype.is_floating]
    with tf.GradientTape() as tape:
        tape.watch(watched)
        logits = run(modules, inputs, paths)
        # A sum would give every example and class the same gradient.
        factors = tf.reshape(tf.linspace(0.5, 2.0, tf.size(logits)), tf.shape(logits))
        loss = tf.reduce_mean(tf.sin(logits) * factors)
    of_inputs, of_kinds = tape.gradient(loss, [watched, modules.weights], unconnected_gradients="zero")
    of_inputs, of_kinds = tf.nest.map_structure(tf.convert_to_tensor, (of_inputs, of_kinds))
    kinds = zip(modules.pool.kinds, of_kinds, strict=True)
    of_modules = [module for kind, mine in kinds for module in split(mine, kind.count)]
    return logits, of_inputs, of_modules


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


ON_GPU = "as on a GPU: "
AS_ON_GPU = [ON_GPU + name for name in ("paper", "mixed", "cycle", "residual")]


SLOW = {"paper", "paper_by_task", "residual", "wide_1", "transformer", "mixed", "recurrent"}
SLOW |= {ON_GPU + name for name in ("paper", "mixed", "residual")}
# How examples are grouped does not depend on layers: these are slow, and others try all scenarios.
LARGEST = SLOW - {"paper", ON_GPU + "paper"}


def slow_ones(names):
    return [pytest.param(n, marks=[pytest.mark.slow] if n in SLOW else []) for n in names]


@functools.cache
def exact_modules(name):
    """In float64: in float32 a ReLU whose input is 0 up to rounding makes gradients jump."""
    pool = make_pool(name.removeprefix(ON_GPU))
    modules = make_modules(pool, "float64")
    run = in_graph(modules)
    return modules, traced_for_gpus(run) if ON_GPU in name else run


def traced_for_gpus(run):
    """What is traced for them also runs on CPUs."""

    def traced(*arguments):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("lrn_tf.modules.fused.on_gpu", lambda: True)
            return run(*arguments)

    return traced


@pytest.mark.parametrize(
    "name, scenario",
    [
        pytest.param(name, scenario, marks=[pytest.mark.slow] if name in SLOW else [])
        for name in [*LARGER, *CUSTOM, *AS_ON_GPU]
        for scenario in SCENARIOS
        if name not in LARGEST or scenario in ("random", "all on one network")
    ],
)
def test_equals_both_oracles(name, scenario, rules):
    modules, run = exact_modules(name)
    episodes = sample(modules.pool, rules, 20 * BATCH, np.random.default_rng(1))
    paths = tf.constant(SCENARIOS[scenario](episodes)[:BATCH])
    inputs = random_inputs(modules.pool, "float64", len(paths))
    found = run(inputs, paths)
    assert_near(found, results(modules, one_by_one, inputs, paths))
    if scenario == "random":  # it runs all modules at every step, whoever needs them
        assert_near(found, results(modules, run_all, inputs, paths))
    # Of a module that has weights, the gradient is 0 if and only if no example chose it.
    for m, gradients in enumerate(found[2]):
        assert any(np.any(g) for g in gradients) == (m in paths.numpy() and len(gradients) > 0)


@pytest.mark.parametrize("name", slow_ones(BUILT_IN))
def test_any_network_of_a_built_in_pool_runs(name, rules):
    """All of them at once."""
    modules, _ = exact_modules(name)
    pool = modules.pool
    networks = networks_of_all_tasks(pool, DEPTH, rules)
    assert len(networks) > 40
    paths = tf.constant(with_passes(networks, DEPTH, pool.pass_id, np.random.default_rng(0)))
    inputs = random_inputs(pool, "float64", len(networks))
    logits, chosen = tf.function(modules, autograph=False)(inputs, paths)
    assert np.isfinite(logits).all()
    assert_near(logits, run_all(modules, inputs, paths))
    assert chosen.numpy().tolist() == [sum(m in network for network in networks) for m in range(len(pool))]
    # No two networks do the same.
    answers = {row.tobytes() for row in np.round(one_example(modules, inputs, paths), 6)}
    assert len(answers) == len(networks)
    for row, network in zip(logits.numpy(), networks, strict=True):
        width = pool.kinds[pool.kind[network[-1]]].output[0]
        assert row[:width].all() and not row[width:].any()


def one_example(modules, inputs, paths):
    """What each network answers to the first example."""
    same = tf.nest.map_structure(lambda x: tf.repeat(x[:1], len(paths), axis=0), inputs)
    return modules(same, paths)[0].numpy()


@pytest.mark.parametrize("name", slow_ones(["two_inputs", "same_shape", "tokens", "mixed"]))
def test_what_else_an_example_brings_does_not_count(name, rules):
    modules, dispatch = exact_modules(name)
    pool, rng = modules.pool, np.random.default_rng(5)
    paths = sample(pool, rules, BATCH, rng)
    inputs, others = random_inputs(pool, "float64"), any_inputs(pool, BATCH, rng, "float64")
    brought = [brought_by(pool, path) for path in paths]
    mixed = []
    for i, (mine, other) in enumerate(zip(inputs, others, strict=True)):
        is_mine = np.reshape(np.array(brought) == i, [-1] + [1] * (mine.ndim - 1))
        mixed.append(tf.constant(np.where(is_mine, mine, 9 * other if other.dtype.kind == "f" else other)))
    found, expected = (dispatch(x, tf.constant(paths)) for x in (tuple(mixed), inputs))
    assert_near(found[0], expected[0])
    assert_near(found[2], expected[2])
    floating = [i for i, x in enumerate(inputs) if x.dtype.is_floating]
    for i, gradient in zip(floating, found[1], strict=True):
        assert [bool(np.any(row)) for row in gradient] == [b == i for b in brought]


@keras.saving.register_keras_serializable("tests")
class Unit(keras.layers.Layer):
    """Rows divided by their length, which makes NaN of a row of zeros."""

    def call(self, x):
        return x / keras.ops.norm(x, axis=1, keepdims=True)


@pytest.mark.parametrize("as_on_gpu", [False, True])
def test_padding_makes_no_numbers_that_examples_do_not(monkeypatch, as_on_gpu):
    """The first example goes another way, and is zeros where the padded modules look."""
    monkeypatch.setattr("lrn_tf.modules.fused.on_gpu", lambda: as_on_gpu)
    kinds = [
        Kind("short", INPUT, (3,), (2,), lambda: keras.layers.Dense(2), 1),
        Kind("long", INPUT, (3,), (4,), lambda: keras.layers.Dense(4), 1),
        Kind("unit", HIDDEN, (4,), (2,), lambda: keras.Sequential([Unit(), keras.layers.Dense(2)]), 2),
        Kind("out", OUTPUT, (2,), (3,), lambda: keras.layers.Dense(3), 1),
    ]
    modules = make_modules(Pool(kinds, [Given("rows", (3,))]))
    paths = tf.constant([[0, 4, 5], [1, 2, 4], [1, 3, 4], [1, 3, 4]])
    found = results(modules, dispatched, tf.random.stateless_normal((4, 3), [1, 2]), paths)
    assert all(np.isfinite(x).all() for x in tf.nest.flatten(found))


@pytest.mark.parametrize("size", [0, 1, 16, 17, 21, 64, 65, 1000, 10**6])
def test_a_group_grows_by_a_half_at_most(size):
    found = int(recurring(tf.constant([size]))[0])
    assert found >= size and (found <= max(16, 1.5 * size) if size else found == 0)


def test_what_is_traced_for_gpus_may_be_exported(monkeypatch, named_pool):
    """Nothing in it but what `lrn_tf.load` lets pass."""
    monkeypatch.setattr("lrn_tf.modules.fused.on_gpu", lambda: True)
    pool = named_pool("paper_2")
    modules, (shape,) = make_modules(pool), [given.shape for given in pool.inputs]
    given = tf.TensorSpec((None, *shape)), tf.TensorSpec((None, DEPTH), tf.int32)
    graph = tf.function(modules, autograph=False).get_concrete_function(*given).graph.as_graph_def()
    operations = {node.op for node in nodes(graph)}
    assert "DynamicStitch" in operations
    assert operations <= COMPUTING | SERVING
    # What XLA compiles would be compiled anew for every size of batch.
    assert not any(function.attr["_XlaMustCompile"].b for function in graph.library.function)


def nodes(graph):
    """Those of a graph's functions, too."""
    return [*graph.node, *(node for function in graph.library.function for node in function.node_def)]


def test_many_small_modules_have_a_graph_as_large_as_two():
    """With operations for each of them, forward and backward, that of a hundred takes minutes."""

    def size(count):
        image, odd = (4, 4, 2), lambda: keras.layers.SeparableConv2D(2, 3, padding="same")
        out = Kind("out", OUTPUT, image, (3,), dense_of_flat, 1)
        pool = Pool([Kind("in", INPUT, image, image, odd, count), out], [Given("images", image)])
        modules = make_modules(pool)

        @tf.function(autograph=False)
        def step(images, paths):
            with tf.GradientTape() as tape:
                answers = modules(images, paths)[0]
            return tape.gradient(answers, modules.weights)

        given = tf.TensorSpec((BATCH, *image)), tf.TensorSpec((BATCH, 2), tf.int32)
        return len(nodes(step.get_concrete_function(*given).graph.as_graph_def()))

    assert size(9) == size(2)


def test_tokens_keep_their_numbers_in_bfloat16():
    """It has no whole number between 256 and 258. Also where the table is inside of other layers."""

    def inside():
        return keras.Sequential([keras.Sequential([keras.layers.Embedding(600, 2)]), keras.layers.ReLU()])

    kinds = [
        Kind("plain", INPUT, (3,), (3, 2), lambda: keras.layers.Embedding(600, 2), 2),
        Kind("inside", INPUT, (3,), (3, 2), inside, 1),
        Kind("out", OUTPUT, (3, 2), (6,), keras.layers.Flatten, 1),
    ]
    pool = Pool(kinds, [Given("tokens", (3,), True)], [Demand("tokens", "any", 6)])
    modules = make_modules(pool, "mixed_bfloat16")
    tokens = tf.constant([[257, 259, 511], [599, 1, 300], [513, 515, 517]])
    found, _ = modules(tokens, tf.constant([[m, 3] for m in range(3)]))
    for m, (row, answer) in enumerate(zip(tokens.numpy(), found, strict=True)):
        (table,) = modules.weights_of(m)
        expected = np.maximum(table.numpy()[row], 0) if m == 2 else table.numpy()[row]
        np.testing.assert_allclose(answer, expected.ravel(), rtol=0.01)


def test_large_tables_are_variables_of_their_own():
    large, small, _ = make_modules(large_vocabulary()).weights
    assert not is_stack(large[0]) and is_stack(small[0])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["paper", "transformer", "odd_layers", "large_vocabulary"])
def test_float32(name, rules):
    """As it is used: with gradients, and without them, where TensorFlow may optimise more away."""
    pool = LARGER[name]()
    modules = make_modules(pool)
    episodes = sample(pool, rules, BATCH, np.random.default_rng(2))
    inputs = random_inputs(pool)
    dispatch, forward = in_graph(modules), tf.function(modules, autograph=False)
    for paths in (episodes, episodes[:1].repeat(BATCH, axis=0)):
        expected = results(modules, run_all, inputs, tf.constant(paths))
        logits, *gradients = dispatch(inputs, tf.constant(paths))
        assert_near(logits, expected[0])
        # One ReLU that jumps stays far below this bound, a wrong gradient far above.
        pairs = zip(tf.nest.flatten(gradients), tf.nest.flatten(expected[1:]), strict=True)
        error = tf.linalg.global_norm([a - b for a, b in pairs])
        assert error < 0.05 * tf.linalg.global_norm(tf.nest.flatten(expected[1:]))

        logits, chosen = forward(inputs, tf.constant(paths))
        assert_near(logits, expected[0])
        assert_near(dispatched(modules, inputs, tf.constant(paths)), logits)
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
        [Given("rows", (3,))],
    )


def numbered_modules():
    """Each adds its number."""
    modules = Modules(recorder_pool(), DEPTH)
    for k, (numbers,) in enumerate(modules.weights):
        numbers.assign(tf.cast(modules.pool.modules(k), tf.float32))
    return modules


def test_modules_run_on_just_the_examples_that_chose_them(monkeypatch, rules):
    monkeypatch.setattr("lrn_tf.modules.fused.on_gpu", lambda: False)
    modules = numbered_modules()
    pool, forward = modules.pool, tf.function(modules, autograph=False)
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


def test_on_gpus_groups_come_in_few_sizes(monkeypatch, rules):
    """What a new size of a group costs there is said in `recurring`."""
    monkeypatch.setattr("lrn_tf.modules.fused.on_gpu", lambda: True)
    modules, rng, groups = numbered_modules(), np.random.default_rng(0), set()
    pool, forward = modules.pool, tf.function(modules, autograph=False)
    Recorder.calls.clear()
    for _ in range(20):
        episodes = sample(pool, rules, 20, rng)
        paths = episodes[rng.choice(20, 256, p=rng.dirichlet(np.full(20, 0.3)))]
        groups |= set(np.bincount(paths[paths < pool.pass_id]).tolist()) - {0}
        logits, _ = forward(tf.zeros((256, 3)), tf.constant(paths))
        assert np.allclose(logits[:, 0], np.where(paths < pool.pass_id, paths, 0).sum(axis=1))
    sizes = {rows for _, rows in Recorder.calls}
    assert len(groups) > 50
    assert sizes == {16, 24, 32, 48, 64, 96, 128, 192, 256}


def test_examples_share_a_run_whatever_step_they_chose_it_at(monkeypatch):
    """A kind that cannot follow itself runs once: its large gradient is made once, too."""
    monkeypatch.setattr("lrn_tf.modules.fused.on_gpu", lambda: False)
    pool = Pool(
        [
            Kind("in", INPUT, (3,), (3,), Recorder, 1),
            Kind("out", OUTPUT, (3,), (3,), Recorder, 1),
        ],
        [Given("rows", (3,))],
    )
    modules = Modules(pool, 4)
    Recorder.calls.clear()
    modules(tf.zeros((3, 3)), tf.constant([[0, 1, 2, 2], [0, 2, 1, 2], [0, 2, 2, 1]]))
    assert [rows for _, rows in Recorder.calls] == [3, 3]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["paper", "transformer", "tokens"])
def test_bfloat16(name, rules):
    """Layers compute in bfloat16; weights and logits stay in float32."""
    pool = make_pool(name)
    paths = tf.constant(sample(pool, rules, BATCH, np.random.default_rng(4)))
    inputs = random_inputs(pool)
    half, full = make_modules(pool, "mixed_bfloat16"), make_modules(pool)
    for mine, theirs in zip(*(tf.nest.flatten(m.weights) for m in (full, half)), strict=True):
        mine.assign(theirs)
    found, expected = in_graph(half)(inputs, paths), results(full, run_all, inputs, paths)
    assert {x.dtype for x in tf.nest.flatten(found)} == {tf.float32}
    np.testing.assert_allclose(found[0], expected[0], atol=0.1)
    assert np.any(found[0] != expected[0])
