"""Execution of the chosen networks: each module runs on just the examples that chose it."""

import functools

import keras
import tensorflow as tf

from lrn_tf.modules.pool import OUTPUT, Pool, build_layer
from lrn_tf.modules.waves import Waves

# Of how many elements a weight's zero gradient is too large to be kept as a constant.
LARGE = 1 << 17


class Modules(keras.layers.Layer):
    """The layers of a pool, run along a path for each example.

    Example:
        modules = Modules(pool, depth=4)
        logits, chosen = modules(images, paths)

    Attributes:
        pool: the pool.
        layer_of: the `N` Keras layers; each has weights of its own.
    """

    def __init__(self, pool: Pool, depth: int, **kwargs):
        super().__init__(**kwargs)
        self.pool = pool
        self.waves = Waves(pool, depth)
        self.layer_of = [build_layer(pool.kinds[kind]) for kind in pool.kind]
        # The variables themselves: inside `call` Keras would hand out copies in the compute dtype.
        self._weights_of = [[w.value for w in layer.trainable_variables] for layer in self.layer_of]
        self._run_kind, self._skip_kind = zip(
            *(self._make_graphs(kind) for kind in range(len(pool.kinds))), strict=True
        )
        self.built = True

    def weights_of(self, module: int) -> list[tf.Variable]:
        """The weights of a module."""
        return self._weights_of[module]

    def call(self, images, paths):
        """Runs every example's network.

        Args:
            images: float `[B, H, W, c]`.
            paths: int32 `[B, T]`, modules in order, PASS anywhere. Each must be a legal network of the
                pool that ends in an output module.

        Returns:
            logits: float32 `[B, C]`.
            chosen: int32 `[N]` in host memory, how many networks hold each module.
        """
        # The sizes of groups steer what runs, so the host must know them. All of them follow from the
        # paths, which are copied there once; nothing else waits for an accelerator.
        with tf.device("CPU:0"):
            paths = tf.identity(paths)
            schedule = self.waves.schedule(paths)
            chosen = tf.math.bincount(
                tf.reshape(paths, [-1]), minlength=len(self.pool) + 1, maxlength=len(self.pool) + 1
            )[:-1]
        # What each signature's modules returned last, a row per example. Rows of examples that are at
        # another signature are stale.
        held = {self.pool.image: images}
        for wave, kinds in enumerate(self.waves.kinds):
            place, row = 0, 0
            for k in kinds:
                kind = self.pool.kinds[k]
                with tf.device("CPU:0"):
                    sizes = schedule.counts[wave, place : place + kind.dup]
                    last = row + tf.reduce_sum(sizes)
                    rows = schedule.order[wave, row:last]
                if kind.input not in held:  # nobody is there yet, in a cycle of kinds
                    held[kind.input] = tf.zeros((tf.shape(images)[0], *kind.input), self.compute_dtype)
                x, held[kind.input] = take(held[kind.input], rows)
                y = self._run(k, x, sizes)
                given = OUTPUT if kind.role == OUTPUT else kind.output
                held[given] = put(held[given], rows, y) if given in held else spread(rows, y, images)
                place, row = place + kind.dup, last
        return tf.cast(held[OUTPUT], tf.float32), chosen

    def run_kind(self, kind: int, x, chosen):
        """Runs one module of a kind on every example.

        Args:
            kind: the number of the kind.
            x: `[B, *input]` of the kind.
            chosen: int32 `[B]`, which of its modules, counted from the kind's first.

        Returns:
            `[B, *output]` of the kind.
        """
        modules = self.pool.modules(kind)
        x = tf.cast(x, self.compute_dtype)
        if len(modules) == 1:
            return self._run_kind[kind](x, *self.weights_of(modules[0]))
        with tf.device("CPU:0"):
            chosen = tf.identity(chosen)
            rows = tf.argsort(chosen, stable=True)
            sizes = tf.math.bincount(chosen, minlength=len(modules), maxlength=len(modules))
        y = self._run(kind, take(x, rows)[0], sizes)
        return spread(rows, y, x)

    def _run(self, kind, x, sizes):
        """The modules of a kind, each on its own rows: `sizes[i]` consecutive rows of x."""
        modules = self.pool.modules(kind)
        results = []
        for m, part, size in zip(
            modules, tf.split(x, sizes, num=len(modules)), tf.unstack(sizes, len(modules)), strict=True
        ):
            # A convolution of an empty batch is not only waste: oneDNN's returns a wrong shape.
            run = functools.partial(self._run_kind[kind], part, *self.weights_of(m))
            skip = functools.partial(self._skip_kind[kind], *self.weights_of(m))
            results.append(tf.cond(size > 0, run, skip))
        return tf.concat(results, axis=0)

    def _make_graphs(self, kind):
        """Graphs shared by all modules of a kind, weights as arguments: traced once, not dup times.

        The second is for a module without rows. Its result is empty and yet depends on large weights, for
        the sake of memory: zero gradients that depend on nothing are turned into constants, which then
        lie beside the true gradients for good.
        """
        template = self.layer_of[self.pool.modules(kind)[0]]
        weights = [tf.TensorSpec(w.shape, w.dtype) for w in self.weights_of(self.pool.modules(kind)[0])]
        x = tf.TensorSpec((None, *self.pool.kinds[kind].input), self.compute_dtype)

        @tf.function(input_signature=[x, *weights], autograph=False)
        def run_kind(x, *weights):
            return template.stateless_call(weights, [], x)[0]

        @tf.function(input_signature=weights, autograph=False)
        def skip_kind(*weights):
            nothing = tf.zeros((0, *self.pool.kinds[kind].output), self.compute_dtype)
            for w in weights:
                if w.shape.num_elements() >= LARGE:
                    nothing += tf.cast(tf.reduce_sum(tf.reshape(w, [-1])[:0]), nothing.dtype)
            return nothing

        return run_kind, skip_kind


