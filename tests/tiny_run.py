"""A method so small that a whole run takes a second, and what such a run leaves in its folder."""

import collections
import json
import re
import time

import numpy as np
import tensorflow as tf

from lrn_tf.data.benchmarks import Benchmark
from lrn_tf.data.examples import Examples
from lrn_tf.data.problem import CLASSES, InputSpec, Problem, TaskSpec
from lrn_tf.methods.method import Prediction
from lrn_tf.modules.built_in import paper
from lrn_tf.modules.pool import Pool
from lrn_tf.settings.resolve import resolve
from lrn_tf.storage.workdir import Workdir
from lrn_tf.training.trainer import Trainer

TASKS, BATCH, EPOCHS = 3, 4, 3
Step = collections.namedtuple("Step", "rows tasks labels seed rate loss")


def problem(mean=(0.0,), std=(1.0,)):
    """Tasks of images that ask for a yes or a no."""
    tasks = [TaskSpec(f"task {k}", "images", CLASSES, ("no", "yes")) for k in range(TASKS)]
    return Problem("fake", (InputSpec("images", (2, 2, 1), "uint8", mean, std),), tuple(tasks))


POOL = Pool.of(paper(problem(), dup=1), problem())


def examples(size, rng):
    """Pixel 0 is the row, the others tell the label."""
    label = rng.integers(0, 2, size).astype(np.int32)
    images = rng.integers(0, 100, (size, 2, 2, 1)).astype(np.uint8)
    images[:, 1] += (100 * label[:, None, None]).astype(np.uint8)
    images[:, 0, 0, 0] = np.arange(size)
    task = rng.integers(0, TASKS, size).astype(np.int32)
    return Examples(np.arange(size, dtype=np.int32), task, label, (images,))


def benchmark(size=22):
    rng = np.random.default_rng(5)
    train, test = examples(size, rng), examples(30, rng)
    moments = ((float(m),) for m in (train.inputs[0].mean(), train.inputs[0].std()))
    return Benchmark(problem(*moments), train, test)


class Softmax:
    """Softmax regression that writes down what it is given.

    It can be told, by step, what to multiply the loss or the weights with, and when to be killed.
    """

    metrics = ("train/loss", "train/accuracy")
    kinds = POOL.by_kind
    pool = POOL
    trunk = None

    def __init__(self, data, loss_times=(), weights_times=(), killed_at=0, sleep=(), steps=None):
        self.steps = [] if steps is None else steps
        (self._input,) = data.problem.inputs
        self._weights = tf.Variable(tf.zeros((4, 2)))
        self.weights = [self._weights]
        self._moments = [tf.Variable(tf.zeros((4, 2)))]
        self._loss_times, self._weights_times = dict(loss_times), dict(weights_times)
        self._killed_at, self._sleep = killed_at, dict(sleep)

    @property
    def variables(self):
        return {"weights": self._weights, "moments": self._moments}

    def _logits(self, images):
        return tf.reshape(images, (-1, 4)) @ self._weights

    def _factor(self, factors, step):
        found = [tf.where(step == at, factor, 1.0) for at, factor in factors.items()]
        return tf.reduce_prod(tf.stack([1.0, *found]))

    def _note(self, *given):
        step = Step(*given)
        number = int(step.seed[1]) + 1
        if number == self._killed_at:
            raise RuntimeError("killed")
        time.sleep(self._sleep.get(number, self._sleep.get(0, 0)))
        self.steps.append(step)

    def train_step(self, images, tasks, labels, seed, learning_rate):
        step = seed[1] + 1
        with tf.GradientTape() as tape:
            logits = self._logits(images)
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
        (gradient,) = tape.gradient(loss, [self._weights])
        # Chance that comes from the seed, as in a real method.
        noise = 0.1 * tf.random.stateless_uniform((4, 2), seed)
        self._moments[0].assign(0.9 * self._moments[0] + gradient + noise)
        self._weights.assign_sub(learning_rate * self._moments[0])
        self._weights.assign(self._weights * self._factor(self._weights_times, step))
        loss *= self._factor(self._loss_times, step)
        rows = images[:, 0, 0, 0] * self._input.std[0] + self._input.mean[0]
        tf.numpy_function(self._note, [tf.round(rows), tasks, labels, seed, learning_rate, loss], [])
        right = tf.argmax(logits, axis=1, output_type=tf.int32) == labels
        return {"train/loss": loss, "train/accuracy": tf.reduce_mean(tf.cast(right, tf.float32))}

    def predict(self, images, tasks):
        batch = images.shape[0]
        paths = tf.tile([[0, 4, POOL.pass_id]], [batch, 1])
        return Prediction(self._logits(images), paths, tf.zeros(batch))


def run(folder, size=22, epochs=EPOCHS, method=None, data=None, make=Softmax, **given):
    """Trains, from whatever the folder holds; returns the method."""
    data = data or benchmark(size)
    method = make(data, **(method or {}))
    small = dict(batch_size=BATCH, minibatch_size=BATCH, epochs=epochs, learning_rate=0.1)
    given = small | dict(pictures_every=0) | given
    workdir = Workdir(resolve({"workdir": str(folder), **given}))
    workdir.check()
    Trainer(method, data, resolve({"workdir": str(folder), **given}), workdir).run()
    return method


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def without_timings(folder):
    text = (folder / "metrics.jsonl").read_text()
    return re.sub(r'("(examples_per_second|step_ms_median|seconds)": )[^,}]+', r"\1", text)


def contents(folder):
    """The bytes of each file in a folder and in those in it."""
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def checkpoint_steps(folder):
    return sorted(int(path.stem[len("step-") :]) for path in (folder / "checkpoints").glob("step-*.index"))


def tensors(folder, step):
    reader = tf.train.load_checkpoint(str(folder / "checkpoints" / f"step-{step}"))
    names = [name for name in reader.get_variable_to_shape_map() if name.startswith(("method", "s"))]
    return {name: reader.get_tensor(name) for name in names if not name.startswith("save_counter")}


def assert_same_run(folder, whole):
    assert without_timings(folder) == without_timings(whole)
    assert_same_state(folder, whole)


def assert_same_state(folder, whole):
    """After the last step."""
    (*_, last) = checkpoint_steps(whole)
    assert checkpoint_steps(folder)[-1] == last
    ours, theirs = tensors(folder, last), tensors(whole, last)
    assert ours.keys() == theirs.keys() and len(ours) >= 4
    for name, value in ours.items():
        np.testing.assert_array_equal(value, theirs[name], err_msg=name)


def scalars(folder):
    """The scalars that TensorBoard reads: by tag, a list of (step, value)."""
    found = collections.defaultdict(list)
    for path in sorted(folder.glob("events*")):
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            for value in event.summary.value:
                if value.metadata.plugin_data.plugin_name == "scalars":
                    found[value.tag].append((event.step, float(tf.make_ndarray(value.tensor))))
    return found
