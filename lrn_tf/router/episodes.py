"""Episodes: the router builds a network for each example, step by step (Sec. 4.2)."""

from typing import NamedTuple

import tensorflow as tf

from lrn_tf.devices import replicas
from lrn_tf.modules.decision_process import DecisionProcess
from lrn_tf.router.router import Router


class Episodes(NamedTuple):
    """What happened in a batch of episodes; all tensors start with the axes of examples and steps."""

    actions: tf.Tensor  # (B, T) int32
    valid: tf.Tensor  # (B, T, N + 1) bool, which actions were valid
    log_probs: tf.Tensor  # (B, T), of the actions; 0 where there was no choice
    values: tf.Tensor  # (B, T), the critic's, standardised: see `RunningMoments`
    entropy: tf.Tensor  # (B, T), of the policy, in nats
    open: tf.Tensor  # (B, T) bool, the network was not finished before the step
    free: tf.Tensor  # (B, T) bool, there was more than one valid action


def route(router: Router, process: DecisionProcess, inputs, tasks, seed=None, given=None) -> Episodes:
    """Builds a network for each example.

    Args:
        router: the router.
        process: the decision process.
        inputs: as in `Router.perceive`; B must be static for XLA only.
        tasks: int32 `[B]`.
        seed: int32 `[2]`, to sample actions from the policy as in training. None takes the most
            probable ones, as in evaluation.
        given: int32 `[B, T]`, actions to take whatever the policy says, where they are not negative.
    """
    batch = tf.shape(tasks)[0] if tasks.shape[0] is None else tasks.shape[0]
    networks = process.start(tasks)
    percept = router.perceive(inputs, tasks)
    noise = None if seed is None else gumbel_noise((process.depth, batch, len(process.pool) + 1), seed)
    actions = tf.zeros((batch, 0), tf.int32)
    steps = []
    for t in range(1, process.depth + 1):
        valid = process.valid(networks, t)  # (B, N + 1)
        (state,) = router.encode(percept, actions, [t])
        (logits,) = router.score([state], [valid], [t])
        log_policy = tf.nn.log_softmax(logits)
        scores = log_policy if noise is None else tf.where(valid, log_policy + noise[t - 1], log_policy)
        action = tf.argmax(scores, axis=1, output_type=tf.int32)
        if given is not None:
            action = tf.where(given[:, t - 1] < 0, action, given[:, t - 1])
        steps.append((valid, log_policy, router.critic(state), ~networks.finished))
        actions = tf.concat([actions, action[:, None]], axis=1)
        networks = process.advance(networks, action)
    # What can wait is made for all steps at once, which XLA compiles once.
    valid, log_policy, values, open = (tf.stack(of, axis=1) for of in zip(*steps, strict=True))
    log_probs, free = of_action(log_policy, actions), tf.reduce_sum(tf.cast(valid, tf.int32), axis=2) > 1
    return Episodes(actions, valid, log_probs, values, entropy(log_policy), open, free)


def gumbel_noise(shape, seed):
    """What makes the argmax of log-probabilities a sample; `shape` is `[T, B, ..]` of one replica.

    Made from random bits: XLA makes the same bits as TensorFlow, but other floats.
    """
    steps, batch, *rest = shape
    whole = (steps, replicas.count() * batch, *rest)
    bits = tf.random.stateless_uniform(whole, seed, None, None, tf.uint32, alg="philox")
    mantissa = tf.bitwise.right_shift(bits, tf.constant(9, tf.uint32))
    uniform = (tf.cast(mantissa, tf.float32) + 0.5) * 2.0**-23  # within (0, 1), never at its ends
    return replicas.mine(-tf.math.log(-tf.math.log(uniform)), axis=1)


def revisit(router: Router, episodes: Episodes, inputs, tasks):
    """Log-probabilities, standardised values and entropies of episodes under the router as it is now.

    Returns:
        log_probs, values, entropy: float32 `[B, T]` each.
    """
    steps = range(1, episodes.actions.shape[1] + 1)
    states = router.encode(router.perceive(inputs, tasks), episodes.actions, steps)
    logits = router.score(states, tf.unstack(episodes.valid, axis=1), steps)
    log_policy = tf.nn.log_softmax(tf.stack(logits, axis=1))  # (B, T, N + 1)
    values = [router.critic(state) for state in states]
    return of_action(log_policy, episodes.actions), tf.stack(values, axis=1), entropy(log_policy)


def of_action(log_policy, actions):
    """The log-probabilities of actions `[..]` in `[.., N + 1]`; no gather, whose gradient scatters."""
    mine = actions[..., None] == tf.range(log_policy.shape[-1])
    return tf.reduce_sum(tf.where(mine, log_policy, 0.0), axis=-1)


def entropy(log_probs):
    """Entropy in nats of `[.., N + 1]` log-probabilities; invalid actions add nothing."""
    return -tf.reduce_sum(tf.exp(log_probs) * log_probs, axis=-1)
