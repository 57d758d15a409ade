"""Small operations run as one program where that pays: on GPUs, which wait for launches."""

import contextlib
import contextvars

import tensorflow as tf

_compiled = contextvars.ContextVar("compiled", default=False)


@contextlib.contextmanager
def compiled(on: bool = True):
    """What is traced within has each `fused` function compiled by XLA if `on`, anew for each shape.

    On GPUs this makes a few launches of dozens, which pays where shapes recur. Not for what is exported:
    an exported model may be given any size of batch, on any machine.
    """
    before = _compiled.set(on)
    try:
        yield
    finally:
        _compiled.reset(before)


def fused(function):
    """Makes a function of tensors, and of what is fixed, one that `compiled` compiles.

    Compiled, it keeps nothing but its arguments for the backward pass, and works the rest out again.

    Args:
        function: of a tuple of tensors and of Python values; returns a tensor.
    """
    forward = tf.function(function, jit_compile=True, autograph=False)

    @tf.function(jit_compile=True, autograph=False)
    def backward(gradient, tensors, *fixed):
        with tf.GradientTape() as tape:
            tape.watch(tensors)
            y = function(tensors, *fixed)
        return tape.gradient(y, tensors, gradient)

    def run(tensors, *fixed):
        if not _compiled.get():
            return function(tensors, *fixed)

        # Arguments are copied twice for the sake of `tf.cond`, in whose branches modules run. A call of
        # what XLA compiles cannot take tensors of the forward branch, copies of them it can.
        @tf.custom_gradient
        def keep_arguments(*kept):
            def gradient(given):
                return backward(given, tuple(map(tf.identity, kept)), *fixed)

            return forward(kept, *fixed), gradient

        # Without copies the gradient of a branch takes what comes from outside of it twice, as its own and
        # as what is kept here, of which TensorFlow feeds but one.
        return keep_arguments(*map(tf.identity, tensors))

    return run


def pays(batch: int | None) -> bool:
    """Whether what is traced for a batch of so many examples shall be `compiled`; None for any number."""
    return batch is not None and on_gpu()


def on_gpu() -> bool:
    """Whether GPUs will run what is traced. It starts the devices."""
    return bool(tf.config.list_logical_devices("GPU"))
