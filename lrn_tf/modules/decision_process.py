"""The decision process (Sec. 4.1, 4.2): which modules may come next, for any pool.

An episode builds one example's network in T = depth steps. Step numbers t count from 1, as in the
paper; they are Python integers, so every mask has a static shape and the whole episode unrolls.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from lrn_tf.modules.pool import INPUT, OUTPUT, Pool


class Construction(NamedTuple):
    """How far the networks of a batch have been built."""

    used: tf.Tensor  # (B, N) bool, the modules in the network
    signature: tf.Tensor  # (B,) int32, what the network returns so far; the image's at the start
    finished: tf.Tensor  # (B,) bool, it ends in an output module


class DecisionProcess:
    """Valid actions and transitions of a pool's construction in at most `depth` modules.

    Attributes:
        pool: the pool.
        depth: T, the number of steps of every episode.
        max_candidates: `T` integers, the most actions that can be valid at a step. The router pads
            its candidates to these numbers.

    Raises:
        ValueError: no network of at most `depth` modules exists in this pool.
    """

    def __init__(self, pool: Pool, depth: int):
        self.pool = pool
        self.depth = depth
        number = {signature: s for s, signature in enumerate(pool.signatures)}
        kinds = pool.kinds
        self._input = np.array([kind.role == INPUT for kind in kinds])
        self._output = np.array([kind.role == OUTPUT for kind in kinds])
        self._takes = np.array([number[kind.input] for kind in kinds])
        # What no module takes leads nowhere; signature -1 stands for it and for a class prediction.
        self._gives = np.array(
            [-1 if out else number.get(k.output, -1) for k, out in zip(kinds, self._output, strict=True)]
        )
        if not self._first_kinds().any():
            raise ValueError(
                f"no network of at most {depth} modules leads from an image {pool.image} to an output"
                f" module in this pool; the smallest depth that fits is {self._smallest_depth()}"
            )
        self.max_candidates = self._count_candidates()

    def start(self, batch: int) -> Construction:
        """Empty networks for `batch` examples."""
        return Construction(
            used=tf.zeros((batch, len(self.pool)), tf.bool),
            signature=tf.zeros((batch,), tf.int32),
            finished=tf.zeros((batch,), tf.bool),
        )

    def valid(self, networks: Construction, t: int) -> tf.Tensor:
        """The valid actions of step t.

        Args:
            networks: the networks before the step.
            t: the step, 1..depth.

        Returns:
            bool `[B, N + 1]`: the modules, and PASS last. At least one is valid in every row.
        """
        completable = self._completable(networks.used, self.depth - t)  # (B, S)
        if t == 1:
            follows = self._input & self._leads_on(completable)  # (B, K)
        else:
            follows = ~self._input & (self._output | self._leads_on(completable))  # (B, K)
        takes = networks.signature[:, None] == self._takes  # (B, K)
        kinds = takes & follows & ~networks.finished[:, None]
        modules = tf.gather(kinds, self.pool.kind, axis=1) & ~networks.used  # (B, N)
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
            used=networks.used | tf.one_hot(action, len(self.pool), True, False, dtype=tf.bool),
            # A finished network keeps its last signature, which nothing reads any more.
            signature=tf.where(added & ~output, gives, networks.signature),
            finished=networks.finished | (added & output),
        )

    def _completable(self, used, steps):
        """From which signatures a chain of unused modules ends in an output module: (B, S) bool.

        A shortest chain meets no signature twice, so it needs at most one module of each kind and it
        is enough to know which kinds have an unused module.
        """
        unused = tf.stack(
            [
                ~tf.reduce_all(tf.gather(used, self.pool.modules(k), axis=1), axis=1)
                for k in range(len(self.pool.kinds))
            ],
            axis=1,
        )  # (B, K)
        completable = tf.zeros((tf.shape(used)[0], len(self.pool.signatures)), tf.bool)
        for _ in range(min(steps, len(self.pool.signatures))):
            through = unused & ~self._input & (self._output | self._leads_on(completable))  # (B, K)
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

    def _distances(self):
        """The least number of modules from each signature to a prediction."""
        distance = np.full(len(self.pool.signatures), np.inf)
        for _ in range(len(distance)):
            for k in np.flatnonzero(~self._input):
                after = 0 if self._output[k] else self._distance(distance, k)
                distance[self._takes[k]] = min(distance[self._takes[k]], 1 + after)
        return distance

    def _distance(self, distance, kind):
        return distance[self._gives[kind]] if self._gives[kind] >= 0 else np.inf

    def _first_kinds(self):
        """Which kinds may come first: input kinds that leave an output reachable."""
        distance = self._distances()
        return np.array(
            [
                self._input[k] and self._takes[k] == 0 and self._distance(distance, k) <= self.depth - 1
                for k in range(len(self.pool.kinds))
            ]
        )

    def _smallest_depth(self):
        distance = self._distances()
        lengths = [
            1 + self._distance(distance, k) for k in np.flatnonzero(self._input) if self._takes[k] == 0
        ]
        smallest = min(lengths, default=np.inf)
        return int(smallest) if np.isfinite(smallest) else "none: no depth fits"

    def _count_candidates(self):
        distance = self._distances()
        dup = np.array([kind.dup for kind in self.pool.kinds])
        first = self._first_kinds()
        counts = [int(dup[first].sum())]
        current = {int(s) for s in self._gives[first]}  # the signatures that a network may have now
        for t in range(2, self.depth + 1):
            fits = ~self._input & np.array(
                [
                    self._output[k] or self._distance(distance, k) <= self.depth - t
                    for k in range(len(self.pool.kinds))
                ]
            )
            most = 1
            for s in current:
                modules = int(dup[fits & (self._takes == s)].sum())
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
