"""Distances on the graph of a pool's kinds: how few modules lead from here to there."""

from collections.abc import Sequence

import numpy as np

from lrn_tf.modules.pool import OUTPUT, Pool


def after(pool: Pool, ends: Sequence[bool]) -> np.ndarray:
    """The fewest modules that follow each kind up to an answer; infinite where none can.

    Args:
        pool: the pool.
        ends: for each kind, whether its modules may answer.
    """
    return _fewest(ends, [(k, j) for j, k in _steps(pool)])


def before(pool: Pool, given: str = "") -> np.ndarray:
    """The fewest modules that lead up to each kind from an input, or from any; infinite where none do."""
    starts = [i is not None and given in ("", pool.inputs[i].name) for i in pool.input_of]
    return _fewest(starts, _steps(pool))


def _steps(pool):
    """Pairs of kinds, of which the second may come right after the first."""
    return [(j, k) for j in range(len(pool.kinds)) for k in pool.followers(j)]


def _fewest(starts, steps):
    """The fewest steps to each kind from those where it starts."""
    near, far = np.array(steps, int).reshape(-1, 2).T
    fewest, known = np.where(starts, 0.0, np.inf), None
    while not np.array_equal(fewest, known):
        known = fewest.copy()
        np.minimum.at(fewest, far, known[near] + 1)
    return fewest


def outputs(pool: Pool) -> list[bool]:
    """Of each kind, whether it is an output kind."""
    return [kind.role == OUTPUT for kind in pool.kinds]


def groups(pool: Pool) -> list[list[int]]:
    """Kinds that can lead to each other put together, ordered so that groups only lead onward."""
    count = len(pool.kinds)
    leads = np.eye(count, dtype=bool)
    for k in range(count):
        leads[k, pool.followers(k)] = True
    for middle in range(count):
        leads |= leads[:, [middle]] & leads[[middle], :]
    found = {tuple(np.flatnonzero(leads[k] & leads[:, k]).tolist()) for k in range(count)}
    # Whoever leads to another group leads to all that the other leads to, and to itself besides.
    return [list(group) for group in sorted(found, key=lambda g: (-leads[g[0]].sum(), g))]
