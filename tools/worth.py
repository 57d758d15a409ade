"""What routing is worth: an LRN beside the same modules without a router, by how many examples there are.

    python tools/worth.py --benchmark=cifar_mtl --pool=wide_1 --heads=task --sizes=0,10000,2000 --own=20

Trains, for each number of training examples (`--sizes`, 0 is all), an LRN and networks without a router
(`--method=unrouted`): one that all tasks share, a random path for each task and, with `--own`, a network
for each task. Takes the flags of `lrn_tf.main` besides; they hold for all runs, which lie under --output.
The same command continues after a kill. Prints a table and writes worth.csv and worth.png. For tasks that
agree, and for tasks that conflict (`tools/conflict.py`), it says where to route.
"""

import pathlib

import grid
import numpy as np
from absl import flags

from lrn_tf import main as lrn_main
from lrn_tf.errors import UserError
from lrn_tf.settings import Settings, of_method
from lrn_tf.storage.runs import Run

SIZES = flags.DEFINE_list("sizes", ["0"], "Numbers of training examples, in all tasks together; 0 is all")
OWN = flags.DEFINE_integer(
    "own",
    0,
    "Modules of each kind where each task has a network of its own; 0 leaves that out",
    lower_bound=0,
)
grid.define_flags("worth")

COLUMNS = ("way", "examples", "seed", "epochs", "split", "accuracy", "unused_modules")


def plan() -> dict[Settings, tuple[str, int]]:
    """The settings of all runs, and for each the way it is trained and --examples."""
    given, output = lrn_main.given(), pathlib.Path(flags.FLAGS.output)
    for name in ("method", "paths", "examples", "workdir", "export_dir"):
        if name in given:
            raise UserError(f"--{name}={given[name]} is varied or set by this program; leave it out")
    try:
        sizes = [int(size) for size in SIZES.value]
    except ValueError as error:
        raise UserError(f"--sizes is a list of numbers: {error}") from error
    unrouted = of_method(given, "unrouted")
    ways = {"lrn": given, "shared": {**unrouted, "paths": "shared"}, "task": {**unrouted, "paths": "task"}}
    if OWN.value:
        ways["own"] = {**unrouted, "paths": "own", "dup": OWN.value}
    wanted = {}
    for size in sizes:
        for way, settings in ways.items():
            runs = grid.each_seed({**settings, "examples": size}, output / f"{way}_{size}")
            wanted |= dict.fromkeys(runs, (way, size))
    return wanted


def show(wanted: dict[Settings, tuple[str, int]], found: dict[Settings, Run]) -> None:
    """Prints the table of the last epochs' accuracies; writes all of them and the picture."""
    from lrn_tf.results import curves

    rows = []
    for settings, run in found.items():
        (way, _), last = wanted[settings], run.lines[-1]
        if last.eval_accuracy is None:
            raise UserError("these tasks have no classes, whose accuracy could be compared")
        unused = last.routes.unused_modules if last.routes else ""
        examples = run.about["training_examples"]
        rows.append(
            (way, examples, settings.seed, last.epoch, last.split, f"{last.eval_accuracy:.4f}", unused)
        )
    path = pathlib.Path(flags.FLAGS.output, "worth")
    curves.save_csv([COLUMNS, *rows], path.with_suffix(".csv"))
    means = {}
    for way, examples, _, _, _, accuracy, _ in rows:
        means.setdefault(way, {}).setdefault(examples, []).append(100 * float(accuracy))
    print(table(means))
    curves.save(picture(means, rows[0][4]), path.with_suffix(".png"))
    print(f"{path}.csv, {path}.png")


def table(found: dict[str, dict[int, list[float]]]) -> str:
    """Rows of a Markdown table: the mean accuracy, in %, of each way, by examples."""
    sizes = sorted({size for of_way in found.values() for size in of_way}, reverse=True)
    lines = [["examples", *(f"{size:,}" for size in sizes)], ["---"] * (len(sizes) + 1)]
    for way, of_way in found.items():
        lines.append([way, *(f"{np.mean(of_way[size]):.1f}" if size in of_way else "-" for size in sizes)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def picture(found: dict[str, dict[int, list[float]]], split: str):
    """A matplotlib `Figure`: accuracy over examples, a mark for each run, a line through their means."""
    from matplotlib.figure import Figure

    from lrn_tf.results.curves import COLOURS

    drawn = Figure(figsize=(6, 4), layout="constrained")
    axis = drawn.subplots()
    for (way, of_way), colour in zip(found.items(), COLOURS, strict=False):
        sizes = sorted(of_way)
        axis.plot(sizes, [np.mean(of_way[size]) for size in sizes], "-", color=colour, label=way)
        for size in sizes:
            axis.plot([size] * len(of_way[size]), of_way[size], "o", color=colour, ms=4)
    axis.set_xscale("log")
    axis.set(xlabel="training examples", ylabel=f"{split} accuracy, %")
    axis.grid(alpha=0.3)
    axis.legend(fontsize=9)
    return drawn


def main(_):
    wanted = plan()
    grid.run(list(wanted), lambda found: show(wanted, found))


if __name__ == "__main__":
    lrn_main.run(main)
