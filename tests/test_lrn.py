"""Whole training steps on real digits: what they change and leave alone, report, and learn."""

import collections
import dataclasses

import keras
import numpy as np
import pytest
import sklearn.datasets
import tensorflow as tf

from lrn_tf.methods.lrn import LRN
from lrn_tf.modules import pools
from lrn_tf.modules.weights import split
from lrn_tf.policy import ppo
from lrn_tf.policy.episodes import revisit
from lrn_tf.settings import resolve

BATCH, DEPTH = 32, 4
SETTINGS = resolve(dict(dup=3, depth=DEPTH, d_model=16, batch_size=BATCH, minibatch_size=16, ppo_epochs=2))
SEED = tf.constant([0, 7])


def digits():
    """Images, tasks and labels (even or odd). Every example has a task of its own."""
    source = sklearn.datasets.load_digits()
    images = (source.images[:BATCH, :, :, None] - 4.9) / 6.0
    labels = source.target[:BATCH] % 2
    return tf.constant(images, tf.float32), tf.range(BATCH), tf.constant(labels, tf.int32)


class Training:
    """An LRN, its compiled step, and a way back to the start: compiling takes most of a test's time."""

    def __init__(self, make_pool, policy="float32", settings=SETTINGS):
        keras.utils.set_random_seed(0)
        keras.config.set_dtype_policy(policy)
        try:
            self.lrn = LRN(make_pool((8, 8, 1), 2, settings.dup), BATCH, settings)
        finally:
            keras.config.set_dtype_policy("float32")
        self.step = tf.function(self.lrn.train_step, autograph=False)
        self.examples = digits()
        self._start = self.state()

    def state(self):
        return [v.numpy() for v in tf.nest.flatten(self.lrn.variables)]

    def restart(self):
        for variable, value in zip(tf.nest.flatten(self.lrn.variables), self._start, strict=True):
            variable.assign(value)

    def run(self, steps, rate=3e-3):
        """Metrics by name, each a list over steps."""
        history = collections.defaultdict(list)
        for i in range(steps):
            metrics = self.step(*self.examples, tf.constant([0, i]), tf.constant(rate))
            for name, value in metrics.items():
                history[name].append(float(value))
        return history


@pytest.fixture(scope="module")
def the_training():
    return Training(pools.paper)


@pytest.fixture
def training(the_training):
    the_training.restart()
    return the_training


# --- One step


def test_every_metric_is_there_and_finite(training):
    history = training.run(2)
    assert set(history) == set(training.lrn.metrics)
    assert len(training.lrn.metrics) == len(set(history))
    assert np.isfinite(list(history.values())).all()


def test_a_step_changes_the_router_and_the_modules_in_use_and_nothing_else(training):
    lrn = training.lrn
    training.run(3)  # so that all that has been used has moments
    # Nearly all on one network, which a router of little temperature and one task would choose.
    images, tasks, labels = training.examples
    alike = tf.repeat(images[:1], BATCH, axis=0), tf.zeros_like(tasks), labels
    lrn.router.actor.logit.kernel.assign(100 * lrn.router.actor.logit.kernel)
    chosen = np.unique(lrn.route(*alike[:2], SEED).actions)
    used = [m in chosen for m in range(len(lrn.pool))]
    assert 2 <= sum(used) < len(lrn.pool) - 3
    earlier = lrn.module_adam.counts.numpy()
    assert earlier[~np.array(used)].any()

    def modules():
        adam = lrn.module_adam
        kinds = [split(sum(kind, [])) for kind in zip(adam.weights, adam.first, adam.second, strict=True)]
        return [[w.numpy() for w in module] for kind in kinds for module in kind]

    before, router_before = modules(), [w.numpy() for w in lrn.router_weights]
    training.step(*alike, SEED, tf.constant(1e-3))
    for on, old, new in zip(used, before, modules(), strict=True):
        same = [np.array_equal(a, b) for a, b in zip(old, new, strict=True)]
        assert not any(same) if on else all(same)
    assert (lrn.module_adam.counts.numpy() - earlier).tolist() == used
    moved = [not np.array_equal(a, w) for a, w in zip(router_before, lrn.router_weights, strict=True)]
    assert np.mean(moved) > 0.9


