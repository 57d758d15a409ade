"""Attention that sums a state up in one vector (eq. 3-4)."""

import keras
import tensorflow as tf


class AttentionPool(keras.layers.Layer):
    """The mean of a state's entries, weighted by how much each matters: e = W_e s, alpha = softmax(e)."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.score = keras.layers.Dense(1, name="score")  # W_e

    def build(self, states_shape):
        self.score.build(states_shape)
        self.built = True

    def call(self, states):
        """Args: states: `[B, n, D]`. Returns: `[B, D]`."""
        weights = tf.nn.softmax(tf.cast(self.score(states), tf.float32), axis=1)  # (B, n, 1)
        return tf.reduce_sum(tf.cast(weights, states.dtype) * states, axis=1)
