"""Limitless Routing Networks: what happens in one training step (Sec. 4, 5.1)."""

import numpy as np
import tensorflow as tf

from lrn_tf.data.problem import Problem
from lrn_tf.devices import replicas
from lrn_tf.learning import averages, ppo, reward
from lrn_tf.learning.adam import Adam
from lrn_tf.learning.moments import RunningMoments
from lrn_tf.methods.method import Prediction, count_weights
from lrn_tf.methods.modular import Modular, pool_of
from lrn_tf.methods.network import LRN
from lrn_tf.modules import cost, fused
from lrn_tf.modules.decision_process import DecisionProcess
from lrn_tf.modules.pool import Pool
from lrn_tf.modules.task_paths import kinds_of_tasks, paths_of_tasks
from lrn_tf.router.episodes import Episodes, revisit, route
from lrn_tf.router.router import Router, actor_for
from lrn_tf.settings.table import Settings

# The router's learning rate while it imitates: --learning_rate may begin with 0.
IMITATION_RATE = 3e-4


class LRNMethod(Modular):
    """The router and the modules, trained together.

    A `lrn_tf.methods.method.Method`.

    Attributes:
        weights: of all modules and the router.
        network: the Keras model that is learned.
        metrics: names of the scalars of `train_step`: of the objectives, `SCALARS`, and `OF_EACH_STEP` of
            each step.
    """

    SCALARS = (
        "losses/policy_loss",
        "losses/value_loss",
        "losses/entropy",
        "losses/old_approx_kl",
        "losses/approx_kl",
        "losses/clipfrac",
        "losses/gradient_norm",
        "reward/bonus",
        "reward/return",
        "reward/share_of_bonus",
        "route/length",
        "route/unused_in_batch",
        "route/entropy_per_example",
        "route/entropy_of_batch_mean",
    )

    OF_EACH_STEP = ("explained_variance", "route_entropy")

    def __init__(self, pool: Pool, problem: Problem, settings: Settings):
        of_network = ("depth", "d_model", "actor", "actor_scale", "input_scale")
        self.network = LRN(pool, problem, **{name: getattr(settings, name) for name in of_network})
        super().__init__(self.network.process, self.network.modules, problem, settings)
        self.metrics = (
            *self.objectives.metrics,
            *self.SCALARS,
            *(["route/gflop"] if settings.price else []),
            *(f"{group}/step_{t + 1}" for group in self.OF_EACH_STEP for t in range(settings.depth)),
        )
        self.router = self.network.router
        self.router_weights = [weight.value for weight in self.router.trainable_variables]
        self.router_adam = Adam(self.router_weights)
        self.weights = tf.nest.flatten([self.modules.weights, self.router_weights])
        self.moments = RunningMoments(settings.depth)
        if settings.freeze == "modules":
            with tf.device("CPU:0"):
                self.frozen = tf.Variable(tf.zeros(len(pool), tf.bool), trainable=False, name="frozen")
        self.coefficients = ppo.Coefficients(entropy=settings.entropy)
        self._in_bonus = _with_rivals(pool)
        if settings.imitation:
            plan = kinds_of_tasks(pool, settings.depth)
            self._given_paths = paths_of_tasks(pool, plan, "drawn", settings.seed)  # (K, T)
        # To count operations takes seconds.
        self._products = cost.of_actions(pool, cost.of_kinds(pool)) if settings.price else None
        # The router's shapes are static, so XLA can fuse it; the groups of the modules are not. On CPUs
        # XLA makes bfloat16 slower than float32, TensorFlow's own kernels make it faster.
        jit = settings.dtype == "float32" or fused.on_gpu()
        self.route = tf.function(self._route, jit_compile=jit, autograph=False)
        self._part_of_gradients = tf.function(self._part_of_gradients, jit_compile=jit, autograph=False)
        self._descend = tf.function(self._descend, jit_compile=jit, autograph=False)
        if jit and replicas.count() == 1:  # several add up their gradients in the middle of it
            self._learn = tf.function(self._learn, jit_compile=True, autograph=False)
        self._draw_minibatches = tf.function(self._draw_minibatches, jit_compile=jit, autograph=False)

    @staticmethod
    def count_parameters(problem: Problem, settings: Settings, kinds=None) -> dict[str, int]:
        """Trainable parameters of each kind's modules, and of the router."""
        pool = pool_of(problem, settings, kinds)
        most = DecisionProcess(pool, settings.depth).max_candidates
        actor = actor_for(settings.actor, len(pool))
        router = Router(problem.inputs, problem.input_of, len(pool), most, settings.d_model, actor)
        return {**pool.count_parameters(), "router": count_weights(router)}

    @property
    def variables(self) -> dict[str, object]:
        """All state that training changes, for a checkpoint."""
        return {
            "modules": self.modules.weights,
            "router": self.router_weights,
            "module_adam": self.module_adam.variables,
            "router_adam": self.router_adam.variables,
            "moments": self.moments.variables,
            **({} if self.frozen is None else {"frozen": self.frozen}),
        }

    def predict(self, inputs, tasks) -> Prediction:
        """The most probable network of each example, and what it answers; see `Method.predict`."""
        # XLA would compile the router anew for every size of batch that an exported model is given.
        route = self._route if tasks.shape[0] is None else self.route
        episodes = route(inputs, tasks, None)
        logits = self.run(inputs, episodes.actions)
        return Prediction(logits, episodes.actions, tf.reduce_sum(episodes.log_probs, axis=1))

    def embeddings(self, inputs, tasks) -> dict[str, tf.Tensor]:
        """Where the router puts modules `[N, D]`, tasks `[K, D]` and what examples bring `[B, D]`."""
        return {
            "module": self.router.action_embedding.embeddings[: self.pool.pass_id],
            "task": tf.convert_to_tensor(self.router.task_embedding.embeddings),
            "example": self.router.see(inputs, tasks),
        }

    def train_step(self, inputs, tasks, targets, seed, learning_rate) -> dict[str, tf.Tensor]:
        """One step on modules and router (Sec. 5.1); see `Method.train_step`."""
        mine = replicas.mine((inputs, tasks, targets))
        imitates = self._imitates(seed)
        episodes = self.route(*mine[:2], seed, imitates)
        loss, right, chosen = self.train_modules(*mine, episodes.actions, learning_rate)
        # From here on each replica knows the whole batch.
        episodes = replicas.gather(episodes)

        weighted = loss * self.objectives.weights(tasks)
        rewards, bonus, advantage, returns = self.judge(episodes, tasks, weighted, chosen)
        scaled = self.moments.standardise(returns)
        explained = tf.unstack(ppo.explained_variance(episodes.values, scaled, episodes.open))
        self.moments.update(returns, episodes.open)
        rate = learning_rate * self.settings.router_lr_scale
        if imitates is not None:
            rate = tf.where(imitates, IMITATION_RATE, rate)
        statistics = self.train_router(inputs, tasks, episodes, advantage, scaled, seed, rate, imitates)

        return {
            **self.objectives.means(loss, right, tasks),
            **statistics,
            **_of_each_step("explained_variance", explained),
            "reward/bonus": tf.reduce_mean(tf.reduce_sum(bonus, axis=1)),
            "reward/return": tf.reduce_mean(tf.reduce_sum(rewards, axis=1)),
            "reward/share_of_bonus": reward.share_of_bonus(rewards, bonus),
            **self._route_statistics(episodes, chosen),
        }

    def _route(self, inputs, tasks, seed, imitates=None):
        given = None
        if imitates is not None:
            given = tf.where(imitates, tf.gather(tf.constant(self._given_paths), tasks), -1)
        return route(self.router, self.process, inputs, tasks, seed, given)

    def _imitates(self, seed):
        """Whether the router imitates given paths in the step with this seed; None if it never does."""
        if not self.settings.imitation:
            return None
        with tf.device("CPU:0"):
            return seed[1] < self.settings.imitation

    def could(self, tasks):
        """How many examples of the batch could have chosen each module: int32 `[N]`, in host memory."""
        with tf.device("CPU:0"):
            mine = tf.gather(self.process.reachable.astype(np.int32), tf.identity(tasks))  # (B, N)
            return tf.reduce_sum(mine, axis=0)

    def judge(self, episodes: Episodes, tasks, loss, chosen):
        """What the episodes have earned.

        Args:
            episodes: of the batch.
            tasks: int32 `[B]`.
            loss: float32 `[B]`, of each example's network, weighted by its task.
            chosen: int32 `[N]`, how many networks hold each module.

        Returns:
            rewards, the bonus in them, advantages and returns: float32 `[B, T]` each.
        """
        bonus = reward.module_bonus(chosen, self.could(tasks), self._in_bonus, self.settings.bonus)
        rewards = reward.rewards(loss, episodes.actions, episodes.open, bonus, self.settings.pay_loss)
        if self.settings.price:
            rewards -= self.settings.price * self._gflop(episodes.actions)
        values = self.moments.in_nats(episodes.values)
        values = ppo.known_values(rewards, values, episodes.open, self.coefficients.gamma)
        advantage = ppo.advantages(rewards, values, self.coefficients.gamma, self.coefficients.gae_lambda)
        return rewards, tf.gather(bonus, episodes.actions), advantage, advantage + values

    def train_router(self, inputs, tasks, episodes, advantage, targets, seed, learning_rate, imitates=None):
        """PPO's passes over minibatches of episodes; the mean of their statistics.

        The critic's targets are standardised returns. `imitates` is as in `ppo.losses`.
        """
        batch = inputs, tasks, episodes, advantage, targets
        minibatches = self._draw_minibatches(seed, tasks.shape[0])
        totals = [self._learn(rows, learning_rate, imitates, *batch) for rows in minibatches]
        return {f"losses/{name}": tf.reduce_mean([s[name] for s in totals]) for name in totals[0]}

    def _draw_minibatches(self, seed, batch):
        """The rows of each minibatch of all passes, int32."""
        size = self.settings.minibatch_size
        # The seed itself made the episodes; its complement is as unique and independent of it.
        shape = (self.settings.ppo_epochs, batch)
        keys = tf.random.stateless_uniform(shape, tf.bitwise.invert(seed), alg="philox")
        orders = tf.unstack(tf.argsort(keys, axis=1))
        return [order[at : at + size] for order in orders for at in range(0, batch, size)]

    def _learn(self, rows, learning_rate, imitates, *batch):
        """One step on the router, on some rows of the batch; PPO's statistics."""
        minibatch = tf.nest.map_structure(lambda x: tf.gather(x, rows), batch)
        gradients, statistics = replicas.total(self._part_of_gradients(imitates, *minibatch))
        return {**statistics, "gradient_norm": self._descend(gradients, learning_rate)}

    def _descend(self, gradients, learning_rate):
        """Clips gradients to a global norm and lets the router follow them; the norm."""
        gradients, norm = tf.clip_by_global_norm(gradients, self.coefficients.gradient_norm)
        self.router_adam.apply(gradients, learning_rate)
        return norm

    def _part_of_gradients(self, imitates, inputs, tasks, episodes: Episodes, advantage, targets):
        """What this replica's part of a minibatch adds to its gradients and PPO's statistics."""
        weighed = ppo.weighed(advantage, episodes.open, episodes.free)
        mine, targets, weighed = replicas.mine(((episodes, inputs, tasks), targets, weighed))
        with tf.GradientTape() as tape:
            new = revisit(self.router, *mine)
            old = mine[0].log_probs
            loss, statistics = ppo.losses(new, old, targets, *weighed, self.coefficients, imitates)
        # Embeddings have a gradient for each look-up; until they are added up their norm is another one.
        gradients = [tf.convert_to_tensor(g) for g in tape.gradient(loss, self.router_weights)]
        return gradients, statistics

    def _route_statistics(self, episodes, chosen):
        free = tf.cast(episodes.free, tf.float32)
        added = tf.cast(tf.cast(episodes.actions, tf.float32) < self.pool.pass_id, tf.float32)
        entropy = [averages.mean(episodes.entropy[:, t], free[:, t]) for t in range(self.settings.depth)]
        priced = {}
        if self.settings.price:
            priced["route/gflop"] = tf.reduce_mean(tf.reduce_sum(self._gflop(episodes.actions), axis=1))
        return {
            **priced,
            "route/length": tf.reduce_mean(tf.reduce_sum(added, axis=1)),
            "route/unused_in_batch": tf.reduce_sum(tf.cast(chosen == 0, tf.float32)),
            "route/entropy_per_example": averages.mean(episodes.entropy, free),
            "route/entropy_of_batch_mean": self._entropy_of_batch(episodes),
            **_of_each_step("route_entropy", entropy),
        }

    def _gflop(self, actions):
        """What the modules of actions compute for an example, in 10^9 operations; PASS does nothing."""
        return tf.gather(tf.constant(2e-9 * self._products, tf.float32), actions)

    def _entropy_of_batch(self, episodes):
        """Entropy in nats of the actions that the whole batch took where it could choose; mean over steps.

        Collapse shows in this number: a low entropy per example is what a router should come to, a
        low entropy of the batch means that all examples share a network. Each step counts as often as
        examples could choose there, as in the entropy per example.
        """
        free = tf.cast(episodes.free, tf.float32)
        choices = tf.reduce_sum(free, axis=0)  # (T,)
        taken = tf.one_hot(episodes.actions, len(self.pool) + 1) * free[..., None]  # (B, T, N + 1)
        share = tf.math.divide_no_nan(tf.reduce_sum(taken, axis=0), choices[:, None])
        return averages.mean(-tf.reduce_sum(tf.math.xlogy(share, share), axis=1), choices)


def _with_rivals(pool):
    """Which modules take part in the bonus: bool `[N]` (ours).

    Those in whose place some task may have another module of their kind. A stem that all examples pass, or
    the only output module of a task, is used as much as can be, and beside it all others would seem rare.
    Where no kind has several modules, all take part.
    """
    rivals = np.zeros(len(pool), bool)
    for k in range(len(pool.kinds)):
        rivals[pool.modules(k)] = pool.may[:, pool.modules(k)].sum(axis=1).max() > 1
    return rivals if rivals.any() else ~rivals


def _of_each_step(group, values):
    return {f"{group}/step_{t + 1}": value for t, value in enumerate(values)}
