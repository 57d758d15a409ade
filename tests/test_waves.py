"""Waves: who runs when, so that every network runs in its order."""

import numpy as np
import pytest
import tensorflow as tf
from small_pools import SAME, networks_of_all_tasks, pool_of, problem, with_passes

from lrn_tf.modules.waves import Waves

IMAGES_8 = ("images", (8, 8, 1))


@pytest.mark.parametrize("depth", [3, 4, 6])
def test_every_network_runs_in_its_order(any_pool, depth, rules):
    networks = networks_of_all_tasks(any_pool, depth, rules)
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
    pool = pool_of("paper", problem([IMAGES_8], SAME), 5)
    names = [[pool.kinds[k].name for k in kinds] for kinds in Waves(pool, 4).kinds]
    assert names == [["conv_in"], ["conv"], ["conv"], ["flat_fc"], ["fc"], ["flat_out"], ["fc_out"]]


def test_no_more_waves_than_copies():
    assert len(Waves(pool_of("paper", problem([IMAGES_8], SAME), 1), 6).kinds) == 6


def test_no_wave_for_kinds_on_no_network(named_pool):
    pool = named_pool("lost_input")
    names = [[pool.kinds[k].name for k in kinds] for kinds in Waves(pool, 5).kinds]
    assert names == [["in"], ["out"]]
