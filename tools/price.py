"""What accuracy costs: accuracy against what a network computes, for several prices of computing.

    python tools/price.py --benchmark=cifar_mtl --pool=residual --heads=task --prices=0,1,4 --depths=3,5,7

Trains an LRN at each price (`--price`, in nats per GFLOP), and beside them networks of several depths
without a router (`--method=unrouted`): one that all tasks share, and a random path for each task through
as many modules as LRN has. Takes the flags of `lrn_tf.main` besides; they hold for all runs, which lie
under --output. The same command continues after a kill. Writes price.csv and price.png.
"""

import itertools
import pathlib

import grid
import numpy as np
from absl import flags

from lrn_tf import main as lrn_main
from lrn_tf.errors import UserError
from lrn_tf.settings.table import Settings
from lrn_tf.storage.runs import Run

PRICES = flags.DEFINE_list("prices", ["0", "1", "2", "4", "8"], "Nats per GFLOP")
DEPTHS = flags.DEFINE_list("depths", ["3", "5", "7"], "Depths of the networks without a router")
grid.define_flags("price")


def plan() -> dict[Settings, str]:
    """The settings of all runs, and what each is called."""
    given, output = lrn_main.given(), pathlib.Path(flags.FLAGS.output)
    grid.refuse(given, ("method", "paths", "price", "init_from", "workdir", "export_dir"))
    try:
        prices, depths = [float(x) for x in PRICES.value], [int(x) for x in DEPTHS.value]
    except ValueError as error:
        raise UserError(f"--prices and --depths are lists of numbers: {error}") from error
    wanted = {}
    for price in prices:
        priced = {**given, "method": "lrn", "price": price}
        wanted |= dict.fromkeys(
            grid.each_seed(priced, output / f"price_{price:g}"), f"LRN, price {price:g}"
        )
    for (way, settings), depth in itertools.product(grid.without_router(given).items(), depths):
        runs = grid.each_seed({**settings, "depth": depth}, output / f"{way.replace(' ', '_')}_{depth}")
        wanted |= dict.fromkeys(runs, f"{way}, depth {depth}")
    return wanted


def measure(run: Run, data) -> tuple[float, np.ndarray]:
    """The accuracy of a run's newest checkpoint, and what each example's network computes, in GFLOP."""
    from lrn_tf.methods.restore import restore_method
    from lrn_tf.modules import cost
    from lrn_tf.results.evaluation import Evaluator

    method, _ = restore_method(run, run.asked.pool)
    found = Evaluator(method, data.test, data.problem)()
    products = cost.of_actions(method.pool, cost.of_kinds(method.pool))
    return found.accuracy, 2e-9 * products[found.paths].sum(axis=1)


def show(wanted: dict[Settings, str], found: dict[Settings, Run]) -> None:
    """Evaluates all runs; writes the table and the picture."""
    from lrn_tf.devices.start import start_tensorflow

    start_tensorflow()
    from lrn_tf.data import benchmarks
    from lrn_tf.results import curves

    if any(run.lines[-1].eval_accuracy is None for run in found.values()):
        raise UserError("accuracy is what is compared, and all tasks ask for numbers; give other tasks")
    rows, data = [], {}
    for settings, run in found.items():
        if (seed := settings.seed) not in data:
            data[seed] = benchmarks.benchmark_of(settings)
        accuracy, gflop = measure(run, data[seed])
        least, most = np.percentile(gflop, [5, 95])
        rows.append((wanted[settings], seed, accuracy, gflop.mean(), least, most))
        print(f"{wanted[settings]:36} seed {seed}: {accuracy:6.2%} with {gflop.mean():.4f} GFLOP")
    path = pathlib.Path(flags.FLAGS.output, "price")
    columns = ("label", "seed", "accuracy", "mean_gflop", "gflop_5_percent", "gflop_95_percent")
    curves.save_csv([columns, *rows], path.with_suffix(".csv"))
    curves.save(picture(rows), path.with_suffix(".png"))


def picture(rows):
    """A matplotlib `Figure`: a mark for each run, those of a kind joined by a line through their means."""
    from matplotlib.figure import Figure

    from lrn_tf.results.curves import COLOURS

    drawn = Figure(figsize=(6, 4), layout="constrained")
    axis = drawn.subplots()
    ways = dict.fromkeys(row[0].rpartition(" ")[0] for row in rows)  # such as "LRN, price"
    for way, colour in zip(ways, COLOURS, strict=False):
        labels = dict.fromkeys(row[0] for row in rows if row[0].startswith(way))
        of_label = [np.array([row[2:4] for row in rows if row[0] == label]) for label in labels]
        means = np.array([runs.mean(axis=0) for runs in of_label])
        axis.plot(means[:, 1], 100 * means[:, 0], "-", color=colour, label=way.replace(", ", ", by "))
        axis.plot(*np.concatenate(of_label).T[::-1] * [[1], [100]], "o", color=colour, ms=4)
        for label, (accuracy, gflop) in zip(labels, means, strict=True):
            number = label.split()[-1]
            axis.annotate(
                number, (gflop, 100 * accuracy), xytext=(4, 4), textcoords="offset points", size=8
            )
    axis.set_xlabel("GFLOP of an example's network, mean")
    axis.set_ylabel("accuracy, %")
    axis.grid(alpha=0.3)
    axis.legend(fontsize=9)
    return drawn


def main(_):
    wanted = plan()
    grid.run(list(wanted), lambda found: show(wanted, found))


if __name__ == "__main__":
    lrn_main.run(main)
