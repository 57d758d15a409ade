"""How the cost of a training step grows with the number of tasks.

    python tools/scaling.py --benchmark=cifar_mtl --dup=5 --depth=4 --output=scaling

Takes the flags of `lrn_tf.main`. For each method and number of tasks K it measures, on random images of the
benchmark's size and with a learning rate of 0:

    mixed     a training step on a batch in which tasks are mixed, as the trainer makes them
    layers    forward and backward through what is left without the trunk, LRN's router and the optimizer;
              routing networks decide layer by layer, so their agents are in it
    by task   a training step on a batch of a single task

Writes scaling.csv and scaling.png. Leave the machine idle meanwhile.
"""

# ruff: noqa: E402 - TensorFlow is to be started before anything else imports it with all its messages.
import sys

from lrn_tf.devices.start import start_tensorflow

start_tensorflow(cache="--nocache" not in sys.argv)

import dataclasses
import functools
import pathlib

import grid
import numpy as np
import tensorflow as tf
from absl import flags
from timing import UNTIMED, check_single_input, milliseconds

from lrn_tf import main as lrn_main
from lrn_tf.data.benchmarks import benchmark_of
from lrn_tf.errors import UserError
from lrn_tf.learning.objectives import Objectives
from lrn_tf.methods.build import build
from lrn_tf.methods.fc_network import LAYERS
from lrn_tf.results import curves
from lrn_tf.settings.resolve import resolve
from lrn_tf.settings.table import LRNS, of_method
from lrn_tf.training.train import start

OUTPUT = flags.DEFINE_string("output", "scaling", "Folder of scaling.csv and scaling.png")
METHODS = flags.DEFINE_list("methods", ["routing", "lrn", "cross_stitch", "task_fc"], "Which methods")
COUNTS = flags.DEFINE_list("counts", ["2", "5", "10", "20"], "Numbers of tasks")
STEPS = flags.DEFINE_integer("steps", 20, "Timed steps of each, after three that are not", lower_bound=1)

MEASURED = ("mixed", "layers", "by task")


def with_tasks(problem, count):
    """A problem with another number of tasks, all like its first."""
    tasks = tuple(dataclasses.replace(problem.tasks[0], name=f"task {k}") for k in range(count))
    return dataclasses.replace(problem, tasks=tasks)


def measure(benchmark, settings, count) -> dict[str, float]:
    """Milliseconds by what is measured."""
    problem = with_tasks(benchmark.problem, count)
    method = build(problem, settings, settings.own("pool"))
    rng = np.random.default_rng(settings.seed)
    size = settings.batch_size
    images = tf.constant(rng.normal(size=(size, *problem.inputs[0].shape)), tf.float32)
    labels = tf.constant(rng.integers(0, problem.width, size), tf.int32)
    mixed = tf.constant(rng.integers(0, count, size), tf.int32)

    @tf.function(autograph=False)
    def train_step(tasks, i):
        return method.train_step(images, tasks, labels, tf.stack([settings.seed, i]), tf.constant(0.0))

    return {
        "mixed": milliseconds(lambda i: train_step(mixed, i), STEPS.value),
        "layers": milliseconds(
            task_layers(method, images, mixed, labels, settings, Objectives(problem)), STEPS.value
        ),
        "by task": milliseconds(lambda i: train_step(tf.fill([size], i % count), i), STEPS.value),
    }


def task_layers(method, images, tasks, labels, settings, objectives):
    """Forward and backward through what runs differently for each task, as a function of the step."""
    if settings.method in LRNS:
        paths = method.route(images, tasks, tf.constant([settings.seed, 0])).actions
        inputs, weights = images, tf.nest.flatten(method.modules.weights)
        run = functools.partial(method.modules, paths=paths)
    else:
        inputs, weights = method.trunk(images), method.weights[len(method.trunk.trainable_variables) :]
        run = functools.partial(method.layers, tasks=tasks)
        if settings.method == "routing":
            uniform = tf.random.stateless_uniform((len(labels), LAYERS + 1), [settings.seed, 0])
            run = functools.partial(run, uniform=uniform)

    @tf.function(autograph=False)
    def forward_backward(i):
        with tf.GradientTape() as tape:
            logits, *_ = run(inputs)
            loss = tf.reduce_mean(objectives.loss(logits, tasks, labels))
        return loss, tape.gradient(loss, weights, unconnected_gradients="zero")

    return forward_backward


def draw(rows, path, title):
    """A panel for each of `MEASURED`."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 4), layout="constrained")
    for axis, name in zip(figure.subplots(1, 3, sharey=True), MEASURED, strict=True):
        for method, colour in zip(METHODS.value, curves.COLOURS, strict=False):
            mine = [row for row in rows if row["method"] == method]
            tasks = [row["tasks"] for row in mine]
            axis.plot(tasks, [row[name] for row in mine], "o-", color=colour, label=method)
        axis.set_title(name)
        axis.set_xlabel("tasks")
        axis.set_xticks(sorted({row["tasks"] for row in rows}))
        axis.set_yscale("log")
        axis.grid(alpha=0.3)
    figure.axes[0].set_ylabel("ms per step")
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    figure.suptitle(title)
    curves.save(figure, path)


def main(_):
    asked = lrn_main.settings_from_flags()
    grid.refuse(lrn_main.given(), UNTIMED)
    if "unrouted" in METHODS.value:
        raise UserError("--methods=unrouted has no layers of its own to compare; leave it out")
    device, _ = start(asked)
    benchmark = benchmark_of(asked)
    check_single_input(benchmark)
    counts = [int(count) if count.isdigit() else 0 for count in COUNTS.value]
    if not all(counts):
        raise UserError(f"--counts={','.join(COUNTS.value)} must be numbers of tasks such as 2,5,10,20")
    output = pathlib.Path(OUTPUT.value)
    output.mkdir(parents=True, exist_ok=True)
    rows = []
    print(f"{asked.benchmark}, batch {asked.batch_size}, {device}; ms per step")
    print(f"{'method':14s} {'tasks':>5s} " + " ".join(f"{name:>9s}" for name in MEASURED))
    every = {method: resolve(of_method(lrn_main.given(), method)) for method in METHODS.value}
    for method, settings in every.items():
        for count in counts:
            times = measure(benchmark, settings, count)
            rows.append({"method": method, "tasks": count, **times})
            print(
                f"{method:14s} {count:5d} " + " ".join(f"{times[name]:9.2f}" for name in MEASURED),
                flush=True,
            )
    curves.save_csv([tuple(rows[0]), *(tuple(row.values()) for row in rows)], output / "scaling.csv")
    draw(rows, output / "scaling.png", f"{asked.benchmark}, batch {asked.batch_size}, {device}")


if __name__ == "__main__":
    lrn_main.run(main, stopped="stopped")
