"""config.json: what was asked of a run, on what data, by which programs."""

import dataclasses
import json
from typing import Any, TypedDict

from lrn_tf.errors import UserError, reason
from lrn_tf.settings import resolve
from lrn_tf.storage.files import seal, unseal
from lrn_tf.storage.from_json import of_type, parse


class ProblemAbout(TypedDict):
    """`lrn_tf.data.benchmarks.Problem`, in JSON."""

    name: str
    tasks: list[str]
    classes: list[list[str]]
    image_shape: list[int]
    mean: list[float]
    std: list[float]


class About(TypedDict):
    """What there is to say of the data and the method besides the settings."""

    problem: ProblemAbout
    training_examples: int
    eval_examples: int
    parameters: int


@dataclasses.dataclass(frozen=True)
class Config:
    """The whole of it.

    Attributes:
        settings: by name. A setting that came later is missing.
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
        _check_settings(config.settings)
        _check_problem(config.about["problem"])
        return config

    def to_json(self) -> str:
        """The file, with a checksum."""
        return json.dumps(seal(dataclasses.asdict(self)), indent=2) + "\n"


def settings_held(raw: bytes) -> dict[str, Any]:
    """The settings in a config.json of which the rest may be lost.

    Raises:
        ValueError: they are damaged, or none of this version's.
    """
    settings = of_type(dict, _unsealed(raw).get("settings"), "settings")
    _check_settings(settings)
    return settings


def _unsealed(raw):
    try:
        return unseal(of_type(dict, parse(raw), "it"))
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _check_settings(settings):
    try:
        resolve(settings)
    except UserError as error:
        raise ValueError(f"its settings are none of this version of lrn_tf: {reason(error)}") from error


def _check_problem(problem):
    """Sees that names and shapes go together; raises ValueError if not."""
    tasks, classes, shape = problem["tasks"], problem["classes"], problem["image_shape"]
    if len(shape) != 3 or min(shape) < 1 or len(set(tasks)) != len(tasks) or not tasks:
        raise ValueError("its problem has no tasks with names of their own, or no image_shape")
    if len(classes) != len(tasks) or len(set(map(len, classes))) != 1 or not classes[0]:
        raise ValueError("its problem has not as many classes for each of its tasks")
    if not len(problem["mean"]) == len(problem["std"]) == shape[2] or min(problem["std"]) <= 0:
        raise ValueError("its problem has no mean and std for each channel")
