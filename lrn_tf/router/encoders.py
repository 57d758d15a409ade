"""Encoders of what an example brings: one for each input, all to v, the router's view of it (Sec. 4.2)."""

import keras

from lrn_tf.data.problem import InputSpec
from lrn_tf.router.attention import AttentionPool

HEADS = 4


def scaled_glorot(factor: float) -> keras.initializers.Initializer:
    """Keras' default initializer, times a factor."""
    return keras.initializers.VarianceScaling(max(factor, 1e-6) ** 2, "fan_avg", "uniform")


def make_encoder(given: InputSpec, d_model: int, scale: float) -> keras.layers.Layer:
    """An encoder for an input, built: `[B, *shape]` to `[B, D]`.

    Args:
        given: the input.
        d_model: D.
        scale: factor on the initial weights of the last layer.
    """
    name = f"{given.name}_encoder"
    if len(given.shape) == 3:
        encoder = ImageEncoder(d_model, scale, name=name)
    elif len(given.shape) == 1 and not given.vocabulary:
        encoder = RowEncoder(d_model, scale, name=name)
    elif len(given.shape) <= 2:
        encoder = SequenceEncoder(d_model, scale, given.vocabulary, name=name)
    else:
        raise ValueError(f"the router has no encoder for the input {given.name} {list(given.shape)}")
    encoder.build((None, *given.shape))
    if encoder.non_trainable_variables:
        raise ValueError(
            f"{name} has state, such as batch norm or dropout have, which nothing would update"
        )
    return encoder


class ImageEncoder(keras.layers.Layer):
    """A couple of convolutions and a fully connected layer: image -> v (Sec. 4.2).

    Strides and filters are ours.
    """

    def __init__(self, d_model: int, scale: float, **kwargs):
        super().__init__(**kwargs)
        self.layers = keras.Sequential(
            [
                keras.layers.Conv2D(32, 3, strides=2, padding="same", activation="relu"),
                keras.layers.Conv2D(32, 3, strides=2, padding="same", activation="relu"),
                keras.layers.Flatten(),
                keras.layers.Dense(d_model, kernel_initializer=scaled_glorot(scale)),
            ]
        )

    def build(self, images_shape):
        self.layers.build(images_shape)
        self.built = True

    def call(self, images):
        """Args: images: float `[B, H, W, c]`. Returns: `[B, D]`."""
        return self.layers(images)


class RowEncoder(keras.layers.Layer):
    """Two fully connected layers: row of numbers -> v (ours)."""

    def __init__(self, d_model: int, scale: float, **kwargs):
        super().__init__(**kwargs)
        self.hidden = keras.layers.Dense(d_model, activation="relu")
        self.last = keras.layers.Dense(d_model, kernel_initializer=scaled_glorot(scale))

    def build(self, shape):
        self.hidden.build(shape)
        self.last.build((None, self.hidden.units))
        self.built = True

    def call(self, rows):
        """Args: rows: float `[B, d]`. Returns: `[B, D]`."""
        return self.last(self.hidden(rows))


class SequenceEncoder(keras.layers.Layer):
    """Attention over a sequence that knows its places, and a fully connected layer: -> v (ours).

    Args:
        d_model: D.
        scale: factor on the initial weights of the last layer.
        vocabulary: how many different tokens there are; 0 where the sequence holds rows of numbers.
    """

    def __init__(self, d_model: int, scale: float, vocabulary: int = 0, **kwargs):
        super().__init__(**kwargs)
        self.d_model, self.vocabulary = d_model, vocabulary
        self.attention = keras.layers.MultiHeadAttention(HEADS, d_model // HEADS)
        self.pool = AttentionPool(name="pool")
        self.last = keras.layers.Dense(d_model, kernel_initializer=scaled_glorot(scale))

    def build(self, shape):
        if self.vocabulary:
            normal = keras.initializers.RandomNormal(stddev=1.0)
            self.entry = keras.layers.Embedding(self.vocabulary, self.d_model, normal)
        else:
            self.entry = keras.layers.Dense(self.d_model)
        self.entry.build(shape)
        sequence = (None, shape[1], self.d_model)
        self.places = self.add_weight(
            shape=sequence[1:], initializer=keras.initializers.RandomNormal(stddev=0.02), name="places"
        )
        self.attention.build(sequence, sequence)
        self.pool.build(sequence)
        self.last.build((None, self.d_model))
        self.built = True

    def call(self, sequences):
        """Args: sequences: float `[B, n, d]`, or int32 `[B, n]`. Returns: `[B, D]`."""
        x = self.entry(sequences) + self.places
        return self.last(self.pool(x + self.attention(x, x)))
