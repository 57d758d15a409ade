"""Modules of a kind with a core in common: against finite differences, and what a step does with them."""

import numpy as np
import pytest
import tensorflow as tf
from small_pools import problem_of
from test_lrn import images_of

from lrn_tf.learning import core
from lrn_tf.methods.build import build
from lrn_tf.methods.unrouted import Unrouted
from lrn_tf.modules.pool import OUTPUT
from lrn_tf.modules.weights import LARGE, is_stack, split
from lrn_tf.settings.resolve import resolve

SMALL = dict(method="unrouted", paths="task", depth=4)


def method_of(pool, **given):
    return Unrouted(pool, problem_of(pool), resolve({**SMALL, **given}))


def batch_of(method, size=24):
    """Examples of a problem with one input, whose answers have no pattern."""
    rng, tasks = np.random.default_rng(0), np.arange(size) % method.problem.num_tasks
    (given,) = method.problem.inputs
    widths = [spec.width for spec in method.problem.tasks]
    return (
        tf.constant(rng.normal(size=(size, *given.shape)), tf.float32),
        tf.constant(tasks, tf.int32),
        tf.constant([rng.integers(widths[k]) for k in tasks], tf.int32),
    )


def weights_of(method):
    """Of each module, as arrays."""
    kinds = zip(method.pool.kinds, method.modules.weights, strict=True)
    return [[w.numpy() for w in module] for kind, of in kinds for module in split(of, kind.count)]


def alike(a, b):
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("name", ["paper_3", "residual_2", "heads_by_task"])
def test_modules_of_a_kind_start_alike_but_for_outputs(name, named_pool):
    for given in (0.0, 1.0):
        method = method_of(named_pool(name), core=given)
        pool, weights = method.pool, weights_of(method)
        shared = [kind.role != OUTPUT and kind.count > 1 for kind in pool.kinds]
        assert any(shared)
        for k, kind in enumerate(pool.kinds):
            first, *others = pool.modules(k)
            kernels = [i for i, w in enumerate(weights[first]) if w.ndim > 1]
            for m in others if kernels else ():
                assert alike(weights[first], weights[m]) == (given > 0 and kind.role != OUTPUT)


def test_the_core_follows_what_the_loss_does_when_all_of_a_kind_are_moved(named_pool):
    """The gradient with a core, less the module's own, is that of moving all modules of the kind alike."""
    method = method_of(named_pool("heads_by_task"))
    batch = *batch_of(method), method.paths(batch_of(method)[1])
    *_, chosen, own = method.module_gradients(*batch)
    shared, _ = core.share(method.pool, own, chosen > 0, core=0.5)
    rng = np.random.default_rng(1)
    for k, kind in enumerate(method.pool.kinds):
        for weight, mine, with_others in zip(method.modules.weights[k], own[k], shared[k], strict=True):
            if kind.role == OUTPUT or kind.count == 1:
                np.testing.assert_array_equal(mine, with_others)
                continue
            for of_core in 2 * (with_others - mine):
                way = np.sign(of_core) + rng.normal(size=of_core.shape).astype(np.float32)
                losses = []
                for step in (1e-4, -2e-4):
                    weight.assign_add(tf.broadcast_to(step * way, weight.shape))
                    losses.append(np.mean(method.module_gradients(*batch)[0]))
                weight.assign_add(tf.broadcast_to(1e-4 * way, weight.shape))
                found = np.sum(of_core * way)
                assert found == pytest.approx((losses[0] - losses[1]) / 2e-4, rel=0.05, abs=5e-3)


def test_large_weights_are_summed_as_small_ones_are(named_pool):
    """Those of a kind are variables of their own, and their gradients a list."""
    pool = named_pool("paper_3")
    rng = np.random.default_rng(2)
    rows = [rng.normal(size=(kind.count, 2, 3)).astype(np.float32) for kind in pool.kinds]
    lists = [[[tf.constant(row) for row in kind]] for kind in rows]
    stacks = [[tf.constant(kind)] for kind in rows]
    used = tf.constant([True] * len(pool))
    for (found,), (expected,), kind in zip(
        core.share(pool, lists, used, 2.0)[0],
        core.share(pool, stacks, used, 2.0)[0],
        pool.kinds,
        strict=True,
    ):
        np.testing.assert_allclose(tf.stack(found), expected, rtol=1e-6)
        assert np.any(expected != rows[pool.kinds.index(kind)]) == (kind.role != OUTPUT and kind.count > 1)


def test_all_modules_of_a_kind_move_when_one_is_used(named_pool):
    method = method_of(named_pool("paper_3"), core=1.0)
    inputs, tasks, targets = batch_of(method)
    one_task = inputs, tf.zeros_like(tasks), targets % method.problem.tasks[0].width
    path = set(method.paths(tf.zeros(1, tf.int32)).numpy()[0])
    before = weights_of(method)
    method.train_step(*one_task, tf.constant([0, 1]), tf.constant(1e-3))
    for m, (old, new) in enumerate(zip(before, weights_of(method), strict=True)):
        kind = int(method.pool.kind[m])
        role, others = method.pool.kinds[kind].role, method.pool.modules(kind)
        moves = m in path if role == OUTPUT else bool(path & set(others))
        assert not alike(old, new) if moves else alike(old, new), m


def test_frozen_modules_stay(named_pool):
    method = method_of(named_pool("paper_3"), core=1.0)
    method.frozen = tf.constant(np.arange(len(method.pool)) < 2)
    before = weights_of(method)
    method.train_step(*batch_of(method), tf.constant([0, 1]), tf.constant(1e-3))
    after = weights_of(method)
    assert alike(before[0], after[0]) and alike(before[1], after[1]) and not alike(before[2], after[2])


@pytest.mark.slow
def test_a_core_of_large_weights_is_learned():
    """flat_fc of larger images has weights that are variables of their own."""
    method = build(images_of((16, 16, 1), 4), resolve({**SMALL, "dup": 2, "core": 1.0}))
    ((large, *_),) = [kind for kind in method.modules.weights if not is_stack(kind[0])]
    assert large[0].shape.num_elements() >= LARGE
    step = tf.function(method.train_step, autograph=False)
    losses = [float(step(*batch_of(method), tf.constant([0, i]), 3e-3)["train/loss"]) for i in range(30)]
    assert np.mean(losses[-3:]) < 0.8 * losses[0]
