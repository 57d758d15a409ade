"""Limitless Routing Networks for multi-task learning, in Keras 3 on TensorFlow."""

import os

# Keras reads it on import; modules and router are TensorFlow code.
os.environ.setdefault("KERAS_BACKEND", "tensorflow")


def load(path: str):
    """Loads an exported model or a run's newest checkpoint; see `lrn_tf.model.load`."""
    from lrn_tf.model import load as load_model  # TensorFlow takes seconds that a flag's typo need not cost

    return load_model(path)
