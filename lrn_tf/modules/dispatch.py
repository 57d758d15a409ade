"""Execution of the chosen networks: each module runs on just the examples that chose it."""

import contextlib
import functools
import math
from collections.abc import Sequence

import keras
import tensorflow as tf

from lrn_tf.modules import fused
from lrn_tf.modules.pool import INPUT, OUTPUT, Pool
from lrn_tf.modules.rows import pad, pick, put, recurring, spread, take, take_padded
from lrn_tf.modules.waves import Waves
from lrn_tf.modules.weights import call, is_large, is_stack, made_ready, make_weights, split


class Modules:
    """The modules of a pool, run along a path for each example.

    Example:
        modules = Modules(pool, depth=4)
        answers, chosen = modules(images, paths)

    Attributes:
        pool: the pool.
        weights: for each kind its weights; see `lrn_tf.modules.weights.make_weights`.
    """

    def __init__(self, pool: Pool, depth: int):
        self.pool = pool
        self.waves = Waves(pool, depth)
        self.compute_dtype = keras.config.dtype_policy().compute_dtype
        made = [make_weights(kind, pool.takes_tokens(k)) for k, kind in enumerate(pool.kinds)]
        self._layers, self.weights = ([m[i] for m in made] for i in range(2))
        self._run_kind, self._skip_kind = zip(
            *(self._make_functions(kind) for kind in range(len(pool.kinds))), strict=True
        )
        self._run_all_of = [self._make_batched(kind) for kind in range(len(pool.kinds))]

    def weights_of(self, module: int) -> list:
        """The weights of a module: variables, or rows of variables."""
        kind = self.pool.kind[module]
        return [w[module - self.pool.modules(kind)[0]] for w in self.weights[kind]]

    def give(self, module: int, values: Sequence) -> None:
        """Gives a module weights such as `weights_of` returns."""
        kind = self.pool.kind[module]
        place = module - self.pool.modules(kind)[0]
        for weight, value in zip(self.weights[kind], values, strict=True):
            if is_stack(weight):  # whole: on several devices it has no rows to assign to
                rows = weight.numpy()
                rows[place] = value
                weight.assign(rows)
            else:
                weight[place].assign(value)

    def run_module(self, module: int, x):
        """What a module returns for `[B, *input]` of its kind."""
        kind = self.pool.kind[module]
        layer = self._layers[kind]
        return call(layer, made_ready(layer, self.weights_of(module)), self._cast(x, kind))

    def _cast(self, x, kind):
        return tf.cast(x, self._dtype(kind))

    def _dtype(self, kind):
        """Of what a kind takes."""
        return "int32" if self.pool.takes_tokens(kind) else self.compute_dtype

    def __call__(self, inputs, paths):
        """Runs every example's network.

        Args:
            inputs: `[B, *shape]`, or a tuple of them where the pool has several inputs, in which only rows
                of examples that bring the input count.
            paths: int32 `[B, T]`, modules in order, PASS anywhere. Each must be a legal network of the
                pool that ends in an output module.

        Returns:
            answers: float32 `[B, C]`, what the output modules return, filled up with 0.
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
        # another signature are stale. What examples bring may have the signature of what modules return,
        # and is therefore kept by number.
        held = dict(enumerate(tf.nest.flatten(inputs)))
        batch = tf.shape(paths)[0]
        with fused.compiled(fused.pays(paths.shape[0])):
            runs = [self._bind(kind) for kind in range(len(self.pool.kinds))]
        for wave, kinds in enumerate(self.waves.kinds):
            place, row = 0, 0
            for k in kinds:
                kind = self.pool.kinds[k]
                with tf.device("CPU:0"):
                    sizes = schedule.counts[wave, place : place + kind.count]
                    last = row + tf.reduce_sum(sizes)
                    rows = schedule.order[wave, row:last]
                taken = self.pool.input_of[k] if kind.role == INPUT else kind.input
                if taken not in held:  # nobody is there yet, in a cycle of kinds
                    held[taken] = tf.zeros((batch, *kind.input), self.compute_dtype)
                x = self._cast(held[taken], k)
                y, held[taken] = self._run(*runs[k], x, rows, sizes, paths.shape[0])
                given = kind.output
                if kind.role == OUTPUT:
                    given, y = OUTPUT, filled_up(y, self.pool.width)
                held[given] = put(held[given], rows, y) if given in held else spread(rows, y, batch)
                place, row = place + kind.count, last
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
        count = self.pool.kinds[kind].count
        x = self._cast(x, kind)
        if count == 1:
            return self.run_module(self.pool.modules(kind)[0], x)
        with tf.device("CPU:0"):
            chosen = tf.identity(chosen)
            rows = tf.argsort(chosen, stable=True)
            sizes = tf.ensure_shape(tf.math.bincount(chosen, minlength=count, maxlength=count), [count])
        y, _ = self._run(*self._bind(kind), x, rows, sizes, chosen.shape[0])
        return spread(rows, y, tf.shape(x)[0])

    def _bind(self, kind):
        """How a kind's modules run: a function of rows, sorted by module, and how many each module has.

        With it comes whether it runs all modules at once, and so wants equally many rows of each. Small
        weights are ready from here on, large ones are made so where a module runs. A loop is for graphs on
        CPUs: large weights are not copied for it, and on GPUs it has not been tried.
        """
        weights = made_ready(self._layers[kind], self.weights[kind], is_stack)
        if self._run_all_of[kind]:
            return functools.partial(self._run_at_once, kind, weights), True
        if self._is_stacked(kind) and not tf.executing_eagerly() and not fused.on_gpu():
            return functools.partial(self._run_loop, kind, weights), False
        weights = split(weights, self.pool.kinds[kind].count)
        return functools.partial(self._run_each, kind, weights), False

    def _is_stacked(self, kind):
        """Whether a kind has several modules, all with small weights."""
        return self.pool.kinds[kind].count > 1 and all(is_stack(w) for w in self.weights[kind])

    def _run(self, run, at_once, buffer, rows, sizes, batch):
        """The modules of a kind, each on its own rows.

        Args:
            run, at_once: from `_bind`.
            buffer: `[B, *input]`.
            rows: int32 `[R]` of the buffer, sorted by module; in host memory.
            sizes: int32 `[count]`, how many each module has; in host memory.
            batch: how many examples there are; None if it is not said, as in an exported model.

        Returns:
            `[R, *output]`, and the buffer without these rows.
        """
        if not at_once and not fused.pays(batch):
            x, rest = take(buffer, rows)
            return run(x, sizes), rest
        with tf.device("CPU:0"):
            room = tf.fill([sizes.shape[0]], tf.reduce_max(sizes)) if at_once else recurring(sizes)
            slots, rows_of_slots = pad(rows, sizes, room)
        x, rest = take_padded(buffer, rows, slots, rows_of_slots)
        # Sizes of groups recur here, and nothing of this is exported.
        with fused.compiled(not at_once):
            y = run(x, room)
        return pick(y, slots), rest

    def _run_at_once(self, kind, weights, x, sizes):
        """All modules of a kind at once; as `_run_each`, but that `sizes` are all the same."""
        x = tf.reshape(x, [sizes.shape[0], -1, *x.shape[1:]])  # (M, L, ...)
        return tf.reshape(self._run_all_of[kind](x, *weights), [-1, *self.pool.kinds[kind].output])

    def _run_loop(self, kind, weights, x, sizes):
        """The modules of a kind that have rows, by one graph for all; else as `_run_each`.

        A graph in which each of many modules has its own operations takes minutes to make.
        """
        used = tf.cast(tf.where(sizes > 0)[:, 0], tf.int32)
        count = tf.size(used)
        # Lists, not slices, whose gradients would be as many whole tensors.
        parts = tf.TensorArray(x.dtype, count, infer_shape=False, element_shape=(None, *x.shape[1:]))
        parts = parts.split(x, tf.gather(sizes, used))
        own = [tf.TensorArray(w.dtype, count).unstack(pick(w, used)) for w in weights]
        results = tf.TensorArray(
            self.compute_dtype,
            count,
            infer_shape=False,
            element_shape=(None, *self.pool.kinds[kind].output),
        )

        def run(i, results):
            y = self._run_kind[kind](parts.read(i), *(w.read(i) for w in own))
            return i + 1, results.write(i, y)

        _, results = tf.while_loop(lambda i, _: i < count, run, (0, results))
        return results.concat()

    def _run_each(self, kind, weights, x, sizes):
        """The modules of a kind, one after the other, on `sizes` rows of `x` each; `[R, *output]`."""
        results = []
        for own, part, size in zip(
            weights, tf.split(x, sizes, num=len(weights)), tf.unstack(sizes, len(weights)), strict=True
        ):
            # A convolution of an empty batch is not only waste: oneDNN's returns a wrong shape.
            run = functools.partial(self._run_kind[kind], part, *own)
            skip = functools.partial(self._skip_kind[kind], *own)
            results.append(tf.cond(size > 0, run, skip))
        return tf.concat(results, axis=0)

    def _make_functions(self, kind):
        """What one module of a kind does, weights as arguments, and what it does without rows.

        The second returns nothing that yet depends on large weights, for the sake of memory: zero
        gradients that depend on nothing are turned into constants, which then lie beside the true
        gradients for good.
        """
        layer = self._layers[kind]

        # No tf.function: the constants of its forward pass would go to the backward pass over the device.
        def run_kind(x, *weights):
            return call(layer, made_ready(layer, weights, is_large), x)

        def skip_kind(*weights):
            nothing = tf.zeros((0, *self.pool.kinds[kind].output), self.compute_dtype)
            for w in weights:
                if is_large(w):
                    nothing += tf.cast(tf.reduce_sum(tf.reshape(w, [-1])[:0]), nothing.dtype)
            return nothing

        return run_kind, skip_kind

    def _make_batched(self, kind):
        """A graph of all modules of a kind at once, on as many rows each; None where that does not pay.

        It pays where a row costs little beside the weights, as in matrix products: groups are padded to
        the largest. It also takes operations that TensorFlow can run with a stack of weights.
        """
        taken, given = (math.prod(s) for s in (self.pool.kinds[kind].input, self.pool.kinds[kind].output))
        template, weights = self._layers[kind], self.weights[kind]
        if not self._is_stacked(kind) or template.count_params() < taken + given:
            return None

        @tf.function(autograph=False)
        def run_all_of_kind(x, *weights):
            def run_one(module):
                x, *weights = module
                return call(template, weights, x)

            return tf.vectorized_map(run_one, (x, *weights), fallback_to_while_loop=False)

        x = tf.TensorSpec(
            (self.pool.kinds[kind].count, None, *self.pool.kinds[kind].input), self._dtype(kind)
        )
        with _silent():
            try:
                return run_all_of_kind.get_concrete_function(
                    x, *(tf.TensorSpec(w.shape, w.dtype) for w in weights)
                )
            except ValueError:  # such as a convolution
                return None


@contextlib.contextmanager
def _silent():
    """Without TensorFlow's report of what it cannot vectorise."""
    logger = tf.get_logger()
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


def run_all(modules: Modules, inputs, paths):
    """What `modules(inputs, paths)` returns, by running every module on every example at every step.

    It is as plain as can be and serves as the tests' oracle and the benchmark's slow twin.
    """
    pool = modules.pool
    held = dict(enumerate(tf.nest.flatten(inputs)))
    for t in range(paths.shape[1]):
        new = dict(held)
        for m, k in enumerate(pool.kind):
            kind = pool.kinds[k]
            taken = pool.input_of[k] if kind.role == INPUT else kind.input
            if taken not in held:
                continue
            y = modules.run_module(m, held[taken])
            given = kind.output
            if kind.role == OUTPUT:
                given, y = OUTPUT, filled_up(y, pool.width)
            mine = tf.reshape(paths[:, t] == m, [-1] + [1] * len(kind.output))
            new[given] = tf.where(mine, y, new.get(given, tf.zeros_like(y)))
        held = new
    return tf.cast(held[OUTPUT], tf.float32)


def filled_up(answers, width):
    """Answers `[R, C]` with as many columns as those of other tasks, 0 after their own."""
    missing = width - answers.shape[1]
    return tf.pad(answers, [[0, 0], [0, missing]]) if missing else answers
