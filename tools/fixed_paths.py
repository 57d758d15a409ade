"""What modules learn when nobody routes: the paths are given.

    python tools/fixed_paths.py --paths=task --flagfile=flags/knot.cfg

Takes the flags of `lrn_tf.main`; --max_steps says how long. Prints the accuracy on the held-out (or
test) examples every --every steps. It tells how much routing could be worth:

    shared   one network for all
    head     the same with an output module for each task (--dup must be as high as there are tasks)
    own      a network for each task, nothing shared (likewise)
    task     a random path for each task: a router that knows the tasks and nothing else
    random   a new random path for each example at every step: a router that knows nothing
"""

# ruff: noqa: E402 - TensorFlow is to be started before anything else imports it with all its messages.
from lrn_tf.devices.start import start_tensorflow

start_tensorflow()

import collections

import numpy as np
import tensorflow as tf
from absl import flags

from lrn_tf import main as lrn_main
from lrn_tf.data.benchmarks import asked, load
from lrn_tf.data.examples import DeviceExamples, shuffled_rows
from lrn_tf.errors import UserError
from lrn_tf.learning.adam import GroupedAdam
from lrn_tf.learning.objectives import Objectives
from lrn_tf.methods.method import Prediction
from lrn_tf.modules.built_in import POOLS, make_pool
from lrn_tf.modules.dispatch import Modules
from lrn_tf.modules.pool import OUTPUT
from lrn_tf.results.evaluation import Evaluator
from lrn_tf.training.train import start

PATHS = flags.DEFINE_enum(
    "paths",
    "task",
    ["shared", "head", "own", "task", "random"],
    "Who takes which path; see above",
)
COPIES = flags.DEFINE_bool("copies", False, "Start the modules of a kind as copies of each other")
EVERY = flags.DEFINE_integer("every", 130, "Steps between evaluations", lower_bound=1)


class FixedPaths:
    """Modules trained along given paths; what the evaluation needs of a method."""

    def __init__(self, pool, problem, settings):
        self.objectives, num_tasks = Objectives(problem), problem.num_tasks
        self.pool, self.kinds = pool, pool.by_kind
        self.modules = Modules(pool, settings.depth)
        self.adam = GroupedAdam(self.modules.weights, [kind.count for kind in pool.kinds])
        self._kinds = pool.varied_network(settings.depth)
        print("networks of", ", ".join(pool.kinds[k].name for k in self._kinds))
        rng = np.random.default_rng(settings.seed)
        self._of_task = tf.constant(np.stack([self._draw(rng, task) for task in range(num_tasks)]))
        if COPIES.value:
            for k in range(len(pool.kinds)):
                for weight in self.modules.weights[k]:
                    for i in range(1, pool.kinds[k].dup):
                        weight[i].assign(weight[0])

    def _draw(self, rng, task):
        """A path of distinct modules, int32 `[T]`."""
        path = []
        for k in self._kinds:
            modules, earlier = list(self.pool.modules(k)), self._kinds[: len(path)].count(k)
            if PATHS.value in ("task", "random"):
                modules = [m for m in modules if m not in path]
                path.append(rng.choice(modules))
            elif PATHS.value == "own" or (PATHS.value == "head" and self.pool.kinds[k].role == OUTPUT):
                path.append(modules[task * self._kinds.count(k) + earlier])
            else:
                path.append(modules[earlier])
        return np.array(path, np.int32)

    def paths(self, tasks, rng):
        """int32 `[B, T]`."""
        if PATHS.value == "random":
            return tf.constant(np.stack([self._draw(rng, int(task)) for task in tasks]))
        return tf.gather(self._of_task, tasks)

    def predict(self, images, tasks):
        paths = tf.gather(self._of_task, tasks)
        return Prediction(self.modules(images, paths)[0], paths, tf.zeros_like(tasks, tf.float32))

    @tf.function(autograph=False)
    def train_step(self, images, tasks, labels, paths, learning_rate):
        with tf.GradientTape() as tape:
            logits, chosen = self.modules(images, paths)
            loss = tf.reduce_mean(self.objectives.loss(logits, tasks, labels))
        gradients = tape.gradient(loss, self.modules.weights, unconnected_gradients="zero")
        with tf.device("CPU:0"):
            used = chosen > 0
        self.adam.apply(gradients, used, learning_rate)
        return loss


def main(_):
    settings = lrn_main.settings_from_flags()
    start(settings)
    benchmark = load(*asked(settings))
    problem = benchmark.problem
    pool = make_pool(settings.own("pool") or POOLS[settings.pool], problem, settings)
    needed = problem.num_tasks
    if PATHS.value == "own":  # a network may hold several modules of a kind
        needed *= max(collections.Counter(pool.varied_network(settings.depth)).values())
    if PATHS.value in ("own", "head") and settings.dup < needed:
        raise UserError(
            f"--dup={settings.dup} is too small for --paths={PATHS.value} with the {problem.num_tasks}"
            f" tasks of {benchmark.name}; use --dup={needed}"
        )
    method = FixedPaths(pool, problem, settings)
    examples = DeviceExamples(benchmark.train, problem)
    evaluate = Evaluator(method, benchmark.test, problem)
    rng = np.random.default_rng((settings.seed, 2))
    per_epoch = examples.size // settings.batch_size
    losses = []
    for step in range(settings.max_steps or per_epoch * settings.epochs):
        epoch, i = divmod(step, per_epoch)
        if i == 0:
            batches = shuffled_rows(benchmark.train.task, settings.batch_size, settings.seed, epoch)
            rate = tf.constant(settings.rate(epoch), tf.float32)
        images, tasks, labels = examples.batch(tf.constant(batches[i]))
        losses.append(float(method.train_step(images, tasks, labels, method.paths(tasks, rng), rate)))
        if (step + 1) % EVERY.value == 0:
            accuracy = evaluate().accuracy
            print(f"step {step + 1:6,d}  loss {np.mean(losses):.3f}  accuracy {accuracy:.2%}", flush=True)
            losses = []


if __name__ == "__main__":
    lrn_main.run(main, stopped="stopped")
