"""Pictures of what was recorded in an evaluation: who uses which modules, and along which paths.

What draws returns a matplotlib `Figure`, for TensorBoard, for a report or for a file. matplotlib is
imported when one is drawn.
"""

import math
from collections.abc import Sequence

import numpy as np

from lrn_tf.data.examples import Examples
from lrn_tf.results.curves import COLOURS, plain, shortened
from lrn_tf.results.evaluation import Evaluation
from lrn_tf.results.path_graph import FONT, INK, top_paths

# Inches.
CELL = 0.24
# The most that a table of classes is wide, and one of tasks wide and high.
WIDEST, LARGEST = 12, 48
# Of more tasks colours alone tell what they share, and of more rows than fit each few have a name.
TOLD, LINE = 40, 0.12
# Of a task's numbers, so many are drawn.
DRAWN = 12
# From this value on a cell is so dark that white can be read on it.
DARK = 0.45


def of_paths(evaluation: Evaluation, examples: Examples) -> dict:
    """All figures about paths, by name; none of a method without paths."""
    if not evaluation.num_modules:
        return {}
    return {
        "module_use": module_use(evaluation),
        "path_sharing": path_sharing(evaluation),
        "top_paths": top_paths(evaluation, examples),
    }


def module_use(evaluation: Evaluation):
    """A heat map, tasks by modules: the share of a task's networks that hold a module.

    Modules that nobody uses are marked by a cross under their column.
    """
    use = evaluation.chosen / np.maximum(evaluation.examples, 1)[:, None]  # (K, N)
    rows, columns = use.shape
    labels = numbered(evaluation.problem.task_names)
    tall = any(len(kind) * 0.07 > len(of) * CELL for kind, of in evaluation.kinds.items())
    above = max(map(len, evaluation.kinds)) * 0.07 + 0.15 if tall else 0.3
    figure, axes = _matrix(use, labels, above, 0.75)
    unused = use.sum(axis=0) == 0
    within = [i for of in evaluation.kinds.values() for i in range(len(of))]
    axes.set_xticks(
        range(columns), [f"{i}\n×" if not_used else i for i, not_used in zip(within, unused, strict=True)]
    )
    for label, not_used in zip(axes.get_xticklabels(), unused, strict=True):
        label.set(color=COLOURS[1] if not_used else INK, fontweight="bold" if not_used else "normal")
    for kind, of in evaluation.kinds.items():
        axes.text(
            (of[0] + of[-1]) / 2,
            -0.7,
            plain(kind),
            ha="center",
            va="bottom",
            size=FONT,
            rotation=90 if tall else 0,
        )
        if of[0]:
            axes.axvline(of[0] - 0.5, color=INK, lw=0.8)
    axes.set_xlabel("module, by kind (× is in nobody's network)" if unused.any() else "module, by kind")
    _colour_bar(figure, axes, "share of the task's networks")
    return figure


def path_sharing(evaluation: Evaluation):
    """A heat map, tasks by tasks: `Evaluation.sharing` in percent; nothing stands where it is 0."""
    shared = evaluation.sharing
    tasks = evaluation.problem.task_names
    figure, axes = _matrix(shared, numbered(tasks), above=0.15, below=0.6, cell=1.3 * CELL)
    for (row, column), value in np.ndenumerate(shared) if len(tasks) <= TOLD else ():
        if value > 0:
            colour = "white" if value > DARK else INK
            axes.text(column, row, f"{100 * value:.0f}", ha="center", va="center", size=7, color=colour)
    axes.set_xticks(axes.get_yticks(), map(int, axes.get_yticks()))
    axes.set_xlabel("task; in % of the modules of two networks")
    _colour_bar(figure, axes, "modules in both networks")
    return figure


