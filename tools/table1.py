"""Table 1 of the paper, measured: methods on benchmarks.

    python tools/table1.py --output=table1                                # routing and lrn, as in the paper
    python tools/table1.py --output=small --all --benchmarks=digits_mtl   # every method but unrouted

Takes the flags of `lrn_tf.main` besides; they hold for all runs, which lie under --output. The same command
continues after a kill, skips what has finished, and runs longer where --epochs has grown. Writes table1.md,
table1.csv, and for each benchmark its curves over epochs and over the time spent training. The best epoch
is chosen on the split in the row: the test images or, with --validation, held-out training images.
"""

import pathlib

import grid
import numpy as np
from absl import flags

from lrn_tf import main as lrn_main
from lrn_tf.results import curves
from lrn_tf.settings.table import LRNS, SGD_METHODS, Settings, of_method
from lrn_tf.storage import files, runs

grid.define_flags("table1")
METHODS = flags.DEFINE_list("methods", ["routing", "lrn"], "Which methods")
ALL = flags.DEFINE_bool("all", False, "Every method but unrouted, whatever --methods says")
BENCHMARKS = flags.DEFINE_list("benchmarks", ["mnist_mtl", "cifar_mtl", "min_mtl"], "Which benchmarks")

# On test images, in %: Table 1 of the paper, and Rosenbaum et al. (2017) for the others on CIFAR-MTL.
PUBLISHED = {
    ("mnist_mtl", "lrn"): 99.5,
    ("cifar_mtl", "lrn"): 70.0,
    ("min_mtl", "lrn"): 53.0,
    ("mnist_mtl", "routing"): 99.0,
    ("cifar_mtl", "routing"): 60.0,
    ("min_mtl", "routing"): 35.9,
    ("cifar_mtl", "cross_stitch"): 53.0,
    ("cifar_mtl", "task_fc"): 49.0,
    ("cifar_mtl", "task_head"): 42.0,
}
COLUMNS = (
    "benchmark",
    "method",
    "seeds",
    "epochs",
    "split",
    "accuracy, %",
    "deviation",
    "best epoch, %",
    "published, %",
    "parameters",
    "training, s",
    "to cross-stitch's accuracy, s",
)
SHOWN = ("image_size", "augment", "batch_size", "learning_rate", "lr_decay", "lr_every")
SHOWN_OF = {"routing": ("rho", "agents", "policy"), **dict.fromkeys(LRNS, ("dup", "depth", "bonus"))}


def plan() -> list[Settings]:
    """The settings of all runs, benchmark by benchmark and method by method."""
    given = lrn_main.given()
    names = "benchmark", "method", "workdir", "export_dir"
    grid.refuse(given, names, by="--benchmarks, --methods or --output")
    methods = (*LRNS, *SGD_METHODS) if ALL.value else METHODS.value
    wanted = []
    for benchmark in BENCHMARKS.value:
        for method in methods:
            one = of_method(given | dict(benchmark=benchmark), method)
            wanted += grid.each_seed(one, pathlib.Path(flags.FLAGS.output, benchmark, method))
    return wanted


def by_method(found: dict[Settings, runs.Run]) -> dict[str, list[runs.Group]]:
    """For each benchmark a group for each method."""
    wanted: dict[str, dict[str, list[Settings]]] = {}
    for settings in found:
        wanted.setdefault(settings.benchmark, {}).setdefault(settings.method, []).append(settings)
    return {benchmark: grid.groups_of(methods, found) for benchmark, methods in wanted.items()}


def rows(benchmark: str, groups: list[runs.Group]) -> list[tuple]:
    """The table's rows of a benchmark: `COLUMNS`."""
    target = [100 * g.column("eval_accuracy")[:, -1].mean() for g in groups if g.label == "cross_stitch"]
    found = []
    for group in groups:
        accuracy = 100 * group.column("eval_accuracy")  # (runs, epochs)
        seconds = group.stack(lambda run: np.cumsum(run.column("seconds"))).mean(axis=0)  # (epochs,)
        reached = np.flatnonzero(accuracy.mean(axis=0) >= target[0]) if target else []
        spread = f"{accuracy[:, -1].std(ddof=1):.2f}" if len(group.runs) > 1 else ""
        found.append(
            (
                benchmark,
                group.label,
                len(group.runs),
                group.epochs[-1],
                group.split,
                f"{accuracy[:, -1].mean():.2f}",
                spread,
                f"{accuracy.max(axis=1).mean():.2f}",
                PUBLISHED.get((benchmark, group.label), ""),
                group.runs[0].about["parameters"],
                round(seconds[-1]),
                round(seconds[reached[0]]) if len(reached) else "",
            )
        )
    return found


def show(found: dict[Settings, runs.Run]) -> None:
    """Writes table1.csv, table1.md and a picture for each benchmark."""
    tables, output = by_method(found), pathlib.Path(flags.FLAGS.output)
    body = [row for benchmark, groups in tables.items() for row in rows(benchmark, groups)]
    curves.save_csv([COLUMNS, *body], output / "table1.csv")
    lines = ["| " + " | ".join(map(str, row)) + " |" for row in (COLUMNS, ["---"] * len(COLUMNS), *body)]
    lines += ["", "Settings:", ""]
    for benchmark, groups in tables.items():
        for group in groups:
            settings = group.runs[0].settings
            words = [f"{name} {settings[name]}" for name in (*SHOWN, *SHOWN_OF.get(group.label, ()))]
            lines.append(f"- {benchmark}, {group.label}: {', '.join(words)}")
        path = output / f"{benchmark}.png"
        over = ((curves.EPOCHS, curves.ACCURACY), (curves.MINUTES, curves.ACCURACY))
        curves.draw(groups, path, benchmark, over)
    files.replace(output / "table1.md", "\n".join(lines) + "\n")
    print("\n".join(lines))


def main(_):
    grid.run(plan(), show)


if __name__ == "__main__":
    lrn_main.run(main)
