"""The most used networks of an evaluation as a graph: modules in columns, ribbons through them, images."""

import itertools

import numpy as np

from lrn_tf.data.examples import Examples
from lrn_tf.results.curves import COLOURS, plain, shortened
from lrn_tf.results.evaluation import Evaluation

# Inches: from row to row, from image to image, from box to box, the least height of a module's box.
ROW, IMAGE, GAP, BOX = 0.62, 0.56, 0.8, 0.3
FONT, INK, PALE = 8, "#222222", "#f4f4f4"
# Networks, and images of each.
MOST, IMAGES = 12, 4


def top_paths(evaluation: Evaluation, examples: Examples, most=MOST):
    """The most used networks as a graph, from left to right: a ribbon each, as wide as it is often used.

    A column holds the modules of one step. At its end a ribbon has some of its images, and says how many
    of all examples take it and of which tasks they are.
    """
    from matplotlib.figure import Figure

    networks, which = evaluation.networks
    shown = _beside_each_other(networks[:most])
    share = np.bincount(which, minlength=len(networks)) / len(which)
    names = [evaluation.names(networks[u]) for u in shown]
    box = 0.075 * max(len(name) for path in names for name in path) + 0.15
    step = box + GAP
    leaves = step * max(map(len, names)) + 0.1
    width, height = leaves + IMAGE * IMAGES + 2.4, ROW * len(shown) + 0.1
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.axis("off")

    thick = 0.26 * share[shown] / share[shown].max() + 0.02
    middle = ROW * (np.arange(len(shown)) + 0.5) + 0.05
    lanes, boxes = _lanes(names, thick, middle)
    for i, u in enumerate(shown):
        sides = [(step * t + side, y) for t, y in enumerate(lanes[i]) for side in (0.1, 0.1 + box)]
        for start, end in itertools.pairwise([*sides, (leaves, middle[i])]):
            # Black is for text.
            _ribbon(axes, start, end, thick[i], COLOURS[i % (len(COLOURS) - 1)])
        rows = np.flatnonzero(which == u)
        _images(
            axes, leaves, middle[i], [examples.shown(evaluation.problem, r) for r in _few(rows, IMAGES)]
        )
        said = f"{share[u]:.1%} of all\n{_whose(evaluation.task[rows], evaluation.problem.task_names)}"
        axes.text(leaves + IMAGE * IMAGES + 0.1, middle[i], said, va="center", size=FONT)
    for (t, name), (y, tall) in boxes.items():
        _box(axes, step * t + 0.1, y, box, tall, name)
    axes.set(xlim=(0, width), ylim=(height, 0))  # inches from the upper left; images have changed them
    return figure


def _beside_each_other(networks):
    """An order of networks in which those that begin alike are neighbours, the most used of them first."""
    first = {}
    for u, network in enumerate(networks):
        for length in range(len(network) + 1):
            first.setdefault(tuple(network[:length]), u)
    keys = [[first[tuple(n[:length])] for length in range(len(n) + 1)] for n in networks]
    return sorted(range(len(networks)), key=lambda u: keys[u])


def _lanes(names, thick, middle):
    """Where modules stand, and where ribbons pass through them.

    Args:
        names: the modules of each path.
        thick, middle: of each path's ribbon, where it ends.

    Returns:
        for each path the height at which it passes each of its modules, and by step and module the box
        around all that pass: its middle and its height.
    """
    lanes, boxes = [[0.0] * len(path) for path in names], {}
    for t in range(max(map(len, names))):
        through = {}
        for i, path in enumerate(names):
            if t < len(path):
                through.setdefault(path[t], []).append(i)
        heights = {name: sum(thick[i] for i in of) + 0.14 for name, of in through.items()}
        heights = {name: max(height, BOX) for name, height in heights.items()}
        order = sorted(through, key=lambda name: np.mean(middle[through[name]]))
        wanted = np.array([np.mean(middle[through[name]]) for name in order])
        places = _apart(wanted, np.array([heights[name] for name in order]), ROW * len(names))
        for name, place in zip(order, places, strict=True):
            boxes[t, name] = place, heights[name]
            y = place - sum(thick[i] for i in through[name]) / 2
            for i in through[name]:
                lanes[i][t] = y + thick[i] / 2
                y += thick[i]
    return lanes, boxes


def _apart(wanted, heights, bottom, gap=0.08):
    """Places in the order of those that are wanted, pushed down and then up until nothing overlaps."""
    places = wanted.copy()
    places[0] = max(places[0], heights[0] / 2 + gap)
    for i in range(1, len(places)):
        places[i] = max(places[i], places[i - 1] + (heights[i - 1] + heights[i]) / 2 + gap)
    places[-1] = min(places[-1], bottom - heights[-1] / 2)
    for i in range(len(places) - 2, -1, -1):
        places[i] = min(places[i], places[i + 1] - (heights[i + 1] + heights[i]) / 2 - gap)
    return places


def _ribbon(axes, start, end, thick, colour):
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    (x, y), (to_x, to_y) = start, end
    half = (x + to_x) / 2
    path = Path([(x, y), (half, y), (half, to_y), (to_x, to_y)], [Path.MOVETO] + [Path.CURVE4] * 3)
    style = dict(facecolor="none", edgecolor=colour, lw=72 * thick, alpha=0.75, capstyle="butt")
    axes.add_patch(PathPatch(path, **style, zorder=1))


def _box(axes, x, y, wide, tall, name):
    from matplotlib.patches import FancyBboxPatch

    style = dict(boxstyle="round,pad=0,rounding_size=0.06", facecolor=PALE, edgecolor=INK, lw=0.8)
    axes.add_patch(FancyBboxPatch((x, y - tall / 2), wide, tall, **style, zorder=2))
    axes.text(x + wide / 2, y, plain(name), ha="center", va="center", size=FONT, zorder=4)


def _few(rows, most):
    """Some of them, from the first to the last."""
    return rows[np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(int)]


def _images(axes, x, y, images):
    """Images in a row; what is no image is left out."""
    half = (IMAGE - 0.04) / 2
    for image in (image for image in images if image is not None):
        place = (x, x + 2 * half, y + half, y - half)
        # Grey images get three channels.
        image = np.broadcast_to(image, (*image.shape[:2], 3))
        axes.imshow(image, extent=place, interpolation="nearest", aspect="auto", zorder=3)
        x += IMAGE


def _whose(task, tasks):
    """The tasks of some examples: two at most by name."""
    found, counts = np.unique(task, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    words = [plain(shortened(called(tasks[found[i]]), 24)) for i in order[:2]]
    return "\n".join(words) + (f" and {len(found) - 2} more" if len(found) > 2 else "")


def called(task: str) -> str:
    """What a task is called in a sentence; some have numbers for names."""
    return f"task {task}" if task.isdigit() else task.replace("_", " ")
