"""Examples on the device: images once as uint8, batches as lists of row numbers."""

import numpy as np
import tensorflow as tf

from lrn_tf.data.benchmarks import Examples
from lrn_tf.data.images import standardise


class DeviceExamples:
    """Examples in device memory, gathered and standardised a batch at a time.

    The step reads all it needs from here, so that training never waits for a pipeline.
    """

    def __init__(self, examples: Examples, mean: np.ndarray, std: np.ndarray):
        self.size = len(examples)
        # A variable: GPUs can take rows of it, but cannot of a constant of this type.
        self._images = tf.Variable(examples.images, trainable=False)
        with tf.device("CPU:0"):
            self._columns = [tf.constant(c) for c in (examples.image, examples.task, examples.label)]
        self._mean, self._std = tf.constant(mean), tf.constant(std)

    def batch(self, rows):
        """Args: rows: int32 `[B]`. Returns: images float32 `[B, H, W, c]`, tasks and labels int32 `[B]`."""
        with tf.device("CPU:0"):
            image, task, label = (tf.gather(column, rows) for column in self._columns)
        return standardise(tf.gather(self._images, image), self._mean, self._std), task, label


def shuffled_rows(size: int, batch_size: int, seed: int, epoch: int) -> np.ndarray:
    """The rows of each batch of an epoch, int32 `[steps, batch_size]`; what fills no batch is dropped."""
    steps = size // batch_size
    order = np.random.default_rng((seed, epoch)).permutation(size)
    return order[: steps * batch_size].reshape(steps, batch_size).astype(np.int32)


def consecutive_rows(size: int, batch_size: int) -> np.ndarray:
    """All rows once and in order, in batches of one size, int32 `[batches, batch_size]`.

    The last batch is filled up with row 0.
    """
    rows = np.arange(-(-size // batch_size) * batch_size, dtype=np.int32)
    return np.where(rows < size, rows, 0).reshape(-1, batch_size)
