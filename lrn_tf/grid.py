"""Many trainings, one after another: what has finished is skipped, what was stopped continues."""

import concurrent.futures
import dataclasses
import pathlib
import subprocess
import sys
from collections.abc import Sequence

from lrn_tf.errors import UserError
from lrn_tf.runs import Run, read
from lrn_tf.settings import Settings
from lrn_tf.workdir import Workdir


def train_all(wanted: Sequence[Settings], parallel: int = 1) -> None:
    """Trains each of the settings in a process of its own, as `python -m lrn_tf.main` does.

    What a training prints goes to `log.txt` in its workdir. One that fails does not stop the others.

    Args:
        wanted: settings with workdirs of their own.
        parallel: how many at a time.

    Raises:
        UserError: some failed.
    """
    for settings in wanted:
        Workdir(settings).check()
    left = [settings for settings in wanted if not is_finished(settings)]
    print(f"{len(wanted)} runs, {len(wanted) - len(left)} finished before", file=sys.stderr)
    with concurrent.futures.ThreadPoolExecutor(parallel) as pool:
        failed = [name for name in pool.map(_train, left) if name]
    if failed:
        raise UserError(f"{len(failed)} of {len(wanted)} runs failed; see {', '.join(failed)}")


def read_all(wanted: Sequence[Settings]) -> dict[Settings, Run]:
    """What there is of the runs so far; names on stderr those that have not finished an epoch."""
    found = {}
    for settings in wanted:
        try:
            found[settings] = read(settings.workdir)
        except UserError as error:
            print(f"left out: {error}", file=sys.stderr)
    return found


def is_finished(settings: Settings) -> bool:
    """Whether the workdir holds all epochs, or all of --max_steps."""
    lines = Workdir(settings).read_metrics()
    if not lines:
        return False
    reached = settings.max_steps and lines[-1]["step"] >= settings.max_steps
    return bool(reached) or lines[-1]["epoch"] >= settings.epochs


def _train(settings):
    """Trains; returns the path of the log if that failed."""
    workdir = pathlib.Path(settings.workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    given = [f"--{name}={value}" for name, value in dataclasses.asdict(settings).items()]
    print(f"training {workdir}", file=sys.stderr, flush=True)
    with (workdir / "log.txt").open("a") as log:
        done = subprocess.run(
            [sys.executable, "-m", "lrn_tf.main", *given], stdout=log, stderr=subprocess.STDOUT
        )
    return str(workdir / "log.txt") if done.returncode else None
