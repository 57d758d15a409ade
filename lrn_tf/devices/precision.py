"""The arithmetic of layers: what --dtype means to Keras."""

import contextlib

import keras

POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16"}


@contextlib.contextmanager
def layers_compute_in(dtype: str | keras.DTypePolicy):
    """Layers made meanwhile compute in a type of --dtype, or as a policy of Keras' says."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(POLICIES[dtype] if isinstance(dtype, str) else dtype)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
