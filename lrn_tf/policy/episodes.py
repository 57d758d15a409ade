"""Episodes: the router builds a network for each example, step by step (Sec. 4.2)."""

from typing import NamedTuple

import tensorflow as tf

from lrn_tf import replicas
from lrn_tf.modules.decision_process import DecisionProcess
from lrn_tf.policy.router import Router


class Episodes(NamedTuple):
    """What happened in a batch of episodes; all tensors start with the axis of examples."""

    actions: tf.Tensor  # (B, T) int32
    candidates: list[tf.Tensor]  # T of (B, C_t) int32, the valid actions of each step, padded
    real: list[tf.Tensor]  # T of (B, C_t) bool, which candidates are no padding
    log_probs: tf.Tensor  # (B, T), of the actions; 0 where there was no choice
    values: tf.Tensor  # (B, T), the critic's
    entropy: tf.Tensor  # (B, T), of the policy over the candidates, in nats
    open: tf.Tensor  # (B, T) bool, the network was not finished before the step
    free: tf.Tensor  # (B, T) bool, there was more than one valid action


def pack(valid: tf.Tensor, width: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Valid actions side by side, so that the decoder gets no row for an invalid one.

    Args:
        valid: bool `[B, N + 1]`.
        width: the most that any row has.

    Returns:
        candidates: int32 `[B, width]` in ascending order, then padding.
        real: bool `[B, width]`.
    """
    count = valid.shape[1]
    # The highest keys are the lowest actions; 0 is none.
    keys = tf.where(valid, tf.range(count, 0, -1), 0)
    keys = tf.math.top_k(keys, width).values
    real = keys > 0
    return tf.where(real, count - keys, 0), real


def route(router: Router, process: DecisionProcess, images, tasks, seed=None) -> Episodes:
    """Builds a network for each example.

    Args:
        router: the router.
        process: the decision process.
        images: float `[B, H, W, c]`; B must be static for XLA only.
        tasks: int32 `[B]`.
        seed: int32 `[2]`, to sample actions from the policy as in training. None takes the most
            probable ones, as in evaluation.
    """
    batch = tf.shape(tasks)[0] if tasks.shape[0] is None else tasks.shape[0]
    networks = process.start(batch)
    percept = router.perceive(images, tasks)
    if seed is not None:
        # Gumbel noise, from random bits: XLA makes the same bits as TensorFlow, but other floats.
        shape = (process.depth, replicas.count() * batch, max(process.max_candidates))
        bits = tf.random.stateless_uniform(shape, seed, None, None, tf.uint32, alg="philox")
        mantissa = tf.bitwise.right_shift(bits, tf.constant(9, tf.uint32))
        uniform = (tf.cast(mantissa, tf.float32) + 0.5) * 2.0**-23  # within (0, 1), never at its ends
        noise = replicas.mine(-tf.math.log(-tf.math.log(uniform)), axis=1)  # (T, B, C)
    steps = []
    for t in range(1, process.depth + 1):
        candidates, real = pack(process.valid(networks, t), process.max_candidates[t - 1])
        past = (
            tf.stack([step["action"] for step in steps], axis=1)
            if steps
            else tf.zeros((batch, 0), tf.int32)
        )
        (state,) = router.encode(percept, past, [t])
        (logits,) = router.score([state], [candidates], [real])
        log_probs = tf.nn.log_softmax(logits)  # (B, C)
        scores = log_probs
        if seed is not None:
            scores = tf.where(real, log_probs + noise[t - 1, :, : log_probs.shape[1]], log_probs)
        choice = tf.argmax(scores, axis=1, output_type=tf.int32)
        action = tf.gather(candidates, choice, batch_dims=1)
        steps.append(
            dict(
                action=action,
                candidates=candidates,
                real=real,
                log_prob=tf.gather(log_probs, choice, batch_dims=1),
                value=router.critic(state),
                entropy=entropy(log_probs),
                open=~networks.finished,
                free=tf.reduce_sum(tf.cast(real, tf.int32), axis=1) > 1,
            )
        )
        networks = process.advance(networks, action)

    def over_time(name):
        return tf.stack([step[name] for step in steps], axis=1)

    return Episodes(
        actions=over_time("action"),
        candidates=[step["candidates"] for step in steps],
        real=[step["real"] for step in steps],
        log_probs=over_time("log_prob"),
        values=over_time("value"),
        entropy=over_time("entropy"),
        open=over_time("open"),
        free=over_time("free"),
    )


def revisit(router: Router, episodes: Episodes, images, tasks):
    """Log-probabilities, values and entropies of episodes under the router as it is now.

    Returns:
        log_probs, values, entropy: float32 `[B, T]` each.
    """
    steps = range(1, episodes.actions.shape[1] + 1)
    states = router.encode(router.perceive(images, tasks), episodes.actions, steps)
    logits = router.score(states, episodes.candidates, episodes.real)
    log_policies = [tf.nn.log_softmax(step) for step in logits]  # (B, C) each
    log_probs = [
        tf.reduce_sum(tf.where(real & (candidates == episodes.actions[:, t, None]), log_policies[t], 0), 1)
        for t, (candidates, real) in enumerate(zip(episodes.candidates, episodes.real, strict=True))
    ]
    values = [router.critic(state) for state in states]
    entropies = [entropy(log_policy) for log_policy in log_policies]
    return tf.stack(log_probs, 1), tf.stack(values, 1), tf.stack(entropies, 1)


def entropy(log_probs):
    """Entropy in nats of `[.., C]` log-probabilities; padding adds nothing."""
    return -tf.reduce_sum(tf.exp(log_probs) * log_probs, axis=-1)
