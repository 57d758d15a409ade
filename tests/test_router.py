"""The router and its episodes: what may and what may not change a decision."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from small_pools import WORDS, any_inputs, pool_of, problem

from lrn_tf.data.problem import CLASSES, InputSpec
from lrn_tf.modules.decision_process import DecisionProcess
from lrn_tf.modules.pool import INPUT, OUTPUT, Demand, Given, Kind, Pool
from lrn_tf.router.actors import pack
from lrn_tf.router.encoders import make_encoder
from lrn_tf.router.episodes import entropy, revisit, route
from lrn_tf.router.router import Router

IMAGE, TASKS, MODULES, DEPTH, WIDTH = (8, 8, 1), 3, 10, 5, 16


def an_input(name, shape):
    """Whole numbers, if its name is tokens."""
    if name == "tokens":
        return InputSpec(name, shape, "int32", (), (), WORDS)
    return InputSpec(name, shape, "float32", (0.0,) * shape[-1], (1.0,) * shape[-1])


ONE_INPUT = [an_input("images", IMAGE)], [0] * TASKS
PASS = MODULES
MOST = (MODULES + 1,) * DEPTH
BATCH = 6


def make_router(actor="decoder", policy="float32", most=MOST):
    """Args: actor: `plain` is the decoder as the library runs it."""
    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy(policy)
    try:
        router = Router(*ONE_INPUT, MODULES, most, WIDTH, "pointer" if actor == "pointer" else "decoder")
    finally:
        keras.config.set_dtype_policy("float32")
    for weight in router.trainable_variables:
        # Biases other than 0 and scales other than 1, so that no weight goes unnoticed.
        weight.assign_add(0.1 * tf.random.normal(weight.shape))
    if actor != "pointer":
        router.actor.folds = actor == "decoder"
    return router


@pytest.fixture(scope="module", params=["decoder", "plain", "pointer"])
def router(request):
    return make_router(request.param)


def examples(batch, image=IMAGE):
    images = np.random.default_rng(0).normal(size=(batch, *image))
    return tf.constant(images, tf.float32), tf.range(batch) % TASKS


def only(*actions):
    """A row of `valid`."""
    return np.isin(np.arange(PASS + 1), actions)


def logits_of(router, actions, valid):
    """Logits for a batch of examples that share actions so far and which actions are valid."""
    images, tasks = examples(BATCH)
    actions = tf.reshape(tf.constant([actions] * BATCH, tf.int32), (BATCH, -1))
    return router(images, tasks, actions, tf.constant([valid] * BATCH))[0].numpy()


def test_shapes(router):
    images, tasks = examples(BATCH)
    percept = router.perceive(images, tasks)
    assert percept.shape == (BATCH, 2, WIDTH)
    for t in range(1, DEPTH + 1):
        (state,) = router.encode(percept, tf.zeros((BATCH, t - 1), tf.int32), [t])
        assert state.shape == (BATCH, t + 1, WIDTH)
        assert router.critic(state).shape == (BATCH,)
        valid = tf.constant([only(1, 4)] * BATCH)
        (logits,) = router.score([state], [valid], [t])
        assert logits.shape == (BATCH, PASS + 1)
        assert ((logits > -1e7) == valid).numpy().all()


def test_parameters_at_the_papers_width():
    router = Router([an_input("images", (32, 32, 3))], [0] * 20, 60, (1,) * 6, 256)
    assert router.encoder.count_params() == 527_104
    assert router.actor.decoder.count_params() == 790_784
    images = 9 * 3 * 32 + 32 + 9 * 32 * 32 + 32 + 8 * 8 * 32 * 256 + 256
    embeddings = (20 + 61 + 7) * 256
    assert router.count_params() == 527_104 + 790_784 + images + embeddings + 3 * 257


@pytest.mark.parametrize("actor", ["decoder", "pointer"])
def test_scales_of_the_initial_router(actor):
    """They multiply the weights that Keras would draw, and touch no others."""

    def make(**scales):
        keras.utils.set_random_seed(0)
        return Router(*SEVERAL, MODULES, MOST, WIDTH, actor, **scales)

    plain, scaled = make(), make(actor_scale=3.0, input_scale=0.1)
    last = plain.actor.logit if actor == "decoder" else plain.actor.query
    images, *others = plain.encoders
    of_inputs = [images.layers.layers[-1], *(encoder.last for encoder in others)]
    for layer, factor in ((last, 3.0), *((layer, 0.1) for layer in of_inputs)):
        layer.kernel.assign(factor * layer.kernel)
    for a, b in zip(plain.get_weights(), scaled.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


SEVERAL = (
    [
        an_input("images", IMAGE),
        an_input("rows", (5,)),
        an_input("sequences", (4, 2)),
        an_input("tokens", (6,)),
    ],
    [2, 0, 3, 1, 3],
)


def several(rng, batch):
    """Inputs of a router with `SEVERAL`."""
    given = [
        rng.integers(0, WORDS, (batch, *spec.shape)).astype(np.int32)
        if spec.vocabulary
        else rng.normal(size=(batch, *spec.shape)).astype(np.float32)
        for spec in SEVERAL[0]
    ]
    return tuple(map(tf.constant, given))


def test_each_task_is_seen_by_the_encoder_of_its_input():
    keras.utils.set_random_seed(0)
    router = Router(*SEVERAL, MODULES, MOST, WIDTH)
    inputs, tasks = several(np.random.default_rng(0), 10), tf.constant([0, 1, 2, 3, 4] * 2)
    weights = [encoder.trainable_variables for encoder in router.encoders]
    floating = [x for x in inputs if x.dtype.is_floating]
    with tf.GradientTape() as tape:
        tape.watch(floating)
        seen = router.see(inputs, tasks)
        one = tf.reduce_sum(tf.sin(seen[2]))  # whose task has tokens
    of_weights, of_inputs = tape.gradient(
        one, [[[w.value for w in mine] for mine in weights], floating], unconnected_gradients="zero"
    )
    for row, task in enumerate(tasks.numpy()):
        i = SEVERAL[1][task]
        np.testing.assert_allclose(seen[row], router.encoders[i](inputs[i][row : row + 1])[0], atol=1e-6)
    reached = [any(np.any(tf.convert_to_tensor(g)) for g in mine) for mine in of_weights]
    assert reached == [False, False, False, True]
    assert not any(np.any(g) for g in of_inputs)

    # What else an example brings changes nothing.
    others, of_task = several(np.random.default_rng(1), 10), tf.gather(SEVERAL[1], tasks)
    changed = tuple(
        tf.where(tf.reshape(of_task == i, [-1] + [1] * (len(x.shape) - 1)), x, other)
        for i, (x, other) in enumerate(zip(inputs, others, strict=True))
    )
    assert (router.see(changed, tasks).numpy() == seen.numpy()).all()
    assert np.abs(router.see(others, tasks) - seen).max(axis=1).min() > 0.001


@pytest.mark.parametrize("layer", [keras.layers.BatchNormalization(), keras.layers.Dropout(0.5)])
def test_an_encoder_with_state_is_refused(layer, monkeypatch):
    """Nothing would update it."""

    def encoder(width, scale, name):
        return keras.Sequential([keras.layers.Flatten(), layer, keras.layers.Dense(width)], name=name)

    monkeypatch.setattr("lrn_tf.router.encoders.ImageEncoder", encoder)
    with pytest.raises(ValueError, match="^images_encoder has state"):
        make_encoder(InputSpec("images", (4, 4, 1), "uint8", (0.0,), (1.0,)), WIDTH, 1.0)


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize("given", SEVERAL[0], ids=lambda given: given.name)
def test_encoders_tell_apart_what_differs_in_one_place(given, policy):
    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy(policy)
    try:
        encoder = make_encoder(given, WIDTH, 1.0)
    finally:
        keras.config.set_dtype_policy("float32")
    rng = np.random.default_rng(0)
    x = several(rng, 1)[SEVERAL[0].index(given)].numpy()
    rows = [x]
    for place in np.ndindex(given.shape[:1]):
        other = x.copy()
        other[(0, *place)] = (x[(0, *place)] + 3) % WORDS if given.vocabulary else -2 * x[(0, *place)] - 1
        rows.append(other)
    # The same entries at other places.
    rows += [x[:, ::-1]]
    seen = tf.cast(encoder(tf.concat(rows, axis=0)), tf.float32).numpy()
    assert seen.shape == (len(rows), WIDTH)
    apart = np.abs(seen[:, None] - seen).max(axis=2) + np.eye(len(rows))
    assert apart.min() > 1e-4


def test_tokens_keep_their_numbers_in_bfloat16():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        encoder = make_encoder(InputSpec("tokens", (1,), "int32", (), (), 600), WIDTH, 1.0)
    finally:
        keras.config.set_dtype_policy("float32")
    seen = tf.cast(encoder(tf.constant([[256], [257], [258], [511], [512]])), tf.float32).numpy()
    assert (np.abs(seen[:, None] - seen).max(axis=2) + np.eye(5)).min() > 0.01


def test_there_is_no_encoder_for_films():
    with pytest.raises(ValueError, match=r"no encoder for the input films \[4, 8, 8, 3\]"):
        make_encoder(an_input("films", (4, 8, 8, 3)), WIDTH, 1.0)


def test_actions_are_a_set(router):
    """Two actions that change their embeddings change their logits, and no other logit changes."""
    valid = only(2, 4, 5, 8, PASS)
    plain = logits_of(router, [0, 7], valid)
    table = router.action_embedding.embeddings
    before, order = table.numpy(), np.arange(PASS + 1)
    order[[4, 8]] = 8, 4
    table.assign(before[order])
    permuted = logits_of(router, [0, 7], valid)
    table.assign(before)
    np.testing.assert_allclose(permuted, plain[:, order], atol=1e-5)
    assert np.ptp(plain[:, valid], axis=1).min() > 0.01


@pytest.mark.parametrize("other", [1, 3, 9])
def test_what_is_not_valid_does_not_count(router, other):
    """Neither its embedding nor room for it changes a logit."""
    valid = only(2, 4, 5)
    plain = logits_of(router, [0], valid)
    assert (plain[:, ~valid] == -1e8).all()
    table = router.action_embedding.embeddings
    before = table.numpy()
    table.assign(before + 5.0 * (np.arange(PASS + 1) == other)[:, None])
    changed = logits_of(router, [0], valid)
    table.assign(before)
    np.testing.assert_allclose(changed, plain, atol=1e-5)


@pytest.mark.parametrize("actor", ["decoder", "plain"])
def test_room_for_more_valid_actions_changes_nothing(actor):
    valid = only(2, 4, 5)
    narrow, wide = make_router(actor, most=(3,) * DEPTH), make_router(actor)
    np.testing.assert_allclose(logits_of(narrow, [0], valid), logits_of(wide, [0], valid), atol=1e-5)


@pytest.mark.parametrize(
    "other", [[0, 7], [0, PASS, 7], [PASS, 0, 7], [7, 0, PASS], [0, 7, 6], [0, 7, PASS, PASS]]
)
def test_the_state_tells_apart_what_happened(router, other):
    """Also when and whether PASS was taken, though it adds no module."""
    state = logits_of(router, [0, 7, PASS], only(2, 4, 5))
    assert np.abs(logits_of(router, other, only(2, 4, 5)) - state).max() > 0.001


def test_image_and_task_matter(router):
    images, tasks = examples(2)
    valid = tf.constant([only(2, 4, 5)])

    def answer(i, k):
        return router(images[i : i + 1], tasks[k : k + 1], tf.zeros((1, 0), tf.int32), valid)

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
    """Logits and the gradient of every weight, with valid actions that differ from example to example."""
    images, tasks = examples(BATCH)
    actions = tf.constant(np.random.default_rng(1).integers(0, PASS + 1, (BATCH, DEPTH)), tf.int32)
    valid = np.random.default_rng(0).random((DEPTH, BATCH, MODULES + 1)) < 0.5
    valid[..., PASS] = True
    most = valid.sum(axis=2).max(axis=1).tolist()
    assert len(set(most)) > 1
    valid = [tf.constant(valid[t - 1]) for t in STEPS]
    found = {}
    for actor in ("decoder", "plain"):
        router = make_router(actor, most=most)
        encode = router.encode if actor == "decoder" else functools.partial(plain_encode, router)
        weights = [weight.value for weight in router.trainable_variables]
        with tf.GradientTape() as tape:
            states = encode(router.perceive(images, tasks), actions, STEPS)
            logits = router.score(states, valid, STEPS)
            logits = [tf.where(mask, step, 0) for mask, step in zip(valid, logits, strict=True)]
            values = [router.critic(state) for state in states]
            loss = tf.add_n([tf.reduce_sum(tf.sin(x)) for x in logits + values])
        gradients = tape.gradient(loss, weights)
        found[actor] = [*logits, *values, *map(tf.convert_to_tensor, gradients)]
    for a, b in zip(found["decoder"], found["plain"], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("actor", ["decoder", "plain", "pointer"])
def test_bfloat16(actor):
    exact, half = make_router(actor), make_router(actor, "mixed_bfloat16")
    half.set_weights(exact.get_weights())
    images, tasks = examples(BATCH)
    actions, valid = tf.constant([[2, 4]] * BATCH), tf.constant([only(2, 4, 5)] * BATCH)
    for a, b in zip(half(images, tasks, actions, valid), exact(images, tasks, actions, valid), strict=True):
        assert a.dtype == tf.float32
        np.testing.assert_allclose(a, b, atol=0.15)


def test_pointer_is_a_scaled_dot_product():
    router = make_router("pointer")
    states = np.random.default_rng(0).normal(size=(BATCH, 4, WIDTH)).astype(np.float32)
    valid = np.random.default_rng(1).random((BATCH, PASS + 1)) < 0.6
    valid[:, PASS] = True
    actor, table = router.actor, router.action_embedding.embeddings.numpy()
    w_e, b_e = (w.numpy() for w in actor.pool.score.trainable_variables)
    w_q, b_q = (w.numpy() for w in actor.query.trainable_variables)
    (w_k,) = (w.numpy() for w in actor.key.trainable_variables)
    (found,) = router.score([tf.constant(states)], [tf.constant(valid)], [3])
    for state, mask, logits in zip(states, valid, found.numpy(), strict=True):
        e = np.exp([s @ w_e[:, 0] + b_e[0] for s in state])
        query = sum(a * s for a, s in zip(e / e.sum(), state, strict=True)) @ w_q + b_q
        expected = [query @ (entry @ w_k) / WIDTH**0.5 for entry in table]
        np.testing.assert_allclose(logits[mask], np.array(expected)[mask], rtol=1e-4, atol=1e-5)
        assert (logits[~mask] == -1e8).all()


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
    for row, places in zip(valid, pack(tf.constant(valid), int(width)).numpy(), strict=True):
        assert places.shape == (width, MODULES + 1)
        assert np.argwhere(places).tolist() == [[i, a] for i, a in enumerate(np.flatnonzero(row))]


def test_entropy():
    p = np.array([[0.5, 0.25, 0.25, 0.0], [1.0, 0.0, 0.0, 0.0]])
    logits = np.where(p > 0, np.log(np.maximum(p, 1e-9)), -1e8).astype(np.float32)
    np.testing.assert_allclose(entropy(tf.nn.log_softmax(logits)), [1.5 * np.log(2), 0.0], rtol=1e-6)


SHOWN = [("images", IMAGE)], [("images", CLASSES, 2)] * TASKS
MIXED = (
    [("images", IMAGE), ("rows", (3,)), ("tokens", (6,))],
    [("tokens", CLASSES, 2), ("images", CLASSES, 2), ("rows", CLASSES, 5)],
)
CASES = {
    "paper": ("paper", SHOWN, "decoder"),
    "residual": ("residual", SHOWN, "decoder"),
    "pointer": ("paper", SHOWN, "pointer"),
    "mixed": ("mixed", MIXED, "decoder"),
    "mixed pointer": ("mixed", MIXED, "pointer"),
}


@pytest.fixture(scope="module", params=CASES)
def case(request):
    """A router, a process and examples."""
    keras.utils.set_random_seed(0)
    name, posed, actor = CASES[request.param]
    posed = problem(*posed)
    process = DecisionProcess(pool_of(name, posed, 2), 4)
    most = process.max_candidates
    router = Router(posed.inputs, posed.input_of, len(process.pool), most, WIDTH, actor)
    inputs = tf.nest.map_structure(tf.constant, any_inputs(process.pool, 64, np.random.default_rng(0)))
    return router, process, inputs, tf.range(64) % TASKS


SEED = tf.constant([3, 4])


@pytest.mark.parametrize("seed", [SEED, None])
def test_what_route_returns(case, seed):
    router, process, inputs, tasks = case
    episodes = route(router, process, inputs, tasks, seed)
    networks = process.start(tasks)
    percept = router.perceive(inputs, tasks)
    for t in range(1, process.depth + 1):
        valid = process.valid(networks, t).numpy()
        (state,) = router.encode(percept, episodes.actions[:, : t - 1], [t])
        (logits,) = router.score([state], [tf.constant(valid)], [t])
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
    router, process, inputs, tasks = case
    first = route(router, process, inputs, tasks, SEED).actions.numpy()
    assert (route(router, process, inputs, tasks, SEED).actions.numpy() == first).all()
    for other in ([3, 5], [2, 4], [4, 3]):
        # An untrained router is not at all sure.
        differ = route(router, process, inputs, tasks, tf.constant(other)).actions.numpy() != first
        assert differ.any(axis=1).mean() > 0.2


def test_revisit_finds_what_route_found(case):
    """So the ratio of PPO starts at 1."""
    router, process, inputs, tasks = case
    episodes = route(router, process, inputs, tasks, SEED)
    log_probs, values, entropies = revisit(router, episodes, inputs, tasks)
    np.testing.assert_allclose(log_probs, episodes.log_probs, atol=1e-5)
    np.testing.assert_allclose(values, episodes.values, atol=1e-5)
    np.testing.assert_allclose(entropies, episodes.entropy, atol=1e-5)


SMALL = (2, 2, 1)


def choice_pool():
    """Four ways to begin, three to end, nothing between."""

    def no_layer():
        raise AssertionError("routing needs no layers")

    return Pool(
        [Kind("in", INPUT, SMALL, (3,), no_layer, 4), Kind("out", OUTPUT, (3,), (2,), no_layer, 3)],
        [Given("images", SMALL)],
        [Demand("images", "", 2)] * TASKS,
    )


def choice_router(process):
    return Router([an_input("images", SMALL)], [0] * TASKS, 7, process.max_candidates, 8)


def test_jit_changes_no_action():
    keras.utils.set_random_seed(0)
    process = DecisionProcess(choice_pool(), 3)
    router = choice_router(process)
    images, tasks = examples(256, SMALL)
    compiled = tf.function(lambda seed: route(router, process, images, tasks, seed), jit_compile=True)
    plain, fused = route(router, process, images, tasks, SEED), compiled(SEED)
    assert (plain.actions.numpy() == fused.actions.numpy()).all()
    np.testing.assert_allclose(plain.log_probs, fused.log_probs, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("case", ["mixed"], indirect=True)
def test_jit_changes_no_action_of_several_inputs(case):
    router, process, inputs, tasks = case
    compiled = tf.function(lambda seed: route(router, process, inputs, tasks, seed), jit_compile=True)
    plain, fused = route(router, process, inputs, tasks, SEED), compiled(SEED)
    assert (plain.actions.numpy() == fused.actions.numpy()).all()
    np.testing.assert_allclose(plain.log_probs, fused.log_probs, atol=1e-5)


def test_sampling_follows_the_policy():
    """All examples are alike, so the counts of pairs of actions are those of one distribution."""
    keras.utils.set_random_seed(2)
    count = 20_000
    process = DecisionProcess(choice_pool(), 2)
    router = choice_router(process)
    images, tasks = tf.ones((count, *SMALL)), tf.zeros(count, tf.int32)
    first, second = route(router, process, images, tasks, SEED).actions.numpy().T

    def policy(actions, candidates):
        valid = tf.constant([np.isin(np.arange(8), candidates)])
        logits, _ = router(images[:1], tasks[:1], tf.constant([actions], tf.int32), valid)
        return tf.nn.softmax(logits)[0].numpy()[candidates]

    start = policy(np.zeros(0), [0, 1, 2, 3])
    expected = count * np.array([p * policy([m], [4, 5, 6]) for m, p in enumerate(start)])
    observed = np.zeros_like(expected)
    np.add.at(observed, (first, second - 4), 1)
    # 99.9 % of the distribution with 11 degrees of freedom are below 31.3.
    assert ((observed - expected) ** 2 / expected).sum() < 31.3
    # It is no uniform choice either.
    assert ((observed - count / 12) ** 2 / (count / 12)).sum() > 300
