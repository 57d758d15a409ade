"""Routing networks (Rosenbaum et al. 2017): agents pick a fully connected block per layer for each example.

They learn by reinforcement from whether the class was right; the blocks and the trunk learn from the
cross-entropy. None of the policies' gradients reach the network, and the other way round.
"""

from typing import NamedTuple

import tensorflow as tf

from lrn_tf.data.problem import Problem
from lrn_tf.devices import replicas
from lrn_tf.errors import UserError
from lrn_tf.learning.objectives import Objectives
from lrn_tf.methods.agents import POLICIES, TabularPolicy
from lrn_tf.methods.fc_network import LAYERS, UNITS, FCNetwork
from lrn_tf.methods.method import Prediction
from lrn_tf.methods.supervised import descend
from lrn_tf.methods.wpl import sample
from lrn_tf.settings.table import Settings


class Decisions(NamedTuple):
    """What agents decided in a batch, state after state."""

    agents: tf.Tensor  # (B,) int32, who decided
    actions: tf.Tensor  # (B, S) int32
    probability: tf.Tensor  # (B, S), of the actions
    expected: tf.Tensor  # (B, S), the return that the agent expected
    entropy: tf.Tensor  # (B, S), of the policy, in nats


class RoutingNetwork:
    """The network and its agents. A `lrn_tf.methods.method.Method`.

    Attributes:
        trunk: the layers that all tasks share.
        pool: the blocks, a kind for each layer.
        kinds: the blocks of each layer.
    """

    # Weights and gradients, four bytes each.
    BYTES_PER_PARAMETER = 8

    metrics = (
        "train/loss",
        "train/accuracy",
        "losses/policy_loss",
        "reward/return",
        "reward/collaboration",
        "route/entropy_per_example",
        "route/unused_in_batch",
    )

    def __init__(self, problem: Problem, settings: Settings):
        if not problem.only_classes:
            raise UserError(
                "--method=routing is rewarded for right classes, and a task asks for others; choose another"
            )
        self.objectives = Objectives(problem)
        num_tasks = problem.num_tasks
        blocks = settings.blocks or num_tasks
        self._num_tasks, self._rho = num_tasks, settings.rho
        self._agents = settings.agents
        self.network = FCNetwork(problem, [blocks] * LAYERS)
        self.trunk, self.pool = self.network.trunk, self.network.pool
        self.kinds = self.pool.by_kind
        # What the first layer takes, and what the second and the third do; each beside the task.
        seen = [width + num_tasks for width in (self.network.features, UNITS, UNITS)]
        make = POLICIES[settings.policy]
        self.policy = make(1 if self._agents == "single" else num_tasks, seen, blocks)
        self._tabular = isinstance(self.policy, TabularPolicy)
        if self._agents == "dispatched":
            # Its one table has a row for each task; its one network is told the task.
            self.dispatcher = make(num_tasks if self._tabular else 1, seen[:1], num_tasks)
        # How often each block was chosen so far; a first time for each, so that shares are defined.
        self._chosen = tf.Variable(tf.ones([LAYERS, blocks]), trainable=False)
        self.weights = self.network.weights + [w for p in self._policies for w in p.weights]

    @classmethod
    def build(cls, problem: Problem, settings: Settings, kinds=None):
        """See `lrn_tf.methods.build.build`."""
        return cls(problem, settings)

    @classmethod
    def count_parameters(cls, problem: Problem, settings: Settings, kinds=None) -> dict[str, int]:
        """Trainable parameters of the trunk, of each layer's blocks, and of the agents."""
        made = cls.build(problem, settings)
        agents = sum(w.shape.num_elements() for policy in made._policies for w in policy.weights)
        return {**made.network.count_parameters(), "agents": agents}

    @property
    def _policies(self):
        return [self.policy] + ([self.dispatcher] if self._agents == "dispatched" else [])

    @property
    def variables(self) -> dict[str, object]:
        """All state that training changes, for a checkpoint."""
        policies = [policy.variables for policy in self._policies]
        return {"network": self.network.variables, "policies": policies, "chosen": self._chosen}

    def train_step(self, inputs, tasks, targets, seed, learning_rate) -> dict[str, tf.Tensor]:
        """One step on the network by SGD, and on the agents; see `Method.train_step`."""
        uniform = tf.random.stateless_uniform((tasks.shape[0], LAYERS + 1), seed, alg="philox")
        inputs, tasks, targets, uniform = replicas.mine((inputs, tasks, targets, uniform))
        with tf.GradientTape() as tape:
            features = self.trunk(inputs, training=True)
            logits, _, decisions = self.layers(features, tasks, uniform)
            ce = self.objectives.loss(logits, tasks, targets)
            correct = self.objectives.right(logits, tasks, targets)
            collaboration = self._collaboration(decisions[0].actions)
            returns = self._returns(collaboration, correct)
            policy_loss = sum(
                policy.loss(made.probability, made.expected, earned)
                for policy, made, earned in zip(self._policies, decisions, returns, strict=True)
            )
            policy_loss /= replicas.count()
            loss = tf.reduce_mean(ce * self.objectives.weights(tasks)) / replicas.count() + policy_loss
        # A gather's gradient comes as rows.
        gradients = [tf.convert_to_tensor(g) for g in tape.gradient(loss, self.weights)]
        gradients, policy_loss = replicas.total((gradients, policy_loss))
        descend(self.weights, gradients, learning_rate)
        # From here on each replica knows the whole batch.
        whole = replicas.gather((decisions, returns, collaboration, correct, ce))
        decisions, returns, collaboration, correct, ce = whole
        for policy, made, earned in zip(self._policies, decisions, returns, strict=True):
            policy.learn(made.agents, made.actions, earned)
        counts = self._count(decisions[0].actions)
        self._chosen.assign_add(counts)
        return {
            "train/loss": tf.reduce_mean(ce),
            "train/accuracy": tf.reduce_mean(correct),
            "losses/policy_loss": policy_loss,
            "reward/return": tf.reduce_mean(returns[0][:, 0]),
            "reward/collaboration": tf.reduce_mean(tf.reduce_sum(collaboration, axis=1)),
            "route/entropy_per_example": tf.reduce_mean(decisions[0].entropy),
            "route/unused_in_batch": tf.reduce_sum(tf.cast(counts == 0, tf.float32)),
        }

    def predict(self, inputs, tasks) -> Prediction:
        """The most probable blocks; see `Method.predict`."""
        logits, paths, decisions = self.layers(self.trunk(inputs, training=False), tasks, None)
        log_policy = [tf.reduce_sum(tf.math.log(made.probability), axis=1) for made in decisions]
        return Prediction(logits, paths, sum(log_policy))

    def follow(self, inputs, tasks, paths) -> tf.Tensor:
        """The logits of networks that the caller chose; see `Modular.follow`."""
        first = [blocks[0] for blocks in self.kinds.values()]
        last = [blocks[-1] for blocks in self.kinds.values()]
        legal = tf.reduce_all((paths >= first) & (paths <= last))
        with tf.control_dependencies([tf.debugging.Assert(legal, ["not one block of each layer:", paths])]):
            blocks = paths - first
        return self.network.run(self.trunk(inputs, training=False), lambda layer, _: blocks[:, layer])[0]

    def layers(self, features, tasks, uniform):
        """What comes after the trunk.

        Args:
            features: `[B, F]`.
            tasks: int32 `[B]`.
            uniform: float32 `[B, 4]` in [0, 1), chance; None takes the most probable actions.

        Returns:
            logits float32 `[B, C]`, paths int32 `[B, 3]`, and a list of the decisions of the agents and,
            if there is one, of the dispatcher.
        """
        chance = [None] * (LAYERS + 1) if uniform is None else tf.unstack(uniform, axis=1)
        agents = tf.zeros_like(tasks) if self._agents == "single" else tasks
        dispatched = []
        if self._agents == "dispatched":
            row = tasks if self._tabular else tf.zeros_like(tasks)
            dispatched = [decide(self.dispatcher, row, 0, self._sight(features, tasks), chance[LAYERS])]
            agents = dispatched[0].actions
        made = []

        def choose(layer, x):
            made.append(decide(self.policy, agents, layer, self._sight(x, tasks), chance[layer]))
            return made[-1].actions

        logits, paths = self.network.run(features, choose)
        return logits, paths, [joined(agents, made)] + [joined(d.agents, [d]) for d in dispatched]

    def _sight(self, x, tasks):
        """What an agent sees. The network learns nothing from it."""
        one_hot = tf.one_hot(tasks, self._num_tasks, dtype=x.dtype)
        return tf.concat([tf.stop_gradient(x), one_hot], axis=1)

    def _collaboration(self, blocks):
        """What each choice of a block earns at once: rho times the block's share so far. `[B, 3]`."""
        share = self._chosen / tf.reduce_sum(self._chosen, axis=1, keepdims=True)  # (3, M)
        return self._rho * tf.reduce_sum(share * tf.one_hot(blocks, share.shape[1]), axis=2)

    def _returns(self, collaboration, correct):
        """What is earned from each decision on: of the agents `[B, 3]`, of a dispatcher `[B, 1]`."""
        final = 2 * correct - 1  # (B,)
        returns = tf.cumsum(collaboration, axis=1, reverse=True) + final[:, None]
        return [returns] + ([returns[:, :1]] if self._agents == "dispatched" else [])

    def _count(self, blocks):
        """How often each block was chosen: float32 `[3, M]`."""
        return tf.reduce_sum(tf.one_hot(blocks, self._chosen.shape[1]), axis=0)


def decide(policy, agents, state, seen, chance) -> Decisions:
    """One decision, with fields `[B]`."""
    probabilities, expected = policy.decide(agents, state, seen)  # (B, M), (B,)
    action = sample(probabilities, chance)
    taken = tf.gather(probabilities, action, batch_dims=1)
    entropy = -tf.reduce_sum(tf.math.xlogy(probabilities, probabilities), axis=1)
    return Decisions(agents, action, taken, expected, entropy)


def joined(agents, made) -> Decisions:
    """Decisions with fields `[B]`, one after the other, as one with fields `[B, S]`."""
    return Decisions(agents, *(tf.stack(field, axis=1) for field in list(zip(*made, strict=True))[1:]))
