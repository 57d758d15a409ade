"""Limitless Routing Networks for multi-task learning, in Keras 3 on TensorFlow.

`train` learns a list of `Task` with a pool of `Kind`, and returns an `LRN`; `evaluate` says what became of
each example, an `Evaluation`; `load` brings back what was exported, as a `Model`. A `Problem` is what tasks
are to who makes a pool for them.
"""

import importlib
import importlib.metadata
import os
import sys
import tempfile
import typing


def _tune():
    """What TensorFlow reads from the environment on import, where the user has not set it."""
    # By itself it uses oneDNN on CPUs with AVX512-VNNI or newer only, and what a run computes should not
    # depend on that.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    # On GPUs, cuDNN's search for the fastest convolution begins anew with each size of a group of examples,
    # and XLA's for the fastest product with each program: measured, they cost more than they gain.
    os.environ.setdefault("TF_CUDNN_USE_AUTOTUNE", "0")
    for flag in ("--xla_gpu_autotune_level=0", "--xla_gpu_enable_triton_gemm=false"):
        flags = os.environ.get("XLA_FLAGS", "")
        if flag.partition("=")[0] not in flags:
            os.environ["XLA_FLAGS"] = f"{flags} {flag}".strip()


# Keras reads it on import; modules and router are TensorFlow code.
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
if "tensorflow" not in sys.modules:
    _tune()

if typing.TYPE_CHECKING:  # what is looked up by name below
    from lrn_tf.data.problem import Problem
    from lrn_tf.data.tasks import Task
    from lrn_tf.errors import UserError
    from lrn_tf.methods.network import LRN
    from lrn_tf.modules.pool import Kind
    from lrn_tf.results.evaluation import Evaluation
    from lrn_tf.serving.model import Model, load

# Where to find what there is for users. TensorFlow takes seconds that a mistyped flag need not cost, so
# that it is imported when one of them is asked for.
_PUBLIC = {
    "Problem": "data.problem",
    "Task": "data.tasks",
    "Kind": "modules.pool",
    "LRN": "methods.network",
    "UserError": "errors",
    "Model": "serving.model",
    "load": "serving.model",
    "Evaluation": "results.evaluation",
}
__all__ = [
    "train",
    "Task",
    "Kind",
    "Problem",
    "LRN",
    "evaluate",
    "Evaluation",
    "load",
    "Model",
    "UserError",
]


def train(tasks, pool=None, *, name="tasks", workdir="", export_dir="", **settings):
    """Trains a Limitless Routing Network, as `python -m lrn_tf.main` does.

    Args:
        tasks: what to learn, a list of `Task`; or what `--benchmark` may name.
        pool: a list of `Kind`; a function of a `Problem` and `dup` that returns one; or what `--pool` may
            name. Without, what it is where `--pool` is not given.
        name: what to call the tasks.
        workdir: folder of checkpoints, metrics and summaries; if it holds such a run already, that is
            continued. Without one, a new temporary folder.
        export_dir: folder of a SavedModel to write at the end; empty writes none.
        settings: by the names of the flags of `lrn_tf.main`, such as `epochs=5` or `depth=3`.

    Returns:
        the network, an `LRN`. Its `workdir` is the folder of the run, and its `epochs` what came out of
        each that was evaluated, as `lrn_tf.storage.metrics.EpochMetrics`.

    Raises:
        UserError: a `ValueError` of one line, if what is given cannot be used.
        KeyboardInterrupt: after Ctrl-C or a SIGTERM; what was learned is saved, and the same call with the
            same workdir continues.
    """
    _start()
    from lrn_tf.serving.export import check_output, export
    from lrn_tf.training.train import learn

    tasks, pool, workdir, export_dir = map(_plain, (tasks, pool, workdir, export_dir))
    settings = {name: _plain(value) for name, value in settings.items()}
    workdir = workdir or os.path.join(tempfile.mkdtemp(prefix="lrn_tf_"), "run")
    if export_dir:
        check_output(export_dir, workdir)
    network, writes = learn(tasks, pool, name, dict(settings, workdir=workdir))
    if export_dir and writes:
        export(workdir, export_dir, pool)
    return network


def evaluate(workdir, tasks=None, pool=None):
    """Evaluates what a run has learned once more: answers, losses and paths of each example.

    Args:
        workdir: the folder of the run.
        tasks: if these were a list or a function of yours, the same again; or their folder, if it is no
            longer where it was.
        pool: likewise, if it was a list or a function of yours.

    Returns:
        an `Evaluation` of the newest checkpoint on the test examples or, with `--validation`, on those
        that were held out: as the run did after its last epoch.

    Raises:
        UserError: the folder is no run with a checkpoint, or examples or pool are missing or others.
    """
    _start()
    from lrn_tf.storage.runs import read
    from lrn_tf.training.evaluate import evaluate

    workdir, tasks, pool = map(_plain, (workdir, tasks, pool))
    return evaluate(read(workdir), tasks, pool).evaluation


def _plain(given):
    """Paths as text, and NumPy's numbers as Python's; anything else as it is."""
    import numpy as np

    if isinstance(given, np.generic):
        return given.item()
    return os.fspath(given) if isinstance(given, os.PathLike) else given


def __getattr__(name: str):
    if name == "__version__":
        return importlib.metadata.version("lrn_tf")
    if name not in _PUBLIC:
        raise AttributeError(f"module 'lrn_tf' has no attribute {name!r}")
    _start()
    return getattr(importlib.import_module(f"lrn_tf.{_PUBLIC[name]}"), name)


def _start():
    """Imports TensorFlow without its messages, and with the compile cache."""
    importlib.import_module("lrn_tf.devices.start").import_tensorflow()


def __dir__():
    return sorted({*globals(), *__all__})
