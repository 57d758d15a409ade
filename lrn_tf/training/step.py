"""A step on the device, and what steps sum up there until somebody looks."""

import numpy as np
import tensorflow as tf

from lrn_tf.data.benchmarks import Benchmark
from lrn_tf.data.examples import DeviceExamples
from lrn_tf.data.images import augment
from lrn_tf.data.mixup import mix
from lrn_tf.learning.objectives import RATED
from lrn_tf.methods.method import Method
from lrn_tf.settings.table import Settings


class Step:
    """Fetches a batch, changes its images, has the method learn from it, and adds up what came out.

    Everything random depends on (seed, step) alone, and all sums are in the checkpoint.

    Attributes:
        variables: what of it belongs into a checkpoint, by name.
    """

    def __init__(
        self, method: Method, benchmark: Benchmark, settings: Settings, strategy: tf.distribute.Strategy
    ):
        self._method = method
        self._problem = benchmark.problem
        self._settings = settings
        self._strategy = strategy
        self._examples = DeviceExamples(benchmark.train, benchmark.problem)
        # In host memory, where the generators of random numbers look for their seeds.
        with tf.device("CPU:0"):
            self._done = tf.Variable(0, dtype=tf.int64, trainable=False)
        self._sums = tf.Variable(tf.zeros(len(method.metrics), tf.float64), trainable=False)
        self._broken = tf.Variable(-1, dtype=tf.int64, trainable=False)
        self._run = tf.function(self._step, autograph=False)
        self.variables = {"step": self._done, "sums": self._sums}

    @property
    def done(self) -> int:
        """How many steps there were, those of a checkpoint included."""
        return int(self._done)

    @property
    def broken(self) -> int:
        """The first step of this process whose losses or gradients were not finite; -1 while all were."""
        return int(self._broken)

    @property
    def sums(self) -> np.ndarray:
        """What the method has returned, summed up over steps, in the order of its metrics."""
        return self._sums.numpy()

    def sum_anew(self) -> None:
        """Forgets the sums: an epoch begins."""
        self._sums.assign(tf.zeros_like(self._sums))

    def averages(self, sums: np.ndarray, steps: int) -> dict[str, float]:
        """Of sums over so many steps, by name; the accuracy is that of the steps which have one."""
        found = dict(zip(self._method.metrics, map(float, sums / steps), strict=True))
        if rated := found.pop(RATED, 0.0):
            found["train/accuracy"] /= rated
        return found

    def trace(self) -> tf.types.experimental.ConcreteFunction:
        """Makes the graph of a step."""
        rows = tf.TensorSpec([self._settings.batch_size], tf.int32)
        return self._run.get_concrete_function(rows, tf.TensorSpec([], tf.float32))

    def __call__(self, rows: tf.Tensor, rate: float) -> None:
        """Learns from the training examples of these rows (B,) at a learning rate."""
        self._run(rows, tf.constant(rate, tf.float32))

    def _step(self, rows, rate):
        inputs, tasks, targets = self._examples.batch(rows)
        with tf.device("CPU:0"):
            seed = tf.stack([self._settings.seed, tf.cast(self._done, tf.int32)])
        inputs = tf.nest.map_structure(lambda x: augment(x, self._settings.augment, seed), inputs)
        if self._settings.mixup:
            inputs, targets = mix(inputs, tasks, targets, self._problem, self._settings.mixup, seed)

        def step():
            values = self._method.train_step(inputs, tasks, targets, seed, rate)
            if unlike := values.keys() ^ set(self._method.metrics):
                raise ValueError(f"train_step and metrics of the method differ in {sorted(unlike)}")
            return tf.stack([tf.cast(values[name], tf.float64) for name in self._method.metrics])

        # All replicas return the same.
        values = self._strategy.experimental_local_results(self._strategy.run(step))[0]
        finite = tf.reduce_all(tf.math.is_finite(values))
        self._done.assign_add(1)
        self._broken.assign(tf.where((self._broken < 0) & ~finite, self._done, self._broken))
        self._sums.assign_add(values)
