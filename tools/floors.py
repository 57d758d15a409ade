"""What the parts of a training step cost at the least, from their arithmetic and this machine's rates.

An operation is a multiplication or an addition. Backward counts twice what forward does. Element-wise
work, attention's softmax and all moving of rows count as nothing, so a floor is never reached.
"""

import dataclasses
import time

import numpy as np
import tensorflow as tf

from lrn_tf.modules import cost
from lrn_tf.modules.fused import on_gpu
from lrn_tf.router.actors import HEADS, PointerActor
from lrn_tf.router.router import Router

# Adam reads weight, gradient and both moments, and writes three of them: seven times four bytes.
ADAM_BYTES = 28


@dataclasses.dataclass(frozen=True)
class Machine:
    """Measured rates.

    Attributes:
        products: operations a second in large matrix products of the compute dtype.
        memory: bytes a second, read and written together.
    """

    products: float
    memory: float


def measure_machine(dtype: str) -> Machine:
    # As large as takes the device milliseconds, which hide what a launch and reading the result take.
    size, count = (8192, 1 << 30) if on_gpu() else (2048, 1 << 26)
    x = tf.cast(tf.random.normal((size, size)), dtype)
    long = tf.zeros(count, tf.float32)
    return Machine(
        products=2 * size**3 / _best(tf.function(lambda: tf.matmul(x, x))),
        memory=8 * count / _best(tf.function(lambda: long + 1)),
    )


def _best(run, repeats=20):
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()[:1].numpy()
        times.append(time.perf_counter() - start)
    return min(times)


def layer_operations(layer, shape) -> int:
    """Operations of one example's way through a Keras layer, by TensorFlow's own count."""
    return sum(cost.operations(layer, shape).values())


def router_operations(router: Router, inputs, max_candidates) -> int:
    """Operations of one episode's decisions, as folded_transformer.py and actors.py do them."""
    depth, width = len(max_candidates), router.task_embedding.output_dim
    actions = router.action_embedding.input_dim
    states = [t + 2 for t in range(depth)]  # how many entries
    encoder = 3 * width**2 * states[-1]  # queries, keys, values
    encoder += sum(states) * 5 * width**2  # output projection and two feed-forward layers
    if isinstance(router.actor, PointerActor):
        actor = depth * (width**2 + actions * width)
    else:
        # Keys and values of the states, and what is folded into them.
        actor = sum(states) * 4 * width**2
        for entries, rows in zip(states, max_candidates, strict=True):
            actor += rows * width * (HEADS * actions + 2 * HEADS * entries + 4 * width)
    views = sum(layer_operations(*of) for of in zip(router.encoders, inputs, strict=True))
    return 2 * (encoder + actor) + views


class Floors:
    """Milliseconds at the least, on one machine."""

    def __init__(self, machine: Machine):
        self.machine = machine

    def products(self, operations: float) -> float:
        return 1e3 * operations / self.machine.products

    def memory(self, size: float) -> float:
        return 1e3 * size / self.machine.memory

    def layers(self, layers, shapes, examples) -> float:
        """Forward and backward of layers, each on so many examples: arithmetic, or else weights.

        A layer in use has its weights read twice and their gradient written once.
        """
        total = 0.0
        for layer, shape, count in zip(layers, shapes, examples, strict=True):
            if count:
                arithmetic = self.products(3 * int(count) * layer_operations(layer, shape))
                total += max(arithmetic, self.memory(12 * layer.count_params()))
        return total

    def adam(self, parameters: int) -> float:
        return self.memory(ADAM_BYTES * parameters)


def used_parameters(layers, chosen) -> int:
    return int(sum(layer.count_params() for layer, n in zip(layers, np.asarray(chosen), strict=True) if n))
