"""Paths that nobody learned: which kinds and which modules they hold."""

import numpy as np
import pytest
import tensorflow as tf
from small_pools import pool_of, problem, two_inputs

from lrn_tf.data.problem import CLASSES
from lrn_tf.errors import UserError
from lrn_tf.modules.task_paths import draw_paths, kinds_of_tasks, paths_of_tasks

DEPTH, SEED = 5, tf.constant([3, 4])


def kinds_of(pool, path):
    return [int(pool.kind[m]) for m in path if m < pool.pass_id]


def given(pool, which, seed=0):
    """A path for each task."""
    return paths_of_tasks(pool, kinds_of_tasks(pool, DEPTH), which, seed)


def drawn(pool, tasks, seed):
    """A path for each example."""
    return draw_paths(pool, kinds_of_tasks(pool, DEPTH), tasks, seed).numpy()


@pytest.mark.parametrize("which", ["shared", "drawn", "anew"])
def test_paths_are_varied_networks_of_their_tasks(any_pool, rules, which):
    tasks = range(len(any_pool.demands))
    if which == "anew":
        found = [drawn(any_pool, tf.range(len(tasks)), SEED + i) for i in range(6)]
    else:
        found = [given(any_pool, which, seed) for seed in range(6)]
    for task in tasks:
        legal = rules(any_pool, DEPTH, task)
        most = max(len(set(kinds_of(any_pool, network))) for network in legal.networks())
        plan = kinds_of(any_pool, found[0][task])
        assert len(set(plan)) == most
        for path in found:
            assert legal.is_legal(tuple(path[task].tolist()))
            assert kinds_of(any_pool, path[task]) == plan


def test_who_takes_which(named_pool):
    pool = named_pool("paper_3")
    same = given(pool, "shared")
    assert (same[0] == same[1]).all()
    own = [set(path) - {pool.pass_id} for path in given(pool, "own").tolist()]
    assert not own[0] & own[1]
    found = [given(pool, "drawn", seed).tolist() for seed in range(5)]
    assert len({str(paths) for paths in found}) == 5
    assert found[0] == given(pool, "drawn").tolist()
    with pytest.raises(
        UserError,
        match=r"--paths=own wants ([24]) .* modules for 2 tasks, .* there are 1; choose --dup=\1",
    ):
        given(named_pool("paper_1"), "own")


def test_networks_of_ones_own_share_nothing_where_tasks_have_other_plans():
    """Of one kind, here the fc, some tasks need three modules and others one."""
    images, rows = ("images", (8, 8, 1)), ("rows", (3,))
    asked = [("rows", CLASSES, 2)] * 2 + [("images", CLASSES, 2)] * 2
    posed = problem([images, rows], asked, heads="task")
    pool = pool_of("mixed", posed, 8)
    fc = [kind.name for kind in pool.kinds].index("fc")
    assert [kinds_of(pool, path).count(fc) for path in given(pool, "shared")] == [3, 3, 1, 1]
    paths = given(pool, "own").tolist()
    held = [m for path in paths for m in path if m < pool.pass_id]
    assert len(set(held)) == len(held)
    with pytest.raises(UserError, match="--paths=own wants 8 fc modules for 4 tasks, .* there are 7"):
        given(pool_of("mixed", posed, 7), "own")


def test_tasks_of_other_inputs_share_what_they_can():
    pool = two_inputs()
    names = [[pool.kinds[k].name for k in kinds_of(pool, path)] for path in given(pool, "shared")]
    assert [n[0] for n in names] == ["row_in", "image_in", "row_in"]
    assert names[2][-1] == "out_3"


def test_random_paths_are_drawn_for_each_example_and_step(named_pool):
    pool, tasks = named_pool("paper_3"), tf.zeros(600, tf.int32)
    first, again, other = (drawn(pool, tasks, seed) for seed in (SEED, SEED, SEED + 1))
    assert (first == again).all() and (first != other).any()
    for t, kind in enumerate(kinds_of(pool, first[0])):
        counts = np.bincount(first[:, t], minlength=len(pool))[pool.modules(kind)]
        assert counts.min() > 0 and counts.sum() == 600
        if kinds_of(pool, first[0]).count(kind) == 1:
            assert (abs(counts - 200) < 60).all()  # five standard deviations
