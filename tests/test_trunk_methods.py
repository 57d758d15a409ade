"""The methods with a trunk: each against a plain twin that runs example by example."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf
from tiny_run import assert_same_run, checkpoint_steps, lines

from lrn_tf.data.benchmarks import Benchmark, benchmark_of
from lrn_tf.data.examples import Examples
from lrn_tf.data.problem import CLASSES, LABELS, NUMBERS, InputSpec, Problem, TaskSpec
from lrn_tf.errors import UserError
from lrn_tf.methods import fc_network
from lrn_tf.methods.build import METHODS, build, describe
from lrn_tf.methods.method import count_weights
from lrn_tf.modules.dispatch import Modules
from lrn_tf.settings.resolve import resolve
from lrn_tf.settings.table import SGD_METHODS
from lrn_tf.storage.workdir import Workdir
from lrn_tf.training.trainer import Trainer

TASKS, ANSWERS, BATCH, IMAGE = 3, 4, 12, (8, 8, 1)
# What a network's numbers may differ by when they are added up in another order.
CLOSE = dict(rtol=1e-4, atol=1e-5)


def problem(image=IMAGE, forms=(CLASSES,) * TASKS, widths=(ANSWERS,) * TASKS, weights=(1.0,) * TASKS):
    """A problem of images."""
    tasks = []
    for k, (form, width, weight) in enumerate(zip(forms, widths, weights, strict=True)):
        moments = ((0.5,) * width, (2.0,) * width) if form == NUMBERS else ((), ())
        tasks.append(TaskSpec(f"task {k}", "images", form, tuple("abcd"[:width]), *moments, weight=weight))
    given = InputSpec("images", image, "uint8", (127.5,) * image[-1], (73.9,) * image[-1])
    return Problem("random", (given,), tuple(tasks))


def benchmark(size=60):
    """Random images: the tests look at what a method does, not at what it learns."""
    rng = np.random.default_rng(0)

    def examples():
        images = rng.integers(0, 256, (size, *IMAGE)).astype(np.uint8)
        task, label = rng.integers(0, TASKS, size), rng.integers(0, ANSWERS, size)
        rows = np.arange(size, dtype=np.int32)
        return Examples(rows, task.astype(np.int32), label.astype(np.int32), (images,))

    return Benchmark(problem(), examples(), examples())


def make(method, of=None, **given):
    keras.utils.set_random_seed(1)
    return build(of or problem(), resolve({"method": method, **given}))


def batch(tasks=None, seed=3):
    rng = np.random.default_rng(seed)
    tasks = rng.integers(0, TASKS, BATCH) if tasks is None else tasks
    return (
        tf.constant(rng.normal(size=(BATCH, *IMAGE)), tf.float32),
        tf.constant(tasks, tf.int32),
        tf.constant(rng.integers(0, ANSWERS, BATCH), tf.int32),
    )


def step(method, tasks=None, number=7):
    """One training step, without the `tf.function` that whole runs have, which takes long to trace."""
    return method.train_step(*batch(tasks), tf.constant([0, number]), tf.constant(0.1))


def values(variables):
    return [v.numpy() for v in tf.nest.flatten(variables)]


def unchanged(before, variables):
    """Which of some variables still have their values."""
    return [np.array_equal(a, b) for a, b in zip(before, values(variables), strict=True)]


def dense(x, weights, relu=True):
    kernel, bias = (w.numpy() for w in weights)
    return np.maximum(x @ kernel + bias, 0) if relu else x @ kernel + bias


def blocks(network, features, path):
    """One example through the blocks of its path, with NumPy."""
    for m in path:
        features = dense(features, network._blocks.weights_of(m), relu=m not in network.pool.modules(2))
    return features


@pytest.mark.parametrize("side, pooled", [(4, 1), (8, 1), (28, 1), (32, 2), (84, 5)])
def test_the_trunk_halves_the_image_four_times_or_down_to_one_pixel(side, pooled):
    trunk = fc_network.make_trunk(problem((side, side, 3)))
    assert trunk.output_shape == (None, pooled * pooled * 32)
    kinds = [type(layer).__name__ for layer in trunk.layers]
    assert kinds.count("Conv2D") == kinds.count("BatchNormalization") == 4
    assert kinds[:4] == ["Conv2D", "BatchNormalization", "ReLU", "MaxPooling2D"]


@pytest.mark.parametrize("dup", [1, 3])
def test_one_kind_of_modules_runs_as_each_module_alone(dup):
    pool = fc_network.make_blocks(5, ANSWERS, (dup, dup, dup))
    modules = Modules(pool, 3)
    rng = np.random.default_rng(0)
    # The last of three modules is chosen by nobody.
    chosen = rng.integers(0, max(dup - 1, 1), BATCH).astype(np.int32)
    x = tf.constant(rng.normal(size=(BATCH, 5)), tf.float32)
    weights = modules.weights[0]

    def plain(x):
        rows = [modules.run_module(chosen[i], x[i : i + 1]) for i in range(BATCH)]
        return tf.concat(rows, axis=0)

    def gradients(run):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = run(x)
            loss = tf.reduce_sum(y**2)
        return [y, *tape.gradient(loss, [x, *weights], unconnected_gradients="zero")]

    @tf.function
    def fast(x, chosen):
        return modules.run_kind(0, x, chosen)

    found, expected = gradients(lambda x: fast(x, chosen)), gradients(plain)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, **CLOSE)


PATHS = {
    "task_fc": lambda k: (k, TASKS + k, 2 * TASKS + k),
    "task_head": lambda k: (0, 1, 2 + k),
    "shared": lambda k: (0, 1, 2),
}


@pytest.mark.parametrize("name", PATHS)
def test_a_task_takes_the_path_that_the_method_gives_it(name):
    method = make(name)
    images, tasks, _ = batch()
    answer = method.predict(images, tasks)
    features = method.trunk(images, training=False).numpy()
    if name == "shared":
        features = np.concatenate([features, np.eye(TASKS)[tasks.numpy()]], axis=1)
    np.testing.assert_array_equal(answer.paths, [PATHS[name](k) for k in tasks.numpy()])
    expected = [blocks(method.network, f, p) for f, p in zip(features, answer.paths.numpy(), strict=True)]
    np.testing.assert_allclose(answer.logits, expected, **CLOSE)


@pytest.mark.parametrize("name", PATHS)
def test_a_task_changes_the_trunk_and_the_blocks_on_its_path_and_no_others(name):
    method = make(name)
    before = [values(method.network._blocks.weights_of(m)) for m in range(len(method.network.pool))]
    trunk = values(method.trunk.trainable_variables)
    step(method, tasks=[1] * BATCH)
    for m, old in enumerate(before):
        same = unchanged(old, method.network._blocks.weights_of(m))
        assert not any(same) if m in PATHS[name](1) else all(same), m
    new = values(method.trunk.trainable_variables)
    assert not any(np.array_equal(a, b) for a, b in zip(trunk[2::4], new[2::4], strict=True))


def columns_by_hand(method, features, task):
    """Cross-stitch networks as they are written, one example and one task's column at a time."""
    (w1, b1), (w2, b2), (w3, b3) = ([w.numpy() for w in c.trainable_variables] for c in method.columns)
    mix_2, mix_3 = (s.weight.numpy() for s in method.stitches)
    h1 = [np.maximum(features @ w1[j] + b1[j], 0) for j in range(TASKS)]
    h2 = []
    for i in range(TASKS):
        x = sum(mix_2[i, j] * h1[j] for j in range(TASKS))
        h2.append(np.maximum(x @ w2[i] + b2[i], 0))
    return sum(mix_3[task, j] * h2[j] for j in range(TASKS)) @ w3[task] + b3[task]


