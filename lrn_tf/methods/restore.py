"""From the folder of a run back to its method, with the weights of its newest checkpoint."""

from typing import Any

import tensorflow as tf

from lrn_tf.devices.precision import layers_compute_in
from lrn_tf.errors import UserError
from lrn_tf.methods.build import build
from lrn_tf.methods.method import Method
from lrn_tf.modules.pool import describe
from lrn_tf.settings.own_code import not_started, own_function
from lrn_tf.settings.table import POOLS
from lrn_tf.storage.checkpoints import Checkpoints
from lrn_tf.storage.config import unlike_pools
from lrn_tf.storage.runs import Run


def restore_method(run: Run, pool: Any = None) -> tuple[Method, int]:
    """The method of a run.

    Args:
        run: the run.
        pool: what has made its modules, if that is no built-in pool: FILE.py:FUNCTION, a function, or a
            list of kinds. A run's folder holds no code and starts none.

    Returns:
        the method, and the step of the checkpoint.

    Raises:
        UserError: there is no checkpoint that can be read, no pool is given where one must be, or it is
            not what has made the modules.
    """
    settings = run.asked
    kinds = _kinds(run, settings, pool)
    with layers_compute_in(settings.dtype):
        method = build(run.about["problem"], settings, kinds)
        step = tf.Variable(0, dtype=tf.int64, trainable=False)
    if different := unlike_pools(run.about["pool"], describe(method.pool)):
        raise UserError(f"the pool is not what has made {run.folder}: {different}; give the same --pool")
    checkpoints = Checkpoints(run.folder / "checkpoints", {"method": method.variables, "step": step})
    if not checkpoints.restore(clean=False):
        raise UserError(f"{run.folder} holds no checkpoint; give the folder of a run that has one")
    return method, int(step)


def _kinds(run, settings, pool):
    if settings.pool in POOLS:
        return None
    if not pool:
        raise not_started(f"the modules of {run.folder}", settings.pool, "pool", "pool")
    return own_function("pool", pool) if isinstance(pool, str) else pool
