"""What routing is worth: an LRN beside the same modules without a router, by how many examples there are.

    python tools/worth.py --benchmark=cifar_mtl --pool=wide_1 --heads=task --sizes=0,10000 --own_dup=20

Trains, for each number of training examples (`--sizes`, 0 is all), an LRN and networks without a router
(`--method=unrouted`): one that all tasks share, a random path for each task and, with `--own_dup`, a
network for each task. Without `--heads=task` nothing tells tasks apart in what they share. Epochs of fewer
examples have fewer steps; `--max_steps`, with epochs enough, makes them equal. Takes the flags of
`lrn_tf.main` besides; they hold for all runs, which lie under --output. The same command continues after a
kill. Prints a table and writes worth.csv and worth.png: curves, or, of several sizes, accuracy by size. On
tasks that agree and on tasks that conflict (`conflict.py` beside this), it says where to route.
"""

import pathlib

import grid
import numpy as np
from absl import flags

from lrn_tf import main as lrn_main
from lrn_tf.errors import UserError
from lrn_tf.results import curves
from lrn_tf.settings.table import Settings, of_method
from lrn_tf.storage import runs

SIZES = flags.DEFINE_list("sizes", ["0"], "Numbers of training examples, of all tasks together; 0 is all")
OWN_DUP = flags.DEFINE_integer(
    "own_dup", 0, "--dup where each task has a network of its own; 0 leaves that out", lower_bound=0
)
grid.define_flags("worth")


def plan() -> dict[str, list[Settings]]:
    """The settings of all runs, by what they are called."""
    given, output = lrn_main.given(), pathlib.Path(flags.FLAGS.output)
    grid.refuse(given, ("method", "paths", "examples", "workdir", "export_dir"))
    if not SIZES.value or not all(size.isdigit() for size in SIZES.value):
        raise UserError(f"--sizes={','.join(SIZES.value)} must be numbers of examples such as 0,10000,2000")
    ways = {"lrn": given, **grid.without_router(given)}
    if OWN_DUP.value:
        own = {**of_method(given, "unrouted"), "paths": "own", "dup": OWN_DUP.value}
        ways["a network for each task"] = own
    return {
        f"{way}, {int(size):,} examples" if int(size) else way: list(
            grid.each_seed(
                {**settings, "examples": int(size)}, output / f"{way.replace(' ', '_')}_{int(size)}"
            )
        )
        for size in SIZES.value
        for way, settings in ways.items()
    }


def show(wanted: dict[str, list[Settings]], found: dict[Settings, runs.Run]) -> None:
    """Prints the table of what has finished; writes worth.csv and worth.png."""
    finished = {settings: run for settings, run in found.items() if grid.is_finished(settings)}
    if groups := grid.groups_of(wanted, finished):
        path = pathlib.Path(flags.FLAGS.output, "worth")
        curves.write(groups, path.with_suffix(".csv"))
        if len(SIZES.value) > 1:
            from matplotlib.figure import Figure

            picture = Figure(figsize=(6, 4), layout="constrained")
            draw_by_size(picture.subplots(), groups)
            curves.save(picture, path.with_suffix(".png"))
        else:
            curves.draw(groups, path.with_suffix(".png"), panels=curves.panels_of(groups))
        print(runs.table(groups))


def draw_by_size(axes, groups: list[runs.Group]) -> None:
    """Accuracy in the end by the number of training examples: a line for each way, with its seeds."""
    ways: dict[str, list[runs.Group]] = {}
    for group in groups:
        ways.setdefault(group.label.partition(",")[0], []).append(group)
    for (way, of), colour in zip(ways.items(), curves.COLOURS, strict=False):
        of.sort(key=examples_of)
        sizes, found = [examples_of(group) for group in of], [last_accuracies(group) for group in of]
        axes.plot(sizes, [x.mean() for x in found], "o-", ms=3, color=colour, label=way)
        axes.vlines(sizes, [x.min() for x in found], [x.max() for x in found], color=colour, lw=1)
    axes.set_xscale("log")
    sizes = sorted({examples_of(group) for group in groups})
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.minorticks_off()
    axes.set_xlabel("training examples")
    axes.set_ylabel(curves.named(curves.ACCURACY[0], groups))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=9)


def examples_of(group: runs.Group) -> int:
    """How many its runs were trained on."""
    return group.runs[0].about["training_examples"]


def last_accuracies(group: runs.Group) -> np.ndarray:
    """In %, of each seed."""
    return 100 * group.column("eval_accuracy")[:, -1]


def main(_):
    grid.run_groups(plan(), show)


if __name__ == "__main__":
    lrn_main.run(main)
