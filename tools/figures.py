"""The paper's Figures 2 to 7, measured: accuracy and unused modules against epochs.

    python tools/figures.py --figure=6 --epochs=20 --image_size=32

Figures 2 to 4 (MNIST-MTL, MIN-MTL, CIFAR-MTL) vary the copies of each kind of module and the depth, 5 to 7
(the same benchmarks) are with the bonus and without it at the smallest of these settings. Takes the flags
of `lrn_tf.main` besides; they hold for all runs, which lie under --output. The same command continues after
a kill, skips what has finished, and runs longer where --epochs has grown. Writes figure_N.png and .csv.
"""

import pathlib

import grid
from absl import flags

from lrn_tf import main as lrn_main
from lrn_tf.errors import UserError
from lrn_tf.results import curves
from lrn_tf.settings.table import LRNS, Settings
from lrn_tf.storage import runs

FIGURE = flags.DEFINE_enum("figure", None, list("234567"), "Which figure of the paper")
grid.define_flags("figures")

BENCHMARKS = dict(zip("234567", ("mnist_mtl", "min_mtl", "cifar_mtl") * 2, strict=True))
SIZES = {f"dup_{dup}_depth_{depth}": dict(dup=dup, depth=depth) for dup in (5, 10) for depth in (4, 6)}
SMALLEST = SIZES["dup_5_depth_4"]
BONUSES = {
    "dup_5_depth_4": dict(**SMALLEST, bonus=Settings.bonus),
    "dup_5_depth_4_no_bonus": dict(**SMALLEST, bonus=0.0),
}


def plan(figure: str) -> dict[str, list[Settings]]:
    """The settings of a figure's runs, by label."""
    given = lrn_main.given()
    varied = ("benchmark", "dup", "depth", "workdir", "export_dir", *(["bonus"] if figure in "567" else []))
    grid.refuse(given, varied, by=f"--figure={figure}")
    if given.get("method", Settings.method) not in LRNS:
        raise UserError(
            f"--method={given['method']} has no dup and depth; choose one of: {', '.join(LRNS)}"
        )
    return {
        label: list(
            grid.each_seed(
                {**given, **values, "benchmark": BENCHMARKS[figure]},
                pathlib.Path(flags.FLAGS.output, BENCHMARKS[figure], label),
            )
        )
        for label, values in (SIZES if figure in "234" else BONUSES).items()
    }


def show(wanted: dict[str, list[Settings]], found: dict[Settings, runs.Run]) -> None:
    """Writes figure_N.csv and .png."""
    groups = grid.groups_of(wanted, found)
    path = pathlib.Path(flags.FLAGS.output, f"figure_{FIGURE.value}")
    curves.write(groups, path.with_suffix(".csv"))
    curves.draw(groups, path.with_suffix(".png"), f"Figure {FIGURE.value}: {BENCHMARKS[FIGURE.value]}")
    print(runs.table(groups))


def main(_):
    if not FIGURE.value:
        raise UserError("--figure is missing; choose one of: 2 to 7")
    grid.run_groups(plan(FIGURE.value), show)


if __name__ == "__main__":
    lrn_main.run(main)
