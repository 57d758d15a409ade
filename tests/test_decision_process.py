"""The decision process against its definition, by walking through every state of small pools."""

import functools
import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from small_pools import (
    IMAGES_4,
    ROWS,
    SAME,
    SEQUENCES,
    TOKENS,
    any_inputs,
    pool_of,
    problem,
    two_inputs,
    way_back,
)

from lrn_tf.data.problem import CLASSES, LABELS, NUMBERS
from lrn_tf.modules.decision_process import DecisionProcess
from lrn_tf.modules.pool import Pool, module_names
from lrn_tf.router.episodes import route
from lrn_tf.router.router import Router

DEPTHS = [2, 3, 4, 5, 6]


def distinct_tasks(pool):
    """One task of each demand."""
    return [k for k, demand in enumerate(pool.demands) if demand not in pool.demands[:k]]


def smallest_depths(pool, rules):
    """The smallest depth at which each task has a network."""
    return [
        next(depth for depth in itertools.count(1) if rules(pool, depth, task).valid(()))
        for task in range(len(pool.demands))
    ]


def actions_of(valid):
    return [set(np.flatnonzero(row)) for row in valid.numpy()]


def walk(process, key):
    """Goes through the process step by step, every valid action from every state, for all tasks at once.

    Yields:
        Before each step and after the last: t, the task of each state and the actions that lead to it, and
        the networks. Of the states of a task with the same key only one is followed.
    """
    tasks = distinct_tasks(process.pool)
    networks, states = process.start(tf.constant(tasks)), [(task, ()) for task in tasks]
    for t in range(1, process.depth + 1):
        yield t, states, networks
        following = {}
        for row, valid in enumerate(actions_of(process.valid(networks, t))):
            task, earlier = states[row]
            for action in sorted(valid):
                actions = (*earlier, action)
                following.setdefault((task, key(actions)), (row, (task, actions)))
        rows, states = zip(*following.values(), strict=True)
        parents = tf.nest.map_structure(lambda x, rows=rows: tf.gather(x, rows), networks)
        networks = process.advance(parents, tf.constant([actions[-1] for _, actions in states]))
    yield process.depth + 1, states, networks


@pytest.mark.parametrize("depth", DEPTHS)
def test_every_state_has_the_valid_actions_of_the_definition(any_pool, depth, rules):
    depth = max(depth, *smallest_depths(any_pool, rules))
    process = DecisionProcess(any_pool, depth)
    by_definition = {task: rules(any_pool, depth, task) for task in distinct_tasks(any_pool)}
    no_module = any_pool.pass_id
    is_output = [any_pool.kinds[kind].role == "output" for kind in any_pool.kind]

    def state(actions):
        """Later steps depend on the set of modules and on the last one, not on their order."""
        network = [a for a in actions if a != no_module]
        return frozenset(network), network[-1]

    most = []
    for t, states, networks in walk(process, state):
        ends_in_output = [bool(p) and is_output[state(p)[1]] for _, p in states]
        assert networks.finished.numpy().tolist() == ends_in_output
        assert actions_of(networks.closed) == [
            set(p) - {no_module} | by_definition[task].others for task, p in states
        ]
        if t > depth:
            assert all(ends_in_output)
            break
        found = actions_of(process.valid(networks, t))
        assert found == [by_definition[task].valid(p) for task, p in states]
        assert all(found)
        most.append(max(map(len, found)))

    # The router pads its candidates to these: less would lose actions, more would be work for nothing.
    assert process.max_candidates == most


# Those of so few modules that all sequences of them can be looked at.
FEW = ["dead_end", "lost_input", "cycle", "cycle_reversed", "class_signature", "long_chain", "paper_1"]
FEW += ["way_back"]
SOME = ["two_widths", "heads_by_task", "two_inputs", "tokens", "residual_1"]


@pytest.mark.parametrize(
    "name, depth", [*itertools.product(FEW, DEPTHS), *itertools.product(SOME, DEPTHS[:-1])]
)
def test_the_episodes_are_all_legal_sequences(named_pool, name, depth, rules):
    pool = way_back() if name == "way_back" else named_pool(name)
    depth = max(depth, *smallest_depths(pool, rules))
    process = DecisionProcess(pool, depth)
    *_, (_, episodes, _) = walk(process, key=lambda actions: actions)
    for task in distinct_tasks(pool):
        is_legal = rules(pool, depth, task).is_legal
        sequences = itertools.product(range(len(pool) + 1), repeat=depth)
        found = sorted(actions for of_task, actions in episodes if of_task == task)
        assert found == [actions for actions in sequences if is_legal(actions)]


@pytest.mark.parametrize("depth", DEPTHS)
def test_reachable_modules_are_those_of_all_networks(any_pool, depth, rules):
    depth = max(depth, *smallest_depths(any_pool, rules))
    found = actions_of(tf.constant(DecisionProcess(any_pool, depth).reachable))
    for task in range(len(any_pool.demands)):
        assert found[task] == set().union(*rules(any_pool, depth, task).networks())