def test_learning_rate_0_changes_no_weight(training):
    lrn = training.lrn
    weights = [*tf.nest.flatten(lrn.modules.weights), *lrn.router_weights]
    before = [w.numpy() for w in weights]
    training.run(2, rate=0.0)
    assert all(np.array_equal(a, w) for a, w in zip(before, weights, strict=True))


def test_a_step_is_deterministic(training):
    first = training.run(3), training.state()
    training.restart()
    second = training.run(3), training.state()
    assert first[0] == second[0]
    assert all(np.array_equal(a, b) for a, b in zip(first[1], second[1], strict=True))


def test_the_seed_of_keras_decides_the_initial_weights():
    first, same, other = ([], [], [])
    for found, seed in ((first, 1), (same, 1), (other, 2)):
        keras.utils.set_random_seed(seed)
        lrn = LRN(pools.paper((8, 8, 1), 2, 1), 2, SETTINGS)
        found += [w.numpy() for w in tf.nest.flatten(lrn.variables)]
    assert all(np.array_equal(a, b) for a, b in zip(first, same, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize(
    "pool, dup, depth, given, expected",
    [
        (pools.paper, 5, 4, {}, 2),
        (pools.paper, 10, 6, {}, 12**0.5),
        (pools.pyramid, 5, 4, {}, (22 / 3) ** 0.5),
        (pools.paper, 10, 6, {"actor_scale": 1.0}, 1),
    ],
)
def test_how_decided_the_router_starts(pool, dup, depth, given, expected):
    settings = resolve(dict(dup=dup, depth=depth, d_model=256, **given))
    kernel = LRN(pool((4, 4, 1), 2, dup), 2, settings).router.actor.logit.kernel
    # Keras draws from [-limit, limit]; the largest of 256 weights comes close to it.
    limit = (6 / (256 + 1)) ** 0.5
    assert 0.9 * expected < np.abs(kernel).max() / limit <= expected


def what_happens(lrn, examples, bonus, placement):
    """Metrics, advantages and standardised returns of a step, worked out in NumPy from its episodes."""
    images, tasks, labels = examples
    labels = labels.numpy()
    episodes = lrn.route(images, tasks, SEED)
    actions, is_open = episodes.actions.numpy(), episodes.open.numpy()
    logits = lrn.modules(images, episodes.actions)[0].numpy().astype(np.float64)
    ce = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(BATCH), labels]
    counts = np.bincount(actions.ravel(), minlength=len(lrn.pool) + 1)[:-1]
    bonus_of = bonus * (1 - (counts - counts.min()) / (counts.max() - counts.min()))
    bonuses = np.append(bonus_of, 0)[actions]
    paid = {
        "every_step": np.ones_like(is_open),
        "until_output": is_open,
        "terminal": np.arange(DEPTH)[None] == DEPTH - 1,
    }[placement]
    rewards = bonuses - ce[:, None] * paid
    mean, spread = lrn.moments.mean.numpy(), np.sqrt(lrn.moments.variance.numpy()) + 1e-3
    values = mean + spread * episodes.values.numpy().astype(np.float64)
    for i, t in np.argwhere(~is_open):
        values[i, t] = sum(0.99 ** (s - t) * rewards[i, s] for s in range(t, DEPTH))
    following = np.append(values[:, 1:], np.zeros((BATCH, 1)), axis=1)
    delta = rewards + 0.99 * following - values
    advantages = np.array(
        [
            [sum((0.99 * 0.95) ** (s - t) * d[s] for s in range(t, DEPTH)) for t in range(DEPTH)]
            for d in delta
        ]
    )
    entropy, free = episodes.entropy.numpy(), episodes.free.numpy()
    of_bonus, of_ce = (x.sum(axis=1).var() for x in (bonuses, rewards - bonuses))
    share = np.array([np.bincount(a, minlength=len(lrn.pool) + 1) / BATCH for a in actions.T])
    metrics = {
        "train/loss": ce.mean(),
        "train/accuracy": (logits.argmax(axis=1) == labels).mean(),
        "reward/bonus": bonuses.sum(axis=1).mean(),
        "reward/return": rewards.sum(axis=1).mean(),
        "route/length": (actions < lrn.pool.pass_id).sum(axis=1).mean(),
        "route/unused_in_batch": (counts == 0).sum(),
        "reward/share_of_bonus": of_bonus / (of_bonus + of_ce),
        "route/entropy_per_example": entropy[free].mean(),
        **{
            f"route_entropy/step_{t + 1}": entropy[free[:, t], t].mean() if free[:, t].any() else 0
            for t in range(DEPTH)
        },
        "route/entropy_of_batch_mean": -np.sum(share * np.log(np.maximum(share, 1e-9))) / DEPTH,
    }
    return metrics, advantages, (advantages + values - mean) / spread


def record_minibatches(lrn, monkeypatch):
    """The list that PPO's minibatches will be put in, instead of being learned from."""
    minibatches = []

    def record(rows, learning_rate, images, tasks, episodes, advantage, returns):
        minibatch = tasks, advantage, returns, episodes.actions
        minibatches.append([tf.gather(x, rows).numpy() for x in minibatch])
        names = [name.removeprefix("losses/") for name in LRN.SCALARS if name.startswith("losses/")]
        return dict.fromkeys(names, tf.constant(0.0))

    monkeypatch.setattr(lrn, "_learn", record)
    return minibatches


@pytest.mark.parametrize(
    "bonus, placement", [(1.0, "every_step"), (0.0, "every_step"), (0.5, "until_output"), (2.0, "terminal")]
)
def test_what_a_step_reports_and_gives_to_ppo(training, bonus, placement, monkeypatch):
    lrn = training.lrn
    lrn.moments.mean.assign([-4.0, -3.0, -2.0, -1.0])
    lrn.moments.variance.assign([4.0, 3.0, 2.0, 1.0])
    expected, advantages, returns = what_happens(lrn, training.examples, bonus, placement)
    minibatches = record_minibatches(lrn, monkeypatch)
    monkeypatch.setattr(lrn, "settings", dataclasses.replace(SETTINGS, bonus=bonus, reward=placement))
    metrics = lrn.train_step(*training.examples, SEED, tf.constant(1e-3))
    found = {name: float(metrics[name]) for name in expected}
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-5)
    assert bonus > 0 or found["reward/bonus"] == 0

    # Each pass of PPO sees each episode once, in another order.
    assert [len(rows) for rows, *_ in minibatches] == [16] * 4
    order = np.concatenate([rows for rows, *_ in minibatches]).reshape(2, BATCH)
    assert np.sort(order).tolist() == [list(range(BATCH))] * 2
    assert (order[0] != order[1]).any() and (order[0] != np.arange(BATCH)).any()
    actions = lrn.route(*training.examples[:2], SEED).actions.numpy()
    for rows, advantage, of_return, of_action in minibatches:
        np.testing.assert_allclose(advantage, advantages[rows], rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(of_return, returns[rows], rtol=1e-3, atol=1e-4)
        assert (of_action == actions[rows]).all()


def test_minibatches_are_drawn_anew_in_each_step(training, monkeypatch):
    minibatches = record_minibatches(training.lrn, monkeypatch)
    for seed in (SEED, SEED + 1):
        training.lrn.train_step(*training.examples, seed, tf.constant(1e-3))
    assert set(minibatches[0][0]) != set(minibatches[4][0])


def test_number_of_router_updates(training):
    training.run(3)
    assert training.lrn.router_adam.count.numpy() == 3 * 2 * (BATCH // 16)


def learn(lrn, minibatch, rate=1e-2):
    """One step of PPO on all rows; its statistics, and the gradients that Adam was given."""
    statistics = lrn._learn(tf.range(BATCH), tf.constant(rate), *minibatch)
    # Adam's first moments, which were zero before.
    return statistics, [10 * m.numpy() for m in lrn.router_adam.first]


def test_ppo_starts_at_ratio_1_and_clips_gradients(training):
    lrn = training.lrn
    images, tasks, _ = training.examples
    episodes = lrn.route(images, tasks, SEED)
    advantage, returns = np.random.default_rng(0).normal(size=(2, BATCH, DEPTH)).astype(np.float32)
    # A large value loss, so that there is a gradient to clip.
    returns *= 100
    statistics, gradients = learn(lrn, (images, tasks, episodes, advantage, returns))
    assert abs(float(statistics["approx_kl"])) < 1e-6
    assert float(statistics["clipfrac"]) == 0
    assert float(statistics["gradient_norm"]) > 1
    assert float(tf.linalg.global_norm(gradients)) == pytest.approx(0.5, rel=1e-4)


def test_the_norm_that_is_clipped_is_that_of_the_whole_gradient(training):
    """Of an embedding too, which many examples look up."""
    lrn = training.lrn
    images, tasks, _ = training.examples
    tasks %= 3
    episodes = lrn.route(images, tasks, SEED)
    advantage = tf.random.stateless_normal((BATCH, DEPTH), SEED)
    with tf.GradientTape() as tape:
        new = revisit(lrn.router, episodes, images, tasks)
        old = episodes.log_probs, advantage, advantage, episodes.open, episodes.free
        loss, _ = ppo.losses(new, *old, lrn.coefficients)
    whole = [tf.convert_to_tensor(g).numpy() for g in tape.gradient(loss, lrn.router_weights)]
    norm = np.sqrt(sum((g**2).sum() for g in whole))
    assert norm > lrn.coefficients.gradient_norm
    statistics, clipped = learn(lrn, (images, tasks, episodes, advantage, advantage))
    np.testing.assert_allclose(statistics["gradient_norm"], norm, rtol=1e-5)
    for a, b in zip(clipped, whole, strict=True):
        np.testing.assert_allclose(a, b * lrn.coefficients.gradient_norm / norm, rtol=1e-3, atol=1e-6)


def test_the_critic_starts_with_the_mean_return_at_every_step(training):
    images, tasks, _ = training.examples
    assert not training.lrn.route(images, tasks, SEED).values.numpy().any()


def test_predict(training, rules):
    lrn = training.lrn
    images, tasks, _ = training.examples
    prediction, again = (lrn.predict(images, tasks) for _ in range(2))
    assert (prediction.paths.numpy() == again.paths.numpy()).all()
    assert (prediction.logits.numpy() == again.logits.numpy()).all()
    is_legal = rules(lrn.pool, DEPTH).is_legal
    assert all(is_legal(tuple(path)) for path in prediction.paths.numpy().tolist())
    np.testing.assert_allclose(prediction.logits, lrn.modules(images, prediction.paths)[0], atol=1e-6)
    assert (prediction.log_policy.numpy() <= 0).all()
    np.testing.assert_allclose(
        prediction.log_policy, lrn.route(images, tasks, None).log_probs.numpy().sum(axis=1), rtol=1e-6
    )


# --- Many steps


def test_learns_a_batch(training):
    # Not fewer steps: now and then an example tries a path that is new to it, and its loss jumps.
    history = training.run(150)
    assert np.mean(history["train/loss"][-10:]) < 0.1 * np.mean(history["train/loss"][:3])
    assert np.mean(history["train/accuracy"][-10:]) > 0.95
    assert np.isfinite(list(history.values())).all()


def test_ppo_makes_rewarded_actions_more_likely(training):
    """Here: module 0 as the first one. A sign that is wrong somewhere would make it rarer."""
    lrn = training.lrn
    images, tasks, _ = training.examples

    def episodes_and_share(i):
        episodes = lrn.route(images, tasks, tf.constant([1, i]))
        return episodes, np.mean(episodes.actions[:, 0] == 0)

    assert episodes_and_share(0)[1] < 0.6
    for i in range(12):
        episodes, _ = episodes_and_share(i)
        rewarded = tf.cast(episodes.actions[:, :1] == 0, tf.float32)
        advantage = tf.pad(2 * rewarded - 1, [[0, 0], [0, DEPTH - 1]])
        minibatch = images, tasks, episodes, advantage, episodes.values
        learn(lrn, minibatch)
    assert episodes_and_share(99)[1] > 0.9


@pytest.mark.slow
@pytest.mark.parametrize("make, policy", [(pools.pyramid, "float32"), (pools.paper, "mixed_bfloat16")])
def test_other_pools_and_types_learn_a_batch(make, policy):
    # What is compiled faster: the pointer, and a single pass of PPO over a single minibatch.
    quick = dict(actor="pointer", dup=2, ppo_epochs=1, minibatch_size=BATCH)
    history = Training(make, policy, dataclasses.replace(SETTINGS, **quick)).run(150)
    assert np.mean(history["train/loss"][-10:]) < 0.3 * np.mean(history["train/loss"][:3])
    assert np.isfinite(list(history.values())).all()
