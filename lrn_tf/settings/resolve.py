"""From what was given to the settings of a run: what benchmarks and methods preset, and what is refused."""

import dataclasses
import difflib
import os
import typing

from lrn_tf.errors import UserError
from lrn_tf.settings.own_code import FUNCTION
from lrn_tf.settings.table import (
    BENCHMARKS,
    FIELDS,
    FLOAT32_MAX,
    FOLDER,
    LRNS,
    METHODS,
    MODULAR,
    SGD_METHODS,
    Settings,
    has,
)

# What --benchmark and --method preset; a later line wins. The paper's settings are those of the table, and
# the schedule of SGD is that of Rosenbaum et al. (2017). digits_mtl, which is ours, is small enough to be
# learned within minutes on two CPU cores. Its learning rate falls in 15 epochs as far as the paper's does
# in 100: 0.97 ** (100 / 15) is 0.82.
PRESETS = (
    (("digits_mtl", "mixed_mtl"), MODULAR, dict(learning_rate=1e-3, lr_decay=0.82, dup=5, depth=4)),
    (("digits_mtl", "mixed_mtl"), LRNS, dict(d_model=64)),
    (("digits_mtl",), METHODS, dict(epochs=15)),
    (("mixed_mtl",), MODULAR, dict(pool="mixed", epochs=30)),
    (("mnist_mtl",), ("routing",), dict(rho=0.3)),
    (BENCHMARKS, SGD_METHODS, dict(learning_rate=1e-2, lr_decay=0.1, lr_every=20)),
    (("digits_mtl",), SGD_METHODS, dict(learning_rate=0.3)),
)

# What --init_from and --imitation preset: a router that has good paths need not be made to try others.
OF_GOOD_PATHS = dict(bonus=0.0)


def preset(benchmark: str, method: str) -> dict[str, typing.Any]:
    """What a benchmark and a method preset, by name of setting."""
    found = {}
    for benchmarks, methods, values in PRESETS:
        if (benchmark in benchmarks or benchmarks == BENCHMARKS) and method in methods:
            found |= values
    return found


def defaults(benchmark: str, method: str) -> dict[str, typing.Any]:
    """What every setting is, by name, where it is not given."""
    return dataclasses.asdict(Settings()) | preset(benchmark, method)


def resolve(given: dict[str, typing.Any]) -> Settings:
    """Fills what was not given from the benchmark's preset and the defaults, and checks the result.

    Args:
        given: values by name of setting, only those that the user set.

    Raises:
        UserError: there is no such setting, a value is not allowed, or two do not go together.
    """
    for name, value in given.items():
        if name not in FIELDS:
            like = difflib.get_close_matches(name, FIELDS, 1)
            say = f"is it {like[0]!r}?" if like else "see --help"
            raise UserError(f"there is no setting {name!r}; {say}")
        _check(FIELDS[name], value)
    benchmark = given.get("benchmark", Settings.benchmark)
    method = given.get("method", Settings.method)
    for name, value in given.items():
        if not has(method, name) and value != defaults(benchmark, method)[name]:
            able = ", ".join(FIELDS[name].metadata["methods"])
            raise UserError(f"--{name}={value} is not for --method={method} but for {able}; drop it")
    begun = OF_GOOD_PATHS if given.get("init_from") or given.get("imitation") else {}
    wanted = {**preset(benchmark, method), **begun, **given}
    # What is given in Python may be a whole number, but is kept as flags are.
    settings = Settings(**{n: float(v) if FIELDS[n].type is float else v for n, v in wanted.items()})
    if settings.method == "lrn" and settings.batch_size % settings.minibatch_size:
        raise UserError(
            f"--minibatch_size={settings.minibatch_size} does not divide --batch_size="
            f"{settings.batch_size}; choose a divisor"
        )
    if settings.schedule == "one_cycle":
        for name in ("lr_decay", "lr_every"):
            if (value := getattr(settings, name)) != defaults(benchmark, method)[name]:
                raise UserError(f"--{name}={value} is not for --schedule=one_cycle but for decay; drop it")
    if settings.examples_per != "task" and benchmark != "min_mtl":
        raise UserError(f"--examples_per={settings.examples_per} is for min_mtl only; drop it")
    if settings.image_size and not 4 <= settings.image_size <= 512:
        raise UserError(f"--image_size={settings.image_size} is out of range; allowed is 0 or 4 to 512")
    if settings.method in LRNS and settings.d_model % 4:
        raise UserError(f"--d_model={settings.d_model} is not a multiple of the router's 4 heads")
    if settings.freeze != "none" and not settings.init_from:
        raise UserError(f"--freeze={settings.freeze} needs a trained network; give --init_from=RUN")
    if settings.imitation and settings.init_from:
        raise UserError(
            f"--imitation={settings.imitation} would unlearn what the router of --init_from knows; leave"
            " one of them out"
        )
    if settings.benchmark not in BENCHMARKS and os.path.isdir(settings.benchmark):
        # A run is also read from elsewhere.
        settings = dataclasses.replace(settings, benchmark=os.path.abspath(settings.benchmark))
    if not settings.workdir:
        settings = dataclasses.replace(settings, workdir=os.path.join("runs", settings.name))
    return settings


# Of the types of settings, what one gives.
WHAT_IS = {int: "a whole number", float: "a number", str: "text", bool: "True or False"}


def _check(field, value):
    # Flags have their types; what is read from a file may have any.
    if type(value) is not field.type and not (field.type is float and type(value) is int):
        raise UserError(f"--{field.name} is {type(value).__name__}; give {WHAT_IS[field.type]}")
    if field.type is str:
        check_text(field.name, value)
    limits = field.metadata
    if limits["choices"] and value not in limits["choices"] and not _is_own(value, limits["or_else"]):
        allowed = ", ".join([*limits["choices"], *limits["or_else"]])
        raise UserError(f"--{field.name}={value} is unknown; choose one of: {allowed}")
    low, high = limits["low"], limits["high"]
    if low is None:
        return
    # `not <=` also refuses NaN, and no number may be infinite in TensorFlow.
    if not low <= value <= (FLOAT32_MAX if high is None else high):
        allowed = f"{low} to {high}" if high is not None else f"{low} or more"
        raise UserError(f"--{field.name}={value} is out of range; allowed is {allowed}")


def _is_own(value, allowed):
    """Whether a value stands for something of the user's; a run's folder of pictures may be gone."""
    is_folder = os.path.isabs(value) or os.path.isdir(value)
    return (FUNCTION in allowed and ":" in value) or (FOLDER in allowed and is_folder)


def check_text(name: str, value: str) -> None:
    """Sees that a flag's value is UTF-8, without which TensorFlow can open no file.

    Raises:
        UserError: it is not; bytes that Python could not decode stand in it as surrogates.
    """
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise UserError(
            f"--{name}={ascii(value)[1:-1]} is not UTF-8; give one that is, and rename the folder or file"
            f" if it is one"
        ) from error
