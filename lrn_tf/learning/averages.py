"""Means and variances over what counts of a batch: some of its examples, at some of their steps."""

import tensorflow as tf


def shares(weight, axis: int | None = None) -> tf.Tensor:
    """What each entry counts in a mean: they add up to 1, or to 0 where none counts."""
    return tf.math.divide_no_nan(weight, tf.reduce_sum(weight, axis=axis, keepdims=axis is not None))


def mean(x, weight) -> tf.Tensor:
    """The mean of x over the entries that count; 0 where none does."""
    return tf.reduce_sum(x * shares(weight))


def of_each_step(x, counts) -> tuple[tf.Tensor, tf.Tensor]:
    """Mean and variance of each step, over the examples that count; 0 where none does.

    Args: `[B, T]`, and bool `[B, T]`. Results: `[T]` each.
    """
    share = shares(tf.cast(counts, tf.float32), axis=0)
    centre = tf.reduce_sum(x * share, axis=0)
    return centre, tf.reduce_sum((x - centre) ** 2 * share, axis=0)