def run_all(modules: Modules, images, paths):
    """What `modules(images, paths)` returns, by running every module on every example at every step.

    It is as plain as can be and serves as the tests' oracle and the benchmark's slow twin.
    """
    pool = modules.pool
    held = {pool.image: tf.cast(images, modules.compute_dtype)}
    for t in range(paths.shape[1]):
        new = dict(held)
        for m, kind in enumerate(pool.kinds[k] for k in pool.kind):
            if kind.input not in held:
                continue
            y = modules.layer_of[m](held[kind.input])
            given = OUTPUT if kind.role == OUTPUT else kind.output
            mine = tf.reshape(paths[:, t] == m, [-1] + [1] * len(kind.output))
            new[given] = tf.where(mine, y, new.get(given, tf.zeros_like(y)))
        held = new
    return tf.cast(held[OUTPUT], tf.float32)


# Rows move between buffers without a copy of what stays. Each row of a buffer is taken at most once
# after it was put, so gradients never add up: what `take` hands back overwrites, and the stale rows of
# a gradient that `put` lets through are always among those overwritten (or belong to no module).


@tf.custom_gradient
def take(buffer, rows):
    """Rows of a buffer, and the buffer without them (they stay in place, stale)."""

    def gradient(d_taken, d_rest):
        return tf.tensor_scatter_nd_update(d_rest, rows[:, None], d_taken), None

    return (tf.gather(buffer, rows), tf.identity(buffer)), gradient


@tf.custom_gradient
def put(buffer, rows, values):
    """The buffer with some rows replaced."""

    def gradient(d_buffer):
        return d_buffer, None, tf.gather(d_buffer, rows)

    return tf.tensor_scatter_nd_update(buffer, rows[:, None], values), gradient


def spread(rows, values, like):
    """A new buffer with as many rows as `like` and some of them filled."""
    shape = tf.concat([tf.shape(like)[:1], tf.shape(values)[1:]], axis=0)
    return tf.scatter_nd(rows[:, None], values, shape)
