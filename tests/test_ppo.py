"""PPO's arithmetic against plain loops over episodes and steps."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from lrn_tf.learning import ppo

BATCH, DEPTH = 16, 5
COEFFICIENTS = ppo.Coefficients()


def random_steps(seed):
    return np.random.default_rng(seed).normal(size=(BATCH, DEPTH)).astype(np.float32)


@pytest.fixture
def steps():
    """Everything that `ppo.losses` needs; the policy has moved a little since it chose."""
    rng = np.random.default_rng(0)
    length = rng.integers(2, DEPTH + 1, BATCH)
    is_open = np.arange(DEPTH) < length[:, None]
    free = is_open & (rng.random((BATCH, DEPTH)) < 0.7)
    old = -rng.exponential(size=(BATCH, DEPTH)) * free
    return dict(
        log_probs=(old + 0.2 * rng.normal(size=old.shape) * free).astype(np.float32),
        values=random_steps(1),
        entropy=(rng.random((BATCH, DEPTH)) * free).astype(np.float32),
        old=old.astype(np.float32),
        advantage=random_steps(2),
        returns=random_steps(3),
        is_open=is_open,
        free=free,
    )


def losses(steps, coefficients=COEFFICIENTS, imitates=None):
    new = tuple(tf.convert_to_tensor(steps[name]) for name in ("log_probs", "values", "entropy"))
    weighed = ppo.weighed(*(tf.constant(steps[name]) for name in ("advantage", "is_open", "free")))
    return ppo.losses(new, steps["old"], steps["returns"], *weighed, coefficients, imitates)


def looped_losses(steps, c):
    """The same, a step of an episode at a time."""
    chosen = [tuple(at) for at in np.argwhere(steps["free"])]
    advantages = [float(steps["advantage"][at]) for at in chosen]
    centre, spread = np.mean(advantages), np.std(advantages)
    policy, kl, old_kl, clipped = [], [], [], []
    for at in chosen:
        log_ratio = float(steps["log_probs"][at]) - float(steps["old"][at])
        ratio = np.exp(log_ratio)
        advantage = (steps["advantage"][at] - centre) / (spread + 1e-8)
        policy.append(-min(ratio * advantage, np.clip(ratio, 1 - c.clip, 1 + c.clip) * advantage))
        kl.append(ratio - 1 - log_ratio)
        old_kl.append(-log_ratio)
        clipped.append(abs(ratio - 1) > c.clip)
    value = [
        (steps["values"][i, t] - steps["returns"][i, t]) ** 2 for i, t in np.argwhere(steps["is_open"])
    ]
    entropy = np.mean([steps["entropy"][at] for at in chosen])
    return np.mean(policy) + c.value * np.mean(value) - c.entropy * entropy, {
        "policy_loss": np.mean(policy),
        "value_loss": np.mean(value),
        "entropy": entropy,
        "old_approx_kl": np.mean(old_kl),
        "approx_kl": np.mean(kl),
        "clipfrac": np.mean(clipped),
    }


@pytest.mark.parametrize(
    "coefficients",
    [COEFFICIENTS, ppo.Coefficients(clip=0.05, value=2.0, entropy=0.3)],
    ids=["ours", "other"],
)
def test_losses(steps, coefficients):
    loss, statistics = losses(steps, coefficients)
    expected_loss, expected = looped_losses(steps, coefficients)
    assert float(loss) == pytest.approx(expected_loss, rel=1e-4)
    assert {name: float(x) for name, x in statistics.items()} == pytest.approx(expected, rel=1e-4, abs=1e-6)
    assert 0.05 < expected["clipfrac"] < 0.95


def test_imitation_is_cross_entropy_with_a_policy_that_is_not_quite_sure(steps):
    loss, found = losses(steps, imitates=tf.constant(True))
    of_choices = steps["log_probs"][steps["free"]].astype(float)
    others = np.log(1 - np.minimum(np.exp(of_choices), 1 - 2.0**-20))
    expected = -(ppo.IMITATED * of_choices + (1 - ppo.IMITATED) * others).mean()
    assert float(found["policy_loss"]) == pytest.approx(expected, rel=1e-5)
    plain, without = losses(steps)
    others = float(plain - without["policy_loss"])
    assert float(loss) == pytest.approx(expected + others, rel=1e-5)
    assert float(losses(steps, imitates=tf.constant(False))[0]) == float(plain)


def test_the_first_minibatch_has_ratio_1(steps):
    loss, statistics = losses(steps | dict(log_probs=steps["old"]))
    for name in ("approx_kl", "old_approx_kl", "clipfrac"):
        assert float(statistics[name]) == 0
    # Normalised advantages have mean 0.
    assert float(statistics["policy_loss"]) == pytest.approx(0, abs=1e-6)
    # Yet there is a gradient to follow.
    assert tf.linalg.global_norm([gradient_of(steps | dict(log_probs=steps["old"]), "log_probs")]) > 0.01


@pytest.mark.parametrize("name", ["log_probs", "old", "advantage", "entropy"])
def test_the_policy_does_not_learn_from_steps_without_choice(steps, name):
    changed = steps[name] + np.where(steps["free"], 0, 1e3 * random_steps(5)).astype(np.float32)
    loss, statistics = losses(steps | {name: changed})
    expected_loss, expected = losses(steps)
    assert float(loss) == float(expected_loss)
    assert {n: float(x) for n, x in statistics.items()} == {n: float(x) for n, x in expected.items()}


@pytest.mark.parametrize("name", ["values", "returns"])
def test_the_critic_learns_from_forced_steps_but_not_from_finished_ones(steps, name):
    expected = float(losses(steps)[0])
    finished = np.where(steps["is_open"], 0, 9).astype(np.float32)
    assert float(losses(steps | {name: steps[name] + finished})[0]) == expected
    forced = np.where(steps["is_open"] & ~steps["free"], 9, 0).astype(np.float32)
    assert float(losses(steps | {name: steps[name] + forced})[0]) != pytest.approx(expected, rel=0.1)


def gradient_of(steps, name):
    x = tf.constant(steps[name])
    with tf.GradientTape() as tape:
        tape.watch(x)
        loss, _ = losses(steps | {name: x})
    return tape.gradient(loss, x).numpy()


def test_where_gradients_flow(steps):
    still = steps | dict(log_probs=steps["old"])
    assert ((gradient_of(still, "log_probs") != 0) == steps["free"]).all()
    assert ((gradient_of(steps, "entropy") != 0) == steps["free"]).all()
    assert ((gradient_of(steps, "values") != 0) == steps["is_open"]).all()


def test_a_better_than_average_action_becomes_more_likely(steps):
    still = steps | dict(log_probs=steps["old"])
    better = steps["advantage"] > steps["advantage"][steps["free"]].mean()
    gradient = gradient_of(still, "log_probs")[steps["free"]]
    assert ((gradient < 0) == better[steps["free"]]).all()


def test_a_minibatch_without_any_choice(steps):
    """As with one module of each kind at the smallest depth."""
    loss, statistics = losses(steps | dict(free=np.zeros_like(steps["free"])))
    assert float(loss) == pytest.approx(COEFFICIENTS.value * float(statistics["value_loss"]))
    assert statistics["policy_loss"] == statistics["entropy"] == statistics["approx_kl"] == 0
    assert not gradient_of(steps | dict(free=np.zeros_like(steps["free"])), "log_probs").any()


# --- Advantages


@pytest.mark.parametrize("gamma, gae_lambda", [(0.99, 0.95), (1.0, 1.0), (0.9, 0.0), (0.5, 0.7)])
def test_advantages(gamma, gae_lambda):
    rewards, values = random_steps(1), random_steps(2)
    found = ppo.advantages(tf.constant(rewards), tf.constant(values), gamma, gae_lambda).numpy()
    after = np.append(values[:, 1:], np.zeros((BATCH, 1)), axis=1)
    for i in range(BATCH):
        for t in range(DEPTH):
            expected = sum(
                (gamma * gae_lambda) ** (s - t) * (rewards[i, s] + gamma * after[i, s] - values[i, s])
                for s in range(t, DEPTH)
            )
            assert found[i, t] == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_with_lambda_1_returns_are_the_discounted_rewards():
    rewards, values = random_steps(1), random_steps(2)
    returns = ppo.advantages(tf.constant(rewards), tf.constant(values), 0.9, 1.0) + values
    expected = [
        [sum(0.9 ** (s - t) * r[s] for s in range(t, DEPTH)) for t in range(DEPTH)] for r in rewards
    ]
    np.testing.assert_allclose(returns, expected, rtol=1e-4, atol=1e-5)


def test_known_values_and_no_advantage_once_finished(steps):
    rewards, values, is_open = random_steps(1), random_steps(2), steps["is_open"]
    known = ppo.known_values(tf.constant(rewards), tf.constant(values), tf.constant(is_open), 0.99)
    rest = [[sum(0.99 ** (s - t) * r[s] for s in range(t, DEPTH)) for t in range(DEPTH)] for r in rewards]
    np.testing.assert_allclose(known, np.where(is_open, values, rest), rtol=1e-5, atol=1e-6)
    advantage = ppo.advantages(tf.constant(rewards), known, 0.99, 0.95).numpy()
    assert not advantage[~is_open].any()
    assert advantage[is_open].all()


def test_the_reward_of_a_forced_or_finished_step_counts_in_the_returns_before_it(steps):
    values, is_open = random_steps(2), steps["is_open"]

    def returns(rewards):
        known = ppo.known_values(tf.constant(rewards), tf.constant(values), tf.constant(is_open), 0.99)
        return (ppo.advantages(tf.constant(rewards), known, 0.99, 0.95) + known).numpy()

    plain = random_steps(1)
    more = plain.copy()
    more[:, -1] += 1
    assert (is_open[:, -1] & ~steps["free"][:, -1]).any() and (~is_open[:, -1]).any()
    assert (returns(more) > returns(plain)).all()


def test_explained_variance(steps):
    returns, is_open = steps["returns"], tf.constant(steps["is_open"])

    def explained(values):
        return ppo.explained_variance(tf.constant(values), tf.constant(returns), is_open).numpy()

    np.testing.assert_allclose(explained(returns), 1)
    # What differs from step to step alone is not explained, and costs nothing.
    by_step = np.arange(returns.shape[1], dtype=np.float32)
    np.testing.assert_allclose(explained(returns + by_step), 1, atol=1e-5)
    np.testing.assert_allclose(explained(np.zeros_like(returns) + by_step), 0, atol=1e-5)
    for t, found in enumerate(explained(steps["values"])):
        counted = returns[steps["is_open"][:, t], t]
        error = (returns - steps["values"])[steps["is_open"][:, t], t]
        assert found == pytest.approx(1 - error.var() / counted.var(), rel=1e-4)
    assert not ppo.explained_variance(returns, tf.ones_like(returns), is_open & False).numpy().any()


def test_coefficients_cannot_be_changed_by_accident():
    with pytest.raises(dataclasses.FrozenInstanceError):
        COEFFICIENTS.gamma = 1.0
    assert (COEFFICIENTS.gamma, COEFFICIENTS.gae_lambda) == (0.99, 0.95)
