"""Where a training step's time goes, beside what it could cost at the least.

    python tools/benchmark.py --benchmark=cifar_mtl --dup=5 --depth=4

Takes the flags of `lrn_tf.main` and prints, from one run: the median time of a training step and of its
parts beside their floors (floors.py) and beside a fixed network of the same depth trained by the same
optimizer; the time to the first step and the peak memory; an evaluation of the test set; and the same
step with mask-all dispatch (every module on every example). The learning rate is 0, so that paths do
not change while they are timed. Leave the machine idle meanwhile.
"""

# ruff: noqa: E402 - TensorFlow is to be started before anything else imports it with all its messages.
import dataclasses
import resource
import sys
import time

from lrn_tf.devices.start import start_tensorflow

start_tensorflow(cache="--nocache" not in sys.argv)

import grid
import tensorflow as tf
from absl import flags
from floors import Floors, measure_machine, router_operations, used_parameters
from timing import UNTIMED, check_single_input, milliseconds

from lrn_tf import main as lrn_main
from lrn_tf.data.benchmarks import benchmark_of
from lrn_tf.data.examples import DeviceExamples, consecutive_rows
from lrn_tf.errors import UserError
from lrn_tf.learning.adam import Adam
from lrn_tf.learning.objectives import Objectives
from lrn_tf.methods.build import describe
from lrn_tf.methods.lrn import LRNMethod
from lrn_tf.modules.dispatch import run_all
from lrn_tf.modules.fused import compiled, on_gpu
from lrn_tf.modules.pool import build_layer
from lrn_tf.results.evaluation import BATCH_SIZE, Evaluator
from lrn_tf.training.train import start

STEPS = flags.DEFINE_integer("steps", 20, "Timed steps of each part, after three others", lower_bound=1)
DISPATCH = "modules forward + backward"
FIXED = "forward + backward"
WHOLES = ("LRN step", "fixed network step")
FEW_STEPS = 3  # of what is slow
TASKS = flags.DEFINE_integer("tasks", 0, "Pretend that there are so many tasks; 0 for all", lower_bound=0)
EVALUATION = flags.DEFINE_bool("evaluation", True, "Time an evaluation of the whole test set too")
MASK_ALL = flags.DEFINE_bool(
    "mask_all", True, "Time mask-all dispatch too; slow and large with many modules"
)


class FixedNetwork:
    """One network for all examples, the floor that a step is measured against."""

    def __init__(self, pool, depth: int, problem):
        self.objectives = Objectives(problem)
        self.kinds = pool.varied_network(depth)
        self.shapes = [pool.kinds[k].input for k in self.kinds]
        self.layers = [build_layer(pool.kinds[k], pool.takes_tokens(k)) for k in self.kinds]
        self.adam = Adam([w.value for layer in self.layers for w in layer.trainable_variables])

    def logits(self, images):
        x = images
        with compiled(on_gpu()):  # as an LRN's are
            for layer in self.layers:
                x = layer(x)
        return tf.cast(x, tf.float32)

    def gradients(self, images, tasks, labels):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(self.objectives.loss(self.logits(images), tasks, labels))
        return loss, tape.gradient(loss, self.adam.weights)

    def train_step(self, images, tasks, labels, learning_rate):
        loss, gradients = self.gradients(images, tasks, labels)
        self.adam.apply(gradients, learning_rate)
        return loss

    def times(self, batch):
        """Milliseconds of a whole step, and of forward and backward alone."""
        still = tf.constant(0.0)

        def step(i):
            return self.train_step(*batch(i), still)

        def gradients(i):
            return self.gradients(*batch(i))

        return [milliseconds(tf.function(f, autograph=False), STEPS.value) for f in (step, gradients)]