def lengths(evaluation: Evaluation):
    """How many examples have a network of how many modules."""
    from matplotlib.figure import Figure

    counts = np.bincount(evaluation.lengths, minlength=evaluation.paths.shape[1] + 1)[1:]
    figure = Figure(figsize=(3.6, 2.4), layout="constrained")
    axes = figure.subplots()
    bars = axes.bar(range(1, len(counts) + 1), 100 * counts / counts.sum(), color=COLOURS[0])
    axes.bar_label(bars, [f"{bar.get_height():.1f}" if bar.get_height() else "" for bar in bars], size=FONT)
    axes.set_xticks(range(1, len(counts) + 1))
    axes.set_xlabel("modules in a network")
    axes.set_ylabel("examples, %")
    axes.margins(y=0.15)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def confusion(evaluation: Evaluation, task: int):
    """Counts of a task's examples, true class by predicted class; colours are shares of the true class."""
    from matplotlib.figure import Figure

    mine, classes = evaluation.task == task, evaluation.problem.tasks[task].answers
    counts = np.zeros((len(classes), len(classes)), int)
    np.add.at(counts, (evaluation.label[mine], evaluation.predicted[mine]), 1)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    names = [plain(shortened(name.replace("_", " "), 16)) for name in classes]
    side = min(0.42 * len(classes), WIDEST)
    told = side / len(classes) > 0.3  # else there is no place for numbers
    left, below = 0.08 * max(map(len, names)) + 0.35, 0.08 * max(map(len, names)) * 0.75 + 0.35
    figure = Figure(figsize=(left + side + 0.1, below + side + 0.1))
    axes = figure.add_axes(_place(figure, left, below, side, side))
    axes.imshow(share, cmap=_blues(), vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(counts) if told else ():
        colour = "white" if share[row, column] > DARK else INK
        axes.text(column, row, count, ha="center", va="center", size=FONT, color=colour)
    shown = range(0, len(names), -(-len(names) // 80))
    names = [names[i] for i in shown]
    axes.set_xticks(shown, names, rotation=45, ha="right", rotation_mode="anchor", size=FONT)
    axes.set_yticks(shown, names, size=FONT)
    axes.tick_params(length=0)
    axes.set_xlabel("predicted", size=FONT)
    axes.set_ylabel("true", size=FONT)
    return figure


def predictions(evaluation: Evaluation, task: int):
    """True against predicted numbers, of each number that a task asks for, or of the first `DRAWN`."""
    from matplotlib.figure import Figure

    mine, names = evaluation.task == task, evaluation.problem.tasks[task].answers[:DRAWN]
    columns = min(len(names), 4)
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(2.8 * columns, 2.8 * rows), layout="constrained")
    places = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in places[len(names) :]:
        axes.remove()
    for d, (axes, name) in enumerate(zip(places, names, strict=False)):
        true, predicted = evaluation.target[mine, d], evaluation.answers[mine, d]
        axes.plot(true, predicted, ".", color=COLOURS[0], ms=4, alpha=0.6)
        if len(true):
            axes.axline((true.mean(), true.mean()), slope=1, color=INK, lw=0.8)
        axes.set_xlabel(plain(f"{name}, true"), size=FONT)
        axes.set_ylabel("predicted", size=FONT)
        axes.tick_params(labelsize=7)
    return figure


def pixels(figure) -> np.ndarray:
    """A figure as an image, uint8 `[H, W, 3]`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]


def numbered(tasks: Sequence[str]) -> list[str]:
    """Names of tasks, shortened, and their numbers where a name does not end with it."""
    names = [shortened(task.replace("_", " "), 26) for task in tasks]
    return [name if name.split()[-1:] == [str(k)] else f"{name}  {k}" for k, name in enumerate(names)]


def _matrix(values, labels, above, below, cell=CELL):
    """Axes with a heat map of square cells, as large as it must be, and names of its rows."""
    from matplotlib.figure import Figure

    rows, columns = values.shape
    # Beyond some 200 columns or rows cells become smaller.
    wide, tall = min(cell * columns, LARGEST), min(cell * rows, LARGEST)
    left = 0.068 * max(map(len, labels)) + 0.2
    figure = Figure(figsize=(left + max(wide, 2.2) + 0.9, above + tall + below))
    axes = figure.add_axes(_place(figure, left, below, wide, tall))
    axes.imshow(np.ma.masked_invalid(values), cmap=_blues(), vmin=1e-9, vmax=1, aspect="auto")
    every = max(1, math.ceil(LINE * rows / tall))
    axes.set_yticks(range(0, rows, every), list(map(plain, labels[::every])), size=FONT)
    axes.set_xticks(np.arange(columns + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(rows + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="#dddddd", lw=0.4)
    axes.tick_params(which="both", length=0)
    axes.tick_params(axis="x", labelsize=7 if wide / columns > 0.16 else 4)
    axes.xaxis.label.set_size(FONT)
    return figure, axes


def _place(figure, left, below, wide, tall):
    """A place in inches, as fractions of the figure."""
    width, height = figure.get_size_inches()
    return left / width, below / height, wide / width, tall / height


def _colour_bar(figure, axes, label):
    from matplotlib.ticker import PercentFormatter

    place, (width, height) = axes.get_position(), figure.get_size_inches()
    tall = min(place.height, 2.4 / height)
    bar = figure.add_axes((place.x1 + 0.12 / width, place.y1 - tall, 0.12 / width, tall))
    figure.colorbar(axes.images[0], cax=bar, format=PercentFormatter(1))
    bar.set_ylabel(label, size=7)
    bar.tick_params(labelsize=7)


def _blues():
    """White for nothing at all; what little there is can still be told from that."""
    from matplotlib.colors import LinearSegmentedColormap

    colours = LinearSegmentedColormap.from_list("use", ["#e1eef7", COLOURS[0], "#00263d"])
    return colours.with_extremes(under="white", bad="white")
