"""Runs that are there to be looked at: read from their folders, and grouped by what was asked."""

import dataclasses
import json
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lrn_tf.errors import UserError
from lrn_tf.settings import FREE_ON_RESUME, Settings, defaults
from lrn_tf.storage.files import unseal
from lrn_tf.storage.workdir import read_lines

# What a label says first, and even where it is what the benchmark and the method preset.
FIRST = ("benchmark", "method", "dup", "depth")
# What curves show of a line of metrics, and all numbers of it that are read.
COLUMNS = (
    "epoch",
    "step",
    "train_accuracy",
    "test_accuracy",
    "unused_modules",
    "mean_length",
    "seconds",
)
NUMBERS = (*COLUMNS, "step_ms_median")


@dataclasses.dataclass(frozen=True)
class Run:
    """A run's folder, read.

    Attributes:
        folder: where it is.
        settings: by name, as in config.json.
        about: what config.json says of the data and the method.
        lines: one dict per epoch, as in metrics.jsonl; at least one.
    """

    folder: pathlib.Path
    settings: dict[str, Any]
    about: dict[str, Any]
    lines: list[dict[str, Any]]

    def column(self, name: str) -> np.ndarray:
        """A value of every epoch."""
        return np.array([line[name] for line in self.lines], float)


@dataclasses.dataclass(frozen=True)
class Group:
    """Runs that differ in nothing but their seed, or in what changes no result.

    Attributes:
        label: what tells the group from the others beside it.
        runs: by seed.
    """

    label: str
    runs: list[Run]

    @property
    def epochs(self) -> int:
        """Epochs that all its runs have finished."""
        return min(len(run.lines) for run in self.runs)

    def column(self, name: str) -> np.ndarray:
        """A value of every run and epoch: `[runs, epochs]`."""
        return self.stack(lambda run: run.column(name))

    def stack(self, of_run: Callable[[Run], np.ndarray]) -> np.ndarray:
        """What a function gives for every run, cut to the epochs that all have: `[runs, epochs]`."""
        return np.stack([of_run(run)[: self.epochs] for run in self.runs])


def read(folder: str) -> Run:
    """Reads a run's folder.

    Raises:
        UserError: it holds no run, or one that has not finished an epoch.
    """
    path = pathlib.Path(folder)
    try:
        config = unseal(json.loads((path / "config.json").read_text(encoding="utf-8")))
        settings, about = dict(config["settings"]), dict(config.get("about", {}))
        lines = read_lines(path / "metrics.jsonl")
        for line in lines:
            for name in NUMBERS:
                float(line[name])
    except FileNotFoundError as error:
        missing = pathlib.Path(error.filename).name
        raise UserError(
            f"{folder} has no {missing}; give the folder of a run that has finished an epoch"
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise UserError(f"{folder} cannot be read as a run ({error}); give another folder") from error
    if not lines:
        raise UserError(f"{folder} has not finished an epoch yet; wait, or give another folder")
    return Run(path, settings, about, lines)


def group(runs: Sequence[Run]) -> list[Group]:
    """Runs of the same settings together, in the order in which they are met."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(json.dumps(_kept(run), sort_keys=True), []).append(run)
    members = [sorted(group, key=lambda run: run.settings.get("seed", 0)) for group in groups.values()]
    names = sorted({name for run in runs for name in _kept(run)}, key=_rank)
    differing = [name for name in names if len({str(_kept(run).get(name)) for run in runs}) > 1]
    return [Group(_label(of[0], differing), of) for of in members]


def _kept(run):
    """The settings that make a difference."""
    return {name: v for name, v in run.settings.items() if name not in (*FREE_ON_RESUME, "seed")}


def _rank(name):
    return FIRST.index(name) if name in FIRST else len(FIRST), name == "bonus", name


def _label(run, differing):
    """The paper's kind of label where the names allow it: `dup_5_depth_4_no_bonus`."""
    words = []
    expected = defaults(run.settings.get("benchmark"), run.settings.get("method", Settings.method))
    for name in differing:
        value = run.settings.get(name)
        if value is None or (name not in FIRST and value == expected.get(name)):
            continue
        if name == "bonus":
            words.append(f"bonus_{value:g}" if value else "no_bonus")
        else:
            words.append(value if isinstance(value, str) and name != "dtype" else f"{name}_{value}")
    return "_".join(words) or str(run.settings.get("benchmark", run.folder.name))


def table(groups: Sequence[Group]) -> str:
    """A Markdown table; a spread is the standard deviation over seeds."""
    rows = [("runs", "seeds", "epochs", "test accuracy, %", "best epoch, %", "unused", "length", "ms/step")]
    for group in groups:
        accuracy = 100 * group.column("test_accuracy")
        rows.append(
            (
                group.label,
                str(len(group.runs)),
                str(group.epochs),
                _spread(accuracy[:, -1], 1),
                _spread(accuracy.max(axis=1), 1),
                _spread(group.column("unused_modules")[:, -1], 1),
                _spread(group.column("mean_length")[:, -1], 2),
                f"{group.column('step_ms_median').mean():.0f}",
            )
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    rows.insert(1, tuple("-" * width for width in widths))
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in rows
    )


def _spread(values, digits):
    mean = f"{values.mean():.{digits}f}"
    return f"{mean} ± {values.std(ddof=1):.{digits}f}" if len(values) > 1 else mean