def main(_):
    settings = lrn_main.settings_from_flags()
    grid.refuse(lrn_main.given(), UNTIMED)
    if settings.method != "lrn":
        raise UserError(f"--method={settings.method} is not what is measured here; leave it out")
    device, _ = start(settings)
    kinds = settings.own("pool")
    benchmark = benchmark_of(settings)
    describe(benchmark, settings, kinds)
    check_single_input(benchmark)
    problem, batch = problem_and_batches(benchmark, settings)

    began = time.perf_counter()
    method = LRNMethod.build(problem, settings, kinds)
    step = make_step(method, batch, settings)
    length = float(step(tf.constant(0))["route/length"])
    first = time.perf_counter() - began
    peak = peak_memory()
    some = batch(0)
    whole = milliseconds(step, STEPS.value)
    ready = milliseconds(make_step(method, lambda i: some, settings), STEPS.value)
    parts, chosen = time_parts(method, some, settings)
    fixed = FixedNetwork(method.pool, settings.depth, problem)
    fixed_step, fixed_modules = fixed.times(batch)

    network = ", ".join(method.pool.kinds[k].name for k in fixed.kinds)
    machine = measure_machine("bfloat16" if settings.dtype == "bfloat16" else "float32")
    print(
        f"{settings.benchmark}, pool {settings.pool}, dup {settings.dup}, depth {settings.depth},"
        f" actor {settings.actor}, tasks {problem.num_tasks}, batch {settings.batch_size},"
        f" {settings.dtype}, {device}; mean length {length:.2f}\n"
        f"matrix products {machine.products / 1e9:.0f} GFLOP/s, memory {machine.memory / 1e9:.0f} GB/s\n"
        f"fixed network: {network}\n"
    )
    least = Floors(machine)
    floors = part_floors(least, method, chosen, settings)
    floors["LRN step"] = sum(floors.values())
    fixed_floor = least.layers(fixed.layers, fixed.shapes, [settings.batch_size] * len(fixed.layers))
    fixed_adam = least.adam(sum(layer.count_params() for layer in fixed.layers))
    floors |= {"fixed network step": fixed_floor + fixed_adam, FIXED: fixed_floor}
    table = {"LRN step": whole, **parts, "rest": whole - sum(parts.values())}
    table |= {"fixed network step": fixed_step, FIXED: fixed_modules}
    print_table(table, floors, fixed_step)
    dispatch = parts[DISPATCH]
    print(f"\ndispatch ({DISPATCH}): {dispatch / fixed_modules:.2f} x the fixed network's")
    print(f"waiting for data: {whole / ready:.3f} x the step on a batch that is already there")
    cached = "what was compiled before kept" if settings.cache else "nothing compiled before"
    print(f"first step after {first:.1f} s ({cached}); peak memory {peak} after it", flush=True)
    if EVALUATION.value:
        print_evaluation(method, fixed, benchmark)
    if MASK_ALL.value:
        slow_step, slow = time_mask_all(method, batch, settings, chosen)
        print(
            f"mask-all: step {slow_step:.1f} ms ({slow_step / whole:.2f} x LRN's), modules"
            f" {slow:.1f} ms ({slow / dispatch:.2f} x dispatch)"
        )


def problem_and_batches(benchmark, settings):
    """The problem with as many tasks as --tasks says, and its batches, as a function of their number."""
    examples = DeviceExamples(benchmark.train, benchmark.problem)
    rows = tf.constant(benchmark.batches(settings, 0))
    there = benchmark.problem.tasks
    tasks = TASKS.value or len(there)
    named = (dataclasses.replace(there[k % len(there)], name=f"task {k}") for k in range(tasks))

    def batch(i):
        images, task, label = examples.batch(rows[i % len(rows)])
        return images, task % tasks, label

    return dataclasses.replace(benchmark.problem, tasks=tuple(named)), batch


def peak_memory() -> str:
    """The most that was in use so far: of the process, and of a GPU."""
    peak = f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB"
    if on_gpu():
        peak += f", of the GPU {tf.config.experimental.get_memory_info('GPU:0')['peak'] / 2**30:.2f} GiB"
    return peak


def print_table(table, floors, fixed_step):
    print(f"{'':30s} {'ms':>9s} {'floor':>8s} {'x floor':>8s} {'x fixed':>8s}")
    for name, ms in table.items():
        name_ = name if name in WHOLES else f"  {name}"
        floor, ratio = (f"{floors[name]:.1f}", f"{ms / floors[name]:.2f}") if name in floors else ("", "")
        print(f"{name_:30s} {ms:9.1f} {floor:>8s} {ratio:>8s} {ms / fixed_step:8.2f}")


