"""The reward (Sec. 4.3): the negative loss of the network, and a bonus for rarely used modules."""

import tensorflow as tf


def module_bonus(chosen: tf.Tensor, largest: float) -> tf.Tensor:
    """Eq. 6: high for modules that the batch used little.

    Args:
        chosen: int32 `[N]`, how often each module was chosen in the whole batch.
        largest: lambda, the bonus of the module used least.

    Returns:
        float32 `[N + 1]` within [0, lambda], the bonus of each action; PASS has none. All modules have
        lambda when all were chosen equally often.
    """
    chosen = tf.cast(chosen, tf.float32)
    least, most = tf.reduce_min(chosen), tf.reduce_max(chosen)
    bonus = largest * (1 - tf.math.divide_no_nan(chosen - least, most - least))
    return tf.concat([bonus, [0.0]], axis=0)


def rewards(ce, actions, open, bonus, placement: str) -> tf.Tensor:
    """Eq. 7: the reward of every step.

    Args:
        ce: float32 `[B]`, the cross-entropy of each example's network, in nats.
        actions: int32 `[B, T]`.
        open: bool `[B, T]`, the network was not finished before the step.
        bonus: float32 `[N + 1]`, from `module_bonus`.
        placement: where -CE is paid: at `every_step`, `until_output` (the step that finishes the
            network is the last) or `terminal` (only on step T).

    Returns:
        float32 `[B, T]`.
    """
    if placement == "every_step":
        paid = tf.ones_like(open, tf.float32)
    elif placement == "until_output":
        paid = tf.cast(open, tf.float32)
    else:
        last = tf.range(open.shape[1]) == open.shape[1] - 1
        paid = tf.cast(tf.broadcast_to(last, tf.shape(open)), tf.float32)
    return tf.gather(bonus, actions) - ce[:, None] * paid


def share_of_bonus(rewards, bonus) -> tf.Tensor:
    """How much of what tells episodes apart is the bonus: 0 is none, 1 is all; the rest is -CE.

    The variance between episodes of the bonus, over that and the variance of the rest of the rewards.
    Args: `[B, T]` both.
    """
    of_bonus = tf.math.reduce_variance(tf.reduce_sum(bonus, axis=1))
    of_ce = tf.math.reduce_variance(tf.reduce_sum(rewards - bonus, axis=1))
    return tf.math.divide_no_nan(of_bonus, of_bonus + of_ce)
