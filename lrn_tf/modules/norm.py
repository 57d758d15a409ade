"""A norm and ReLU in one: the norm of residual networks here, with few passes over what it norms."""

import contextlib
import contextvars

import keras
import tensorflow as tf

EPSILON = 1e-5
_as_program = contextvars.ContextVar("as_program", default=False)


@contextlib.contextmanager
def as_programs():
    """What is traced within has each `GroupNormReLU` compiled by XLA, anew for every size of batch.

    On GPUs this makes a few launches of dozens. It pays where sizes recur, and must not be exported.
    """
    before = _as_program.set(True)
    try:
        yield
    finally:
        _as_program.reset(before)


@keras.saving.register_keras_serializable("lrn_tf")
class GroupNormReLU(keras.layers.GroupNormalization):
    """GroupNorm (Wu and He 2018), which has no state, then ReLU; float32 within at least.

    Args:
        groups: of channels, of which the mean and variance are taken; -1 for a group for each channel.
    """

    def __init__(self, groups: int, epsilon: float = EPSILON, **kwargs):
        super().__init__(groups=groups, epsilon=epsilon, **kwargs)

    def call(self, x):
        """Args: x: `[B, H, W, c]`. Returns: the same shape."""
        run = _program if _as_program.get() else _norm
        gamma, beta = tf.convert_to_tensor(self.gamma), tf.convert_to_tensor(self.beta)
        return run(x, gamma, beta, self.groups, self.epsilon)


def _norm(x, gamma, beta, groups, epsilon):
    channels, pixels = x.shape[-1], x.shape[1] * x.shape[2]
    wide = tf.cast(x, keras.backend.result_type(x.dtype, "float32"))
    # Over pixels before channels, and squares beside numbers: one pass over them, and no transposition.
    # With dimensions kept, for the sake of the gradient: else a GPU's host waits for a shape.
    sums = (tf.reduce_sum(s, axis=[1, 2], keepdims=True) for s in (wide, wide * wide))  # (B, 1, 1, c)
    of_group = (tf.reshape(s / pixels, [-1, groups, channels // groups]) for s in sums)
    mean, square = (tf.reduce_mean(s, axis=2, keepdims=True) for s in of_group)  # (B, groups, 1)
    scale = tf.math.rsqrt(tf.maximum(square - mean * mean, 0) + epsilon) * tf.reshape(gamma, [groups, -1])
    offset = tf.reshape(beta, [groups, -1]) - mean * scale  # (B, groups, c / groups)
    scale, offset = (tf.reshape(s, [-1, 1, 1, channels]) for s in (scale, offset))
    return tf.nn.relu(tf.cast(wide * scale + offset, x.dtype))


@tf.function(jit_compile=True, autograph=False)
def _forward(*arguments):
    return _norm(*arguments)


@tf.function(jit_compile=True, autograph=False)
def _backward(gradient, x, gamma, beta, groups, epsilon):
    with tf.GradientTape() as tape:
        tape.watch((x, gamma, beta))
        y = _norm(x, gamma, beta, groups, epsilon)
    return tape.gradient(y, (x, gamma, beta), gradient)


def _program(x, gamma, beta, groups, epsilon):
    """`_norm`, which keeps nothing but its arguments for the backward pass."""

    @tf.custom_gradient
    def run(*kept):
        def gradient(given):
            # A branch of a condition hands nothing over in XLA's context, where calls take arguments.
            return _backward(given, *map(tf.identity, kept), groups, epsilon)

        return _forward(*kept, groups, epsilon), gradient

    # The branch's own, or its gradient would have what comes from outside of it twice, and take it once.
    return run(*map(tf.identity, (x, gamma, beta)))
