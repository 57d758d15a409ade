"""Whole training steps on real digits: what they change and leave alone, report, and learn."""

import collections
import dataclasses
import itertools

import keras
import numpy as np
import pytest
import scipy.stats
import sklearn.datasets
import tensorflow as tf
from test_objectives import of_example

from lrn_tf.data.benchmarks import benchmark_of
from lrn_tf.data.examples import DeviceExamples, shuffled_rows
from lrn_tf.data.problem import BY_TASK, CLASSES, NUMBERS, InputSpec, Problem, TaskSpec
from lrn_tf.devices.precision import layers_compute_in
from lrn_tf.learning import ppo
from lrn_tf.methods.build import build
from lrn_tf.methods.lrn import LRNMethod
from lrn_tf.methods.network import LRN
from lrn_tf.modules import built_in
from lrn_tf.modules.task_paths import kinds_of_tasks, paths_of_tasks
from lrn_tf.modules.weights import split
from lrn_tf.router.actors import DecoderActor, PointerActor
from lrn_tf.router.episodes import Episodes, revisit
from lrn_tf.settings.resolve import resolve

BATCH, DEPTH = 32, 4
SETTINGS = resolve(dict(dup=2, depth=DEPTH, d_model=16, batch_size=BATCH, minibatch_size=16, ppo_epochs=2))
# What is compiled faster: the pointer, and a single pass of PPO over a single minibatch.
QUICK = dict(actor="pointer", ppo_epochs=1, minibatch_size=BATCH)
SEED = tf.constant([0, 7])


def images_of(shape, num_tasks=BATCH, **spec):
    """A problem of tasks with two classes each."""
    image = InputSpec("images", shape, "uint8", (0.0,), (1.0,))
    tasks = (TaskSpec(f"task {k}", "images", CLASSES, ("even", "odd"), **spec) for k in range(num_tasks))
    return Problem("parity", (image,), tuple(tasks))


def digits():
    """Images, tasks and labels (even or odd). Every example has a task of its own."""
    source = sklearn.datasets.load_digits()
    images = (source.images[:BATCH, :, :, None] - 4.9) / 6.0
    labels = source.target[:BATCH] % 2
    return tf.constant(images, tf.float32), tf.range(BATCH), tf.constant(labels, tf.int32)


class Training:
    """An LRN, its compiled step, and a way back to the start: compiling takes most of a test's time."""

    def __init__(self, settings=SETTINGS, policy="float32", problem=None, examples=None):
        keras.utils.set_random_seed(0)
        keras.config.set_dtype_policy(policy)
        try:
            self.lrn = build(problem or images_of((8, 8, 1)), settings)
        finally:
            keras.config.set_dtype_policy("float32")
        self.step = tf.function(self.lrn.train_step, autograph=False)
        self.examples = examples or digits()
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
    return Training()


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
        of_kinds = zip(lrn.pool.kinds, adam.weights, adam.first, adam.second, strict=True)
        kinds = [split(sum(of, []), kind.count) for kind, *of in of_kinds]
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


