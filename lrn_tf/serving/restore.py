"""From the folder of a run to its network as it is served."""

from typing import Any

from lrn_tf.devices.start import start_tensorflow
from lrn_tf.storage.runs import Run


def restore(run: Run, pool: Any = None):
    """The network of a run, as it is served.

    Args:
        run: the run.
        pool: as in `lrn_tf.methods.restore.restore_method`.

    Returns:
        a `lrn_tf.serving.served.Served`, and the step of the checkpoint.

    Raises:
        UserError: there is no checkpoint that can be read, or its modules are others than those of `pool`.
    """
    settings = run.asked
    start_tensorflow(settings.cache)
    from lrn_tf.devices.precision import layers_compute_in
    from lrn_tf.methods.restore import restore_method
    from lrn_tf.serving.served import Served

    method, step = restore_method(run, pool)
    with layers_compute_in(settings.dtype):
        return Served(method, run.about["problem"]), step
