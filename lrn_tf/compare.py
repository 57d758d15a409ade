"""Compares runs: `python -m lrn_tf.compare RUN RUN ... --output=DIR`.

Prints a table of the runs in the given folders. Runs that differ in nothing but their seed share a row.
With --output, draws their curves (curves.png) and writes each evaluated epoch (curves.csv). What was
measured on validation examples stands beside what was measured on test examples, and is named so.
"""

import pathlib
import sys

from absl import flags

from lrn_tf import program
from lrn_tf.errors import unwritable
from lrn_tf.results import curves
from lrn_tf.storage import files, runs

OUTPUT = flags.DEFINE_string("output", "", "Folder for curves.png and curves.csv; empty writes neither")
TITLE = flags.DEFINE_string("title", "", "Title of the picture")


def main(folders: list[str]) -> None:
    groups = runs.group([runs.read(folder) for folder in folders])
    print(runs.table(groups))
    if OUTPUT.value:
        output = pathlib.Path(OUTPUT.value)
        # Before anything is written.
        picture = curves.png(curves.figure(groups, TITLE.value, curves.panels_of(groups)))
        try:
            output.mkdir(parents=True, exist_ok=True)
            files.replace(output / "curves.png", picture)
            curves.write(groups, output / "curves.csv")
        except OSError as error:
            raise unwritable("output", OUTPUT.value, error) from error
        print(f"{output / 'curves.png'}, {output / 'curves.csv'}", file=sys.stderr)


if __name__ == "__main__":
    program.run(main, takes="folder of a run")
