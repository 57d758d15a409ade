"""Modules along given paths: what can be learned along them."""

import dataclasses
import types

import keras
import numpy as np
import pytest
import tensorflow as tf
from small_pools import problem_of

from lrn_tf.data.benchmarks import benchmark_of
from lrn_tf.data.examples import DeviceExamples, shuffled_rows
from lrn_tf.methods.build import build
from lrn_tf.methods.unrouted import Unrouted
from lrn_tf.settings.resolve import resolve
from lrn_tf.training import train


@pytest.mark.parametrize("paths, alike", [("shared", True), ("own", False), ("task", False)])
def test_networks_of_two_tasks(named_pool, paths, alike):
    """They share all modules, or none, or by chance."""
    pool = named_pool("paper_3")
    method = Unrouted(pool, problem_of(pool), resolve(dict(method="unrouted", paths=paths, depth=5)))
    one, other = (set(path) - {pool.pass_id} for path in method.paths(tf.range(2)).numpy().tolist())
    assert (one == other) == alike
    assert paths != "own" or not one & other


@pytest.fixture(scope="module")
def digits():
    settings = resolve(dict(method="unrouted", dup=3, batch_size=64))
    return settings, benchmark_of(settings)


def test_with_a_seed_methods_begin_with_the_same_modules(monkeypatch, tmp_path):
    """So that what differs between two runs is who takes which path."""
    made = []

    def trainer(method, *_):
        made.append(tf.nest.map_structure(lambda w: w.numpy(), method.modules.weights))
        return types.SimpleNamespace(run=lambda: None)

    monkeypatch.setattr(train, "Trainer", trainer)
    of_lrn = dict(method="lrn", d_model=8, actor="pointer")
    for given in (of_lrn, dict(method="unrouted", paths="task"), {**of_lrn, "seed": 1}):
        train.run(resolve(dict(dup=2, depth=3, core=1.0, workdir=str(tmp_path / "run"), **given)))
    first, same, other = map(tf.nest.flatten, made)
    for a, b in zip(first, same, strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(first[0], other[0])


@pytest.mark.slow
def test_paths_of_tasks_learn_what_a_shared_one_cannot(digits):
    """One-against-all tasks: one network with one head can only answer the majority class."""
    accuracy, (settings, benchmark) = {}, digits
    for paths, heads in (("task", "shared"), ("shared", "shared"), ("shared", "task")):
        keras.utils.set_random_seed(0)
        problem = dataclasses.replace(benchmark.problem, heads=heads)
        method = build(problem, dataclasses.replace(settings, paths=paths, heads=heads))
        step = tf.function(method.train_step, autograph=False)
        examples, test = (DeviceExamples(part, problem) for part in (benchmark.train, benchmark.test))
        for i, rows in enumerate(shuffled_rows(benchmark.train.task, 64, 0, 0, "proportional")[:60]):
            metrics = step(*examples.batch(tf.constant(rows)), tf.constant([0, i]), tf.constant(3e-3))
        assert set(metrics) == set(method.metrics)
        images, tasks, labels = test.batch(tf.range(test.size))
        right = tf.argmax(method.predict(images, tasks).logits, axis=1, output_type=tf.int32) == labels
        accuracy[paths, heads] = np.mean(right)
    assert accuracy["task", "shared"] > 0.93 and accuracy["shared", "task"] > 0.93
    assert accuracy["shared", "shared"] < 0.91
