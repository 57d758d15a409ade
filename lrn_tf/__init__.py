"""Limitless Routing Networks for multi-task learning, in Keras 3 on TensorFlow."""

import os

# Keras reads it on import; modules and router are TensorFlow code.
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
