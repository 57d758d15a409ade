"""Modules along given paths: which these are, and what can be learned along them."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf
from small_pools import two_inputs

from lrn_tf.data.benchmarks import asked, load
from lrn_tf.data.examples import DeviceExamples, shuffled_rows
from lrn_tf.data.problem import CLASSES, InputSpec, Problem, TaskSpec
from lrn_tf.errors import UserError
from lrn_tf.methods.build import build
from lrn_tf.methods.unrouted import Unrouted
from lrn_tf.settings import resolve

DEPTH, SEED = 5, tf.constant([3, 4])


def problem_of(pool):
    """A problem whose tasks want what the pool's do."""
    inputs = tuple(
        InputSpec(given.name, given.shape, "int32", (), (), 7)
        if given.tokens
        else InputSpec(
            given.name, given.shape, "float32", (0.0,) * given.shape[-1], (1.0,) * given.shape[-1]
        )
        for given in pool.inputs
    )
    tasks = tuple(
        TaskSpec(f"task {k}", demand.input, CLASSES, tuple(map(str, range(demand.width))))
        for k, demand in enumerate(pool.demands)
    )
    return Problem("any", inputs, tasks)


def unrouted(pool, paths, **given):
    """The method with a pool that is there already."""
    return Unrouted(
        pool, problem_of(pool), resolve(dict(method="unrouted", paths=paths, depth=DEPTH, **given))
    )


def kinds_of(pool, path):
    return [int(pool.kind[m]) for m in path if m < pool.pass_id]


@pytest.mark.parametrize("paths", ["shared", "task", "random"])
def test_paths_are_varied_networks_of_their_tasks(any_pool, rules, paths):
    method, tasks = unrouted(any_pool, paths), range(len(any_pool.demands))
    found = [method.paths(tf.range(len(tasks))).numpy()]
    if paths == "random":
        found += [method._draw(tf.range(len(tasks)), SEED + i).numpy() for i in range(5)]
    for task in tasks:
        legal = rules(any_pool, DEPTH, task)
        most = max(len(set(kinds_of(any_pool, network))) for network in legal.networks())
        plan = kinds_of(any_pool, found[0][task])
        assert len(set(plan)) == most
        for path in found:
            assert legal.is_legal(tuple(path[task].tolist()))
            assert kinds_of(any_pool, path[task]) == plan


@pytest.mark.slow
def test_who_takes_which(named_pool):
    pool = named_pool("paper_3")
    same = unrouted(pool, "shared").paths(tf.range(2)).numpy()
    assert (same[0] == same[1]).all()
    own = [set(p) - {pool.pass_id} for p in unrouted(pool, "own").paths(tf.range(2)).numpy().tolist()]
    assert not own[0] & own[1]
    drawn = [unrouted(pool, "task", seed=s).paths(tf.range(2)).numpy().tolist() for s in range(5)]
    assert (
        len({str(d) for d in drawn}) == 5
        and drawn[0] == unrouted(pool, "task").paths(tf.range(2)).numpy().tolist()
    )
    with pytest.raises(
        UserError,
        match=r"--paths=own wants ([24]) .* modules for 2 tasks, .* there are 1; choose --dup=\1",
    ):
        unrouted(named_pool("paper_1"), "own", dup=1)


def test_tasks_of_other_inputs_share_what_they_can():
    pool = two_inputs()
    paths = unrouted(pool, "shared").paths(tf.range(3)).numpy()
    names = [[pool.kinds[k].name for k in kinds_of(pool, path)] for path in paths]
    assert [n[0] for n in names] == ["row_in", "image_in", "row_in"]
    assert names[2][-1] == "out_3"


def test_random_paths_are_drawn_for_each_example_and_step(named_pool):
    pool = named_pool("paper_3")
    method, tasks = unrouted(pool, "random"), tf.zeros(600, tf.int32)
    first, again, other = (method._draw(tasks, seed).numpy() for seed in (SEED, SEED, SEED + 1))
    assert (first == again).all() and (first != other).any()
    for t, kind in enumerate(kinds_of(pool, first[0])):
        counts = np.bincount(first[:, t], minlength=len(pool))[pool.modules(kind)]
        assert counts.min() > 0 and counts.sum() == 600
        if kinds_of(pool, first[0]).count(kind) == 1:
            assert (abs(counts - 200) < 60).all()  # five standard deviations


@pytest.fixture(scope="module")
def digits():
    settings = resolve(dict(method="unrouted", dup=3, batch_size=64))
    return settings, load(*asked(settings))


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
