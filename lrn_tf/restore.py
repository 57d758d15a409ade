"""From the folder of a run back to its network, with the weights of its newest checkpoint."""

from lrn_tf import compile_cache
from lrn_tf.errors import UserError
from lrn_tf.quiet import start_tensorflow
from lrn_tf.settings import Settings, resolve
from lrn_tf.storage.runs import Run


def restore(run: Run):
    """The network of a run, as it is served.

    Returns:
        a `lrn_tf.served.Served`, and the step of the checkpoint.

    Raises:
        UserError: there is no checkpoint that can be read.
    """
    settings = settings_of(run)
    if settings.cache:
        compile_cache.use()
    start_tensorflow()
    from lrn_tf.data.benchmarks import Problem
    from lrn_tf.served import Served
    from lrn_tf.training.precision import layers_compute_in

    try:
        about = run.about["problem"]
        problem = Problem(**{**about, "image_shape": tuple(about["image_shape"])})
    except (TypeError, KeyError) as error:
        raise UserError(f"{run.folder} was made by another version of lrn_tf ({error})") from error
    method, step = restore_method(run, problem)
    with layers_compute_in(settings.dtype):
        return Served(method, problem), step


def restore_method(run: Run, problem):
    """The method of a run on its `lrn_tf.data.benchmarks.Problem`; returns and raises as `restore`."""
    import tensorflow as tf

    from lrn_tf.methods.build import build
    from lrn_tf.storage.checkpoints import Checkpoints
    from lrn_tf.training.precision import layers_compute_in

    settings = settings_of(run)
    with layers_compute_in(settings.dtype):
        method, step = build(problem, settings), tf.Variable(0, dtype=tf.int64, trainable=False)
    checkpoints = Checkpoints(run.folder / "checkpoints", {"method": method.variables, "step": step})
    if not checkpoints.restore(clean=False):
        raise UserError(f"{run.folder} holds no checkpoint; give the folder of a run that has one")
    return method, int(step)


def settings_of(run: Run) -> Settings:
    """A run's settings; raises UserError if they are none of this version's."""
    try:
        return resolve(run.settings)
    except (TypeError, UserError) as error:
        raise UserError(f"{run.folder} was made by another version of lrn_tf ({error})") from error
