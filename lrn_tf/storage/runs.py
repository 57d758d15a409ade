"""Runs that are there to be looked at: read from their folders, and grouped by what was asked."""

import collections
import dataclasses
import functools
import json
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lrn_tf.data.problem import NUMBERS
from lrn_tf.errors import UserError, printable
from lrn_tf.settings.resolve import defaults
from lrn_tf.settings.table import Settings, free_on_resume, has
from lrn_tf.storage import files
from lrn_tf.storage.config import About, Config
from lrn_tf.storage.metrics import EpochMetrics
from lrn_tf.storage.workdir import read_lines

# What a label says first.
FIRST = ("benchmark", "method", "dup", "depth")
# What it says even where it is what the benchmark and the method preset.
TOLD = (*FIRST, "validation")


@dataclasses.dataclass(frozen=True)
class Run:
    """A run's folder, read.

    Attributes:
        folder: where it is.
        config: config.json.
        lines: metrics.jsonl, one for each epoch that was evaluated; at least one.
    """

    folder: pathlib.Path
    config: Config
    lines: list[EpochMetrics]

    @property
    def settings(self) -> dict[str, Any]:
        """By name."""
        return self.config.settings

    @functools.cached_property
    def asked(self) -> Settings:
        """The same in one object; config.json was checked when it was read."""
        return Settings(**self.settings)

    @property
    def about(self) -> About:
        """The data and the method."""
        return self.config.about

    @property
    def split(self) -> str:
        """What it was evaluated on."""
        return self.lines[-1].split

    def column(self, name: str) -> np.ndarray:
        """A number of every line; NaN where it is missing, as those about routes of a method without."""
        return np.array([line.value(name) for line in self.lines], float)


@dataclasses.dataclass(frozen=True)
class Group:
    """Runs of the same tasks and modules that differ in their seed, or in what changes no result.

    Attributes:
        label: what tells the group from the others beside it.
        runs: by seed.
    """

    label: str
    runs: list[Run]

    @property
    def split(self) -> str:
        """What its runs were evaluated on, all on the same."""
        return self.runs[0].split

    @property
    def epochs(self) -> list[int]:
        """Those of which all its runs have a line."""
        return _shared(self.runs)

    def column(self, name: str) -> np.ndarray:
        """A value of every run and epoch: `[runs, epochs]`."""
        return self.stack(lambda run: run.column(name))

    def stack(self, of_run: Callable[[Run], np.ndarray]) -> np.ndarray:
        """What a function gives for every run, cut to the epochs that all have: `[runs, epochs]`."""
        shared = self.epochs
        return np.stack([of_run(run)[[line.epoch in shared for line in run.lines]] for run in self.runs])


def read(folder: str) -> Run:
    """Reads a run's folder.

    Raises:
        UserError: it holds no run, or one that has not been evaluated.
    """
    path = pathlib.Path(folder)
    try:
        config = Config.from_json(files.read(path / "config.json"))
        lines = read_lines(path / "metrics.jsonl")
        _check_lines(lines, config)
    except FileNotFoundError as error:
        missing = pathlib.Path(error.filename).name
        raise UserError(
            f"{folder} has no {missing}; give the folder of a run that has been evaluated"
        ) from error
    except UserError:
        raise
    except (ValueError, OSError) as error:
        raise UserError(f"{folder} cannot be read as a run ({error}); give another folder") from error
    if not lines:
        raise UserError(f"{folder} has not been evaluated yet; wait, or give another folder")
    return Run(path, config, lines)


def _check_lines(lines, config):
    """Sees that metrics are of this run's tasks and split; raises ValueError if not."""
    tasks, split = config.about["problem"].tasks, Settings(**config.settings).split
    numbers, others = ([t.name for t in tasks if (t.form == NUMBERS) == is_it] for is_it in (True, False))
    for line in lines:
        found = [list(line.eval_accuracy_per_task), list(line.eval_mae_per_task)]
        found += [list(line.eval_r2_per_task), line.eval_accuracy is None, line.split]
        if found != [others, numbers, numbers, not others, split]:
            raise ValueError(
                f"epoch {line.epoch} of metrics.jsonl has other tasks or examples than config.json"
            )


