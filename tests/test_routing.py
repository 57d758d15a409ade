"""Routing networks: what the agents decide, what they earn, and who learns from it."""

import numpy as np
import pytest
import tensorflow as tf
from test_trunk_methods import BATCH, CLOSE, TASKS, batch, blocks, make, step, unchanged, values

from lrn_tf.methods.agents import POLICIES, ApproximatePolicy

BLOCKS = 4
ROUTERS = [(a, p) for a in ("per_task", "single", "dispatched") for p in POLICIES]


def routing(agents="per_task", policy="tabular", **given):
    return make("routing", agents=agents, policy=policy, blocks=BLOCKS, **given)


@pytest.mark.parametrize("agents, policy", ROUTERS)
def test_every_example_runs_through_the_blocks_that_its_agent_chose(agents, policy):
    method = routing(agents, policy)
    step(method)  # away from uniform tables
    images, tasks, _ = batch()
    uniform = tf.random.stateless_uniform((BATCH, 4), [0, 1])
    features = method.trunk(images, training=True)
    logits, paths, decisions = method.layers(features, tasks, uniform)
    expected = [blocks(method.network, f, p) for f, p in zip(features.numpy(), paths.numpy(), strict=True)]
    np.testing.assert_allclose(logits, expected, **CLOSE)
    np.testing.assert_array_equal(paths, decisions[0].actions + np.arange(3) * BLOCKS)
    who = {"per_task": tasks, "single": tf.zeros(BATCH)}.get(agents)
    if agents == "dispatched":
        who = decisions[1].actions[:, 0]
    np.testing.assert_array_equal(decisions[0].agents, who)
    assert len(decisions) == 1 + (agents == "dispatched")


@pytest.mark.slow
@pytest.mark.parametrize("agents, policy", ROUTERS)
def test_prediction_takes_the_most_probable_blocks(agents, policy):
    method = routing(agents, policy)
    for _ in range(3):
        step(method)
    images, tasks, _ = batch()
    answer, again = method.predict(images, tasks), method.predict(images, tasks)
    np.testing.assert_array_equal(answer.paths, again.paths)
    if policy != "approximate":
        for i, task in enumerate(tasks.numpy()):
            log = 0.0
            agent = task if agents == "per_task" else 0
            if agents == "dispatched":
                row = method.dispatcher.variables["policy"].numpy()[task, 0]
                agent, log = row.argmax(), np.log(row.max())
            table = method.policy.variables["policy"].numpy()[agent]  # (3, M)
            np.testing.assert_array_equal(answer.paths[i], table.argmax(axis=1) + np.arange(3) * BLOCKS)
            np.testing.assert_allclose(
                answer.log_policy[i], log + np.log(table.max(axis=1)).sum(), rtol=1e-5
            )


def test_returns_are_the_collaboration_rewards_still_to_come_and_plus_or_minus_one():
    method = routing(rho=0.3)
    chosen = np.array([[5, 1, 1, 1], [2, 2, 2, 2], [1, 1, 1, 7]], np.float32)
    method._chosen.assign(chosen)
    actions = tf.constant([[0, 0, 3], [1, 2, 0]])
    collaboration = method._collaboration(actions)
    share = chosen / chosen.sum(axis=1, keepdims=True)
    earned = 0.3 * np.array([[share[layer, a] for layer, a in enumerate(row)] for row in actions.numpy()])
    np.testing.assert_allclose(collaboration, earned, rtol=1e-6)
    (returns,) = method._returns(collaboration, tf.constant([1.0, 0.0]))
    expected = [[earned[i, layer:].sum() + final for layer in range(3)] for i, final in ((0, 1), (1, -1))]
    np.testing.assert_allclose(returns, expected, rtol=1e-6)


def test_shares_count_all_choices_since_the_start():
    method = routing()
    expected = np.ones((3, BLOCKS))
    images, tasks, _ = batch()
    for number in range(2):
        uniform = tf.random.stateless_uniform((BATCH, 4), [0, number], alg="philox")
        actions = method.layers(method.trunk(images), tasks, uniform)[2][0].actions.numpy()
        for layer in range(3):
            expected[layer] += np.bincount(actions[:, layer], minlength=BLOCKS)
        step(method, number=number)
    np.testing.assert_array_equal(method._chosen, expected)


