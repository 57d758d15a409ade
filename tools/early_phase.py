"""What there is to learn from while the knot of routing is still tied: measurements along a run.

    python tools/early_phase.py --flagfile=flags/knot.cfg --every=65

Takes the flags of `lrn_tf.main`, trains, and stops every --every steps to route --batches batches that
are not learned from. Prints a row each time:

    loss, accuracy   of these batches, whose actions are sampled
    entropy          of the policy at each step, in nats
    information      mutual information between task and chosen module of each kind, in bits; with few
                     examples per task and module it is not 0 even for a router that ignores the task
    share of bonus   how much of what tells rewards of episodes apart is the bonus
    signal, all      variance of the advantage between actions of a step, over that within them
    signal, task     the same between the actions of each task, beyond what holds for all tasks
    agreement        mean cosine between the gradients that two tasks have for a module, for each kind
"""

# ruff: noqa: E402 - TensorFlow is to be started before anything else imports it with all its messages.
import sys

from lrn_tf.devices.start import start_tensorflow

start_tensorflow(cache="--nocache" not in sys.argv)

import functools

import grid
import numpy as np
import tensorflow as tf
from absl import flags

from lrn_tf import main as lrn_main
from lrn_tf.data.benchmarks import benchmark_of
from lrn_tf.data.examples import DeviceExamples
from lrn_tf.errors import UserError
from lrn_tf.learning import reward
from lrn_tf.learning.schedule import learning_rate
from lrn_tf.methods.build import build
from lrn_tf.modules.weights import split
from lrn_tf.results.evaluation import task_information
from lrn_tf.settings.table import LRNS
from lrn_tf.training.train import start

EVERY = flags.DEFINE_integer("every", 130, "Steps between measurements", lower_bound=1)
BATCHES = flags.DEFINE_integer("batches", 8, "Batches of a measurement", lower_bound=2)
AGREEMENT = flags.DEFINE_bool("agreement", True, "Measure the agreement of gradients too; it is slow")

NO_EPOCH = 1_000_000


def signal(values: np.ndarray, groups: np.ndarray, known: np.ndarray) -> float:
    """Variance of the groups' means over the variance within groups, by nested analysis of variance.

    Without bias: 0 on average where groups do not differ, however few members they have.

    Args:
        values: `[n]`.
        groups: whole numbers `[n]`.
        known: whole numbers `[n]`, larger groups of which each holds whole groups; how these differ does
            not count.
    """
    _, first, group, sizes = np.unique(groups, return_index=True, return_inverse=True, return_counts=True)
    _, of_known, known_sizes = np.unique(known, return_inverse=True, return_counts=True)
    count, more, total = len(sizes), len(sizes) - len(known_sizes), len(values)
    if not more or total <= count:
        return 0.0
    means = np.bincount(group, values) / sizes
    expected = (np.bincount(of_known, values) / known_sizes)[of_known[first]]
    within = ((values - means[group]) ** 2).sum() / (total - count)
    between = (sizes * (means - expected) ** 2).sum() / more
    typical = (total - (sizes**2 / known_sizes[of_known[first]]).sum()) / more
    return float((between - within) / typical / max(within, 1e-12))


