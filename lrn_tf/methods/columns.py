"""Several fully connected layers of one shape beside each other, as one batched matrix product."""

import math

import keras
import tensorflow as tf


class Columns(keras.layers.Layer):
    """`K` fully connected layers: `[B, K, in]`, or `[B, in]` that all get alike, to `[B, K, units]`."""

    def __init__(self, count: int, units: int, **kwargs):
        super().__init__(**kwargs)
        self._shape = (count, units)

    def build(self, shape):
        count, units = self._shape
        # Glorot's bound for one layer's matrix; Keras would take their number for part of its size.
        bound = math.sqrt(6 / (shape[-1] + units))
        uniform = keras.initializers.RandomUniform(-bound, bound)
        self.kernel = self.add_weight(shape=(count, shape[-1], units), initializer=uniform)
        self.bias = self.add_weight(shape=(count, units), initializer="zeros")

    def call(self, x):
        product = "bi,kiu->bku" if len(x.shape) == 2 else "bki,kiu->bku"
        return tf.einsum(product, x, self.kernel) + self.bias
