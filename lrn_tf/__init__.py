"""Limitless Routing Networks for multi-task learning, in Keras 3 on TensorFlow."""

import os
import sys

# Keras reads it on import; modules and router are TensorFlow code.
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
# TensorFlow reads it on import. By itself it uses oneDNN on CPUs with AVX512-VNNI or newer only, and what a
# run computes should not depend on that.
if "tensorflow" not in sys.modules:
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")


def load(path: str):
    """Loads an exported model or a run's newest checkpoint; see `lrn_tf.model.load`."""
    from lrn_tf.model import load as load_model  # TensorFlow takes seconds that a flag's typo need not cost

    return load_model(path)
