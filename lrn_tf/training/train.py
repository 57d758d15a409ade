"""From settings, tasks and a pool to a trained network: what the command line does, and `lrn_tf.train`."""

import contextlib
import dataclasses
import random
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from lrn_tf.data import benchmarks
from lrn_tf.data.images import SHIFT
from lrn_tf.data.problem import CLASSES
from lrn_tf.data.together import Drawn
from lrn_tf.devices import distribution
from lrn_tf.devices.precision import POLICIES, layers_compute_in
from lrn_tf.devices.start import find_devices
from lrn_tf.errors import UserError
from lrn_tf.methods.build import build, describe
from lrn_tf.methods.method import Method
from lrn_tf.methods.modular import pool_of
from lrn_tf.methods.network import LRN
from lrn_tf.methods.restore import restore_method
from lrn_tf.settings.resolve import resolve
from lrn_tf.settings.table import BENCHMARKS, LRNS, MODULAR, Settings
from lrn_tf.storage.checkpoints import Checkpoints
from lrn_tf.storage.runs import read
from lrn_tf.storage.workdir import Workdir
from lrn_tf.training.trainer import Trainer
from lrn_tf.training.transfer import as_seen_by, start_from


def learn(tasks, pool, name: str, given: dict[str, Any]) -> tuple[LRN, bool]:
    """What `lrn_tf.train` does, but for the export; `given` are settings, with a workdir.

    Returns:
        the network, and whether this process is the one of several workers that writes.
    """
    if "benchmark" in given:
        raise UserError(
            "benchmark is what the tasks are; give the one or the others, as the first argument"
        )
    given = dict(given)
    # What is no name has one that begins like a file's, which is not asked for again.
    given["benchmark"] = tasks if isinstance(tasks, str) else f"python:{name}"
    if pool is not None:
        given["pool"] = pool if isinstance(pool, str) else f"python:{getattr(pool, '__name__', 'kinds')}"
    asked = resolve(given)
    if not asked.cache:
        raise UserError(
            "cache=False comes too late in Python, where TensorFlow runs already; leave it out, and set the"
            " environment variable TF_XLA_FLAGS=--tf_xla_persistent_cache_directory= before lrn_tf is used"
        )
    if asked.method not in LRNS:
        raise UserError(
            f"method={asked.method} makes no LRN; choose one of: {', '.join(LRNS)}, or train it with"
            f" python -m lrn_tf.main --benchmark=FILE.py:FUNCTION --method={asked.method}"
        )
    source = None if isinstance(tasks, str) else benchmarks.own(name, tasks)
    # Afterwards the user's own layers compute, and what draws at random goes on, as before.
    with layers_compute_in(asked.dtype), _randomness_kept():
        outcome = run(asked, source, None if isinstance(pool, str) else pool)
    if outcome.stopped:
        raise KeyboardInterrupt
    network = outcome.method.network
    network.workdir = asked.workdir
    network.epochs = Workdir(asked).read_metrics()
    return network, outcome.writes


@contextlib.contextmanager
def _randomness_kept():
    """Afterwards Python and NumPy draw what they would have drawn."""
    of_python, of_numpy = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(of_python)
        np.random.set_state(of_numpy)


class Outcome(NamedTuple):
    """What came of a training."""

    method: Method
    stopped: int | None  # the signal that asked it to stop before it was through
    writes: bool  # whether this process is the one of several workers that writes


