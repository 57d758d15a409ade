"""Trains a network: `python -m lrn_tf.main --benchmark=min_mtl --dup=10`."""

import contextlib
import dataclasses
import signal
import sys
from collections.abc import Callable
from typing import Any

from absl import flags

from lrn_tf import compile_cache, program
from lrn_tf.errors import UserError
from lrn_tf.quiet import find_devices, import_tensorflow
from lrn_tf.settings import BENCHMARKS, LRNS, PRESETS, SGD_METHODS, Settings, resolve
from lrn_tf.storage.workdir import Workdir


def define_flags() -> None:
    """One flag for each setting. Defaults are None, so that presets know what the user gave."""
    define = {int: flags.DEFINE_integer, float: flags.DEFINE_float, str: flags.DEFINE_string}
    for field in dataclasses.fields(Settings):
        text = f"{field.metadata['help']}. {_defaults(field)}"
        if field.type is bool:
            flags.DEFINE_bool(field.name, None, text)
        elif field.metadata["choices"]:
            text = f"{text}; one of: {', '.join(field.metadata['choices'])}"
            flags.DEFINE_string(field.name, None, text)
        else:
            define[field.type](field.name, None, text)
        # --help lists the flags of the program, whichever module defines them.
        flags.FLAGS.register_key_flag_for_module(sys.argv[0], flags.FLAGS[field.name])


def _defaults(field):
    text = f"Default: {'none' if field.default == '' else field.default}"
    for benchmarks, methods, values in PRESETS:
        if field.name in values:
            names = [] if benchmarks == BENCHMARKS else list(benchmarks)
            names += [] if methods == LRNS + SGD_METHODS else [f"--method={'|'.join(methods)}"]
            text += f"; {values[field.name]} for {' with '.join(names)}"
    return text


def given() -> dict[str, Any]:
    """The settings that the user gave as flags, by name."""
    values = {field.name: flags.FLAGS[field.name].value for field in dataclasses.fields(Settings)}
    return {name: value for name, value in values.items() if value is not None}


def settings_from_flags() -> Settings:
    """The settings that the parsed flags ask for.

    Raises:
        UserError: a value is not allowed.
    """
    return resolve(given())


def prepare(settings: Settings) -> tuple[str, Any]:
    """Starts TensorFlow as the settings want it.

    Returns:
        the device's name, and the `tf.distribute.Strategy`.

    Raises:
        UserError: the settings and the devices do not go together.
    """
    # Here and not on import: TensorFlow takes seconds that a mistyped flag need not cost.
    if settings.cache:
        compile_cache.use()
    import_tensorflow()
    import keras

    from lrn_tf.training import distribution
    from lrn_tf.training.precision import POLICIES

    strategy = distribution.make_strategy(settings.distribute)
    distribution.check_parts(settings, strategy)
    keras.utils.set_random_seed(settings.seed)
    keras.config.set_dtype_policy(POLICIES[settings.dtype])
    return find_devices(), strategy


def train(settings: Settings) -> int:
    """Trains what the settings ask for.

    Returns:
        the exit code: 0, also after a SIGTERM that was heeded, or 130 after Ctrl-C.

    Raises:
        UserError: with one line for the user.
    """
    workdir = Workdir(settings)
    workdir.check()
    if settings.export_dir:
        from lrn_tf.export import check_output, export  # with NumPy, which a flag's typo need not cost

        check_output(settings.export_dir, settings.workdir)
    device, strategy = prepare(settings)
    from lrn_tf.data import benchmarks
    from lrn_tf.methods.build import build, describe
    from lrn_tf.training import distribution
    from lrn_tf.training.trainer import Trainer

    with enough_memory():
        benchmark = benchmarks.load(settings)
        worker, _ = distribution.workers(strategy)
        if worker == 0:
            describe(benchmark, settings)
        print(f"device: {device}{distribution.describe(strategy)}", file=sys.stderr)
        with distribution.building(strategy):
            method = build(benchmark.problem, settings)
        stopped = Trainer(method, benchmark, settings, workdir, strategy).run()
    if stopped:
        # What a cluster preempts, and what is continued, has not failed.
        print("stopped and saved; the same command continues", file=sys.stderr)
        return 0 if stopped == signal.SIGTERM else 130
    if settings.export_dir and worker == 0:
        export(settings.workdir, settings.export_dir)
    return 0


@contextlib.contextmanager
def enough_memory():
    """Raises UserError where memory, of the machine or its GPU, is not enough for what is asked."""
    import tensorflow as tf

    try:
        yield
    except (MemoryError, tf.errors.ResourceExhaustedError) as error:
        raise UserError(
            "memory is not enough; choose a smaller --dup, --d_model, --image_size or --batch_size"
        ) from error


def main(_: list[str]) -> int:
    return train(settings_from_flags())


CONTINUES = "stopped; the same command continues from the last checkpoint"


def run(main: Callable[[list[str]], int | None], stopped: str = CONTINUES) -> None:
    """Runs a program with one flag per setting; see `program.run`."""
    define_flags()
    program.run(main, stopped=stopped)


def console() -> None:
    """Entry point of `lrn-tf`."""
    run(main)


if __name__ == "__main__":
    console()
