"""One batch on several devices at once: the little that a training step must know of it.

Under `tf.distribute` every replica runs the step on its part of the batch. What concerns the whole batch,
such as the bonus counts, is brought together here. On a single device all of this does nothing.
"""

import tensorflow as tf


def count() -> int:
    """How many replicas share a batch."""
    return tf.distribute.get_strategy().num_replicas_in_sync


def mine(x, axis: int = 0):
    """This replica's part of tensors that are the same on all, as many rows of each as the others get."""
    if count() == 1:
        return x
    number = tf.distribute.get_replica_context().replica_id_in_sync_group

    def part(x):
        size = x.shape[axis] // count()
        begin = [number * size if a == axis else 0 for a in range(len(x.shape))]
        return tf.slice(x, begin, [size if a == axis else -1 for a in range(len(x.shape))])

    return tf.nest.map_structure(part, x)


def gather(x):
    """The rows of all replicas, those of the first one first: the inverse of `mine`.

    Args:
        x: nested tensors `[b, ..]` of numbers or booleans; whole numbers must be below 2^24.
    """
    if count() == 1:
        return x
    # As columns of one float32 matrix, so that there is a single exchange.
    flat = tf.nest.flatten(x)
    columns = [tf.reshape(tf.cast(part, tf.float32), (part.shape[0], -1)) for part in flat]
    whole = tf.distribute.get_replica_context().all_gather(tf.concat(columns, axis=1), axis=0)
    whole = tf.split(whole, [c.shape[1] for c in columns], axis=1)
    back = [
        tf.cast(tf.reshape(w, (-1, *part.shape[1:])), part.dtype)
        for w, part in zip(whole, flat, strict=True)
    ]
    return tf.nest.pack_sequence_as(x, back)


def total(x):
    """The sum over replicas of nested tensors of numbers; whole numbers must stay below 2^24."""
    if count() == 1:
        return x
    flat = tf.nest.flatten(x)
    # Copies, so that what lies in host memory takes part from the replica's device.
    parts = [tf.identity(tf.cast(part, tf.float32)) for part in flat]
    summed = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, parts)
    return tf.nest.pack_sequence_as(x, [tf.cast(s, p.dtype) for s, p in zip(summed, flat, strict=True)])