def group(runs: Sequence[Run]) -> list[Group]:
    """Runs of the same settings together, in the order in which they are met."""
    groups: dict[tuple[str, int], list[Run]] = {}
    seen: collections.Counter = collections.Counter()
    for run in runs:
        # Tasks and modules of a user's may be elsewhere now, and made in Python may be called alike.
        called = [pathlib.PurePath(run.settings[name]).name for name in ("benchmark", "pool")]
        same = [_kept(run), called, run.about["pool"], run.about["problem"].task_names]
        key = json.dumps(same, sort_keys=True)
        # A seed once more, as for other --epochs, is not another seed.
        groups.setdefault((key, seen[key, run.settings["seed"]]), []).append(run)
        seen[key, run.settings["seed"]] += 1
    # Those that have no epoch in common cannot be put side by side.
    parts = [part for of in groups.values() for part in ([of] if _shared(of) else [[run] for run in of])]
    members = [sorted(part, key=lambda run: run.settings["seed"]) for part in parts]
    names = sorted({name for run in runs for name in _kept(run)}, key=_rank)
    values = {
        name: {str(run.settings[name]) for run in runs if has(run.asked.method, name)} for name in names
    }
    differing = [name for name in names if len(values[name]) > 1]
    labels = [_label(of[0], differing) for of in members]
    return [
        Group(label if labels.count(label) == 1 else f"{label} ({printable(of[0].folder.name)})", of)
        for label, of in zip(labels, members, strict=True)
    ]


def _shared(runs):
    """The epochs of which all runs have a line, in order."""
    return sorted(set.intersection(*({line.epoch for line in run.lines} for run in runs)))


def _kept(run):
    """The settings that make a difference."""
    free = {*free_on_resume(run.asked), "seed"}
    return {name: v for name, v in run.settings.items() if name not in free and has(run.asked.method, name)}


def _rank(name):
    return FIRST.index(name) if name in FIRST else len(FIRST), name == "bonus", name


def _label(run, differing):
    """The paper's kind of label where the names allow it: `dup_5_depth_4_no_bonus`."""
    words, kept, benchmark = [], _kept(run), run.settings["benchmark"]
    expected = defaults(benchmark, run.settings["method"])
    for name in differing:
        value = kept.get(name)
        if value is None or (name not in TOLD and value == expected[name]):
            continue
        if name == "bonus":
            words.append(f"bonus_{value:g}" if value else "no_bonus")
        elif name == "validation":
            words.append(f"validation_{value:g}" if value else "test")
        else:
            named = isinstance(value, str) and name not in ("dtype", "heads", "sampling", "freeze")
            words.append(value if named else f"{name}_{value}")
    # Of a folder or a file with a function, its name.
    return printable("_".join(words) or pathlib.PurePath(benchmark).name)


def table(groups: Sequence[Group]) -> str:
    """A Markdown table; a spread is the standard deviation over seeds.

    Accuracies are of the split that the row names, and so is the choice of the best epoch.
    """
    of_split = ("accuracy, %", "best epoch, %", "loss")
    rows = [("runs", "seeds", "epochs", "split", *of_split, "unused", "length", "ms/step")]
    for group in groups:
        accuracy = 100 * group.column("eval_accuracy")
        rows.append(
            (
                group.label,
                str(len(group.runs)),
                str(group.epochs[-1]),
                group.split,
                _spread(accuracy[:, -1], 1),
                _spread(accuracy.max(axis=1), 1),
                _spread(group.column("eval_loss")[:, -1], 3),
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
    if np.isnan(values).any():  # of a method without paths, or tasks that all ask for numbers
        return "-"
    mean = f"{values.mean():.{digits}f}"
    return f"{mean} ± {values.std(ddof=1):.{digits}f}" if len(values) > 1 else mean