def test_the_router_has_a_learning_rate_of_its_own(training, monkeypatch):
    rates = []
    monkeypatch.setattr(training.lrn, "train_router", lambda *given: rates.append(float(given[6])) or {})
    monkeypatch.setattr(
        training.lrn, "settings", dataclasses.replace(training.lrn.settings, router_lr_scale=0.25)
    )
    training.lrn.train_step(*training.examples, SEED, tf.constant(1e-2))
    assert rates == [pytest.approx(0.25e-2)]


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
        lrn = build(images_of((8, 8, 1)), dataclasses.replace(SETTINGS, dup=1))
        found += [w.numpy() for w in tf.nest.flatten(lrn.variables)]
    assert all(np.array_equal(a, b) for a, b in zip(first, same, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize(
    "pool, dup, depth, given, expected",
    [
        ("paper", 5, 4, {}, 2),
        ("paper", 10, 6, {}, 12**0.5),
        ("residual", 5, 4, {}, (16 / 3) ** 0.5),
        ("paper", 10, 6, {"actor_scale": 1.0}, 1),
    ],
)
def test_how_decided_the_router_starts(pool, dup, depth, given, expected):
    settings = resolve(dict(pool=pool, dup=dup, depth=depth, d_model=256, **given))
    kernel = build(images_of((4, 4, 1), 2), settings).router.actor.logit.kernel
    # Keras draws from [-limit, limit]; the largest of 256 weights comes close to it.
    limit = (6 / (256 + 1)) ** 0.5
    assert 0.9 * expected < np.abs(kernel).max() / limit <= expected


@pytest.mark.slow
@pytest.mark.parametrize(
    "dup, given, expected",
    [
        (16, {}, DecoderActor),
        (17, {}, PointerActor),
        (16, {"actor": "pointer"}, PointerActor),
        (17, {"actor": "decoder"}, DecoderActor),
    ],
)
def test_pools_of_more_than_100_modules_have_the_pointer(dup, given, expected):
    """The paper's pool has six kinds."""
    settings = resolve(dict(dup=dup, depth=2, d_model=16, **given))
    lrn = build(images_of((4, 4, 1), 2), settings)
    assert type(lrn.router.actor) is expected
    parts = LRNMethod.count_parameters(images_of((4, 4, 1), 2), settings)
    assert sum(parts.values()) == sum(w.shape.num_elements() for w in lrn.weights)
    assert parts["router"] == sum(w.shape.num_elements() for w in lrn.router_weights)


def test_the_pointer_starts_as_decided_by_half_as_much_again():
    settings = resolve(dict(dup=5, depth=4, d_model=256, actor="pointer"))
    kernel = build(images_of((4, 4, 1), 2), settings).router.actor.query.kernel
    assert 2.95 < np.abs(kernel).max() / (6 / (256 + 256)) ** 0.5 <= 3


def open_to(lrn, task):
    """Which modules a task may have, as far as their kinds' names and label spaces tell: bool `[N]`."""
    pool, problem = lrn.pool, lrn.problem
    found = []
    for kind in pool.kinds:
        of_input = [given.name for given in problem.inputs if kind.name.startswith(f"{given.name}_")]
        for space in kind.serves or [None]:
            mine = space in (None, problem.space_of[task]) and of_input in ([], [problem.tasks[task].input])
            found += [mine] * kind.dup
    return np.array(found)


def bonuses_by_hand(lrn, actions, tasks, bonus):
    """The bonus of each action: by the shares of those who could, for modules that have a rival."""
    reach = np.array([open_to(lrn, k) for k in range(lrn.problem.num_tasks)])
    could = reach[tasks].sum(axis=0)
    rivals = np.zeros(len(lrn.pool), bool)
    for modules in lrn.kinds.values():
        rivals[list(modules)] = any(sum(mine[m] for m in modules) > 1 for mine in reach)
    counts = (rivals if rivals.any() else ~rivals) & (could > 0)
    share = np.bincount(actions.ravel(), minlength=len(lrn.pool) + 1)[:-1] / np.maximum(could, 1)
    # What eight examples or more could choose says what is little and what is much, if there is any.
    telling = share[counts & (could >= 8)] if (counts & (could >= 8)).any() else share[counts]
    rarity = np.clip(1 - (share - telling.min()) / np.ptp(telling), 0, 1)
    found = np.where(counts, bonus * rarity, 0)
    return np.append(found, 0)


def what_happens(lrn, examples, bonus, placement):
    """Metrics, advantages and standardised returns of a step, worked out in NumPy from its episodes."""
    inputs, tasks, targets = examples
    episodes = lrn.route(inputs, tasks, SEED)
    actions, is_open = episodes.actions.numpy(), episodes.open.numpy()
    logits = lrn.modules(inputs, episodes.actions)[0].numpy().astype(np.float64)
    specs = [lrn.problem.tasks[k] for k in tasks.numpy()]
    loss, right, _ = zip(*map(of_example, specs, logits, targets.numpy()), strict=True)
    loss, right = np.array(loss), np.array(right)
    counts = np.bincount(actions.ravel(), minlength=len(lrn.pool) + 1)[:-1]
    bonuses = bonuses_by_hand(lrn, actions, tasks.numpy(), bonus)[actions]
    paid = {
        "every_step": np.ones_like(is_open),
        "until_output": is_open,
        "terminal": np.arange(DEPTH)[None] == DEPTH - 1,
    }[placement]
    rewards = bonuses - (loss * [spec.weight for spec in specs])[:, None] * paid
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
    of_bonus, of_loss = (x.sum(axis=1).var() for x in (bonuses, rewards - bonuses))
    of_batch = sum(
        free[:, t].sum() * scipy.stats.entropy(np.bincount(actions[free[:, t], t])) / free.sum()
        for t in np.flatnonzero(free.any(axis=0))
    )
    metrics = {
        "train/loss": loss.mean(),
        "train/accuracy": right[[spec.form != NUMBERS for spec in specs]].mean(),
        "reward/bonus": bonuses.sum(axis=1).mean(),
        "reward/return": rewards.sum(axis=1).mean(),
        "route/length": (actions < lrn.pool.pass_id).sum(axis=1).mean(),
        "route/unused_in_batch": (counts == 0).sum(),
        "reward/share_of_bonus": of_bonus / (of_bonus + of_loss),
        "route/entropy_per_example": entropy[free].mean(),
        **{
            f"route_entropy/step_{t + 1}": entropy[free[:, t], t].mean() if free[:, t].any() else 0
            for t in range(DEPTH)
        },
        "route/entropy_of_batch_mean": of_batch,
    }
    return metrics, advantages, (advantages + values - mean) / spread


def record_minibatches(lrn, monkeypatch):
    """The list that PPO's minibatches will be put in, instead of being learned from."""
    minibatches = []

    def record(rows, learning_rate, imitates, images, tasks, episodes, advantage, returns):
        minibatch = advantage, returns, episodes.actions
        minibatches.append([rows.numpy(), *(tf.gather(x, rows).numpy() for x in minibatch)])
        names = [name.removeprefix("losses/") for name in LRNMethod.SCALARS if name.startswith("losses/")]
        return dict.fromkeys(names, tf.constant(0.0))

    monkeypatch.setattr(lrn, "_learn", record)
    return minibatches


def check_what_a_step_does(training, bonus, placement, monkeypatch):
    """Its metrics, and what PPO is given."""
    lrn = training.lrn
    lrn.moments.mean.assign([-4.0, -3.0, -2.0, -1.0])
    lrn.moments.variance.assign([4.0, 3.0, 2.0, 1.0])
    expected, advantages, returns = what_happens(lrn, training.examples, bonus, placement)
    minibatches = record_minibatches(lrn, monkeypatch)
    monkeypatch.setattr(lrn, "settings", dataclasses.replace(lrn.settings, bonus=bonus, pay_loss=placement))
    metrics = lrn.train_step(*training.examples, SEED, tf.constant(1e-3))
    found = {name: float(metrics[name]) for name in expected}
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-5)
    assert bonus > 0 or found["reward/bonus"] == 0

    # Each pass of PPO sees each episode once, in another order.
    size, passes = lrn.settings.minibatch_size, lrn.settings.ppo_epochs
    assert [len(rows) for rows, *_ in minibatches] == [size] * (passes * BATCH // size)
    order = np.concatenate([rows for rows, *_ in minibatches]).reshape(passes, BATCH)
    assert np.sort(order).tolist() == [list(range(BATCH))] * passes
    assert all((a != b).any() for a, b in itertools.pairwise([np.arange(BATCH), *order]))
    assert len({tuple(a) for a in order}) == passes
    actions = lrn.route(*training.examples[:2], SEED).actions.numpy()
    for rows, advantage, of_return, of_action in minibatches:
        np.testing.assert_allclose(advantage, advantages[rows], rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(of_return, returns[rows], rtol=1e-3, atol=1e-4)
        assert (of_action == actions[rows]).all()


@pytest.mark.parametrize(
    "bonus, placement", [(1.0, "every_step"), (0.0, "every_step"), (0.5, "until_output"), (2.0, "terminal")]
)
def test_what_a_step_reports_and_gives_to_ppo(training, bonus, placement, monkeypatch):
    check_what_a_step_does(training, bonus, placement, monkeypatch)


def test_minibatches_are_drawn_anew_in_each_step(training, monkeypatch):
    minibatches = record_minibatches(training.lrn, monkeypatch)
    for seed in (SEED, SEED + 1):
        training.lrn.train_step(*training.examples, seed, tf.constant(1e-3))
    assert set(minibatches[0][0]) != set(minibatches[4][0])


@pytest.mark.slow
def test_a_router_imitates_given_paths_and_is_let_go(monkeypatch):
    monkeypatch.setattr("lrn_tf.methods.lrn.IMITATION_RATE", 1e-2)
    training = Training(dataclasses.replace(SETTINGS, **QUICK, imitation=100, bonus=0.0))
    lrn, (images, tasks, _) = training.lrn, training.examples
    # Nothing here is about modules, which are most of a step.
    none = tf.zeros(BATCH), tf.zeros((BATCH, 1)), tf.zeros(len(lrn.pool), tf.int32)
    monkeypatch.setattr(lrn, "train_modules", lambda *_: none)
    plan = kinds_of_tasks(lrn.pool, DEPTH)
    given = paths_of_tasks(lrn.pool, plan, "drawn", SETTINGS.seed)[tasks.numpy()]
    assert (lrn.route(images, tasks, SEED, tf.constant(True)).actions.numpy() == given).all()
    assert (lrn.route(images, tasks, SEED, tf.constant(False)).actions.numpy() != given).any()
    assert (lrn.predict(images, tasks).paths.numpy() != given).any()
    training.run(100, rate=0.0)
    found = lrn.route(images, tasks, None)
    assert (found.actions.numpy() == given).all()
    # It would still try others.
    chances = np.exp(found.log_probs.numpy()[found.free.numpy()])
    assert 0.95 < chances.mean() < 0.995
    # From now on it learns by reward, at the rate that is given.
    for step, is_let_go in ((99, False), (100, True)):
        before = [w.numpy() for w in lrn.router_weights]
        training.step(*training.examples, tf.constant([0, step]), tf.constant(0.0))
        same = [np.array_equal(a, b) for a, b in zip(before, lrn.router_weights, strict=True)]
        assert all(same) == is_let_go


def test_number_of_router_updates(training):
    training.run(3)
    assert training.lrn.router_adam.count.numpy() == 3 * 2 * (BATCH // 16)


def learn(lrn, minibatch, rate=1e-2):
    """One step of PPO on all rows; its statistics, and the gradients that Adam was given."""
    statistics = lrn._learn(tf.range(BATCH), tf.constant(rate), None, *minibatch)
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
        weighed = ppo.weighed(advantage, episodes.open, episodes.free)
        loss, _ = ppo.losses(new, episodes.log_probs, advantage, *weighed, lrn.coefficients)
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


# --- Tasks with heads of their own


@pytest.fixture(scope="module")
def the_training_by_task():
    images, tasks, labels = digits()
    problem = dataclasses.replace(images_of((8, 8, 1), 4), heads=BY_TASK)
    return Training(
        dataclasses.replace(SETTINGS, **QUICK), problem=problem, examples=(images, tasks % 4, labels)
    )


@pytest.fixture
def by_task(the_training_by_task):
    the_training_by_task.restart()
    return the_training_by_task


@pytest.mark.slow
def test_what_a_step_does_where_tasks_have_heads_of_their_own(by_task, monkeypatch):
    check_what_a_step_does(by_task, 1.0, "every_step", monkeypatch)


@pytest.mark.slow
def test_no_task_chooses_modules_of_another(by_task):
    lrn, (images, tasks, _) = by_task.lrn, by_task.examples
    reach = np.array([open_to(lrn, k) for k in tasks.numpy()])
    assert reach.sum(axis=1).max() < len(lrn.pool)
    heads = set()
    for seed in (None, *(tf.constant([3, i]) for i in range(20))):
        actions = lrn.route(images, tasks, seed).actions.numpy()
        for mine, path in zip(reach, actions, strict=True):
            modules = path[path < lrn.pool.pass_id]
            assert mine[modules].all()
            heads.add(modules[-1])
    # One of each output kind and task, and all are found.
    assert len(heads) == 2 * lrn.problem.num_tasks
    with pytest.raises(tf.errors.InvalidArgumentError, match="no network for its task"):
        lrn.follow(images, (tasks + 1) % 4, lrn.route(images, tasks, SEED).actions)


@pytest.mark.slow
def test_output_modules_of_a_tasks_own_get_no_bonus(by_task):
    lrn, (images, tasks, _) = by_task.lrn, by_task.examples
    episodes = lrn.route(images, tasks, SEED)
    actions = episodes.actions.numpy()
    chosen = lrn.modules(images, episodes.actions)[1]
    could = np.sum([open_to(lrn, k) for k in tasks.numpy()], axis=0)
    np.testing.assert_array_equal(lrn.could(tasks), could)
    none = tf.zeros(BATCH)
    rewards, bonus, *_ = lrn.judge(episodes, tasks, none, chosen)
    expected = bonuses_by_hand(lrn, actions, tasks.numpy(), lrn.settings.bonus)
    np.testing.assert_allclose(bonus, expected[actions], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(rewards, bonus)
    heads = [*lrn.kinds["flat_out"], *lrn.kinds["fc_out"]]
    is_head = np.isin(actions, heads)
    assert is_head.any() and not bonus.numpy()[is_head].any()
    assert bonus.numpy()[~is_head].any()


@pytest.mark.parametrize(
    "heads, copies, left_out",
    [
        ("shared", {}, []),
        ("shared", {"conv_in": 1}, ["conv_in"]),
        ("task", {}, ["flat_out", "fc_out"]),
        ("task", {"flat_out": 2, "fc_out": 2}, []),
        ("shared", dict.fromkeys(["conv_in", "conv", "flat_fc", "fc", "flat_out", "fc_out"], 1), []),
    ],
    ids=["all", "one stem", "one head for each", "two heads for each", "one of each"],
)
def test_only_modules_with_a_rival_get_a_bonus(heads, copies, left_out):
    """Unless there is no rival at all."""

    def kinds(problem, dup):
        return [dataclasses.replace(k, dup=copies.get(k.name, k.dup)) for k in built_in.paper(problem, dup)]

    problem = dataclasses.replace(images_of((8, 8, 1), 3), heads=heads)
    lrn = build(problem, dataclasses.replace(SETTINGS, bonus=2.0), kinds)
    # Each module once, and no loss: what is paid is the bonus, all of it as all are used alike.
    actions = tf.reshape(tf.range(-(-len(lrn.pool) // DEPTH) * DEPTH) % len(lrn.pool), (-1, DEPTH))
    blank = tf.zeros(actions.shape)
    episodes = Episodes(actions, None, blank, blank, blank, tf.cast(1 - blank, tf.bool), None)
    tasks, none = tf.range(problem.num_tasks), tf.zeros(len(lrn.pool), tf.int32)
    rewards, *_ = lrn.judge(episodes, tasks, blank[:, 0], none)
    found = dict(zip(actions.numpy().ravel().tolist(), rewards.numpy().ravel().tolist(), strict=True))
    for name, modules in lrn.kinds.items():
        assert [found[m] for m in modules] == [0.0 if name in left_out else 2.0] * len(modules), name


def test_a_module_costs_what_it_computes():
    """Two operations for each multiply-add, in units of 10^9."""
    lrn = build(images_of((8, 8, 1), 3), dataclasses.replace(SETTINGS, price=50.0, bonus=0.0))
    products = dict(conv_in=64 * 9 * 32, conv=64 * 9 * 32 * 32, flat_fc=64 * 32 * 256, fc=256 * 256)
    products |= dict(flat_out=64 * 32 * 2, fc_out=256 * 2)
    names = [kind.name for kind in lrn.pool.kinds]
    costs = np.array([*(50 * 2e-9 * products[names[k]] for k in lrn.pool.kind), 0.0])
    # PASS, the last action, is free.
    actions = tf.reshape(tf.range(lrn.pool.pass_id + 1 - (lrn.pool.pass_id + 1) % DEPTH), (-1, DEPTH))
    actions = tf.concat([actions, tf.fill((1, DEPTH), lrn.pool.pass_id)], axis=0)
    blank = tf.zeros(actions.shape)
    episodes = Episodes(actions, None, blank, blank, blank, tf.cast(1 - blank, tf.bool), blank)
    loss = tf.range(0.0, actions.shape[0])
    none = tf.zeros(len(lrn.pool), tf.int32)
    rewards, bonus, *_ = lrn.judge(episodes, tf.zeros(len(loss), tf.int32), loss, none)
    np.testing.assert_allclose(rewards, -loss[:, None] - costs[actions], rtol=1e-6)
    assert not np.any(bonus)
    statistics = lrn._route_statistics(episodes, none)
    assert "route/gflop" in lrn.metrics
    mean = costs[actions].sum(axis=1).mean() / 50
    assert float(statistics["route/gflop"]) == pytest.approx(mean, rel=1e-5)


@pytest.mark.slow
def test_a_step_changes_the_heads_of_the_batchs_tasks_alone(by_task):
    lrn, (images, tasks, labels) = by_task.lrn, by_task.examples
    tasks = tf.minimum(tasks, 1)
    chosen = np.unique(lrn.route(images, tasks, SEED).actions)
    before = [w.numpy() for w in lrn.modules.weights[-1]]
    lrn.train_modules(images, tasks, labels, lrn.route(images, tasks, SEED).actions, tf.constant(1e-3))
    for old, new in zip(before, lrn.modules.weights[-1], strict=True):
        changed = [not np.array_equal(a, b) for a, b in zip(old, new.numpy(), strict=True)]
        assert changed == [m in chosen for m in lrn.kinds["fc_out"]]
    assert lrn.module_adam.counts.numpy().tolist() == [int(m in chosen) for m in range(len(lrn.pool))]


# --- Several inputs, and numbers beside classes

WEIGHTS = (1.0, 0.5, 3.0, 1.0, 2.0)


@pytest.fixture(scope="module")
def the_mixed_training():
    """Images, sequences and tables, of which one asks for a number; their weights differ."""
    settings = resolve(dict(benchmark="mixed_mtl", batch_size=BATCH, d_model=16, depth=DEPTH, **QUICK))
    benchmark = benchmark_of(settings)
    tasks = zip(benchmark.problem.tasks, WEIGHTS, strict=True)
    tasks = tuple(dataclasses.replace(task, weight=weight) for task, weight in tasks)
    problem = dataclasses.replace(benchmark.problem, tasks=tasks)
    rows = shuffled_rows(benchmark.train.task, BATCH, 0, 0, "equal")[0]
    examples = DeviceExamples(benchmark.train, problem).batch(rows)
    assert set(examples[1].numpy()) == set(range(5))
    return Training(settings, problem=problem, examples=examples)


@pytest.fixture
def mixed(the_mixed_training):
    the_mixed_training.restart()
    return the_mixed_training


@pytest.mark.slow
def test_what_a_step_on_several_inputs_does(mixed, monkeypatch):
    check_what_a_step_does(mixed, 1.0, "every_step", monkeypatch)
    could = np.sum([open_to(mixed.lrn, k) for k in mixed.examples[1].numpy()], axis=0)
    np.testing.assert_array_equal(mixed.lrn.could(mixed.examples[1]), could)
    assert len(set(could)) > 3


@pytest.mark.slow
def test_gradients_of_modules_are_those_of_the_weighted_mean(mixed):
    """And reach the chosen modules only."""
    lrn, (inputs, tasks, targets) = mixed.lrn, mixed.examples
    paths = lrn.route(inputs, tasks, None).actions
    chosen = np.unique(paths)
    *_, found = lrn.module_gradients(inputs, tasks, targets, paths)
    with tf.GradientTape() as tape:
        logits, total = lrn.modules(inputs, paths)[0], 0.0
        for x, k, y in zip(logits, tasks.numpy(), targets, strict=True):
            spec = lrn.problem.tasks[k]
            if spec.form == NUMBERS:
                loss = (x[0] - (y[0] - spec.mean[0]) / spec.std[0]) ** 2
            else:
                loss = -tf.nn.log_softmax(x[: spec.width])[int(y[0])]
            total += WEIGHTS[k] * loss / BATCH
    expected = tape.gradient(total, lrn.modules.weights, unconnected_gradients="zero")
    tf.nest.map_structure(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-6), found, expected
    )
    kinds = zip(lrn.pool.kinds, found, strict=True)
    reached = [any(np.any(w) for w in module) for kind, of in kinds for module in split(of, kind.count)]
    assert reached == [m in chosen for m in range(len(lrn.pool))]
    assert 5 < sum(reached) < len(lrn.pool)


@pytest.mark.slow
def test_a_batch_of_several_inputs_is_learned(mixed):
    lrn, (inputs, tasks, targets) = mixed.lrn, mixed.examples

    def losses():
        """Of each task."""
        loss = lrn.objectives.loss(lrn.predict(inputs, tasks).logits, tasks, targets).numpy()
        return np.array([loss[tasks == k].mean() for k in range(5)])

    before = losses()
    history = mixed.run(100)
    assert (losses() < 0.3 * before).all()
    assert np.mean(history["train/loss"][-10:]) < 0.3 * np.mean(history["train/loss"][:3])
    assert np.mean(history["train/accuracy"][-10:]) > 0.9
    assert np.isfinite(list(history.values())).all()
    assert set(history) == set(lrn.metrics)


def network_of_rows(mean=0.0):
    rows = InputSpec("rows", (1,), "float32", (mean,), (1.0,))
    of_rows = Problem("p", (rows,), (TaskSpec("t", "rows", CLASSES, ("a", "b", "c")),))
    keras.utils.set_random_seed(0)
    return LRN(built_in.mixed(of_rows, 1), of_rows, depth=2, d_model=8, actor="pointer")


THREE_ROWS = np.array([[-1.0], [0.5], [1.25]], np.float32)


def test_what_users_have_is_standardised_before_it_is_rounded():
    """Keras would make it bfloat16 at once, where that is what layers compute in."""
    with layers_compute_in("bfloat16"):
        far, near = (
            network_of_rows(1000.0)(THREE_ROWS + 1000, [0] * 3),
            network_of_rows()(THREE_ROWS, [0] * 3),
        )
    np.testing.assert_array_equal(far, near)
    assert len(np.unique(far[:, 0])) == 3


def test_a_network_is_loaded_with_its_own_arithmetic(tmp_path):
    """Whatever layers compute in where it is loaded."""
    with layers_compute_in("bfloat16"):
        network = network_of_rows()
    path = tmp_path / "network.keras"
    network.save(path)
    again = keras.saving.load_model(path)
    assert again.router.dtype_policy == network.router.dtype_policy == keras.DTypePolicy("mixed_bfloat16")
    np.testing.assert_array_equal(again(THREE_ROWS, [0] * 3), network(THREE_ROWS, [0] * 3))
    assert (network_of_rows()(THREE_ROWS, [0] * 3) != network(THREE_ROWS, [0] * 3)).numpy().any()


def test_a_network_takes_what_a_loaded_model_does_and_refuses_the_same():
    """More of it in test_export.py."""
    network, x = network_of_rows(), THREE_ROWS
    answers = network(x, ["t"] * 3)
    in_graph = tf.function(lambda x, tasks: network(x, tasks), autograph=False)
    for same in (
        network({"rows": x}, [0] * 3),
        network(tf.constant(x), tf.constant([0] * 3)),
        in_graph(tf.constant(x), tf.constant([0] * 3)),
    ):
        np.testing.assert_array_equal(same, answers)
    for inputs, tasks, said in [
        (x * np.nan, ["t"] * 3, "rows has NaN or infinite numbers"),
        ((x > 0).astype(np.uint8), ["t"] * 3, r"rows must be float32 \[B, 1\], given uint8"),
        (x, ["t"], "each example needs a task, given are 3 rows and 1 tasks"),
        (x, "t", "each example needs a task, given is 't'"),
        (x, ["u"] * 3, "task 'u' is unknown"),
    ]:
        with pytest.raises(ValueError, match=said):
            network(inputs, tasks)


# --- Many steps


@pytest.mark.slow
def test_learns_a_batch(training):
    # Not fewer steps: now and then an example tries a path that is new to it, and its loss jumps.
    history = training.run(110)
    assert np.mean(history["train/loss"][-10:]) < 0.1 * np.mean(history["train/loss"][:3])
    assert np.mean(history["train/accuracy"][-10:]) > 0.95
    assert np.isfinite(list(history.values())).all()


def test_ppo_makes_rewarded_actions_more_likely(training):
    """Here: module 1 as the first one. A sign that is wrong somewhere would make it rarer."""
    lrn = training.lrn
    images, tasks, _ = training.examples

    def episodes_and_share(i):
        episodes = lrn.route(images, tasks, tf.constant([1, i]))
        return episodes, np.mean(episodes.actions[:, 0] == 1)

    assert episodes_and_share(0)[1] < 0.6
    for i in range(12):
        episodes, _ = episodes_and_share(i)
        rewarded = tf.cast(episodes.actions[:, :1] == 1, tf.float32)
        advantage = tf.pad(2 * rewarded - 1, [[0, 0], [0, DEPTH - 1]])
        minibatch = images, tasks, episodes, advantage, episodes.values
        learn(lrn, minibatch)
    assert episodes_and_share(99)[1] > 0.9


@pytest.mark.slow
def test_another_pool_learns_a_batch_in_bfloat16():
    """Compiled by XLA besides, as on GPUs; on CPUs that is left out."""
    training = Training(dataclasses.replace(SETTINGS, pool="residual", **QUICK), "mixed_bfloat16")
    assert training.lrn.modules.compute_dtype == "bfloat16"
    history = training.run(70)
    assert np.mean(history["train/loss"][-10:]) < 0.3 * np.mean(history["train/loss"][:3])
    assert np.isfinite(list(history.values())).all()