def test_cross_stitch_mixes_the_columns_of_all_tasks():
    method = make("cross_stitch")
    rng = np.random.default_rng(0)
    for stitch in method.stitches:
        np.testing.assert_allclose(stitch.weight, np.eye(TASKS) * 0.85 + 0.05, rtol=1e-6)
        stitch.weight.assign(rng.normal(size=(TASKS, TASKS)))
    images, tasks, _ = batch()
    features = method.trunk(images, training=False).numpy()
    expected = [columns_by_hand(method, f, k) for f, k in zip(features, tasks.numpy(), strict=True)]
    answer = method.predict(images, tasks)
    np.testing.assert_allclose(answer.logits, expected, **CLOSE)
    assert answer.paths.shape == (BATCH, 0)


def test_cross_stitch_of_one_task_changes_all_columns_but_other_tasks_heads():
    method = make("cross_stitch")
    before = [values(layer.trainable_variables) for layer in (*method.columns, *method.stitches)]
    step(method, tasks=[1] * BATCH)
    after = [values(layer.trainable_variables) for layer in (*method.columns, *method.stitches)]
    changed = [
        [not np.array_equal(a[k], b[k]) for k in range(TASKS)]
        for old, new in zip(before, after, strict=True)
        for a, b in zip(old, new, strict=True)
    ]
    only = [False, True, False]
    everywhere = [True] * TASKS
    # Kernels and biases of three layers, then the two mixes, of which the last has a row for each task.
    assert changed == [everywhere] * 4 + [only] * 2 + [everywhere, only]


