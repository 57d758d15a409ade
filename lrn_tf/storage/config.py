"""config.json: what was asked of a run, on what data, by which programs."""

import dataclasses
import itertools
import json
from typing import TypedDict

from lrn_tf.data.problem import FORMS, HEADS, NUMBERS, Problem, differences, names_input
from lrn_tf.errors import UserError, printable, reason
from lrn_tf.settings.resolve import resolve
from lrn_tf.storage.files import seal, unseal
from lrn_tf.storage.from_json import of_type, parse


class About(TypedDict):
    """What there is to say of the data and the method besides the settings.

    Its `pool` is what `lrn_tf.modules.pool.describe` says of the modules; empty for a method without.
    """

    problem: Problem
    pool: list[str]
    training_examples: int
    eval_examples: int
    parameters: int


@dataclasses.dataclass(frozen=True)
class Config:
    """The whole of it.

    Attributes:
        settings: by name, all of them; what came later than the file has its default.
        versions: by name of package, None if it is not installed.
        git_revision: None outside of git.
        environment: variables that change what is computed; None where one was not set.
    """

    settings: dict
    about: About
    versions: dict[str, str | None]
    git_revision: str | None
    environment: dict[str, str | None]

    @classmethod
    def from_json(cls, raw: bytes) -> "Config":
        """What a file says.

        Raises:
            ValueError: it is damaged, or says what cannot be.
        """
        config = of_type(cls, _unsealed(raw), "it")
        check_problem(config.about["problem"])
        return dataclasses.replace(config, settings=_all_settings(config.settings))

    def to_json(self) -> str:
        """The file, with a checksum."""
        return json.dumps(seal(dataclasses.asdict(self)), indent=2) + "\n"


def _unsealed(raw):
    try:
        return unseal(of_type(dict, parse(raw), "it"))
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _all_settings(settings):
    try:
        return dataclasses.asdict(resolve(settings))
    except UserError as error:
        raise ValueError(f"its settings are none of this version of lrn_tf: {reason(error)}") from error


def check_problem(problem: Problem) -> None:
    """Sees that what a file says of a problem goes together.

    Raises:
        ValueError: it does not.
    """
    names, inputs = problem.task_names, [given.name for given in problem.inputs]
    if not names or len(set(names)) != len(names) or not inputs or len(set(inputs)) != len(inputs):
        raise ValueError("its problem has no tasks or inputs with names of their own")
    if problem.heads not in HEADS:
        raise ValueError(f"its problem has heads {ascii(problem.heads)}")
    if set(inputs) != {task.input for task in problem.tasks}:
        raise ValueError("its problem has other inputs than its tasks")
    for given in problem.inputs:
        if not names_input(given.name):
            raise ValueError(f"its input {ascii(given.name)} has no name that an argument may have")
        if not given.shape or min(given.shape) < 1 or given.dtype not in ("uint8", "float32", "int32"):
            raise ValueError(f"its input {ascii(given.name)} has no shape or no type that is known")
        width = 0 if given.dtype == "int32" else given.shape[-1]
        if not len(given.mean) == len(given.std) == width or min(given.std, default=1) <= 0:
            raise ValueError(f"its input {ascii(given.name)} has no mean and std for each channel")
        if given.vocabulary < 0 or (given.vocabulary > 0) != (given.dtype == "int32"):
            raise ValueError(f"its input {ascii(given.name)} has a wrong vocabulary")
    for task in problem.tasks:
        if task.form not in FORMS or not task.weight > 0:
            raise ValueError(f"its task {ascii(task.name)} has no form or weight that is known")
        if not task.answers or len(set(task.answers)) != task.width:
            raise ValueError(f"its task {ascii(task.name)} has no answers with names of their own")
        # There are none without training examples.
        moments = (0, task.width) if task.form == NUMBERS else (0,)
        if len(task.mean) != len(task.std) or len(task.std) not in moments or min(task.std, default=1) <= 0:
            raise ValueError(f"its task {ascii(task.name)} has no mean and std for each number")


def unlike(before: About, now: About) -> str:
    """How what a run is about differs from what it was, so that it cannot be continued; else empty."""
    return unlike_data(before, now) or unlike_pools(before["pool"], now["pool"])


def unlike_data(before: About, now: dict) -> str:
    """How a run's data differ from those `now`, which has all of `About` that is of data; else empty."""
    if different := differences(before["problem"], now["problem"]):
        return different
    for name in ("training_examples", "eval_examples"):
        if before[name] != now[name]:
            return f"there were {before[name]:,} {name.replace('_', ' ')}, there are {now[name]:,}"
    return ""


def unlike_pools(before: list[str], now: list[str]) -> str:
    """How a pool differs from another, both as `lrn_tf.modules.pool.describe` has them; else empty."""
    for was, is_now in itertools.zip_longest(before, now, fillvalue="nothing"):
        if was != is_now:
            return f"in its pool there was {printable(was)[:200]}; there is {is_now[:200]}"
    return ""
