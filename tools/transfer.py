"""New tasks of few examples for a network that has learned others: what it is worth to start from it.

    python tools/transfer.py --benchmark=min_mtl --examples_per=label --image_size=32 --heads=task

Trains a network on all tasks but --new of them, which --seed draws, and then the new ones, of which
--shots examples of each class are seen, in four ways:

    scratch    a new network, on the new tasks alone
    together   a new network, on all tasks at once
    tuned      the trained network goes on, on the new tasks alone
    frozen     the same, but its modules do not learn (--freeze=modules)

Takes the flags of `lrn_tf.main`, of which --epochs is for the trained network and for `together`;
--new_epochs and --new_learning_rate are for the others, where there is no bonus unless one is given. Prints
the accuracy on all test examples of the new tasks after the last epoch and writes transfer.csv, a line for
each way, seed and epoch. The same command continues after a kill.
"""

# ruff: noqa: E402 - TensorFlow is to be started before anything else imports it with all its messages.
import sys

from lrn_tf.devices.start import start_tensorflow

start_tensorflow(cache="--nocache" not in sys.argv)

import dataclasses
import pathlib
import statistics

import apart
import grid
import numpy as np
from absl import flags

import lrn_tf
from lrn_tf import main as lrn_main
from lrn_tf.data.benchmarks import Choice, benchmark_of
from lrn_tf.errors import UserError
from lrn_tf.results import curves

# For a few hundred examples.
SMALL_BATCH = dict(batch_size=40, minibatch_size=20)
WAYS = ("scratch", "together", "tuned", "frozen")


def define_flags() -> None:
    """The flags of this program, besides those of one run."""
    flags.DEFINE_integer("new", 2, "Tasks that are new", lower_bound=1)
    flags.DEFINE_integer("shots", 20, "Training examples of each class of a new task", lower_bound=2)
    flags.DEFINE_integer("new_epochs", 40, "Epochs on the new tasks alone", lower_bound=1)
    flags.DEFINE_float(
        "new_learning_rate", 1e-3, "Learning rate on the new tasks, which have few steps", lower_bound=0.0
    )
    flags.DEFINE_integer("seeds", 3, "Seeds, from --seed on", lower_bound=1)
    flags.DEFINE_string("output", "transfer", "Folder of the runs and of transfer.csv")


def with_few(tasks, few, shots, rng):
    """Tasks of which those in `few` have so many training examples of each class."""
    tasks = list(tasks)
    for k in sorted(few):
        of_class = [np.flatnonzero(tasks[k].y == c) for c in range(len(tasks[k].answers))]
        rows = np.concatenate([rng.permutation(rows)[:shots] for rows in of_class])
        tasks[k] = dataclasses.replace(tasks[k], x=tasks[k].x[rows], y=tasks[k].y[rows])
    return tasks


def transfer(settings, folder):
    """Trains all ways with one seed; the epochs of each, and the names of the new tasks."""
    rng = np.random.default_rng(settings.seed)
    benchmark = benchmark_of(settings)
    count = benchmark.problem.num_tasks
    if not flags.FLAGS.new < count:
        raise UserError(
            f"--new={flags.FLAGS.new} leaves none of the {count} tasks to learn before; choose fewer"
        )
    few = set(rng.choice(count, flags.FLAGS.new, replace=False).tolist())
    tasks = with_few(apart.tasks_of(benchmark), few, flags.FLAGS.shots, rng)
    known = [task for k, task in enumerate(tasks) if k not in few]
    new = [task for k, task in enumerate(tasks) if k in few]
    given = dataclasses.asdict(settings)
    # The examples are there already.
    for name in {*(f.name for f in dataclasses.fields(Choice)), "benchmark", "pool", "export_dir", "cache"}:
        del given[name]
    given |= dict(seed=settings.seed, heads=settings.heads)
    if settings.schedule == "one_cycle":  # which has none, and `known` has other presets
        del given["lr_decay"], given["lr_every"]

    def learn(name, tasks, **more):
        workdir = str(folder / f"{name}_seed_{settings.seed}")
        return lrn_tf.train(tasks, settings.pool, **{**given, "workdir": workdir, **more})

    trained = learn("known", known)
    small = dict(epochs=flags.FLAGS.new_epochs, learning_rate=flags.FLAGS.new_learning_rate, **SMALL_BATCH)
    small["bonus"] = lrn_main.given().get("bonus", 0.0)
    from_it = dict(init_from=trained.workdir, **small)
    networks = {
        "scratch": learn("scratch", new, **small),
        "together": learn("together", tasks),
        "tuned": learn("tuned", new, **from_it),
        "frozen": learn("frozen", new, **from_it, freeze="modules"),
    }
    return {way: network.epochs for way, network in networks.items()}, [task.name for task in new]


def main(_):
    grid.refuse(lrn_main.given(), ("init_from", "freeze", "imitation", "workdir"))
    settings, folder, rows = lrn_main.settings_from_flags(), pathlib.Path(flags.FLAGS.output), []
    folder.mkdir(parents=True, exist_ok=True)
    last = {way: [] for way in WAYS}
    for seed in range(settings.seed, settings.seed + flags.FLAGS.seeds):
        epochs, names = transfer(dataclasses.replace(settings, seed=seed), folder)
        for way, lines in epochs.items():
            for line in lines:
                accuracy = statistics.mean(line.eval_accuracy_per_task[name] for name in names)
                rows.append((way, seed, line.epoch, f"{accuracy:.4f}", " ".join(names)))
            last[way].append(accuracy)
        print(f"seed {seed}, new: {', '.join(names)}")
    curves.save_csv([("way", "seed", "epoch", "accuracy", "new_tasks"), *rows], folder / "transfer.csv")
    for way, found in last.items():
        print(f"{way:10} {100 * statistics.mean(found):5.1f} %  ", *(f"{100 * a:.1f}" for a in found))


if __name__ == "__main__":
    define_flags()
    lrn_main.run(main)
