"""A web page about a run: `python -m lrn_tf.report --workdir=RUN --output=DIR`.

Writes index.html, which stands alone: what was asked, how it went, and what the network of the newest
checkpoint does on the test examples, or on those held out for validation, task by task and module by
module.
"""

import dataclasses
import errno
import pathlib
import sys

from lrn_tf import program
from lrn_tf.data.problem import differences
from lrn_tf.devices.start import start_tensorflow
from lrn_tf.errors import UserError, unwritable
from lrn_tf.settings import BENCHMARKS
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
    settings = _with_benchmark(run, run.asked, benchmark)
    start_tensorflow(settings.cache)
    from lrn_tf.data import benchmarks
    from lrn_tf.methods.restore import restore_method
    from lrn_tf.results.evaluation import Evaluator
    from lrn_tf.results.report_sections import Shown, page_of
    from lrn_tf.training.transfer import as_seen_by

    data, problem = benchmarks.load(*benchmarks.asked(settings)), run.about["problem"]
    if settings.init_from:  # whose inputs are standardised as those of the run that it started from
        data = dataclasses.replace(data, problem=as_seen_by(problem, data.problem))
    if different := differences(problem, data.problem):
        raise UserError(
            f"the examples of {settings.benchmark} are no longer those that {run.folder} has learned:"
            f" {different}"
        )
    method, step = restore_method(run, pool)
    print(f"evaluating step {step:,} on {len(data.test):,} examples", file=sys.stderr)
    evaluation = Evaluator(method, data.test, problem)()
    page = page_of(Shown(run, settings, data, method, step, evaluation))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        files.replace(folder / FILE, page)
    except OSError as error:
        raise unwritable("output", folder, error) from error
    print(f"{folder / FILE}: open it in a browser", file=sys.stderr)


def _with_benchmark(run, settings, benchmark):
    """The settings, with the benchmark that the caller gives, which must be if it is a function."""
    if not benchmark:
        if settings.benchmark in BENCHMARKS or ":" not in settings.benchmark:
            return settings
        raise UserError(
            f"the examples of {run.folder} are made by {settings.benchmark}, which a run does not start by"
            f" itself; give it with --benchmark=FILE.py:FUNCTION if you trust it"
        )
    return dataclasses.replace(settings, benchmark=benchmark)


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