def run(settings: Settings, source: Callable[..., Drawn] | None = None, kinds=None) -> Outcome:
    """Trains what the settings ask for.

    Args:
        settings: of the run.
        source: draws the examples, instead of what `settings.benchmark` names; see `benchmarks.load`.
        kinds: of modules, instead of what `settings.pool` names; see `lrn_tf.methods.build.build`.

    Raises:
        UserError: with one line for the user.
    """
    workdir = Workdir(settings)
    workdir.check()
    device, strategy = start(settings)
    worker, workers = distribution.workers(strategy)
    first = worker == 0
    with enough_memory(), distribution.losing_workers(workers):
        kinds = settings.own("pool") if kinds is None else kinds
        benchmark = benchmarks.benchmark_of(settings, source)
        _check_of_use(settings, benchmark.problem)
        known = None
        if settings.init_from:
            known, problem = _begun_with(settings, workdir, kinds)
            benchmark = dataclasses.replace(benchmark, problem=as_seen_by(problem, benchmark.problem))
        if settings.method in MODULAR:  # made once: to count its weights, layers are built
            kinds = pool_of(benchmark.problem, settings, kinds)
        if first:
            notes = *_of_heads(settings, benchmark.problem), *benchmark.notes
            benchmark = dataclasses.replace(benchmark, notes=notes)
            describe(benchmark, settings, kinds)
        print(f"device: {device}{distribution.describe(strategy)}", file=sys.stderr)
        with distribution.building(strategy):
            # What was counted has drawn from it: so all methods begin with the same modules.
            keras.utils.set_random_seed(settings.seed)
            method = build(benchmark.problem, settings, kinds)
            if known is not None:
                said = start_from(known, method, settings.freeze == "modules")
                if first:
                    print(said, file=sys.stderr)
                del known
        return Outcome(method, Trainer(method, benchmark, settings, workdir, strategy).run(), first)


def _check_of_use(settings, problem):
    """Sees that there is something for settings that are about some tasks only."""
    least = SHIFT if settings.augment == "shift" else 1
    for name, there, what in (
        (
            "augment",
            any(len(given.shape) == 3 and max(given.shape[:2]) >= least for given in problem.inputs),
            "images to change",
        ),
        ("mixup", any(not given.vocabulary for given in problem.inputs), "examples that can be mixed"),
        ("label_smoothing", any(task.form == CLASSES for task in problem.tasks), "classes to smooth"),
    ):
        if (value := getattr(settings, name)) not in ("none", 0) and not there:
            raise UserError(f"--{name}={value} has no {what}; leave it out")


def _of_heads(settings, problem):
    """A note, if two tasks share output modules by chance: they ask for as many classes, but other ones."""
    if settings.benchmark in BENCHMARKS or settings.method not in MODULAR:
        return
    first = {}
    for task, space in zip(problem.tasks, problem.space_of, strict=True):
        other = first.setdefault(space, task)
        if not set(other.answers) & set(task.answers):
            yield (
                f"{other.name} and {task.name} share output modules, though their answers have other names;"
                " --heads=task parts them"
            )
            return


def _begun_with(settings, workdir, kinds):
    """The method that --init_from has learned, and its problem.

    Once the run has a checkpoint of its own there is no method, and the other run may be gone.
    """
    if Checkpoints(workdir.checkpoints, {}).newest and (held := workdir.held()):
        return None, held.about["problem"]
    learned = read(settings.init_from)
    if (method := learned.asked.method) not in LRNS:
        raise UserError(
            f"--init_from={settings.init_from} is a run of --method={method}, which has no router; give a"
            f" run of one of: {', '.join(LRNS)}"
        )
    return restore_method(learned, kinds)[0], learned.about["problem"]


def start(settings: Settings) -> tuple[str, tf.distribute.Strategy]:
    """Starts the devices, all that is random, and the arithmetic of layers, as the settings want it.

    Returns:
        the device's name, and the strategy.

    Raises:
        UserError: the settings and the devices do not go together.
    """
    strategy = distribution.make_strategy(settings.distribute)
    distribution.check_parts(settings, strategy)
    keras.utils.set_random_seed(settings.seed)
    keras.config.set_dtype_policy(POLICIES[settings.dtype])
    return find_devices(), strategy


@contextlib.contextmanager
def enough_memory():
    """Raises UserError where memory, of the machine or its GPU, is not enough for what is asked."""
    try:
        yield
    except (MemoryError, tf.errors.ResourceExhaustedError) as error:
        raise UserError(
            "memory is not enough; choose a smaller --dup, --d_model, --image_size or --batch_size"
        ) from error