class EarlyPhase:
    """Measurements of an LRN on batches that it does not learn from."""

    def __init__(self, lrn):
        self.lrn = lrn
        self.num_tasks = lrn.problem.num_tasks
        self._observe = tf.function(self._observe, autograph=False)
        self._gradients = tf.function(self._gradients, autograph=False)

    def __call__(self, batches) -> dict[str, object]:
        """Args: batches: a list of (images, tasks, labels, seed)."""
        seen = [self._observe(*batch) for batch in batches]
        seen = {name: np.concatenate([np.atleast_1d(s[name]) for s in seen]) for name in seen[0]}
        pool, free = self.lrn.pool, seen["free"]
        steps = np.broadcast_to(np.arange(free.shape[1]), free.shape)[free]
        action, advantage = seen["actions"][free], seen["advantage"][free]
        task = np.broadcast_to(seen["task"][:, None], free.shape)[free]
        of_all = steps * (len(pool) + 1) + action
        chosen = np.zeros((self.num_tasks, len(pool) + 1), int)
        np.add.at(chosen, (np.broadcast_to(seen["task"][:, None], free.shape), seen["actions"]), 1)
        return {
            "loss": seen["loss"].mean(),
            "accuracy": seen["right"].mean(),
            "entropy": [seen["entropy"][free[:, t], t].mean() for t in range(free.shape[1])],
            "information": [task_information(chosen[:, list(pool.modules(k))]) for k in self._kinds],
            "share of bonus": seen["share"].mean(),
            "signal, all": signal(advantage, of_all, np.zeros_like(of_all)),
            # What is left to each task beside what all have in common.
            "signal, task": signal(advantage, of_all * self.num_tasks + task, of_all),
            **({"agreement": self.agreement(*batches[0])} if AGREEMENT.value else {}),
        }

    @property
    def _kinds(self):
        return range(len(self.lrn.pool.kinds))

    def _observe(self, images, tasks, labels, seed):
        episodes = self.lrn.route(images, tasks, seed)
        logits, chosen = self.lrn.modules(images, episodes.actions)
        loss = self.lrn.objectives.loss(logits, tasks, labels)
        weighted = loss * self.lrn.objectives.weights(tasks)
        rewards, bonus, advantage, _ = self.lrn.judge(episodes, tasks, weighted, chosen)
        return {
            "task": tasks,
            "actions": episodes.actions,
            "free": episodes.free,
            "entropy": episodes.entropy,
            "advantage": advantage,
            "loss": loss,
            "right": self.lrn.objectives.right(logits, tasks, labels),
            "share": reward.share_of_bonus(rewards, bonus),
        }

    def agreement(self, images, tasks, labels, seed) -> list[float]:
        """Mean cosine of two tasks' gradients for a module that both use, for each kind."""
        paths = self.lrn.route(images, tasks, seed).actions
        total, count = [0.0] * len(self.lrn.pool), np.zeros(len(self.lrn.pool))
        for task in range(self.num_tasks):
            mine = tf.cast(tasks == task, tf.float32)
            for m, gradient in enumerate(self._gradients(images, tasks, labels, paths, mine)):
                length = float(tf.norm(gradient))
                if length > 0:
                    total[m] = total[m] + gradient.numpy() / length
                    count[m] += 1
        pairs = count * (count - 1)
        cosines = np.array([(np.square(t).sum() - n) for t, n in zip(total, count, strict=True)])
        return [
            float(cosines[list(of)].sum() / max(pairs[list(of)].sum(), 1))
            for of in (self.lrn.pool.modules(k) for k in self._kinds)
        ]

    def _gradients(self, images, tasks, labels, paths, weight):
        """The gradient of the weighted sum of losses for each module, as one vector."""
        weights = self.lrn.modules.weights
        with tf.GradientTape() as tape:
            logits, _ = self.lrn.modules(images, paths)
            loss = tf.reduce_sum(weight * self.lrn.objectives.loss(logits, tasks, labels))
        gradients = tape.gradient(loss, weights, unconnected_gradients="zero")
        kinds = zip(self.lrn.pool.kinds, gradients, strict=True)
        modules = [module for kind, of in kinds for module in split(of, kind.count)]
        return [tf.concat([[0.0], *(tf.reshape(g, [-1]) for g in module)], axis=0) for module in modules]


def text(value) -> str:
    return " ".join(f"{x:.3f}" for x in np.atleast_1d(value))


def main(_):
    grid.refuse(lrn_main.given(), ("augment", "mixup", "init_from", "distribute"))
    settings = lrn_main.settings_from_flags()
    if settings.method not in LRNS:
        raise UserError(f"--method={settings.method} has no router; choose one of: {', '.join(LRNS)}")
    start(settings)
    benchmark = benchmark_of(settings)
    lrn = build(benchmark.problem, settings, settings.own("pool"))
    examples = DeviceExamples(benchmark.train, benchmark.problem)
    measure = EarlyPhase(lrn)
    per_epoch = benchmark.steps_per_epoch(settings.batch_size)

    # The epoch's and that of the measurements.
    order = functools.lru_cache(maxsize=2)(functools.partial(benchmark.batches, settings))

    def batch(epoch, i, number):
        return *examples.batch(tf.constant(order(epoch)[i])), tf.constant([settings.seed, number])

    train_step = tf.function(lrn.train_step, autograph=False)
    last = settings.last_step(per_epoch)
    print("kinds:", ", ".join(kind.name for kind in lrn.pool.kinds))
    for step in range(last + 1):
        epoch, i = divmod(step, per_epoch)
        if step % EVERY.value == 0:
            # An epoch that no run comes to and seeds below 0: batches and noise of their own.
            found = measure([batch(NO_EPOCH, j, -1 - j) for j in range(BATCHES.value)])
            print(
                f"step {step}: " + "; ".join(f"{name} {text(v)}" for name, v in found.items()), flush=True
            )
        if step < last:
            rate = learning_rate(settings, step, per_epoch, last)
            train_step(*batch(epoch, i, step), tf.constant(rate, tf.float32))


if __name__ == "__main__":
    lrn_main.run(main, stopped="stopped")
