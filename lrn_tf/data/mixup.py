"""Mixup within tasks: two examples of a task laid over each other, and their targets too.

After Zhang et al. (2018), whose Beta(1, 1) it is at 0.5.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from lrn_tf.data.problem import Problem


class Mixed(NamedTuple):
    """The targets of examples that were made of two each.

    Attributes:
        targets: as in `lrn_tf.data.examples.Examples`, `[B, ..]`, of the one that counts for more.
        others: `[B, ..]`, of the other.
        share: float32 `[B]` from 0.5 to 1, how much the first counts; the other counts for the rest.
    """

    targets: tf.Tensor
    others: tf.Tensor
    share: tf.Tensor


def mix(inputs, tasks, targets, problem: Problem, most: float, seed):
    """Lays over each example of a batch another one of its task; for training only (--mixup).

    One that is alone of its task, or brings tokens, which cannot be mixed, is left as it is.

    Args:
        inputs, tasks, targets: a batch as `DeviceExamples.batch` gives it.
        problem: whose tasks they are.
        most: how much the other may count, up to 0.5; from 0 on all is as likely.
        seed: int32 `[2]`.

    Returns:
        inputs of the same shapes and types, and the targets as `Mixed`.
    """
    batch = tasks.shape[0]
    tokens = np.array([problem.inputs[k].vocabulary > 0 for k in problem.input_of])
    with tf.device("CPU:0"):  # where generators look for their seeds, and rows are chosen
        seed = tf.random.fold_in(seed, 0)  # else it would draw what `augment` does
        whose, how_much = tf.unstack(tf.random.split(seed, 2, alg="philox"))
        keys = tf.random.stateless_uniform((batch, batch), whose, 1, tf.int32.max, tf.int32, alg="philox")
        may = (tasks[:, None] == tasks) & ~tf.gather(tokens, tasks)  # (B, B)
        keys = tf.linalg.set_diag(tf.where(may, keys, -1), tf.zeros(batch, tf.int32))
        partner = tf.argmax(keys, axis=1, output_type=tf.int32)
    share = 1 - most * tf.random.stateless_uniform((batch,), how_much, alg="philox")
    with tf.device("CPU:0" if targets.dtype.is_integer else None):  # as they come from the host
        others = tf.gather(targets, partner)

    def mixed(x):
        if not x.dtype.is_floating:
            return x
        of_mine = tf.reshape(share, [-1] + [1] * (len(x.shape) - 1))
        return of_mine * x + (1 - of_mine) * tf.gather(x, partner)

    return tf.nest.map_structure(mixed, inputs), Mixed(targets, others, share)
