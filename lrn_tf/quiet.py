"""TensorFlow without its start-up messages, so that what the user reads is ours."""

import contextlib
import os

from absl import logging


@contextlib.contextmanager
def _stderr_closed():
    """Drops what is written to file descriptor 2: C++ code writes there past `sys.stderr`."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def start_tensorflow() -> str:
    """Imports TensorFlow and finds the devices; returns the name of what will compute.

    The environment variable TF_CPP_MIN_LOG_LEVEL, set to anything, brings all messages back.
    """
    verbose = "TF_CPP_MIN_LOG_LEVEL" in os.environ
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    with contextlib.nullcontext() if verbose else _stderr_closed():
        import tensorflow as tf

        gpus = tf.config.list_physical_devices("GPU")
        for gpu in gpus:
            # Memory as needed, so that TensorBoard or a second run fits on the same GPU.
            with contextlib.suppress(RuntimeError):  # TensorFlow is in use already
                tf.config.experimental.set_memory_growth(gpu, True)
        tf.config.list_logical_devices()
    if not verbose:
        logging.set_verbosity(logging.ERROR)
        tf.get_logger().setLevel("ERROR")
    if gpus:
        return tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU")
    return f"CPU ({os.cpu_count()} cores)"