def part_floors(floors, method, chosen, settings):
    """Milliseconds that each part of a step takes at the least."""
    pool = method.pool
    of_kinds = [build_layer(kind, pool.takes_tokens(k)) for k, kind in enumerate(pool.kinds)]
    layers = [of_kinds[k] for k in pool.kind]
    shapes = [pool.kinds[k].input for k in pool.kind]
    given = [given.shape for given in pool.inputs]
    episodes = settings.batch_size * router_operations(method.router, given, method.process.max_candidates)
    minibatches = settings.ppo_epochs * -(-settings.batch_size // settings.minibatch_size)
    return {
        "route": floors.products(episodes),
        DISPATCH: floors.layers(layers, shapes, chosen.numpy()),
        "module optimizer": floors.adam(used_parameters(layers, chosen)),
        "PPO": floors.products(3 * settings.ppo_epochs * episodes)
        + minibatches * floors.adam(method.router.count_params()),
    }


def print_evaluation(method, fixed, benchmark):
    """Times a whole evaluation, and a forward pass and the routing of all examples."""
    examples = DeviceExamples(benchmark.test, benchmark.problem)
    evaluate = Evaluator(method, benchmark.test, benchmark.problem)
    rows = consecutive_rows(examples.size, min(BATCH_SIZE, examples.size))
    forward = tf.function(lambda r: fixed.logits(examples.batch(r)[0]), autograph=False)
    routing = tf.function(lambda r: method.route(*examples.batch(r)[:2], None).actions, autograph=False)

    def all_of(run):
        return lambda _: [run(tf.constant(r)) for r in rows][-1]

    whole = milliseconds(lambda _: tf.constant(evaluate().mean_loss), FEW_STEPS)
    alone, routes = (milliseconds(all_of(run), FEW_STEPS) for run in (forward, routing))
    print(
        f"evaluation of {len(benchmark.test):,} examples {whole:.0f} ms: fixed network {alone:.0f} ms"
        f" + routing {routes:.0f} ms; {whole / (alone + routes):.2f} x both",
        flush=True,
    )


def make_step(method, batch, settings):
    """A training step that changes nothing, as a function of the batch's number."""
    still = tf.constant(0.0)

    def step(i):
        return method.train_step(*batch(i), tf.stack([settings.seed, i]), still)

    return tf.function(step, autograph=False)


def time_parts(method, batch, settings):
    """Milliseconds of each part of a step on one batch, each in a graph of its own."""
    still, seed = tf.constant(0.0), tf.constant([settings.seed, 0])
    images, tasks, labels = batch
    episodes = method.route(images, tasks, seed)
    values = episodes.values

    def adam(gradients, used):
        method.module_adam.apply(gradients, used, still)
        return used

    gradients = tf.function(method.module_gradients, autograph=False)
    adam = tf.function(adam, autograph=False)
    router = tf.function(method.train_router, autograph=False)
    *_, chosen, some = gradients(images, tasks, labels, episodes.actions)
    with tf.device("CPU:0"):
        used = tf.constant(chosen.numpy() > 0)
    parts = {
        "route": lambda _: method.route(images, tasks, seed).actions,
        DISPATCH: lambda _: gradients(images, tasks, labels, episodes.actions)[0],
        "module optimizer": lambda _: adam(some, used),
        "PPO": lambda _: router(images, tasks, episodes, values, values, seed, still),
    }
    return {name: milliseconds(part, STEPS.value) for name, part in parts.items()}, chosen


class MaskAll:
    """Stands in for `Modules`: every module runs on every example."""

    def __init__(self, modules, chosen):
        self.weights = modules.weights
        self._modules, self._chosen = modules, chosen

    def __call__(self, images, paths):
        return run_all(self._modules, images, paths), self._chosen


def time_mask_all(method, batch, settings, chosen):
    """Milliseconds of a step and of the modules when every module runs on every example."""
    modules = method.modules
    method.modules = MaskAll(modules, chosen)
    images, tasks, labels = batch(0)
    paths = method.route(images, tasks, tf.constant([settings.seed, 0])).actions
    gradients = tf.function(method.module_gradients, autograph=False)
    times = (
        milliseconds(make_step(method, batch, settings), FEW_STEPS),
        milliseconds(lambda _: gradients(images, tasks, labels, paths)[0], FEW_STEPS),
    )
    method.modules = modules
    return times


if __name__ == "__main__":
    lrn_main.run(main, stopped="stopped")
