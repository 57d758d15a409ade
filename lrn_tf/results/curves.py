"""Curves of runs, drawn and written: accuracy and unused modules by epoch, as in Fig. 2 to 7."""

import csv
import io
import pathlib
from collections.abc import Sequence

import numpy as np

from lrn_tf.storage import files
from lrn_tf.storage.runs import Group

# Okabe and Ito's colours, which colour-blind readers can tell apart, and lines that print in grey.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES = ("-", "--", "-.", ":")
# The columns of a CSV: of a run, then of each of its epochs.
RUN_COLUMNS = ("label", "seed", "split")
COLUMNS = (
    "epoch",
    "step",
    "train_loss",
    "train_accuracy",
    "eval_loss",
    "eval_accuracy",
    "unused_modules",
    "mean_length",
    "seconds",
)

# What may be drawn: its name, in which {split} stands for what was evaluated, and its value by epoch.
ACCURACY = ("{split} accuracy, %", lambda run: 100 * run.column("eval_accuracy"))
UNUSED = ("unused modules", lambda run: run.column("unused_modules"))
LOSS = ("{split} loss", lambda run: run.column("eval_loss"))
LENGTH = ("modules in a network", lambda run: run.column("mean_length"))
EPOCHS = ("epoch", lambda run: run.column("epoch"))
MINUTES = ("minutes of training", lambda run: np.cumsum(run.column("seconds")) / 60)
# What is drawn over what, panel by panel.
FIGURE = ((EPOCHS, ACCURACY), (EPOCHS, UNUSED))


def draw(groups: Sequence[Group], path: pathlib.Path, title: str = "", panels=FIGURE) -> None:
    """A PNG of `figure`."""
    save(figure(groups, title, panels), path)


def panels_of(groups: Sequence[Group]) -> list:
    """What there is to draw of runs: accuracies, the loss of those without, unused modules."""
    last = [run.lines[-1] for group in groups for run in group.runs]
    rated = [line.eval_accuracy is not None for line in last]
    drawn = ((ACCURACY, any(rated)), (LOSS, not all(rated)), (UNUSED, any(line.routes for line in last)))
    return [(EPOCHS, panel) for panel, wanted in drawn if wanted]


def named(panel: str, groups: Sequence[Group]) -> str:
    """The name of what is drawn, with what the groups were evaluated on."""
    return panel.format(split=" or ".join(sorted({group.split for group in groups})))


def plain(text: str) -> str:
    """Text for a picture, in which a dollar sign begins no formula."""
    return text.replace("$", r"\$")


def shortened(text: str, width: int) -> str:
    """Text in one line, cut off where it is longer than so many characters."""
    line = " ".join(text.split())
    return line if len(line) <= width else f"{line[: width - 1].rstrip()}…"


def figure(groups: Sequence[Group], title: str = "", panels=FIGURE):
    """A matplotlib `Figure`: in each panel the mean of each group's runs and their range.

    Groups without labels have no legend.
    """
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(5 * len(panels), 4), layout="constrained")
    axes = drawn.subplots(1, len(panels), squeeze=False)[0]
    for axis, ((x_name, x_of), (y_name, y_of)) in zip(axes, panels, strict=True):
        for i, group in enumerate(groups):
            x, y = group.stack(x_of).mean(axis=0), group.stack(y_of)  # (epochs,), (runs, epochs)
            label = f"{group.label} ({len(group.runs)} seeds)" if len(group.runs) > 1 else group.label
            style = dict(color=COLOURS[i % len(COLOURS)], label=plain(label))
            dash = DASHES[i // len(COLOURS) % len(DASHES)]
            axis.plot(x, y.mean(axis=0), dash, marker="o" if len(x) < 10 else None, ms=3, **style)
            axis.fill_between(x, y.min(axis=0), y.max(axis=0), color=style["color"], alpha=0.2, lw=0)
        axis.set_xlabel(x_name)
        axis.set_ylabel(named(y_name, groups))
        axis.grid(alpha=0.3)
        if x_of is EPOCHS[1]:
            axis.xaxis.get_major_locator().set_params(integer=True)
        if y_of in (UNUSED[1], LENGTH[1]):
            axis.set_ylim(0, max(axis.get_ylim()[1], 1))
    if any(group.label for group in groups):
        drawn.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=9)
    if title:
        drawn.suptitle(plain(title))
    return drawn


def save(figure, path: pathlib.Path) -> None:
    """A picture as a PNG, whole or not at all."""
    files.replace(path, png(figure))


def png(figure) -> bytes:
    """A picture as the content of a PNG."""
    content = io.BytesIO()
    figure.savefig(content, dpi=150, format="png")
    return content.getvalue()


def write(groups: Sequence[Group], path: pathlib.Path) -> None:
    """A CSV with a row for each evaluated epoch of each run; what it lacks, such as routes, is empty."""
    rows = [(*RUN_COLUMNS, *COLUMNS)]
    for group in groups:
        for run in group.runs:
            about = (group.label, run.settings["seed"], run.split)
            rows += [(*about, *(line.value(name) for name in COLUMNS)) for line in run.lines]
    save_csv(rows, path)


def save_csv(rows: Sequence[Sequence], path: pathlib.Path) -> None:
    """A CSV of rows, whole or not at all."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    files.replace(path, text.getvalue())
