"""Proximal policy optimisation (Schulman et al. 2017) with generalised advantages (2016), Sec. 5.1."""

import dataclasses

import tensorflow as tf

from lrn_tf.learning.averages import of_each_step, shares

# With what probability an actor takes what it imitates, so that it tries other actions later.
IMITATED = 0.98


@dataclasses.dataclass(frozen=True)
class Coefficients:
    """PPO's constants. gamma and gae_lambda are the paper's (Sec. 5.1), the rest is ours."""

    gamma: float = 0.99
    gae_lambda: float = 0.95
    clip: float = 0.2
    value: float = 0.5
    entropy: float = 0.01
    gradient_norm: float = 0.5


def known_values(rewards, values, open, gamma: float) -> tf.Tensor:
    """The critic's values, but the exact discounted rest where the network is already finished.

    From there on all actions are forced, so the rest of the return is known. Args and result: `[B, T]`.
    """
    rest, exact = tf.zeros_like(rewards[:, 0]), []
    for t in reversed(range(rewards.shape[1])):
        rest = rewards[:, t] + gamma * rest
        exact.insert(0, rest)
    return tf.where(open, values, tf.stack(exact, axis=1))


def advantages(rewards, values, gamma: float, gae_lambda: float) -> tf.Tensor:
    """GAE; nothing is bootstrapped past the last step. Args and result: float32 `[B, T]`."""
    advantage, following, result = 0.0, 0.0, []
    for t in reversed(range(rewards.shape[1])):
        delta = rewards[:, t] + gamma * following - values[:, t]
        advantage = delta + gamma * gae_lambda * advantage
        following = values[:, t]
        result.insert(0, advantage)
    return tf.stack(result, axis=1)


def weighed(advantage, open, free) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Standardises a minibatch's advantages, and says what each of its steps counts in the losses.

    Args:
        advantage: float32 `[B, T]`.
        open: bool `[B, T]`, steps before the network was finished: they train the critic.
        free: bool `[B, T]`, steps with a choice: they train the actor.

    Returns:
        advantages, and what steps count for the actor and for the critic, 1 in all: float32 `[B, T]` each.
    """
    actor, critic = (shares(tf.cast(x, tf.float32)) for x in (free, open))
    centre = tf.reduce_sum(advantage * actor)
    spread = tf.sqrt(tf.reduce_sum((advantage - centre) ** 2 * actor))
    return (advantage - centre) / (spread + 1e-8), actor, critic


def losses(new, old, returns, advantage, actor, critic, coefficients: Coefficients, imitates=None):
    """PPO's loss over one minibatch of episodes, or over a part of it.

    Args:
        new: log-probabilities, values and entropies `[B, T]` under the router that learns.
        old: log-probabilities `[B, T]` under the router that chose.
        returns: float32 `[B, T]`, on the scale of the values.
        advantage, actor, critic: float32 `[B, T]`, as `weighed` made them of the whole minibatch.
        coefficients: PPO's constants.
        imitates: scalar bool, whether the actor is drawn instead to take each action with a probability of
            `IMITATED`, whatever it earned (ours); None where it never is.

    Returns:
        the loss, and a dict of the usual statistics (CleanRL's names), scalars. Those of parts add up to
        what they are for the minibatch.
    """
    log_probs, values, entropy = new
    by_reward = actor > 0
    if imitates is not None:  # what has no gradient must have no infinite ratio either
        by_reward &= ~imitates
    log_ratio = tf.where(by_reward, log_probs - old, 0.0)
    ratio = tf.exp(log_ratio)
    clipped = tf.clip_by_value(ratio, 1 - coefficients.clip, 1 + coefficients.clip)
    policy_loss = tf.reduce_sum(tf.maximum(-advantage * ratio, -advantage * clipped) * actor)
    if imitates is not None:
        policy_loss = tf.where(imitates, _imitation_loss(log_probs, actor), policy_loss)
    value_loss = tf.reduce_sum((values - returns) ** 2 * critic)
    entropy = tf.reduce_sum(entropy * actor)
    loss = policy_loss + coefficients.value * value_loss - coefficients.entropy * entropy

    return loss, {
        "policy_loss": policy_loss,
        "value_loss": value_loss,
        "entropy": entropy,
        "old_approx_kl": tf.reduce_sum(-log_ratio * actor),
        "approx_kl": tf.reduce_sum(((ratio - 1) - log_ratio) * actor),
        "clipfrac": tf.reduce_sum(tf.cast(tf.abs(ratio - 1) > coefficients.clip, tf.float32) * actor),
    }


def _imitation_loss(log_probs, actor):
    """The cross-entropy with a policy that takes each action with a probability of `IMITATED`."""
    others = tf.math.log1p(-tf.minimum(tf.exp(log_probs), 1 - 2.0**-20))
    return -tf.reduce_sum((IMITATED * log_probs + (1 - IMITATED) * others) * actor)


def explained_variance(values, returns, open) -> tf.Tensor:
    """How much of the returns' variance the critic explains at each step: 1 is all, 0 what a constant does.

    Within a step: over all steps it would count as explained that returns shrink towards the end.
    Args: `[B, T]`. Result: `[T]`, 0 where no network is open.
    """
    _, unexplained = of_each_step(returns - values, open)
    _, all_of_it = of_each_step(returns, open)
    return tf.where(all_of_it > 0, 1 - tf.math.divide_no_nan(unexplained, all_of_it), 0.0)
