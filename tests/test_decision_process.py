"""The decision process against its definition, by walking through every state of small pools."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from lrn_tf.modules import pools
from lrn_tf.modules.decision_process import DecisionProcess
from lrn_tf.modules.pool import OUTPUT, Pool, module_names
from lrn_tf.policy.episodes import route
from lrn_tf.policy.router import Router

DEPTHS = [2, 3, 4, 5, 6]


def smallest_depth(pool, rules):
    return next(depth for depth in itertools.count(1) if rules(pool, depth).valid(()))


def actions_of(valid):
    return [set(np.flatnonzero(row)) for row in valid.numpy()]


def walk(process, key):
    """Goes through the process step by step, every valid action from every state.

    Yields:
        Before each step and after the last: t, the actions that lead to each state, and the networks.
        Of the states with the same key only one is followed.
    """
    networks, prefixes = process.start(1), [()]
    for t in range(1, process.depth + 1):
        yield t, prefixes, networks
        following = {}
        for row, valid in enumerate(actions_of(process.valid(networks, t))):
            for action in sorted(valid):
                actions = (*prefixes[row], action)
                following.setdefault(key(actions), (row, actions))
        rows, prefixes = zip(*following.values(), strict=True)
        parents = tf.nest.map_structure(lambda x, rows=rows: tf.gather(x, rows), networks)
        networks = process.advance(parents, tf.constant([actions[-1] for actions in prefixes]))
    yield process.depth + 1, prefixes, networks


@pytest.mark.parametrize("depth", DEPTHS)
def test_every_state_has_the_valid_actions_of_the_definition(any_pool, depth, rules):
    depth = max(depth, smallest_depth(any_pool, rules))
    process, by_definition = DecisionProcess(any_pool, depth), rules(any_pool, depth)
    no_module = any_pool.pass_id
    role = [any_pool.kinds[kind].role for kind in any_pool.kind]

    def state(actions):
        """Later steps depend on the set of modules and on the last one, not on their order."""
        network = [a for a in actions if a != no_module]
        return frozenset(network), network[-1]

    most = []
    for t, prefixes, networks in walk(process, state):
        ends_in_output = [bool(p) and role[state(p)[1]] == OUTPUT for p in prefixes]
        assert networks.finished.numpy().tolist() == ends_in_output
        assert [set(np.flatnonzero(row)) for row in networks.used.numpy()] == [
            set(p) - {no_module} for p in prefixes
        ]
        if t > depth:
            assert all(ends_in_output)
            break
        found = actions_of(process.valid(networks, t))
        assert found == [by_definition.valid(p) for p in prefixes]
        assert all(found)
        most.append(max(map(len, found)))

    # The router pads its candidates to these: less would lose actions, more would be work for nothing.
    assert process.max_candidates == most


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize(
    "name",
    ["dead_end", "lost_input", "cycle", "cycle_reversed", "class_signature", "long_chain", "paper_1"],
)
def test_the_episodes_are_all_legal_sequences(named_pool, name, depth, rules):
    pool = named_pool(name)
    depth = max(depth, smallest_depth(pool, rules))
    process = DecisionProcess(pool, depth)
    *_, (_, episodes, _) = walk(process, key=lambda actions: actions)
    is_legal = rules(pool, depth).is_legal
    sequences = itertools.product(range(len(pool) + 1), repeat=depth)
    assert sorted(episodes) == [actions for actions in sequences if is_legal(actions)]


def test_too_shallow(any_pool, rules):
    smallest = smallest_depth(any_pool, rules)
    for depth in range(1, smallest):
        with pytest.raises(ValueError, match=f"at most {depth} modules.*depth that fits is {smallest}$"):
            DecisionProcess(any_pool, depth)
    DecisionProcess(any_pool, smallest)


def test_no_depth_fits():
    paper = pools.paper((4, 4, 1), 2, 1)
    no_bridge = Pool([k for k in paper.kinds if k.name in ("conv_in", "fc", "fc_out")], paper.image)
    with pytest.raises(ValueError, match="no depth fits"):
        DecisionProcess(no_bridge, 6)


def test_pass(any_pool):
    depth = 5
    process = DecisionProcess(any_pool, depth)
    no_module = any_pool.pass_id
    for t, _, networks in itertools.islice(walk(process, key=lambda a: (frozenset(a), a[-1])), depth):
        for valid, finished in zip(
            actions_of(process.valid(networks, t)), networks.finished.numpy(), strict=True
        ):
            if finished:
                assert valid == {no_module}
            elif t in (1, depth):
                assert no_module not in valid


def uniform_choices(process, batch, rng):
    """Episodes of a router that chooses any valid action with equal probability."""
    networks, actions = process.start(batch), []
    for t in range(1, process.depth + 1):
        score = process.valid(networks, t).numpy() * rng.uniform(0.1, 1, (batch, len(process.pool) + 1))
        actions.append(score.argmax(axis=1).astype(np.int32))
        networks = process.advance(networks, tf.constant(actions[-1]))
    return np.stack(actions, axis=1)


def router_choices(process, batch, rng):
    keras.utils.set_random_seed(0)
    router = Router(process.pool.image, 3, len(process.pool), process.max_candidates, d_model=8)
    images = tf.constant(rng.normal(size=(batch, *process.pool.image)), tf.float32)
    tasks = tf.constant(rng.integers(3, size=batch), tf.int32)
    return route(router, process, images, tasks, seed=tf.constant([1, 2])).actions.numpy()


@pytest.mark.parametrize("choose", [uniform_choices, router_choices])
@pytest.mark.parametrize("make", [pools.paper, pools.pyramid])
def test_ten_thousand_episodes_are_legal(make, choose, rules):
    pool = make((5, 7, 1), 3, 3)
    process = DecisionProcess(pool, 5)
    episodes = choose(process, 10_000, np.random.default_rng(0)).tolist()
    is_legal = rules(pool, 5).is_legal
    assert all(is_legal(tuple(actions)) for actions in episodes)
    # The sample is no handful of paths over and over.
    assert len(set(map(tuple, episodes))) > 300


def test_oracle_sees_what_is_illegal(named_pool, rules):
    """The checker that the tests above trust, on paths that are wrong in one way each."""
    pool = named_pool("paper_2")
    number = {name: m for m, name in enumerate(module_names(pool.by_kind))} | {"PASS": pool.pass_id}

    def is_legal(*names):
        return rules(pool, 4).is_legal(tuple(number[name] for name in names))

    assert is_legal("conv_in.0", "conv.1", "PASS", "flat_out.0")
    assert is_legal("conv_in.1", "flat_out.0", "PASS", "PASS")
    assert not is_legal("PASS", "conv_in.0", "PASS", "flat_out.0")
    assert not is_legal("conv_in.0", "conv.0", "conv.0", "flat_out.0")
    assert not is_legal("conv_in.0", "conv.0", "fc.0", "fc_out.0")
    assert not is_legal("conv_in.0", "conv.0", "conv.1", "PASS")
    assert not is_legal("conv_in.0", "flat_out.0", "flat_out.1", "PASS")
    assert not is_legal("conv_in.0", "conv_in.1", "PASS", "flat_out.0")
    assert not is_legal("conv.0", "PASS", "PASS", "flat_out.0")