def test_tables_of_idle_agents_and_weights_of_unchosen_blocks_stay():
    method = routing()
    table = method.policy.variables["policy"].numpy()
    weights = [values(method.network._blocks.weights_of(m)) for m in range(3 * BLOCKS)]
    images, tasks, _ = batch(tasks=[1] * BATCH)
    uniform = tf.random.stateless_uniform((BATCH, 4), [0, 7], alg="philox")
    chosen = set(method.layers(method.trunk(images), tasks, uniform)[1].numpy().ravel())
    assert len(chosen) < 3 * BLOCKS or pytest.fail("every block is chosen; take another seed")
    step(method, tasks=[1] * BATCH)
    for m, old in enumerate(weights):
        same = unchanged(old, method.network._blocks.weights_of(m))
        assert not all(same) if m in chosen else all(same), m
    moved = (method.policy.variables["policy"].numpy() != table).any(axis=(1, 2))
    np.testing.assert_array_equal(moved, [False, True, False])


@pytest.mark.parametrize("agents", ["per_task", "single", "dispatched"])
def test_agents_and_network_do_not_learn_from_each_others_loss(agents):
    """The network's update is the same whatever the agents earned, and the agents' is not."""

    def after(rho):
        method = routing(agents, "approximate", rho=rho)
        step(method)
        return values(method.network.weights), values(method.policy.weights)

    (network, policy), (network_paid, policy_paid) = after(0.0), after(5.0)
    for a, b in zip(network, network_paid, strict=True):
        np.testing.assert_array_equal(a, b)
    assert any(not np.array_equal(a, b) for a, b in zip(policy, policy_paid, strict=True))


def test_a_dispatcher_learns_from_the_whole_return():
    method = routing("dispatched", rho=0.3)
    collaboration = tf.constant([[0.1, 0.2, 0.3], [0.3, 0.0, 0.1]])
    _, returns = method._returns(collaboration, tf.constant([1.0, 0.0]))
    np.testing.assert_allclose(returns, [[1.6], [-0.6]], rtol=1e-6)
    step(method)
    table = method.dispatcher.variables["policy"].numpy()
    assert table.shape == (TASKS, 1, TASKS) and not np.allclose(table, 1 / TASKS)


def test_the_loss_of_approximate_policies_is_reinforce_with_a_baseline():
    policy = ApproximatePolicy(2, [5], 3)
    rng = np.random.default_rng(0)
    probability, expected, returns = rng.uniform(0.1, 1, (3, 4, 2))
    surprise = returns - expected
    loss = (0.5 * surprise**2 - np.log(probability) * surprise).sum(axis=1).mean()
    given = [tf.constant(x, tf.float32) for x in (probability, expected, returns)]
    np.testing.assert_allclose(policy.loss(*given), loss, rtol=1e-5)
    with tf.GradientTape() as tape:
        tape.watch(given[1])
        loss = policy.loss(*given)
    # The baseline follows the returns; it does not learn from the policy's gain.
    np.testing.assert_allclose(tape.gradient(loss, given[1]), -surprise / 4, rtol=1e-4, atol=1e-6)


def test_each_agent_has_a_network_of_its_own():
    policy = ApproximatePolicy(2, [5, 3], 4)
    rng = np.random.default_rng(0)
    seen = tf.constant(rng.normal(size=(6, 3)), tf.float32)
    agents = tf.constant([0, 1, 1, 0, 1, 0])
    probabilities, expected = policy.decide(agents, 1, seen)
    for i, agent in enumerate(agents.numpy()):
        x = seen[i].numpy()
        for layer in policy._networks[1]:
            kernel, bias = (w.numpy()[agent] for w in layer.trainable_variables)
            x = x @ kernel + bias
            y, x = x, np.maximum(x, 0)
        np.testing.assert_allclose(probabilities[i], np.exp(y[:4]) / np.exp(y[:4]).sum(), rtol=1e-4)
        np.testing.assert_allclose(expected[i], y[4], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", POLICIES)
def test_a_policy_comes_to_prefer_what_pays(name):
    """A game against nobody: action 2 pays 1, the others nothing."""
    policy = POLICIES[name](1, [2], 3)
    seen, agents = tf.ones((64, 2)), tf.zeros(64, tf.int32)

    @tf.function
    def play(i):
        with tf.GradientTape() as tape:
            probabilities, expected = policy.decide(agents, 0, seen)
            chance = tf.random.stateless_uniform((64, 3), tf.stack([0, i]))
            actions = tf.argmax(tf.math.log(probabilities) - tf.math.log(-tf.math.log(chance)), axis=1)
            taken = tf.gather(probabilities, actions, batch_dims=1)
            returns = tf.cast(actions == 2, tf.float32)
            loss = policy.loss(taken[:, None], expected[:, None], returns[:, None])
        for w, g in zip(policy.weights, tape.gradient(loss, policy.weights), strict=True):
            w.assign_sub(0.1 * g)
        policy.learn(agents, tf.cast(actions, tf.int32)[:, None], returns[:, None])
        return probabilities[0, 2]

    for i in range(300):
        probability = play(tf.constant(i))
    assert probability > 0.9
