"""Accuracy and unused modules against epochs, drawn and written: the paper's Fig. 2 to 7."""

import csv
import pathlib
from collections.abc import Sequence

import numpy as np

from lrn_tf.runs import Group

COLUMNS = (
    "epoch",
    "step",
    "train_accuracy",
    "test_accuracy",
    "unused_modules",
    "mean_length",
    "seconds",
)
# Okabe and Ito's colours, which colour-blind readers can tell apart, and lines that print in grey.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES = ("-", "--", "-.", ":")


def draw(groups: Sequence[Group], path: pathlib.Path, title: str = "") -> None:
    """A PNG: test accuracy and unused modules, the mean of each group's runs and their range."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    panels = figure.subplots(1, 2)
    for i, group in enumerate(groups):
        colour, dash = COLOURS[i % len(COLOURS)], DASHES[i // len(COLOURS) % len(DASHES)]
        label = f"{group.label} ({len(group.runs)} seeds)" if len(group.runs) > 1 else group.label
        for panel, name, factor in zip(panels, ("test_accuracy", "unused_modules"), (100, 1), strict=True):
            values = factor * group.column(name)  # (runs, epochs)
            epochs = np.arange(1, values.shape[1] + 1)
            marker = "o" if len(epochs) < 10 else None
            panel.plot(epochs, values.mean(axis=0), dash, color=colour, marker=marker, ms=3, label=label)
            panel.fill_between(
                epochs, values.min(axis=0), values.max(axis=0), color=colour, alpha=0.2, lw=0
            )
    for panel, name in zip(panels, ("test accuracy, %", "unused modules"), strict=True):
        panel.set_xlabel("epoch")
        panel.set_ylabel(name)
        panel.xaxis.get_major_locator().set_params(integer=True)
        panel.grid(alpha=0.3)
    panels[1].set_ylim(bottom=0)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=9)
    if title:
        figure.suptitle(title)
    figure.savefig(path, dpi=150)


def write(groups: Sequence[Group], path: pathlib.Path) -> None:
    """A CSV with a row for each epoch of each run."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["label", "seed", *COLUMNS])
        for group in groups:
            for run in group.runs:
                for line in run.lines:
                    writer.writerow(
                        [group.label, run.settings.get("seed"), *(line.get(name) for name in COLUMNS)]
                    )
