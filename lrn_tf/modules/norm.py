"""A norm and ReLU in one: the norm of convolutions here, with few passes over what it norms."""

import keras
import tensorflow as tf

from lrn_tf.modules.fused import fused

EPSILON = 1e-5


@keras.saving.register_keras_serializable("lrn_tf")
class GroupNormReLU(keras.layers.Layer):
    """GroupNorm (Wu and He 2018), which has no state, then ReLU; float32 within at least.

    Args:
        groups: of channels, of which the mean and variance are taken; -1 for a group for each channel.
        epsilon: what is added to the variance.

    Raises:
        ValueError: at its first call, if groups do not divide channels, or what it takes is no
            `[B, H, W, c]` of which all but B is known.
    """

    def __init__(self, groups: int, epsilon: float = EPSILON, **kwargs):
        super().__init__(**kwargs)
        self.groups, self.epsilon = groups, epsilon

    def build(self, shape):
        if len(shape) != 4 or None in shape[1:]:
            raise ValueError(f"GroupNormReLU takes [B, H, W, c], all but B known, given {list(shape)}")
        channels = shape[-1]
        if self.groups != -1 and channels % self.groups:
            raise ValueError(f"groups must divide the {channels} channels, given {self.groups}")
        self.gamma, self.beta = (
            self.add_weight(shape=(channels,), initializer=start, name=name, autocast=False)
            for name, start in (("gamma", "ones"), ("beta", "zeros"))
        )

    def compute_output_shape(self, shape):
        return shape

    def call(self, x):
        """Args: x: `[B, H, W, c]`. Returns: the same shape."""
        tensors = x, tf.convert_to_tensor(self.gamma), tf.convert_to_tensor(self.beta)
        return _norm(tensors, x.shape[-1] if self.groups == -1 else self.groups, self.epsilon)

    def get_config(self):
        return {**super().get_config(), "groups": self.groups, "epsilon": self.epsilon}


@fused
def _norm(tensors, groups, epsilon):
    x, gamma, beta = tensors
    channels, pixels = x.shape[-1], x.shape[1] * x.shape[2]
    exact = tf.cast(x, keras.backend.result_type(x.dtype, "float32"))

    def mean_of_channels(values):
        # Over pixels before channels, without a transposition. With dimensions kept, for the sake of the
        # gradient: else a GPU's host waits for a shape.
        return tf.reduce_sum(values, axis=[1, 2], keepdims=True) / pixels  # (B, 1, 1, c)

    def by_group(values):
        return tf.reshape(values, [-1, groups, channels // groups])

    means = mean_of_channels(exact)
    squares = mean_of_channels(tf.math.squared_difference(exact, tf.stop_gradient(means)))
    means, squares = by_group(means), by_group(squares)  # (B, groups, c / groups)
    mean = tf.reduce_mean(means, axis=2, keepdims=True)  # (B, groups, 1)
    variance = tf.reduce_mean(squares + tf.math.squared_difference(means, mean), axis=2, keepdims=True)
    gamma, beta = (tf.cast(tf.reshape(w, [groups, -1]), exact.dtype) for w in (gamma, beta))
    scale = tf.math.rsqrt(variance + epsilon) * gamma
    scale, offset = (tf.reshape(s, [-1, 1, 1, channels]) for s in (scale, beta - mean * scale))
    return tf.nn.relu(tf.cast(exact * scale + offset, x.dtype))
