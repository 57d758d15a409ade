"""What a network's answers to a batch are worth, example by example."""

import tensorflow as tf


def cross_entropy(logits, labels):
    """float32 `[B]`, in nats."""
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)


def right(logits, labels):
    """float32 `[B]`, 1 where the most probable class is the label and 0 elsewhere."""
    return tf.cast(tf.equal(tf.argmax(logits, axis=1, output_type=tf.int32), labels), tf.float32)