def test_where_a_module_had_to_be_taken_twice_the_look_ahead_is_a_bound(rules):
    """It goes by distances; what is valid does not."""
    pool = way_back()
    process, by_definition = DecisionProcess(pool, 6), rules(pool, 6)
    used = set().union(*by_definition.networks())
    assert used == {0, 1, 5} < set(np.flatnonzero(process.reachable[0]))
    most = [len(by_definition.valid(p)) for p in ((), (0,), (0, 1), (0, 1, 5))]
    assert all(bound >= m for bound, m in zip(process.max_candidates, most, strict=False))


def test_too_shallow(any_pool, rules):
    smallest = smallest_depths(any_pool, rules)
    for depth in range(1, max(smallest)):
        task = next(k for k, fits in enumerate(smallest) if fits > depth)
        demand = any_pool.demands[task]
        with pytest.raises(ValueError, match=f"depth that fits is {smallest[task]}$") as raised:
            DecisionProcess(any_pool, depth)
        said = str(raised.value)
        assert f"no network of at most {depth} modules leads from {demand.input} to an " in said
        assert f"output module for {demand.space or 'it'} in this pool" in said
    DecisionProcess(any_pool, max(smallest))


def test_no_depth_fits():
    paper = pool_of("paper", problem([IMAGES_4], SAME), 1)
    kinds = [k for k in paper.kinds if k.name in ("conv_in", "fc", "fc_out")]
    with pytest.raises(ValueError, match="no depth fits"):
        DecisionProcess(Pool(kinds, paper.inputs, paper.demands), 6)


def test_no_depth_fits_a_task_whose_input_nobody_takes():
    pool = two_inputs()
    with pytest.raises(ValueError, match="from images to an output module for two .* no depth"):
        DecisionProcess(Pool([k for k in pool.kinds if k.name != "image_in"], pool.inputs, pool.demands), 6)


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
    tasks = rng.integers(len(process.pool.demands), size=batch)
    networks, actions = process.start(tf.constant(tasks)), []
    for t in range(1, process.depth + 1):
        score = process.valid(networks, t).numpy() * rng.uniform(0.1, 1, (batch, len(process.pool) + 1))
        actions.append(score.argmax(axis=1).astype(np.int32))
        networks = process.advance(networks, tf.constant(actions[-1]))
    return tasks, np.stack(actions, axis=1)


def router_choices(process, batch, rng, problem):
    keras.utils.set_random_seed(0)
    pool = process.pool
    router = Router(problem.inputs, problem.input_of, len(pool), process.max_candidates, d_model=8)
    tasks = rng.integers(problem.num_tasks, size=batch).astype(np.int32)
    given = any_inputs(pool, batch, rng), tf.constant(tasks)
    return tasks, route(router, process, *given, seed=tf.constant([1, 2])).actions.numpy()


IMAGES, EACH = ("images", (5, 7, 1)), ("images", "sequences", "rows", "tokens")
PROBLEMS = {
    "paper": ([IMAGES], [("images", CLASSES, 3)] * 3, "shared"),
    "residual": ([IMAGES], [("images", CLASSES, 3), ("images", LABELS, 3), ("images", NUMBERS, 2)], "task"),
    "transformer": ([IMAGES], [("images", CLASSES, 3)] * 2 + [("images", CLASSES, 4)] * 2, "shared"),
    "mixed": ([IMAGES, SEQUENCES, ROWS, TOKENS], [(x, CLASSES, 2) for x in EACH] * 2, "shared"),
}


@pytest.mark.parametrize("by_router", [False, True])
@pytest.mark.parametrize("name", PROBLEMS)
def test_ten_thousand_episodes_are_legal(name, by_router, rules):
    posed = problem(*PROBLEMS[name])
    pool = pool_of(name, posed, 5 if name == "transformer" else 3)
    process, rng = DecisionProcess(pool, 5), np.random.default_rng(0)
    choose = functools.partial(router_choices, problem=posed) if by_router else uniform_choices
    tasks, episodes = choose(process, 10_000, rng)
    is_legal = [rules(pool, 5, task).is_legal for task in range(posed.num_tasks)]
    episodes = list(map(tuple, episodes.tolist()))
    assert all(is_legal[task](actions) for task, actions in zip(tasks, episodes, strict=True))
    # The sample is no handful of paths over and over.
    assert len(set(episodes)) > 300


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


def test_oracle_sees_what_is_illegal_for_a_task(named_pool, rules):
    inputs, heads = named_pool("two_inputs"), named_pool("heads_by_task")

    def tasks_of(pool, *names):
        number = {name: m for m, name in enumerate(module_names(pool.by_kind))}
        path = tuple(number[name] for name in names)
        return [k for k in range(3) if rules(pool, len(path), k).is_legal(path)]

    assert tasks_of(inputs, "row_in.1", "hidden.0", "out.1") == [0]
    assert tasks_of(inputs, "row_in.1", "hidden.0", "out_3.0") == [2]
    assert tasks_of(inputs, "image_in.1", "of_images.0", "out_of_images.0") == [1]
    assert tasks_of(inputs, "image_in.1", "of_images.0", "meet.0", "out_3.0") == []
    assert [tasks_of(heads, "in.0", f"out.{i}") for i in range(3)] == [[0], [1], [2]]
    assert [tasks_of(heads, "in.0", "hidden.1", f"out_wide.{i}") for i in range(4)] == [[2], [2], [0], [0]]
