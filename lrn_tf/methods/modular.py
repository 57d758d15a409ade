"""What methods have in common whose networks are paths through a pool, whoever chooses the paths."""

import tensorflow as tf

from lrn_tf.data.problem import Problem
from lrn_tf.devices import replicas
from lrn_tf.errors import UserError
from lrn_tf.learning import core
from lrn_tf.learning.adam import GroupedAdam
from lrn_tf.learning.objectives import Objectives
from lrn_tf.modules.built_in import POOLS, make_pool
from lrn_tf.modules.decision_process import DecisionProcess
from lrn_tf.modules.dispatch import Modules
from lrn_tf.modules.pool import Pool
from lrn_tf.settings.table import Settings


class Modular:
    """Modules, and what trains them along paths. Subclasses choose these.

    Attributes:
        kinds: the modules of each kind of the pool.
        process: which paths are networks of a task.
        frozen: bool `[N]`, modules that do not learn; None if all do.
    """

    # Weights, gradients and Adam's two moments, four bytes each.
    BYTES_PER_PARAMETER = 16
    trunk = None

    def __init__(self, process: DecisionProcess, modules: Modules, problem: Problem, settings: Settings):
        self.settings = settings
        self.problem = problem
        self.pool, self.process, self.modules = process.pool, process, modules
        self.kinds = self.pool.by_kind
        self.objectives = Objectives(problem, settings.label_smoothing)
        self.module_adam = GroupedAdam(
            modules.weights, [kind.count for kind in self.pool.kinds], settings.weight_decay
        )
        self._exported = tf.function(lambda *given: modules(*given)[0], autograph=False)
        self.frozen = None
        if settings.core:
            if not any(core.with_core(self.pool)):
                raise UserError(
                    f"--core={settings.core:g} has no kind of several modules; raise --dup, or leave it out"
                )
            core.start_alike(modules)

    @classmethod
    def build(cls, problem: Problem, settings: Settings, kinds=None):
        """See `lrn_tf.methods.build.build`."""
        return cls(pool_of(problem, settings, kinds), problem, settings)

    def follow(self, inputs, tasks, paths) -> tf.Tensor:
        """The logits `[B, C]` of networks that the caller chose; see `Method.predict`.

        Args:
            inputs, tasks: as in `Method.predict`.
            paths: int32 `[B, T]`; an error is raised where one is no network for the task.
        """
        networks, legal = self.process.start(tasks), True
        for t in range(1, self.process.depth + 1):
            action = paths[:, t - 1]
            known = (action >= 0) & (action <= self.pool.pass_id)
            action = tf.where(known, action, 0)
            legal &= known & tf.gather(self.process.valid(networks, t), action, batch_dims=1)
            networks = self.process.advance(networks, action)
        illegal = tf.debugging.Assert(
            tf.reduce_all(legal), ["no network for its task:", tf.boolean_mask(paths, ~legal)]
        )
        with tf.control_dependencies([illegal]):
            return self.run(inputs, tf.identity(paths))

    def run(self, inputs, paths) -> tf.Tensor:
        """The logits `[B, C]` of networks. What is exported, for any B, has one graph of them for all."""
        return self._exported(inputs, paths) if paths.shape[0] is None else self.modules(inputs, paths)[0]

    def train_modules(self, inputs, tasks, targets, paths, learning_rate):
        """One step on the modules of the paths; args are this replica's part of the batch.

        Returns:
            of the whole batch: losses `[B]`, how much of the answers is right `[B]`, and the int32 `[N]`
            counts of `Modules`.
        """
        loss, right, chosen, gradients = self.module_gradients(inputs, tasks, targets, paths)
        chosen, gradients = replicas.total((chosen, gradients))
        loss, right = replicas.gather((loss, right))
        with tf.device("CPU:0"):
            used = chosen > 0
        if self.settings.core:
            gradients, used = core.share(self.pool, gradients, used, self.settings.core)
        if self.frozen is not None:
            with tf.device("CPU:0"):
                used &= ~self.frozen
        self.module_adam.apply(gradients, used, learning_rate)
        return loss, right, chosen

    def module_gradients(self, inputs, tasks, targets, paths):
        """The loss of each example's network, and the gradients of its mean, weighted by task.

        On several replicas: of this one's examples, and its part of the gradients.

        Returns:
            losses `[B]`, how much of the answers is right `[B]`, the int32 `[N]` counts of `Modules`,
            and the gradients of each kind's weights, as `Modules.weights`; zero where no example chose a
            module.
        """
        with tf.GradientTape() as tape:
            logits, chosen = self.modules(inputs, paths)
            loss = self.objectives.loss(logits, tasks, targets)  # (B,)
            mean = tf.reduce_mean(loss * self.objectives.weights(tasks)) / replicas.count()
        gradients = tape.gradient(mean, self.modules.weights, unconnected_gradients="zero")
        return loss, self.objectives.right(logits, tasks, targets), chosen, gradients


def pool_of(problem: Problem, settings: Settings, kinds=None) -> Pool:
    """The pool that the settings ask for; `kinds` as in `lrn_tf.methods.build.build`."""
    if isinstance(kinds, Pool):
        return kinds
    return make_pool(POOLS[settings.pool] if kinds is None else kinds, problem, settings)
