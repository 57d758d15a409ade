"""Starting TensorFlow, with the compile cache and without its messages: what the user reads is ours."""

import contextlib
import os

from absl import logging

from lrn_tf.devices import compile_cache
from lrn_tf.errors import UserError


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


def start_tensorflow(cache: bool = True) -> str:
    """Imports TensorFlow and finds the devices; returns the name of what will compute."""
    import_tensorflow(cache)
    return find_devices()


def import_tensorflow(cache: bool = True) -> None:
    """Imports TensorFlow; what it has to say before devices are used can be said after it.

    With `cache`, it keeps what it compiles: see `lrn_tf.devices.compile_cache`. The environment
    variable TF_CPP_MIN_LOG_LEVEL, set to anything, brings all messages back.

    Raises:
        UserError: Keras is told to use something else.
    """
    if (backend := os.environ.get("KERAS_BACKEND", "tensorflow")) != "tensorflow":
        raise UserError(f"KERAS_BACKEND={backend} is set, and lrn_tf is made for tensorflow; unset it")
    if cache:
        compile_cache.use()
    else:
        compile_cache.inherit_none()
    quiet = "TF_CPP_MIN_LOG_LEVEL" not in os.environ
    # Not even errors: the compile cache brings false alarms, and what fails is raised as well.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with _stderr_closed() if quiet else contextlib.nullcontext():
        import tensorflow as tf

        for gpu in tf.config.list_physical_devices("GPU"):
            # Memory as needed, so that TensorBoard or a second run fits on the same GPU.
            with contextlib.suppress(RuntimeError):  # TensorFlow is in use already
                tf.config.experimental.set_memory_growth(gpu, True)
    if quiet:
        logging.set_verbosity(logging.ERROR)
        tf.get_logger().setLevel("ERROR")


def find_devices() -> str:
    """Starts the devices; returns the name of what will compute."""
    import tensorflow as tf

    with _stderr_closed() if os.environ["TF_CPP_MIN_LOG_LEVEL"] == "3" else contextlib.nullcontext():
        tf.config.list_logical_devices()
    if gpus := tf.config.list_physical_devices("GPU"):
        return tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU")
    return f"CPU ({os.cpu_count()} cores)"
