"""Adam, and one that leaves untouched what the batch did not use."""

import functools
from collections.abc import Sequence

import tensorflow as tf

from lrn_tf.modules.weights import Weight, is_stack

BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8


class Adam:
    """Adam (Kingma and Ba 2015).

    Args:
        weights: what is learned.
    """

    def __init__(self, weights: Sequence[tf.Variable]):
        self.weights = list(weights)
        self.first = [_zeros_like(w) for w in self.weights]
        self.second = [_zeros_like(w) for w in self.weights]
        self.count = tf.Variable(0, dtype=tf.int64, trainable=False, name="count")

    @property
    def variables(self) -> dict[str, object]:
        """All state, for a checkpoint."""
        return {"count": self.count, "first": self.first, "second": self.second}

    def apply(self, gradients: Sequence[tf.Tensor], learning_rate) -> None:
        """One step. Args: gradients: of each weight. learning_rate: float32 scalar."""
        _assign(self.count, self.count + 1)
        count = tf.cast(self.count, tf.float32)
        powers = BETA_1**count, BETA_2**count
        for slots in zip(self.weights, self.first, self.second, gradients, strict=True):
            _update(*slots, *powers, learning_rate)


class GroupedAdam:
    """Adam for the modules of a pool, each of which has a step count of its own.

    A module that no example used gets no update: "its parameters will not be updated after that batch"
    (Sec. 5.3). Plain Adam would still move it along its old moments. For the same reason the bias
    correction counts the updates of the module, not of the run.

    Args:
        weights: the weights of each kind; those of its modules are rows of a variable, or variables.
        modules: how many modules each kind has.
        decay: the part of a kernel (a weight of two dimensions or more that is no bias) that a step takes
            away besides, times the learning rate (AdamW, Loshchilov and Hutter 2019).
    """

    def __init__(self, weights: Sequence[Sequence[Weight]], modules: Sequence[int], decay: float = 0.0):
        self._decay = decay
        self.weights = [list(kind) for kind in weights]
        self.first = tf.nest.map_structure(_zeros_like, self.weights)
        self.second = tf.nest.map_structure(_zeros_like, self.weights)
        self.counts = tf.Variable(tf.zeros(sum(modules), tf.int64), trainable=False, name="counts")
        ends = [sum(modules[: k + 1]) for k in range(len(modules))]
        self._modules = [range(end - count, end) for end, count in zip(ends, modules, strict=True)]
        # One kernel for each stack, on CPUs and GPUs; in tensor operations it would be a dozen.
        self._update_stacks = tf.function(self._update_stacks, jit_compile=True, autograph=False)

    @property
    def variables(self) -> dict[str, object]:
        """All state, for a checkpoint."""
        return {"counts": self.counts, "first": self.first, "second": self.second}

    def apply(self, gradients: Sequence[Sequence], used, learning_rate) -> None:
        """One step.

        Args:
            gradients: of all weights, in their structure.
            used: bool `[N]` in host memory; other modules stay bit-identical.
            learning_rate: float32 scalar.
        """
        powers = self._update_stacks(
            [[g for g in kind if not isinstance(g, list)] for kind in gradients], used, learning_rate
        )
        powers, kept = [tf.unstack(p) for p in powers], 1.0 - self._decay * learning_rate
        with tf.device("CPU:0"):
            used = tf.unstack(used, self.counts.shape[0])
        for modules, slots in self._by_kind(gradients):
            large = [slot for slot in slots if not is_stack(slot[0])]
            for i, m in enumerate(modules if large else ()):
                mine = [[variables[i] for variables in slot] for slot in large]
                update = functools.partial(
                    self._update_large, mine, powers[0][m], powers[1][m], learning_rate, kept
                )
                tf.cond(used[m], update, lambda: None)

    def _update_stacks(self, gradients, used, learning_rate):
        """Updates the rows of modules in use; returns the powers of both betas for each module."""
        _assign(self.counts, self.counts + tf.cast(used, tf.int64))
        counts = tf.cast(self.counts, tf.float32)
        powers = BETA_1**counts, BETA_2**counts
        for modules, slots in self._by_kind(gradients, is_stack):
            for weight, first, second, gradient in slots:
                used_here, power_1, power_2 = (
                    tf.reshape(x[modules.start : modules.stop], [-1] + [1] * (len(weight.shape) - 1))
                    for x in (used, *powers)
                )
                mean = first + (1 - BETA_1) * (gradient - first)
                square = second + (1 - BETA_2) * (gradient**2 - second)
                step = mean / (1 - power_1) / (tf.sqrt(square / (1 - power_2)) + EPSILON)
                if self._decay and _decays(weight, stacked=True):
                    step += self._decay * weight
                for variable, new in (
                    (weight, weight - learning_rate * step),
                    (first, mean),
                    (second, square),
                ):
                    _assign(variable, tf.where(used_here, new, variable))
        return powers

    def _update_large(self, slots, power_1, power_2, learning_rate, kept):
        for weight, *rest in slots:
            if self._decay and _decays(weight):
                # To subtract a product would go through memory twice as often.
                _assign(weight, kept * weight)
            _update(weight, *rest, power_1, power_2, learning_rate)

    def _by_kind(self, gradients, which=lambda _: True):
        """For each kind its modules, and weight, moments and gradient of each of its weights."""
        for modules, *kind, mine in zip(
            self._modules, self.weights, self.first, self.second, gradients, strict=True
        ):
            slots = [slot for slot in zip(*kind, strict=True) if which(slot[0])]
            yield modules, [(*slot, g) for slot, g in zip(slots, mine, strict=True)]


def _decays(weight, stacked=False):
    # Of recurrent layers and of attention biases have two dimensions as well.
    return len(weight.shape) > 1 + stacked and "bias" not in weight.name


def _assign(variable, value):
    # Replicas all assign the same; with `assign` they would wait for each other, inside of a program.
    tf.raw_ops.AssignVariableOp(resource=variable.handle, value=value)


def _update(weight, first, second, gradient, power_1, power_2, learning_rate):
    # One pass over memory on any device; written out in tensor operations it would be seven.
    tf.raw_ops.ResourceApplyAdam(
        var=weight.handle,
        m=first.handle,
        v=second.handle,
        beta1_power=power_1,
        beta2_power=power_2,
        lr=learning_rate,
        beta1=BETA_1,
        beta2=BETA_2,
        epsilon=EPSILON,
        grad=gradient,
    )


def _zeros_like(weight):
    return tf.Variable(tf.zeros_like(weight), trainable=False)
