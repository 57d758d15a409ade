"""What a network's answers to a batch are worth, example by example."""

import tensorflow as tf


def cross_entropy(logits, labels):
    """float32 `[B]`, in nats."""
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)


def right(logits, labels):
    """float32 `[B]`, 1 where the most probable class is the label and 0 elsewhere."""
    # As int64, which GPUs compare themselves.
    return tf.cast(tf.equal(tf.argmax(logits, axis=1), tf.cast(labels, tf.int64)), tf.float32)
