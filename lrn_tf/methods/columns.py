"""Several fully connected layers of one shape beside each other, as one batched matrix product."""

import math

import keras


def make_columns(count: int, taken: int, units: int, alike: bool = False) -> keras.layers.EinsumDense:
    """`K` fully connected layers, built: `[B, K, taken]`, or `[B, taken]` for all, to `[B, K, units]`.

    Args: count: K. alike: whether all get the same.
    """
    # Glorot's bound for one layer's matrix; Keras would take their number for part of its size.
    bound = math.sqrt(6 / (taken + units))
    layer = keras.layers.EinsumDense(
        "bi,kiu->bku" if alike else "bki,kiu->bku",
        output_shape=(count, units),
        bias_axes="ku",
        kernel_initializer=keras.initializers.RandomUniform(-bound, bound),
    )
    layer.build((None, taken) if alike else (None, count, taken))
    return layer
