"""In which order the modules of a batch of networks run.

The router sees no module output, so whole paths are known before any module runs. That allows a
better order than the steps of the decision process: modules that cannot follow one another in any
network share a *wave*, whatever step they were chosen at. In the paper's pool at depth 4 the waves are
conv_in, conv, conv, flat_fc, fc, flat_out, fc_out. So a flat_fc module runs once for all its examples,
not once in step 2 and once more in step 3, and its large gradient is made once.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from lrn_tf.modules import graph
from lrn_tf.modules.pool import Pool


class Schedule(NamedTuple):
    """Who runs where, for one batch of paths."""

    order: tf.Tensor  # (W, B) int32, in each wave the examples sorted by module; idle ones last
    counts: tf.Tensor  # (W, M) int32, how many examples each of the wave's modules has


class Waves:
    """The waves that any network of at most `depth` modules of a pool fits in.

    Kinds that can lead back to themselves form a group with as many waves as a network can have
    modules of the group; every other kind is a group of one wave. Groups are in an order in which
    data only flows forward.

    Attributes:
        pool: the pool.
        kinds: for each of the `W` waves, the kinds that run in it.
        modules: for each wave, the modules that may run in it.
    """

    def __init__(self, pool: Pool, depth: int):
        self.pool = pool
        self.kinds: list[list[int]] = []
        self._first = np.zeros(len(pool.kinds), np.int32)  # the first wave of each kind's group
        before, after = graph.before(pool), graph.after(pool, graph.outputs(pool))
        for group in graph.groups(pool):
            self._first[group] = len(self.kinds)
            longest = depth - min(before[group]) - min(after[group])
            if not any(k in pool.followers(j) for j in group for k in group):
                longest = min(longest, 1)
            # A kind that is on no network at all has an infinite distance and gets no wave.
            repeats = max(min(longest, sum(pool.kinds[k].count for k in group)), 0)
            self.kinds += [group] * int(repeats)
        self.modules = [[m for k in group for m in pool.modules(k)] for group in self.kinds]

    def schedule(self, paths: tf.Tensor) -> Schedule:
        """Places the modules of paths in waves.

        Args:
            paths: int32 `[B, T]`, the modules of each example in order; PASS anywhere adds none.
        """
        depth, batch = paths.shape[1], tf.shape(paths)[0]
        first = np.append(self._first[self.pool.kind], -1).astype(np.int32)
        group = tf.gather(first, paths)  # (B, T)
        earlier = np.tril(np.ones((depth, depth), bool), -1)  # (T, T), [t, s]: s is before t
        same = (group[:, :, None] == group[:, None, :]) & earlier
        wave = group + tf.reduce_sum(tf.cast(same, tf.int32), axis=2)
        wave = tf.where(group < 0, -1, wave)  # (B, T)

        here = wave[None] == tf.range(len(self.kinds))[:, None, None]  # (W, B, T)
        module = tf.reduce_min(tf.where(here, paths[None], self.pool.pass_id), axis=2)  # (W, B)
        place = tf.gather(self._places(), module, axis=1, batch_dims=1)  # (W, B)
        # Sorting place and row as one number keeps rows of a module in their order.
        order = tf.sort(place * batch + tf.range(batch), axis=1) % batch
        most = max(len(modules) for modules in self.modules)
        counts = tf.reduce_sum(tf.one_hot(place, most, dtype=tf.int32), axis=1)
        return Schedule(order, counts)

    def _places(self):
        """The place of each module among its wave's, (W, N + 1); past the last for all others."""
        places = np.full((len(self.kinds), len(self.pool) + 1), len(self.pool), np.int32)
        for wave, modules in enumerate(self.modules):
            places[wave, modules] = np.arange(len(modules))
        return places
