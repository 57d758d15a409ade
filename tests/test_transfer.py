"""Starting from a trained network: what has a name there keeps its weights, and nothing else does."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from made_runs import make_run

from lrn_tf.data import benchmarks
from lrn_tf.data.problem import InputSpec, Problem, TaskSpec
from lrn_tf.data.tasks import Task
from lrn_tf.errors import UserError
from lrn_tf.methods.lrn import LRNMethod
from lrn_tf.settings.resolve import resolve
from lrn_tf.training import train
from lrn_tf.training.transfer import _other_draw, as_seen_by, start_from

SMALL = dict(pool="mixed", heads="task", dup=2, depth=3, d_model=8, actor="pointer", batch_size=16)
SMALL |= dict(minibatch_size=16, benchmark="digits_mtl")


def task(name, count, answers=3):
    rng = np.random.default_rng(len(name))
    return Task(name, rng.normal(size=(count, 4)), np.arange(count) % answers)


def problem_of(*names):
    tasks = [task(name, 20, answers=2 + len(name)) for name in names]
    return benchmarks.load(benchmarks.own("small", tasks), benchmarks.Choice(heads="task")).problem


def method_of(problem, seed, **given):
    tf.keras.utils.set_random_seed(seed)
    return LRNMethod.build(problem, resolve({**SMALL, **given}))


def weights(method, module):
    return [np.array(w) for w in method.modules.weights_of(module)]


@pytest.fixture(scope="module")
def old():
    return method_of(problem_of("a", "bb", "ccc"), 1)


@pytest.fixture(scope="module")
def started(old):
    """A method for two tasks, of which the old one knows the second, and what it said of its start."""
    method = method_of(problem_of("dddd", "bb"), 2, init_from="run", freeze="modules")
    before = [weights(method, m) for m in range(len(method.pool))]
    return method, before, start_from(old, method, freeze=True)


def test_modules_are_known_by_kind_and_label_space(old, started):
    method, before, said = started
    frozen = method.frozen.numpy()
    names = {}
    for m in range(len(old.pool)):
        kind = old.pool.kinds[old.pool.kind[m]]
        names[kind.name, kind.serves, m - old.pool.modules(old.pool.kind[m])[0]] = m
    known = 0
    for m in range(len(method.pool)):
        kind = method.pool.kinds[method.pool.kind[m]]
        was = names.get((kind.name, kind.serves, m - method.pool.modules(method.pool.kind[m])[0]))
        expected = before[m] if was is None else weights(old, was)
        for a, b in zip(weights(method, m), expected, strict=True):
            np.testing.assert_array_equal(a, b)
        assert frozen[m] == (was is not None)
        known += was is not None
    # All but the output module of the task that is new.
    assert known == len(method.pool) - 1
    assert f"{known} of {len(method.pool)} modules, 1 of 2 tasks, the router" in said


def test_with_a_core_new_modules_begin_as_those_that_are_known(old):
    method = method_of(problem_of("bb"), 2, init_from="run", dup=4, core=1.0)
    start_from(old, method, freeze=False)
    for k, kind in enumerate(method.pool.kinds):
        mine = [weights(method, m) for m in method.pool.modules(k)]
        if kind.role == "output":
            continue
        (was,) = [i for i, other in enumerate(old.pool.kinds) if other.name == kind.name]
        known = [weights(old, m) for m in old.pool.modules(was)]
        for w in range(len(mine[0])):
            mean = np.mean([module[w] for module in known], axis=0)
            for found, expected in zip(mine, known, strict=False):
                np.testing.assert_array_equal(found[w], expected[w])
            for found in mine[len(known) :]:
                np.testing.assert_allclose(found[w], mean, rtol=1e-6, atol=1e-7)


def test_the_router_keeps_what_it_knows(old, started):
    method, _, _ = started
    ours, theirs = (x.router.task_embedding.embeddings.numpy() for x in (method, old))
    np.testing.assert_array_equal(ours[1], theirs[1])
    assert not (ours[0] == theirs).all(axis=1).any()
    ours, theirs = (x.router.action_embedding.embeddings.numpy() for x in (method, old))
    np.testing.assert_array_equal(ours[-1], theirs[-1])  # PASS
    np.testing.assert_array_equal(ours[:4], theirs[:4])
    for part in ("encoder", "actor", "critic"):
        for a, b in zip(
            getattr(method.router, part).weights, getattr(old.router, part).weights, strict=True
        ):
            np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_frozen_modules_do_not_learn(started):
    method, _, _ = started
    before = [weights(method, m) for m in range(len(method.pool))]
    router = [w.numpy() for w in method.router_weights]
    rng = np.random.default_rng(0)
    inputs = tf.constant(rng.normal(size=(16, 4)), tf.float32)
    tasks, labels = tf.constant([0, 1] * 8), tf.constant(rng.integers(0, 4, 16), tf.int32)
    for step in range(3):
        method.train_step(inputs, tasks, labels, tf.constant([0, step]), tf.constant(0.1))
    moved = [
        any((a != b).any() for a, b in zip(weights(method, m), w, strict=True))
        for m, w in enumerate(before)
    ]
    assert not (np.array(moved) & method.frozen.numpy()).any()
    assert moved[np.flatnonzero(~method.frozen.numpy())[0]]
    assert any((w.numpy() != b).any() for w, b in zip(method.router_weights, router, strict=True))


def test_another_width_keeps_modules_alone(old):
    method = method_of(problem_of("bb"), 3, d_model=12)
    before = [w.numpy() for w in method.router_weights]
    said = start_from(old, method, freeze=False)
    assert "nothing of the router, whose --d_model is another" in said
    for a, b in zip(method.router_weights, before, strict=True):
        np.testing.assert_array_equal(a.numpy(), b)
    np.testing.assert_array_equal(weights(method, 0)[0], weights(old, 0)[0])


def test_output_modules_are_known_by_what_they_answer(old):
    """Their kind's name in a built-in pool depends on how many answers other tasks have."""
    method = method_of(problem_of("bb"), 2)
    ours, theirs = ({kind.name for kind in of.pool.kinds if kind.role == "output"} for of in (method, old))
    assert ours == {"out"} and not ours & theirs
    said = start_from(old, method, freeze=False)
    assert f"known before: {len(method.pool)} of {len(method.pool)} modules, 1 of 1 tasks" in said


