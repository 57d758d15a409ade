"""A web page about a run: `python -m lrn_tf.report --workdir=RUN --output=DIR`.

Writes index.html, which stands alone: what was asked, how it went, and what the network of the newest
checkpoint does on the test examples, or on those held out for validation, task by task and module by
module.
"""

import errno
import pathlib
import sys

from lrn_tf import program
from lrn_tf.devices.start import start_tensorflow
from lrn_tf.errors import unwritable
from lrn_tf.storage import files
from lrn_tf.storage.runs import read

FILE = "index.html"


def report(workdir: str, output: str, pool: str = "", benchmark: str = "") -> None:
    """Writes the page, whole or not at all; one that is there is replaced.

    Args:
        workdir: of the run.
        output: folder of the page.
        pool: FILE.py:FUNCTION, where such made the run's modules.
        benchmark: likewise of its examples; or where they are now, a folder of pictures say.

    Raises:
        UserError: there is no run with a checkpoint, its data are missing, or the output cannot be written.
    """
    run, folder = read(workdir), pathlib.Path(output)
    _check(folder)
    start_tensorflow(run.asked.cache)
    from lrn_tf.results.report_sections import page_of
    from lrn_tf.training.evaluate import evaluate

    page = page_of(evaluate(run, benchmark, pool))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        files.replace(folder / FILE, page)
    except OSError as error:
        raise unwritable("output", folder, error) from error
    print(f"{folder / FILE}: open it in a browser", file=sys.stderr)


def _check(folder):
    """Sees that the page may be written there, before minutes are spent on it."""
    try:
        if (folder / FILE).is_dir():
            raise IsADirectoryError(errno.EISDIR, f"{folder / FILE} is a folder")
        files.check_writable(folder)
    except OSError as error:
        raise unwritable("output", folder, error) from error


if __name__ == "__main__":
    program.run_on_a_run(
        report,
        "Folder of index.html; one that is there is replaced",
        pool=program.OWN_POOL,
        benchmark="FILE.py:FUNCTION that has made the run's examples, if a function of yours has; or their"
        " folder, if it is no longer where it was",
    )