def test_a_columns_layer_starts_like_the_layers_it_stands_for():
    method = make("cross_stitch")
    bound = np.sqrt(6 / (32 + 128))
    for kernel in method.columns[0].kernel.numpy():
        assert 0.9 * bound < np.abs(kernel).max() <= bound


@pytest.mark.parametrize("name", SGD_METHODS)
def test_parameters_are_counted_as_they_are_made(name, capsys):
    settings = resolve({"method": name, **({"blocks": 2} if name == "routing" else {})})
    with tf.Graph().as_default():
        parts = METHODS[name].count_parameters(problem(), settings)
    method = build(problem(), settings)
    made = sum(w.shape.num_elements() for w in method.weights)
    assert sum(parts.values()) == made
    assert parts["trunk"] == count_weights(method.trunk) == 32 * (9 + 3 * 9 * 32 + 4 + 8)
    describe(benchmark(), settings)
    assert (
        f"{name}: {sum(parts.values()):,} parameters (trunk {parts['trunk']:,}" in capsys.readouterr().err
    )


def test_prediction_leaves_everything_as_it_is_and_uses_the_moving_averages():
    method = make("task_fc")
    images, tasks, _ = batch()
    first = method.predict(images, tasks).logits
    state = values(method.variables)
    # Batch norm on the batch itself would see another mean here.
    np.testing.assert_allclose(method.predict(images[:1], tasks[:1]).logits, first[:1], **CLOSE)
    for a, b in zip(state, values(method.variables), strict=True):
        np.testing.assert_array_equal(a, b)
    step(method)
    averages = method.variables["averages"]
    assert len(averages) == 8 and not np.allclose(averages[0], 0)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["routing", "dispatched", "cross_stitch", "task_fc"])  # the state of all
def test_a_run_that_was_stopped_ends_as_if_it_had_not_been(name, tmp_path):
    data = benchmark()
    which = dict(method=name)
    if name == "dispatched":
        which = dict(method="routing", agents="dispatched", policy="approximate")
    if which["method"] == "routing":
        which["rho"] = 0.3

    def train(folder, epochs):
        given = dict(which, batch_size=BATCH, epochs=epochs)
        settings = resolve({"workdir": str(tmp_path / folder), **given})
        workdir = Workdir(settings)
        workdir.check()
        keras.utils.set_random_seed(0)
        Trainer(build(data.problem, settings), data, settings, workdir).run()

    train("whole", 2)
    train("parts", 1)
    train("parts", 2)
    assert checkpoint_steps(tmp_path / "parts") == [5, 10]
    assert_same_run(tmp_path / "parts", tmp_path / "whole")
    for line in lines(tmp_path / "whole"):
        assert (line["routes"] is None) == (name == "cross_stitch")
        assert line["routes"] is None or line["routes"]["mean_length"] == 3


@pytest.mark.parametrize("name", SGD_METHODS)
def test_bfloat16_trains(name):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        method = make(name)
        before = values(method.weights)
        found = step(method)
        assert np.isfinite(found["train/loss"])
        assert all(w.dtype == tf.float32 for w in method.weights)
        assert unchanged(before, method.weights).count(False) > 10
    finally:
        keras.config.set_dtype_policy("float32")


@pytest.mark.slow
@pytest.mark.parametrize("name", SGD_METHODS)
def test_the_weight_of_a_task_scales_what_it_changes(name):
    """But not the loss that is reported."""
    changes, losses = [], []
    for weight in (1.0, 3.0):
        method = make(name, problem(weights=(1.0, weight, 1.0)))
        before = values(method.weights)
        losses.append(float(step(method, tasks=[1] * BATCH)["train/loss"]))
        changes.append([b - a for a, b in zip(before, values(method.weights), strict=True)])
    assert losses[0] == pytest.approx(losses[1])
    for plain, weighted in zip(*changes, strict=True):
        np.testing.assert_allclose(weighted, 3 * plain, rtol=1e-3, atol=1e-6)
    assert sum(change.any() for change in changes[0]) > 10


