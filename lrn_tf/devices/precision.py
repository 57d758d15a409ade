"""The arithmetic of layers: what --dtype means to Keras."""

import contextlib

import keras

POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16"}


@contextlib.contextmanager
def layers_compute_in(dtype: str):
    """Layers made meanwhile compute in this type, and keep their weights in float32."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(POLICIES[dtype])
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
