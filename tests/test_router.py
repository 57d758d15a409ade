"""The router and its episodes: what may and what may not change a decision."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from lrn_tf.modules import pools
from lrn_tf.modules.decision_process import DecisionProcess
from lrn_tf.modules.pool import INPUT, OUTPUT, Kind, Pool
from lrn_tf.policy.episodes import entropy, pack, revisit, route
from lrn_tf.policy.router import Router

IMAGE, TASKS, MODULES, DEPTH, WIDTH = (8, 8, 1), 3, 10, 5, 16
PASS = MODULES
BATCH = 6


def make_router(folds, policy="float32"):
    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy(policy)
    try:
        router = Router(IMAGE, TASKS, MODULES, DEPTH, WIDTH)
    finally:
        keras.config.set_dtype_policy("float32")
    for weight in router.trainable_variables:
        # Biases other than 0 and scales other than 1, so that no weight goes unnoticed.
        weight.assign_add(0.1 * tf.random.normal(weight.shape))
    router.folds = folds
    return router


@pytest.fixture(scope="module", params=[True, False], ids=["folded", "plain"])
def router(request):
    return make_router(request.param)


def examples(batch, image=IMAGE):
    images = np.random.default_rng(0).normal(size=(batch, *image))
    return tf.constant(images, tf.float32), tf.range(batch) % TASKS


def logits_of(router, actions, candidates, real=None):
    """Logits for a batch of examples that share actions so far and candidates."""
    images, tasks = examples(BATCH)
    candidates = tf.constant([candidates] * BATCH)
    real = tf.ones_like(candidates, tf.bool) if real is None else tf.constant([real] * BATCH)
    actions = tf.reshape(tf.constant([actions] * BATCH, tf.int32), (BATCH, -1))
    return router(images, tasks, actions, candidates, real)[0].numpy()


def test_shapes(router):
    images, tasks = examples(BATCH)
    percept = router.perceive(images, tasks)
    assert percept.shape == (BATCH, 2, WIDTH)
    for t in range(1, DEPTH + 1):
        (state,) = router.encode(percept, tf.zeros((BATCH, t - 1), tf.int32), [t])
        assert state.shape == (BATCH, t + 1, WIDTH)
        assert router.critic(state).shape == (BATCH,)
        candidates = tf.zeros((BATCH, 7), tf.int32)
        (logits,) = router.score([state], [candidates], [candidates == 0])
        assert logits.shape == (BATCH, 7)


def test_parameters_at_the_papers_width():
    router = Router((32, 32, 3), 20, 60, 6, 256)
    assert router.encoder.count_params() == 527_104
    assert router.decoder.count_params() == 790_784
    images = 9 * 3 * 32 + 32 + 9 * 32 * 32 + 32 + 8 * 8 * 32 * 256 + 256
    embeddings = (20 + 61 + 7) * 256
    assert router.count_params() == 527_104 + 790_784 + images + embeddings + 3 * 257


def test_scales_of_the_initial_router():
    """They multiply the weights that Keras would draw, and touch no others."""

    def make(*scales):
        keras.utils.set_random_seed(0)
        return Router(IMAGE, TASKS, MODULES, DEPTH, WIDTH, *scales)

    plain, scaled = make(), make(3.0, 0.1)
    for layer, factor in ((plain.logit, 3.0), (plain.image_encoder.layers.layers[-1], 0.1)):
        layer.kernel.assign(factor * layer.kernel)
    for a, b in zip(plain.get_weights(), scaled.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    assert np.abs(make().logit.kernel).max() < np.sqrt(6 / (WIDTH + 1))  # Glorot's uniform distribution


def test_candidates_are_a_set(router):
    order = [3, 1, 4, 0, 2]
    candidates = np.array([2, 4, 5, 8, PASS])
    plain = logits_of(router, [0, 7], candidates)
    permuted = logits_of(router, [0, 7], candidates[order])
    np.testing.assert_allclose(permuted, plain[:, order], atol=1e-5)
    assert np.ptp(plain, axis=1).min() > 0.01


@pytest.mark.parametrize("padding", [[0, 0], [9, 3], [PASS, 1]])
def test_padding_does_not_leak(router, padding):
    alone = logits_of(router, [0], [2, 4, 5])
    padded = logits_of(router, [0], [2, 4, 5, *padding], [True] * 3 + [False] * 2)
    np.testing.assert_allclose(padded[:, :3], alone, atol=1e-5)
    assert (padded[:, 3:] == -1e8).all()


@pytest.mark.parametrize(
    "other", [[0, 7], [0, PASS, 7], [PASS, 0, 7], [7, 0, PASS], [0, 7, 6], [0, 7, PASS, PASS]]
)
def test_the_state_tells_apart_what_happened(router, other):
    """Also when and whether PASS was taken, though it adds no module."""
    state = logits_of(router, [0, 7, PASS], [2, 4, 5])
    assert np.abs(logits_of(router, other, [2, 4, 5]) - state).max() > 0.001


def test_image_and_task_matter(router):
    images, tasks = examples(2)
    candidates = tf.constant([[2, 4, 5]])

    def answer(i, k):
        start = tf.zeros((1, 0), tf.int32)
        return router(images[i : i + 1], tasks[k : k + 1], start, candidates, candidates > 0)

    for logits, value in (answer(0, 1), answer(1, 0)):
        assert np.abs(logits - answer(0, 0)[0]).max() > 0.01
        assert np.abs(value - answer(0, 0)[1]).max() > 0.001


def plain_encode(router, percept, actions, steps):
    """Each state on its own, by the library's encoder."""
    states = []
    for t in steps:
        state = tf.concat([percept, router.action_embedding(actions[:, : t - 1])], axis=1)
        states.append(router.encoder(state + router.position_embedding(tf.range(t + 1))))
    return states


