"""What a run has learned, once more on the examples that it is evaluated on."""

import dataclasses
import sys
from typing import Any

from lrn_tf.data import benchmarks
from lrn_tf.errors import UserError
from lrn_tf.methods.restore import restore_method
from lrn_tf.results.evaluation import Evaluator
from lrn_tf.results.report_sections import Shown
from lrn_tf.settings.own_code import not_started
from lrn_tf.storage.config import unlike_data
from lrn_tf.storage.runs import Run
from lrn_tf.training.transfer import as_seen_by


def evaluate(run: Run, tasks: Any = None, pool: Any = None) -> Shown:
    """Evaluates the newest checkpoint of a run.

    Args:
        run: the run.
        tasks: what has made the run's examples, if a function or a list of yours has; or their folder, if
            it is no longer where it was: a list of `lrn_tf.data.tasks.Task`, or what --benchmark may name.
        pool: as in `lrn_tf.methods.restore.restore_method`.

    Raises:
        UserError: there is no checkpoint, or the examples or the pool are missing or others.
    """
    settings, problem = run.asked, run.about["problem"]
    if not tasks and settings.is_own("benchmark"):
        raise not_started(f"the examples of {run.folder}", settings.benchmark, "benchmark", "tasks")
    source = None
    if tasks and not isinstance(tasks, str):
        source = benchmarks.own(problem.name, tasks)
    elif tasks:
        settings = dataclasses.replace(settings, benchmark=tasks)
    data = benchmarks.benchmark_of(settings, source)
    if settings.init_from:  # whose inputs are standardised as those of the run that it started from
        data = dataclasses.replace(data, problem=as_seen_by(problem, data.problem))
    now = dict(problem=data.problem, training_examples=len(data.train), eval_examples=len(data.test))
    if different := unlike_data(run.about, now):
        raise UserError(
            f"the examples of {settings.benchmark} are no longer those that {run.folder} has learned:"
            f" {different}"
        )
    method, step = restore_method(run, pool)
    print(f"evaluating step {step:,} on {len(data.test):,} examples", file=sys.stderr)
    return Shown(run, settings, data, method, step, Evaluator(method, data.test, problem)())
