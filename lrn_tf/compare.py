"""Compares runs: `python -m lrn_tf.compare RUN RUN ... --output=DIR`.

Prints a table of the runs in the given folders. Runs that differ in nothing but their seed share a row.
With --output, draws their curves (curves.png) and writes every epoch (curves.csv).
"""

import pathlib
import sys
from collections.abc import Sequence

from absl import flags

from lrn_tf import curves, program, runs
from lrn_tf.errors import UserError

OUTPUT = flags.DEFINE_string("output", "", "Folder for curves.png and curves.csv; empty writes neither")
TITLE = flags.DEFINE_string("title", "", "Title of the picture")


def table(groups: Sequence[runs.Group]) -> str:
    """A Markdown table; a spread is the standard deviation over seeds."""
    rows = [("runs", "seeds", "epochs", "test accuracy, %", "best epoch, %", "unused", "length", "ms/step")]
    for group in groups:
        accuracy = 100 * group.column("test_accuracy")
        rows.append(
            (
                group.label,
                str(len(group.runs)),
                str(group.epochs),
                _spread(accuracy[:, -1], 1),
                _spread(accuracy.max(axis=1), 1),
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
    mean = f"{values.mean():.{digits}f}"
    return f"{mean} ± {values.std(ddof=1):.{digits}f}" if len(values) > 1 else mean


def main(folders: list[str]) -> None:
    groups = runs.group([runs.read(folder) for folder in folders])
    print(table(groups))
    if OUTPUT.value:
        output = pathlib.Path(OUTPUT.value)
        try:
            output.mkdir(parents=True, exist_ok=True)
            curves.write(groups, output / "curves.csv")
            curves.draw(groups, output / "curves.png", TITLE.value)
        except OSError as error:
            raise UserError(
                f"--output={OUTPUT.value} cannot be written ({error.strerror}); give another folder"
            ) from error
        print(f"{output / 'curves.png'}, {output / 'curves.csv'}", file=sys.stderr)


if __name__ == "__main__":
    program.run(main, takes="folder of a run")
