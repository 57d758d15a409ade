"""Where a training step's time goes, beside what it could cost at the least.

    python tools/benchmark.py --benchmark=cifar_mtl --dup=5 --depth=4

Takes the flags of `lrn_tf.main` and prints, from one run: the time to the first step, the median time
of a training step and of its parts, the same step with mask-all dispatch (every module on every
example), and a fixed network of the same depth trained by the same optimizer. The learning rate is 0,
so that paths do not change while they are timed. Leave the machine idle meanwhile.
"""

# ruff: noqa: E402 - TensorFlow is to be started before anything else imports it with all its messages.
import resource
import statistics
import time

from lrn_tf.quiet import start_tensorflow

start_tensorflow()

import tensorflow as tf
from absl import flags

from lrn_tf import main as lrn_main
from lrn_tf.adam import GroupedAdam
from lrn_tf.batches import DeviceExamples, shuffled_rows
from lrn_tf.benchmarks import load
from lrn_tf.build import build, describe
from lrn_tf.dispatch import run_all
from lrn_tf.pool import build_layer

STEPS = flags.DEFINE_integer("steps", 20, "Timed steps of each part, after two that are not", lower_bound=1)
DISPATCH = "modules forward + backward"
MASK_ALL_STEPS = 3
MASK_ALL = flags.DEFINE_bool(
    "mask_all", True, "Time mask-all dispatch too; slow and large with many modules"
)


def milliseconds(run, steps: int = 0) -> float:
    """The median time of a call, after two warm-up calls, each with another batch number."""
    times = []
    for i in range(2 + (steps or STEPS.value)):
        start = time.perf_counter()
        tf.nest.flatten(run(tf.constant(i)))[0].numpy()  # reading a result waits for the device
        times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times[2:])


class FixedNetwork:
    """One network for all examples, the floor that a step is measured against."""

    def __init__(self, pool, depth: int):
        self.kinds = pool.varied_network(depth)
        self.layers = [build_layer(pool.kinds[k]) for k in self.kinds]
        self.adam = GroupedAdam([[w.value for w in layer.trainable_variables] for layer in self.layers])

    def logits(self, images):
        x = images
        for layer in self.layers:
            x = layer(x)
        return tf.cast(x, tf.float32)

    def gradients(self, images, labels):
        with tf.GradientTape() as tape:
            ce = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, self.logits(images))
            loss = tf.reduce_mean(ce)
        return loss, tape.gradient(loss, self.adam.groups)

    def train_step(self, images, labels, learning_rate):
        loss, gradients = self.gradients(images, labels)
        with tf.device("CPU:0"):
            used = tf.ones(len(self.layers), tf.bool)
        self.adam.apply(gradients, used, learning_rate)
        return loss

    def times(self, batch):
        """Milliseconds of a whole step, and of forward and backward alone."""
        still = tf.constant(0.0)

        def step(i):
            images, _, labels = batch(i)
            return self.train_step(images, labels, still)

        def gradients(i):
            images, _, labels = batch(i)
            return self.gradients(images, labels)

        return [milliseconds(tf.function(f, autograph=False)) for f in (step, gradients)]


def main(_):
    settings = lrn_main.settings_from_flags()
    device = lrn_main.prepare(settings)
    benchmark = load(settings)
    describe(benchmark, settings)
    examples = DeviceExamples(benchmark.train, benchmark.mean, benchmark.std)
    rows = tf.constant(shuffled_rows(len(benchmark.train), settings.batch_size, settings.seed, 0))

    def batch(i):
        return examples.batch(rows[i % rows.shape[0]])

    start = time.perf_counter()
    method = build(benchmark, settings)
    step = make_step(method, batch, settings)
    length = float(step(tf.constant(0))["route/length"])
    first = time.perf_counter() - start
    whole = milliseconds(step)
    parts, chosen = time_parts(method, batch(0), settings)
    fixed = FixedNetwork(method.pool, settings.depth)
    fixed_step, fixed_modules = fixed.times(batch)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20

    network = ", ".join(method.pool.kinds[k].name for k in fixed.kinds)
    print(
        f"{settings.benchmark}, pool {settings.pool}, dup {settings.dup}, depth {settings.depth}, batch"
        f" {settings.batch_size}, {settings.dtype}, {device}; mean length {length:.2f}\n"
        f"fixed network: {network}\n"
    )
    table = {"LRN step": whole, **{f"  {name}": ms for name, ms in parts.items()}}
    table["  rest"] = whole - sum(parts.values())
    table |= {"fixed network step": fixed_step, "  forward + backward": fixed_modules}
    print(f"{'':30s} {'ms':>9s} {'x fixed':>8s}")
    for name, ms in table.items():
        print(f"{name:30s} {ms:9.1f} {ms / fixed_step:8.2f}")
    dispatch = parts[DISPATCH]
    print(f"\ndispatch ({DISPATCH}): {dispatch / fixed_modules:.2f} x the fixed network's")
    print(f"first step after {first:.1f} s; peak memory {peak:.2f} GiB", flush=True)
    if MASK_ALL.value:
        slow_step, slow = time_mask_all(method, batch, settings, chosen)
        print(
            f"mask-all: step {slow_step:.1f} ms ({slow_step / whole:.2f} x LRN's), modules"
            f" {slow:.1f} ms ({slow / dispatch:.2f} x dispatch)"
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
    *_, chosen, some = gradients(images, labels, episodes.actions)
    with tf.device("CPU:0"):
        used = tf.constant(chosen.numpy() > 0)
    parts = {
        "route": lambda _: method.route(images, tasks, seed).actions,
        DISPATCH: lambda _: gradients(images, labels, episodes.actions)[0],
        "module optimizer": lambda _: adam(some, used),
        "PPO": lambda _: router(images, tasks, episodes, values, values, seed, still),
    }
    return {name: milliseconds(part) for name, part in parts.items()}, chosen


def time_mask_all(method, batch, settings, chosen):
    """Milliseconds of a step and of the modules when every module runs on every example."""
    modules = method.modules
    method.modules = lambda images, paths: (run_all(modules, images, paths), chosen)
    images, tasks, labels = batch(0)
    paths = method.route(images, tasks, tf.constant([settings.seed, 0])).actions
    gradients = tf.function(method.module_gradients, autograph=False)
    times = (
        milliseconds(make_step(method, batch, settings), MASK_ALL_STEPS),
        milliseconds(lambda _: gradients(images, labels, paths)[0], MASK_ALL_STEPS),
    )
    method.modules = modules
    return times


if __name__ == "__main__":
    lrn_main.run(main)