def test_weights_count_task_by_task():
    changes = []
    for weights in ((1.0, 1.0, 1.0), (2.0, 0.5, 1.0)):
        method = make("task_fc", problem(weights=weights))
        before = values(method.network._blocks.weights)
        step(method)
        after = values(method.network._blocks.weights)
        changes.append([b - a for a, b in zip(before, after, strict=True)])
    for plain, weighted in zip(*changes, strict=True):
        for k, weight in enumerate((2.0, 0.5, 1.0)):
            np.testing.assert_allclose(weighted[k], weight * plain[k], rtol=1e-3, atol=1e-6)
            assert plain[k].any()


def mixed_batch():
    """A class of four, two numbers, or three labels."""
    rng = np.random.default_rng(4)
    images, tasks, _ = batch()
    targets = np.zeros((BATCH, 3), np.float32)
    for i, k in enumerate(tasks.numpy()):
        drawn = [rng.integers(0, 4, 1), rng.normal(0.5, 2, 2), rng.integers(0, 2, 3)][k]
        targets[i, : len(drawn)] = drawn
    return images, tasks, tf.constant(targets)


@pytest.mark.parametrize("name", [name for name in SGD_METHODS if name != "routing"])
def test_tasks_of_several_forms_are_learned(name):
    method = make(name, problem(forms=(CLASSES, NUMBERS, LABELS), widths=(4, 2, 3)))
    images, tasks, targets = mixed_batch()
    train_step = tf.function(method.train_step, autograph=False)
    history = [train_step(images, tasks, targets, tf.constant([0, i]), tf.constant(0.1)) for i in range(80)]
    assert float(history[-1]["train/loss"]) < 0.1 * float(history[0]["train/loss"])
    assert float(history[-1]["train/accuracy"]) > 0.95
    # Of each task, with the network as it is in training: the moving averages are still on their way.
    logits, _ = method.layers(method.trunk(images, training=True), tasks)
    losses = method.objectives.loss(logits, tasks, targets).numpy()
    assert all(losses[tasks.numpy() == k].mean() < 0.2 for k in range(TASKS))


def test_tasks_of_numbers_alone_have_no_accuracy():
    method = make("shared", problem(forms=(NUMBERS,) * 3, widths=(2, 1, 3)))
    images, tasks, targets = mixed_batch()
    assert method.metrics == ("train/loss",)
    found = method.train_step(images, tasks, targets, tf.constant([0, 1]), tf.constant(0.1))
    assert found.keys() == {"train/loss"} and np.isfinite(found["train/loss"])


@pytest.mark.parametrize("name", SGD_METHODS)
def test_only_images_of_one_size_are_taken(name):
    rows = InputSpec("rows", (5,), "float32", (0.0,) * 5, (1.0,) * 5)
    other = dataclasses.replace(problem().inputs[0], name="others", shape=(4, 4, 1))
    for inputs in ((rows,), (problem().inputs[0], rows), (problem().inputs[0], other)):
        with pytest.raises(UserError, match="needs images of one size.*random has .*; choose --method=lrn"):
            make(name, dataclasses.replace(problem(), inputs=inputs))


@pytest.mark.parametrize("forms", [(CLASSES, NUMBERS, CLASSES), (LABELS,) * 3])
def test_routing_is_rewarded_for_classes_only(forms):
    with pytest.raises(UserError, match="--method=routing is rewarded for right classes"):
        make("routing", problem(forms=forms))


# Test accuracy after so many epochs of digits_mtl; the majority class has 90 %.
LEARNS = {"task_fc": 5, "cross_stitch": 5, "routing": 12}


@pytest.mark.slow
@pytest.mark.parametrize("name", LEARNS)
def test_digits_are_learned(name, tmp_path):
    given = dict(method=name, epochs=LEARNS[name], pictures_every=0, workdir=str(tmp_path / "run"))
    settings = resolve(given)
    data = benchmark_of(settings)
    keras.utils.set_random_seed(0)
    Trainer(build(data.problem, settings), data, settings, Workdir(settings)).run()
    assert lines(tmp_path / "run")[-1]["eval_accuracy"] > 0.95
