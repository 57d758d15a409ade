"""Layers of several layers, for the modules of built-in pools and of a user's own."""

import math

import keras
import tensorflow as tf

from lrn_tf.modules.fused import fused
from lrn_tf.modules.norm import EPSILON, GroupNormReLU
from lrn_tf.modules.weights import is_ready

# Channels of a group, of which the mean and variance are taken (Wu and He 2018 have 16).
GROUP = 8


@keras.saving.register_keras_serializable("lrn_tf")
class StandardisedConvolution(keras.layers.Layer):
    """A convolution by kernels of mean 0 and of length 1 for each channel that it returns, without biases.

    Weight standardisation (Qiao et al. 2019): GroupNorm with it learns sooner than alone. What it takes may
    have any number of examples, so modules can have it, which batch norm is not for.

    Args:
        filters: channels that it returns.
        size: of the kernels, in pixels.
        strides: 2 halves the image.

    Raises:
        ValueError: at its first call, if a kernel would be a single number.
    """

    def __init__(self, filters: int, size: int, strides: int = 1, **kwargs):
        super().__init__(**kwargs)
        self.filters, self.size, self.strides = filters, size, strides

    def build(self, shape):
        if self.size**2 * shape[-1] == 1:
            raise ValueError("a kernel of one number is 0 when it is standardised; take size=3 or so")
        self.kernel = self.add_weight(
            shape=(self.size, self.size, shape[-1], self.filters), name="kernel", autocast=False
        )
        self.kernel.used_as = standardised

    def compute_output_shape(self, shape):
        return _convolved(shape, self.filters, self.strides)

    def call(self, x):
        """Args: x: `[B, H, W, c]`. Returns: `[B, H / strides, W / strides, filters]`."""
        kernel = tf.convert_to_tensor(self.kernel)
        if not is_ready(self.kernel):
            kernel = standardised(kernel)
        return keras.ops.conv(x, tf.cast(kernel, x.dtype), self.strides, padding="same")

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "size": self.size,
            "strides": self.strides,
        }


def _convolved(shape, filters, strides):
    """The shape of what a convolution with padding returns."""
    return (shape[0], *(None if side is None else -(-side // strides) for side in shape[1:3]), filters)


def standardised(kernels):
    """Kernels `[..., h, w, c, filters]` of mean 0 and length 1."""
    return _standardised((kernels,))


@fused
def _standardised(tensors):
    (kernels,) = tensors
    mean, variance = tf.nn.moments(kernels, [-4, -3, -2], keepdims=True)  # (..., 1, 1, 1, filters)
    length = tf.sqrt(variance * math.prod(kernels.shape[-4:-1]) + EPSILON)
    return (kernels - mean) / length


@keras.saving.register_keras_serializable("lrn_tf")
class ResidualBlock(keras.layers.Layer):
    """Two 3x3 convolutions, each after a norm and ReLU, added to what came (He et al. 2016).

    Where the shape changes, what came is brought to it by a 1x1 convolution after the first norm.

    Args:
        filters: channels that it returns, a multiple of 8; of what it takes as well.
        strides: 2 halves the image.
    """

    def __init__(self, filters: int, strides: int = 1, **kwargs):
        super().__init__(**kwargs)
        self.filters, self.strides = filters, strides

    def build(self, shape):
        self.norms = [GroupNormReLU(groups=channels // GROUP) for channels in (shape[-1], self.filters)]
        self.convolutions = [
            StandardisedConvolution(self.filters, 3, strides) for strides in (self.strides, 1)
        ]
        self.shortcut = None
        if self.strides > 1 or shape[-1] != self.filters:
            self.shortcut = StandardisedConvolution(self.filters, 1, self.strides)
            self.shortcut.build(shape)
        middle = self.compute_output_shape(shape)
        for norm, convolution, given in zip(self.norms, self.convolutions, (shape, middle), strict=True):
            norm.build(given)
            convolution.build(given)
        self.built = True

    def compute_output_shape(self, shape):
        return _convolved(shape, self.filters, self.strides)

    def call(self, x):
        """Args: x: `[B, H, W, c]`. Returns: `[B, H / strides, W / strides, filters]`."""
        y = self.norms[0](x)
        if self.shortcut is not None:
            x = self.shortcut(y)
        y = self.convolutions[0](y)
        return x + self.convolutions[1](self.norms[1](y))

    def get_config(self):
        return {**super().get_config(), "filters": self.filters, "strides": self.strides}


@keras.saving.register_keras_serializable("lrn_tf")
class DenseOfEach(keras.layers.Dense):
    """A fully connected layer for each entry of a sequence, as one matrix product.

    Keras' own works shapes out on the device, and the host would wait for them.
    """

    def call(self, x):
        """Args: x: `[B, n, D]`. Returns: `[B, n, units]`."""
        y = super().call(keras.ops.reshape(x, (-1, x.shape[-1])))
        return keras.ops.reshape(y, (-1, *x.shape[1:-1], self.units))


@keras.saving.register_keras_serializable("lrn_tf")
class AttentionBlock(keras.layers.Layer):
    """Self-attention, then two dense layers, each after a norm and added to what came (pre-norm).

    Args:
        heads: of the attention; divides the width of the tokens.
        expansion: of the dense layers, over the width of the tokens.
    """

    def __init__(self, heads: int, expansion: int = 2, **kwargs):
        super().__init__(**kwargs)
        self.heads, self.expansion = heads, expansion

    def build(self, shape):
        width = shape[-1]
        self.norms = [keras.layers.LayerNormalization(epsilon=EPSILON) for _ in range(2)]
        self.attention = keras.layers.MultiHeadAttention(self.heads, width // self.heads)
        self.wide = DenseOfEach(self.expansion * width, activation="gelu")
        self.narrow = DenseOfEach(width)
        for norm in self.norms:
            norm.build(shape)
        self.attention.build(shape, shape)
        self.wide.build(shape)
        self.narrow.build((*shape[:-1], self.expansion * width))
        self.built = True

    def compute_output_shape(self, shape):
        return shape

    def call(self, x):
        """Args: x: `[B, n, D]`. Returns: the same shape."""
        y = self.norms[0](x)
        x = x + self.attention(y, y)
        return x + self.narrow(self.wide(self.norms[1](x)))

    def get_config(self):
        return {**super().get_config(), "heads": self.heads, "expansion": self.expansion}


@keras.saving.register_keras_serializable("lrn_tf")
class Positions(keras.layers.Layer):
    """Adds a learned vector for each place of a sequence, so that attention can tell places apart."""

    def build(self, shape):
        self.table = self.add_weight(
            shape=shape[1:], initializer=keras.initializers.RandomNormal(stddev=0.02), name="table"
        )

    def compute_output_shape(self, shape):
        return shape

    def call(self, x):
        """Args: x: `[B, n, D]`. Returns: the same shape."""
        return x + self.table
