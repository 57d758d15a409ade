"""Trains a network: `python -m lrn_tf.main --benchmark=min_mtl --dup=10`."""

import gc
import signal
import sys
from collections.abc import Callable
from typing import Any

from absl import flags

from lrn_tf import program
from lrn_tf.devices.start import import_tensorflow
from lrn_tf.settings.resolve import PRESETS, resolve
from lrn_tf.settings.table import BENCHMARKS, FIELDS, GROUPS, METHODS, Settings
from lrn_tf.storage.workdir import Workdir


def define_flags() -> None:
    """One flag for each setting. Defaults are None, so that presets know what the user gave."""
    define = {int: flags.DEFINE_integer, float: flags.DEFINE_float, str: flags.DEFINE_string}
    group = None
    for field in FIELDS.values():
        group = GROUPS.get(field.name, group)
        text = f"{field.metadata['help']}. {_defaults(field)}"
        if field.type is bool:
            flags.DEFINE_bool(field.name, None, text, module_name=group)
        elif field.metadata["choices"]:
            allowed = [*field.metadata["choices"], *field.metadata["or_else"]]
            text = f"{text}; one of: {', '.join(allowed)}"
            flags.DEFINE_string(field.name, None, text, module_name=group)
        else:
            define[field.type](field.name, None, text, module_name=group)


def _defaults(field):
    methods = field.metadata["methods"]
    only = "" if methods == METHODS else f"For --method={'|'.join(methods)}. "
    text = f"{only}Default: {'none' if field.default == '' else field.default}"
    for benchmarks, methods, values in PRESETS:
        if field.name in values:
            where = [] if benchmarks == BENCHMARKS else [" and ".join(benchmarks)]
            if not set(field.metadata["methods"]) <= set(methods):
                where.append(f"--method={'|'.join(methods)}")
            text += f"; {values[field.name]} for {' with '.join(where)}"
    return text


def given() -> dict[str, Any]:
    """The settings that the user gave as flags, by name."""
    values = {name: flags.FLAGS[name].value for name in FIELDS}
    return {name: value for name, value in values.items() if value is not None}


def settings_from_flags() -> Settings:
    """The settings that the parsed flags ask for.

    Raises:
        UserError: a value is not allowed.
    """
    return resolve(given())


def train(settings: Settings) -> int:
    """Trains what the settings ask for.

    Returns:
        the exit code: 0, also after a SIGTERM that was heeded, or 130 after Ctrl-C.

    Raises:
        UserError: with one line for the user.
    """
    Workdir(settings).check()
    if settings.export_dir:
        # With NumPy, which a flag's typo need not cost.
        from lrn_tf.serving.export import check_output, export

        check_output(settings.export_dir, settings.workdir)
    import_tensorflow(settings.cache)
    from lrn_tf.training.train import run as run_training

    stopped, writes = run_training(settings)[1:]
    if stopped:
        # What a cluster preempts, and what is continued, has not failed.
        print("stopped and saved; the same command continues", file=sys.stderr)
        return 0 if stopped == signal.SIGTERM else 130
    if settings.export_dir and writes:
        gc.collect()  # the network that was trained: another is made to be exported
        export(settings.workdir, settings.export_dir, settings.pool)
    return 0


def main(_: list[str]) -> int:
    return train(settings_from_flags())


CONTINUES = "stopped; the same command continues from the last checkpoint"


def run(main: Callable[[list[str]], int | None], stopped: str = CONTINUES) -> None:
    """Runs a program with one flag per setting; see `program.run`."""
    define_flags()
    program.run(main, stopped=stopped)


if __name__ == "__main__":
    run(main)
