"""The reward (Sec. 4.3): the negative loss of the network, and a bonus for rarely used modules."""

import tensorflow as tf

# So many examples of a batch must have been able to choose a module for its share to tell something (ours).
FEW = 8


def module_bonus(chosen: tf.Tensor, could: tf.Tensor, counts, largest: float) -> tf.Tensor:
    """Eq. 6: high for modules that the batch used little.

    Eq. 6 compares how often modules were chosen. Where not every example could have chosen each of them,
    that is by how many that could (ours); where all could, it is the same. The least and the most used are
    sought among modules that a few examples at least could have chosen.

    Args:
        chosen: int32 `[N]`, how often each module was chosen in the whole batch.
        could: int32 `[N]`, how many examples of the batch could have chosen it.
        counts: bool `[N]`, which modules take part; the others have no bonus.
        largest: lambda, the bonus of the module used least.

    Returns:
        float32 `[N + 1]` within [0, lambda], the bonus of each action; PASS has none. All modules have
        lambda when all were chosen equally often.
    """
    could = tf.cast(could, tf.float32)
    used = tf.math.divide_no_nan(tf.cast(chosen, tf.float32), could)
    counts = tf.cast(counts & (could > 0), tf.float32)
    # The share of a module that two examples could choose is 0, a half or 1 by chance.
    telling = counts * tf.cast(could >= FEW, tf.float32)
    telling = tf.where(tf.reduce_any(telling > 0), telling, counts)
    # A share is 1 at most.
    least, most = tf.reduce_min(used + 2 * (1 - telling)), tf.reduce_max(used * telling)
    bonus = tf.clip_by_value(1 - tf.math.divide_no_nan(used - least, most - least), 0.0, 1.0)
    return tf.concat([largest * counts * bonus, [0.0]], axis=0)


def rewards(loss, actions, open, bonus, placement: str) -> tf.Tensor:
    """Eq. 7: the reward of every step.

    Args:
        loss: float32 `[B]`, of each example's network: the paper's is the cross-entropy, in nats.
        actions: int32 `[B, T]`.
        open: bool `[B, T]`, the network was not finished before the step.
        bonus: float32 `[N + 1]`, from `module_bonus`.
        placement: where -loss is paid: at `every_step`, `until_output` (the step that finishes the
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
    return tf.gather(bonus, actions) - loss[:, None] * paid


def share_of_bonus(rewards, bonus) -> tf.Tensor:
    """How much of what tells episodes apart is the bonus: 0 is none, 1 is all; the rest is loss and price.

    The variance between episodes of the bonus, over that and the variance of the rest of the rewards.
    Args: `[B, T]` both.
    """
    of_bonus = tf.math.reduce_variance(tf.reduce_sum(bonus, axis=1))
    of_loss = tf.math.reduce_variance(tf.reduce_sum(rewards - bonus, axis=1))
    return tf.math.divide_no_nan(of_bonus, of_bonus + of_loss)
