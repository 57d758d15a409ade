"""A web page about a run: `python -m lrn_tf.report --workdir=RUN --output=DIR`.

Writes index.html, which stands alone: what was asked, how it went, and what the network of the newest
checkpoint does on the test images, or on those held out for validation, task by task and module by module.
"""

import os
import pathlib
import sys

from lrn_tf import program
from lrn_tf.errors import UserError
from lrn_tf.quiet import start_tensorflow
from lrn_tf.restore import restore_method, settings_of
from lrn_tf.storage import files
from lrn_tf.storage.runs import read

FILE = "index.html"


def report(workdir: str, output: str) -> None:
    """Writes the page, whole or not at all; one that is there is replaced.

    Raises:
        UserError: there is no run with a checkpoint, its data are missing, or the output cannot be written.
    """
    run, folder = read(workdir), pathlib.Path(output)
    _check(folder)
    settings = settings_of(run)
    start_tensorflow()
    from lrn_tf.data import benchmarks
    from lrn_tf.data.batches import DeviceExamples
    from lrn_tf.results.evaluation import Evaluator
    from lrn_tf.results.report_sections import Shown, page_of

    benchmark = benchmarks.load(settings)
    method, step = restore_method(run, benchmark.problem)
    print(f"evaluating step {step:,} on {len(benchmark.test):,} examples", file=sys.stderr)
    test = DeviceExamples(benchmark.test, benchmark.mean, benchmark.std)
    evaluation = Evaluator(method, test, benchmark.num_tasks)()
    page = page_of(Shown(run, settings, benchmark, method, step, evaluation))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        files.replace(folder / FILE, page)
    except OSError as error:
        raise _unwritable(folder, error.strerror) from error
    print(f"{folder / FILE}: open it in a browser", file=sys.stderr)


def _check(folder):
    """Sees that the page may be written there, before minutes are spent on it."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir():
        raise _unwritable(folder, f"{there} is no folder")
    if (folder / FILE).is_dir():
        raise _unwritable(folder, f"{folder / FILE} is a folder")
    if not os.access(there, os.W_OK):
        raise _unwritable(folder, "no permission")


def _unwritable(folder, reason):
    return UserError(f"--output={folder} cannot be written ({reason}); give another folder")


if __name__ == "__main__":
    program.run_on_a_run(report, "Folder of index.html; one that is there is replaced")