STEPS = (1, 3, 4)


def test_the_folded_transformer_equals_the_plain_one():
    """Logits and the gradient of every weight, with candidates that differ from example to example."""
    images, tasks = examples(BATCH)
    actions = tf.constant(np.random.default_rng(1).integers(0, PASS + 1, (BATCH, DEPTH)), tf.int32)
    valid = np.random.default_rng(0).random((len(STEPS), BATCH, MODULES + 1)) < 0.5
    valid[..., PASS] = True
    packed = [pack(tf.constant(step), int(step.sum(axis=1).max())) for step in valid]
    assert len({ids.shape[1] for ids, _ in packed}) > 1
    candidates, real = zip(*packed, strict=True)
    found = {}
    for folds in (True, False):
        router = make_router(folds)
        encode = router.encode if folds else functools.partial(plain_encode, router)
        weights = [weight.value for weight in router.trainable_variables]
        with tf.GradientTape() as tape:
            states = encode(router.perceive(images, tasks), actions, STEPS)
            logits = router.score(states, candidates, real)
            logits = [tf.where(mask, step, 0) for mask, step in zip(real, logits, strict=True)]
            values = [router.critic(state) for state in states]
            loss = tf.add_n([tf.reduce_sum(tf.sin(x)) for x in logits + values])
        gradients = tape.gradient(loss, weights)
        found[folds] = [*logits, *values, *map(tf.convert_to_tensor, gradients)]
    for a, b in zip(found[True], found[False], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("folds", [True, False])
def test_bfloat16(folds):
    exact, half = make_router(folds), make_router(folds, "mixed_bfloat16")
    half.set_weights(exact.get_weights())
    images, tasks = examples(BATCH)
    candidates = tf.constant([[2, 4, 5, 0]] * BATCH)
    found, expected = (
        r(images, tasks, candidates[:, :2], candidates, candidates > 0) for r in (half, exact)
    )
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == tf.float32
        np.testing.assert_allclose(a, b, atol=0.15)


def test_critic_is_attention_over_the_state(router):
    states = np.random.default_rng(0).normal(size=(4, 5, WIDTH)).astype(np.float32)
    w_e, b_e, w_c, b_c = (w.numpy() for w in router.critic.trainable_variables)
    expected = []
    for state in states:
        e = [s @ w_e[:, 0] + b_e[0] for s in state]
        alpha = np.exp(e) / np.exp(e).sum()
        expected.append(sum(a * s for a, s in zip(alpha, state, strict=True)) @ w_c[:, 0] + b_c[0])
    np.testing.assert_allclose(router.critic(tf.constant(states)), expected, rtol=1e-5, atol=1e-5)


def test_pack():
    rng = np.random.default_rng(0)
    valid = rng.random((50, MODULES + 1)) < 0.4
    valid[:, 3] = True
    width = valid.sum(axis=1).max()
    candidates, real = pack(tf.constant(valid), int(width))
    for row, ids, kept in zip(valid, candidates.numpy(), real.numpy(), strict=True):
        expected = np.flatnonzero(row)
        assert ids[: len(expected)].tolist() == expected.tolist()
        assert kept.tolist() == [True] * len(expected) + [False] * (width - len(expected))


def test_entropy():
    p = np.array([[0.5, 0.25, 0.25, 0.0], [1.0, 0.0, 0.0, 0.0]])
    logits = np.where(p > 0, np.log(np.maximum(p, 1e-9)), -1e8).astype(np.float32)
    np.testing.assert_allclose(entropy(tf.nn.log_softmax(logits)), [1.5 * np.log(2), 0.0], rtol=1e-6)


@pytest.fixture(scope="module", params=pools.POOLS)
def case(request):
    """A router, a process and examples."""
    keras.utils.set_random_seed(0)
    pool = pools.POOLS[request.param](IMAGE, 2, 2)
    router = Router(IMAGE, TASKS, len(pool), 4, WIDTH)
    return router, DecisionProcess(pool, 4), *examples(64)


SEED = tf.constant([3, 4])


@pytest.mark.parametrize("seed", [SEED, None])
def test_what_route_returns(case, seed):
    router, process, images, tasks = case
    episodes = route(router, process, images, tasks, seed)
    networks = process.start(64)
    percept = router.perceive(images, tasks)
    for t in range(1, process.depth + 1):
        valid = process.valid(networks, t).numpy()
        (state,) = router.encode(percept, episodes.actions[:, : t - 1], [t])
        # All actions as candidates, with the invalid ones as padding.
        ids = tf.tile(tf.range(len(process.pool) + 1)[None], [64, 1])
        (logits,) = router.score([state], [ids], [tf.constant(valid)])
        policy = tf.nn.log_softmax(logits).numpy()
        actions = episodes.actions[:, t - 1].numpy()
        rows = np.arange(64)
        assert valid[rows, actions].all()
        np.testing.assert_allclose(episodes.log_probs[:, t - 1], policy[rows, actions], atol=1e-5)
        np.testing.assert_allclose(episodes.values[:, t - 1], router.critic(state), atol=1e-5)
        mean_surprise = -np.where(valid, np.exp(policy) * policy, 0).sum(axis=1)
        np.testing.assert_allclose(episodes.entropy[:, t - 1], mean_surprise, atol=1e-5)
        assert (episodes.open[:, t - 1].numpy() == ~networks.finished.numpy()).all()
        free = episodes.free[:, t - 1].numpy()
        assert (free == (valid.sum(axis=1) > 1)).all()
        # Exactly: what was forced has no probability to learn from.
        assert not episodes.log_probs[:, t - 1].numpy()[~free].any()
        assert not episodes.entropy[:, t - 1].numpy()[~free].any()
        if seed is None:
            assert (actions == policy.argmax(axis=1)).all()
        networks = process.advance(networks, episodes.actions[:, t - 1])
    assert networks.finished.numpy().all()


def test_seeds(case):
    router, process, images, tasks = case
    first = route(router, process, images, tasks, SEED).actions.numpy()
    assert (route(router, process, images, tasks, SEED).actions.numpy() == first).all()
    for other in ([3, 5], [2, 4], [4, 3]):
        # An untrained router is not at all sure.
        differ = route(router, process, images, tasks, tf.constant(other)).actions.numpy() != first
        assert differ.any(axis=1).mean() > 0.2


def test_revisit_finds_what_route_found(case):
    """So the ratio of PPO starts at 1."""
    router, process, images, tasks = case
    episodes = route(router, process, images, tasks, SEED)
    log_probs, values, entropies = revisit(router, episodes, images, tasks)
    np.testing.assert_allclose(log_probs, episodes.log_probs, atol=1e-5)
    np.testing.assert_allclose(values, episodes.values, atol=1e-5)
    np.testing.assert_allclose(entropies, episodes.entropy, atol=1e-5)


def choice_pool():
    """Four ways to begin, three to end, nothing between."""

    def no_layer():
        raise AssertionError("routing needs no layers")

    return Pool(
        [Kind("in", INPUT, (2, 2, 1), (3,), no_layer, 4), Kind("out", OUTPUT, (3,), (2,), no_layer, 3)],
        (2, 2, 1),
    )


def test_jit_changes_no_action():
    keras.utils.set_random_seed(0)
    process = DecisionProcess(choice_pool(), 3)
    router = Router((2, 2, 1), TASKS, 7, 3, 8)
    images, tasks = examples(256, (2, 2, 1))
    compiled = tf.function(lambda seed: route(router, process, images, tasks, seed), jit_compile=True)
    plain, fused = route(router, process, images, tasks, SEED), compiled(SEED)
    assert (plain.actions.numpy() == fused.actions.numpy()).all()
    np.testing.assert_allclose(plain.log_probs, fused.log_probs, atol=1e-5)


def test_sampling_follows_the_policy():
    """All examples are alike, so the counts of pairs of actions are those of one distribution."""
    keras.utils.set_random_seed(2)
    count = 20_000
    process = DecisionProcess(choice_pool(), 2)
    router = Router((2, 2, 1), TASKS, 7, 2, 8)
    images, tasks = tf.ones((count, 2, 2, 1)), tf.zeros(count, tf.int32)
    first, second = route(router, process, images, tasks, SEED).actions.numpy().T

    def policy(actions, candidates):
        candidates = tf.constant([candidates])
        logits, _ = router(
            images[:1], tasks[:1], tf.constant([actions], tf.int32), candidates, candidates > -1
        )
        return tf.nn.softmax(logits)[0].numpy()

    start = policy(np.zeros(0), [0, 1, 2, 3])
    expected = count * np.array([p * policy([m], [4, 5, 6]) for m, p in enumerate(start)])
    observed = np.zeros_like(expected)
    np.add.at(observed, (first, second - 4), 1)
    # 99.9 % of the distribution with 11 degrees of freedom are below 31.3.
    assert ((observed - expected) ** 2 / expected).sum() < 31.3
    # It is no uniform choice either.
    assert ((observed - count / 12) ** 2 / (count / 12)).sum() > 300
