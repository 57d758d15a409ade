"""The decision process (Sec. 4.1, 4.2): which modules may come next, for any pool.

An episode builds one example's network in T = depth steps. Step numbers t count from 1, as in the
paper; they are Python integers, so every mask has a static shape and the whole episode unrolls.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from lrn_tf.modules import graph
from lrn_tf.modules.pool import INPUT, OUTPUT, Pool


class Construction(NamedTuple):
    """How far the networks of a batch have been built."""

    # (B, N) bool, modules that cannot be added: those in the network, and those of other tasks
    closed: tf.Tensor
    signature: tf.Tensor  # (B,) int32, what the network returns so far; the input's at the start
    finished: tf.Tensor  # (B,) bool, it ends in an output module


class DecisionProcess:
    """Valid actions and transitions of a pool's construction in at most `depth` modules.

    Attributes:
        pool: the pool.
        depth: T, the number of steps of every episode.
        max_candidates: `T` integers, the most actions that can be valid at a step. The router pads
            its candidates to these numbers.
        reachable: bool `[K, N]`, which modules are in some network of a task. Both go by distances between
            kinds, so they are too large where a kind with too few modules had to be passed twice.

    Raises:
        ValueError: for some task no network of at most `depth` modules exists in this pool.
    """

    def __init__(self, pool: Pool, depth: int):
        self.pool = pool
        self.depth = depth
        number = {signature: s for s, signature in enumerate(pool.signatures)}
        kinds = pool.kinds
        self._input = np.array([kind.role == INPUT for kind in kinds])
        self._output = np.array([kind.role == OUTPUT for kind in kinds])
        self._takes = np.array([number[kind.input] for kind in kinds])
        # What no module takes leads nowhere; signature -1 stands for it and for an answer.
        self._gives = np.array(
            [-1 if out else number.get(k.output, -1) for k, out in zip(kinds, self._output, strict=True)]
        )
        shapes = {given.name: given.shape for given in pool.inputs}
        self._starts = np.array([number[shapes[demand.input]] for demand in pool.demands], np.int32)
        counts, reachable = zip(*(self._look_ahead(k) for k in range(len(pool.demands))), strict=True)
        self.max_candidates = [max(at_step) for at_step in zip(*counts, strict=True)]
        self.reachable = np.array(reachable)

    def start(self, tasks: tf.Tensor) -> Construction:
        """Empty networks for examples of tasks, int32 `[B]`."""
        return Construction(
            closed=tf.gather(~self.pool.may, tasks),
            signature=tf.gather(self._starts, tasks),
            finished=tf.zeros_like(tasks, tf.bool),
        )

    def valid(self, networks: Construction, t: int) -> tf.Tensor:
        """The valid actions of step t.

        Args:
            networks: the networks before the step.
            t: the step, 1..depth.

        Returns:
            bool `[B, N + 1]`: the modules, and PASS last. At least one is valid in every row.
        """
        completable = self._completable(networks.closed, self.depth - t)  # (B, S)
        if t == 1:
            follows = self._input & self._leads_on(completable)  # (B, K)
        else:
            follows = ~self._input & (self._output | self._leads_on(completable))  # (B, K)
        takes = networks.signature[:, None] == self._takes  # (B, K)
        kinds = takes & follows & ~networks.finished[:, None]
        modules = tf.gather(kinds, self.pool.kind, axis=1) & ~networks.closed  # (B, N)
        skip = networks.finished
        if t > 1:
            skip |= tf.gather(completable, networks.signature, batch_dims=1)
        return tf.concat([modules, skip[:, None]], axis=1)  # (B, N + 1)

    def advance(self, networks: Construction, action: tf.Tensor) -> Construction:
        """The networks after an action each, int32 `[B]`; PASS leaves a network as it is."""
        added = action < self.pool.pass_id
        kind = tf.gather(self.pool.kind.astype(np.int32), tf.minimum(action, self.pool.pass_id - 1))
        gives = tf.gather(self._gives.astype(np.int32), kind)
        output = tf.gather(self._output, kind)
        return Construction(
            closed=networks.closed | tf.one_hot(action, len(self.pool), True, False, dtype=tf.bool),
            # A finished network keeps its last signature, which nothing reads any more.
            signature=tf.where(added & ~output, gives, networks.signature),
            finished=networks.finished | (added & output),
        )

    def _completable(self, closed, steps):
        """From which signatures a chain of modules that can be added ends in an answer: (B, S) bool.

        A shortest chain meets no signature twice, so it needs at most one module of each kind and it
        is enough to know which kinds have a module that can be added.
        """
        left = tf.stack(
            [
                ~tf.reduce_all(tf.gather(closed, self.pool.modules(k), axis=1), axis=1)
                for k in range(len(self.pool.kinds))
            ],
            axis=1,
        )  # (B, K)
        completable = tf.zeros((tf.shape(closed)[0], len(self.pool.signatures)), tf.bool)
        for _ in range(min(steps, len(self.pool.signatures))):
            through = left & ~self._input & (self._output | self._leads_on(completable))  # (B, K)
            completable = tf.stack(
                [
                    tf.reduce_any(through & (self._takes == s), axis=1)
                    for s in range(len(self.pool.signatures))
                ],
                axis=1,
            )
        return completable

    def _leads_on(self, completable):
        """Which kinds return a completable signature: (B, S) -> (B, K)."""
        reaches = tf.gather(completable, np.maximum(self._gives, 0), axis=1)
        return reaches & (self._gives >= 0)

    # The rest is plain arithmetic over kinds, done once when the process is made.

    def _look_ahead(self, task):
        """The most candidates of each step, and which modules are in some network, for one task."""
        pool, demand = self.pool, self.pool.demands[task]
        open_ones = np.bincount(pool.kind, pool.may[task], len(pool.kinds))
        before = graph.before(pool, demand.input)
        after = graph.after(pool, self._output & (open_ones > 0))
        # The fewest modules that bring an example from each signature to its answer.
        distance = np.full(len(pool.signatures), np.inf)
        for k in np.flatnonzero(~self._input & np.isfinite(after)):
            distance[self._takes[k]] = min(distance[self._takes[k]], 1 + after[k])
        first = self._input & (before == 0) & (after <= self.depth - 1)
        if not first.any():
            smallest = 1 + after[self._input & (before == 0)].min(initial=np.inf)
            fits = int(smallest) if np.isfinite(smallest) else "none: no depth fits"
            raise ValueError(
                f"no network of at most {self.depth} modules leads from {demand.input} to an output module"
                f" for {demand.space or 'it'} in this pool; the smallest depth that fits is {fits}"
            )
        reachable = pool.may[task] & (before + 1 + after <= self.depth)[pool.kind]
        return self._count_candidates(first, open_ones, after, distance), reachable

    def _count_candidates(self, first, open_ones, after, distance):
        counts = [int(open_ones[first].sum())]
        current = {int(s) for s in self._gives[first]}  # the signatures that a network may have now
        for t in range(2, self.depth + 1):
            fits = ~self._input & (open_ones > 0) & (after <= self.depth - t)
            most = 1
            for s in current:
                modules = int(open_ones[fits & (self._takes == s)].sum())
                most = max(most, modules + int(distance[s] <= self.depth - t))
            counts.append(most)
            # PASS keeps the old signatures possible.
            current |= {
                int(self._gives[k])
                for s in list(current)
                for k in np.flatnonzero(fits & (self._takes == s))
                if self._gives[k] >= 0
            }
        return counts