@pytest.mark.parametrize(
    "before, now, says",
    [
        ({}, {}, False),
        ({}, {"seed": 4}, True),
        ({"validation": 0.1}, {"validation": 0.1}, False),
        ({"validation": 0.1}, {"validation": 0.0}, False),  # the test examples were in neither's training
        ({}, {"validation": 0.1}, True),
        ({"image_size": 16}, {"image_size": 32}, True),
    ],
)
def test_it_is_said_where_what_was_learned_may_be_held_out(before, now, says):
    said = _other_draw(*(resolve({**SMALL, **given}) for given in (before, now)))
    assert ("it is evaluated on what was learned" in said) == says


def test_only_a_router_can_be_started_from(tmp_path):
    other = make_run(tmp_path / "other", [0.5], method="unrouted", heads="task")
    with pytest.raises(UserError, match="is a run of --method=unrouted, which has no router; give"):
        train.run(resolve({**SMALL, "init_from": other, "workdir": str(tmp_path / "run")}))
    assert not (tmp_path / "run").exists()


def test_nothing_known_is_refused(old):
    image = Task("x", np.zeros((9, 6, 6, 1), np.uint8), np.arange(9) % 3)
    problem = benchmarks.load(benchmarks.own("other", [image]), benchmarks.Choice()).problem
    method = LRNMethod.build(problem, resolve({**SMALL, "pool": "transformer", "heads": "shared"}))
    with pytest.raises(UserError, match="no module of a kind"):
        start_from(old, method, freeze=False)


def test_known_inputs_are_standardised_as_before():
    def problem(mean, *more):
        rows = InputSpec("rows", (2,), "float32", mean, (1.0, 1.0))
        return Problem("p", (rows, *more), (TaskSpec("t", "rows", "classes", ("a", "b")),))

    new = InputSpec("images", (2, 2, 1), "uint8", (5.0,), (2.0,))
    seen = as_seen_by(problem((1.0, 2.0)), problem((3.0, 4.0), new))
    assert [given.mean for given in seen.inputs] == [(1.0, 2.0), (5.0,)]
    other = dataclasses.replace(problem((3.0, 4.0)).inputs[0], shape=(3,), mean=(0.0,) * 3, std=(1.0,) * 3)
    changed = dataclasses.replace(problem((3.0, 4.0)), inputs=(other,))
    assert as_seen_by(problem((1.0, 2.0)), changed) == changed


@pytest.mark.parametrize("before, now, seen", [(9, 7, 9), (7, 9, 9)])
def test_tokens_have_room_for_those_that_are_known(before, now, seen):
    def problem(vocabulary):
        tokens = InputSpec("tokens", (5,), "int32", (), (), vocabulary)
        return Problem("p", (tokens,), (TaskSpec("t", "tokens", "classes", ("a", "b")),))

    assert as_seen_by(problem(before), problem(now)).inputs[0].vocabulary == seen


def test_numbers_are_told_on_the_scale_that_was_learned():
    rows = InputSpec("rows", (2,), "float32", (0.0, 0.0), (1.0, 1.0))

    def problem(name, mean):
        return Problem("p", (rows,), (TaskSpec(name, "rows", "numbers", ("size",), mean, (2.0,)),))

    known, moved = problem("size", (100.0,)), problem("size", (150.0,))
    assert as_seen_by(known, moved).tasks[0].mean == (100.0,)
    assert as_seen_by(problem("weight", (100.0,)), moved) == moved
