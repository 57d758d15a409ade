"""Many trainings, one after another: what has finished is skipped, what was stopped continues."""

import dataclasses
import functools
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from absl import flags

from lrn_tf.errors import UserError
from lrn_tf.settings.resolve import resolve
from lrn_tf.settings.table import Settings, of_method
from lrn_tf.storage.runs import Group, Run, read
from lrn_tf.storage.workdir import Workdir
from lrn_tf.training.stop import Stop


def define_flags(output: str) -> None:
    """The flags of a program that trains many settings, besides those of one run."""
    mine = dict(module_name=sys.argv[0])  # --help lists them as those of the program itself
    flags.DEFINE_string("output", output, "Folder of the runs and of what is written", **mine)
    flags.DEFINE_integer("seeds", 3, "Seeds of each setting, from --seed on", lower_bound=1, **mine)
    flags.DEFINE_integer("parallel", 1, "Runs at a time", lower_bound=1, **mine)
    flags.DEFINE_bool("plot_only", False, "Train nothing; write what the runs so far show", **mine)


def each_seed(given: dict[str, Any], folder: pathlib.Path) -> Iterator[Settings]:
    """Settings for all --seeds, with a workdir each: the folder with _seed_<number> after its name."""
    first = given.get("seed", Settings.seed)
    for seed in range(first, first + flags.FLAGS.seeds):
        yield resolve({**given, "seed": seed, "workdir": f"{folder}_seed_{seed}"})


def run(wanted: Sequence[Settings], show: Callable[[dict[Settings, Run]], None]) -> None:
    """Trains all of it, unless --plot_only, and shows what there is then, also after a failure.

    Args:
        wanted: settings with workdirs of their own.
        show: called with the runs that have been evaluated, if there are any.
    """
    try:
        if not flags.FLAGS.plot_only:
            train_all(wanted, flags.FLAGS.parallel)
    finally:
        if found := read_all(wanted):
            show(found)


def run_groups(
    wanted: dict[str, list[Settings]],
    show: Callable[[dict[str, list[Settings]], dict[Settings, Run]], None],
) -> None:
    """The same for settings by what they are called; `show` gets these first."""
    run([settings for of in wanted.values() for settings in of], functools.partial(show, wanted))


def refuse(given: dict[str, Any], names: Sequence[str], by: str = "this program") -> None:
    """Sees that the user gave no setting that the program gives; raises UserError if one was."""
    for name in names:
        if name in given:
            raise UserError(f"--{name}={given[name]} is set or varied by {by}; leave it out")


def without_router(given: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Those settings for what an LRN has to beat (--method=unrouted), by what it is called."""
    unrouted = of_method(given, "unrouted")
    return {
        # Without a core, of which it is the only learner: all other modules would be moved along with it.
        "one network": {**unrouted, "paths": "shared", "core": 0.0},
        "a random path for each task": {**unrouted, "paths": "task"},
    }


def groups_of(wanted: dict[str, list[Settings]], found: dict[Settings, Run]) -> list[Group]:
    """The runs that there are, by what they are called; without those of which there is none to compare."""
    groups = [Group(label, [found[s] for s in of if s in found]) for label, of in wanted.items()]
    return [group for group in groups if group.runs and group.epochs]


def train_all(wanted: Sequence[Settings], parallel: int = 1) -> None:
    """Trains each of the settings in a process of its own, as `python -m lrn_tf.main` does.

    What a training prints goes to `log.txt` in its workdir. One that fails does not stop the others. Being
    asked to stop is passed on, so that each saves where it is.

    Args:
        wanted: settings with workdirs of their own.
        parallel: how many at a time.

    Raises:
        UserError: some failed.
        KeyboardInterrupt: it was asked to stop, by Ctrl-C or SIGTERM.
    """
    for settings in wanted:
        Workdir(settings).check()
    left = [settings for settings in wanted if not is_finished(settings)]
    print(f"{len(wanted)} runs, {len(wanted) - len(left)} finished before", file=sys.stderr)
    waiting, running = list(left), {}
    with Stop() as stop:
        while waiting or running:
            if stop.signal:
                waiting.clear()
            while waiting and len(running) < parallel:
                settings = waiting.pop(0)
                running[settings] = _start(settings)
            time.sleep(0.1)
            if stop.signal == signal.SIGTERM:  # Ctrl-C reaches them by itself
                for process in running.values():
                    process.terminate()
            running = {s: process for s, process in running.items() if process.poll() is None}
    if stop.signal:
        raise KeyboardInterrupt
    failed = [str(_log(settings)) for settings in left if not is_finished(settings)]
    if failed:
        raise UserError(f"{len(failed)} of {len(wanted)} runs failed; see {', '.join(failed)}")


def read_all(wanted: Sequence[Settings]) -> dict[Settings, Run]:
    """What there is of the runs so far; names on stderr those that have not been evaluated."""
    found = {}
    for settings in wanted:
        try:
            found[settings] = read(settings.workdir)
        except UserError as error:
            print(f"left out: {error}", file=sys.stderr)
    return found


def is_finished(settings: Settings) -> bool:
    """Whether the workdir holds all epochs, or all of --max_steps, and the state after them."""
    try:
        run = read(settings.workdir)
    except UserError:
        return False
    last = settings.last_step(run.about["training_examples"] // settings.batch_size)
    reached = run.lines[-1].step
    return reached >= last and (run.folder / "checkpoints" / f"step-{reached}.index").exists()


def start(settings: Settings, log) -> subprocess.Popen:
    """Trains in a process of its own, which writes what it says to an open file."""
    given = [f"--{name}={value}" for name, value in dataclasses.asdict(settings).items()]
    command = [sys.executable, "-m", "lrn_tf.main", *given]
    return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)


def _start(settings):
    workdir = pathlib.Path(settings.workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    print(f"training {workdir}", file=sys.stderr, flush=True)
    with _log(settings).open("a") as log:
        return start(settings, log)


def _log(settings):
    return pathlib.Path(settings.workdir) / "log.txt"
