"""Paths that nobody learned: through kinds as one would have built each task's network by hand (ours)."""

import numpy as np
import tensorflow as tf

from lrn_tf.errors import UserError
from lrn_tf.modules.pool import Pool


def kinds_of_tasks(pool: Pool, depth: int) -> np.ndarray:
    """The kinds of each task's network: as many different ones as `depth` allows.

    Returns:
        int32 `[K, T]`, and -1 after a network's last one.
    """
    plan = np.full((len(pool.demands), depth), -1, np.int32)
    for task in range(len(plan)):
        network = pool.varied_network(depth, task)
        plan[task, : len(network)] = network
    return plan


def paths_of_tasks(pool: Pool, plan: np.ndarray, which: str, seed: int) -> np.ndarray:
    """A path for each task.

    Args:
        pool: the pool.
        plan: the kinds of each task's network, as of `kinds_of_tasks`.
        which: modules: the first ones, for all tasks (`shared`), others for each task (`own`), or any
            (`drawn`).
        seed: of what is drawn.

    Returns:
        int32 `[K, T]`, PASS after a network's last module.

    Raises:
        UserError: there are too few modules for `own`.
    """
    rng = np.random.default_rng((seed, 2))
    paths = np.full(plan.shape, pool.pass_id, np.int32)
    for task, kinds in enumerate(plan):
        kinds = kinds[kinds >= 0]
        for t, kind in enumerate(kinds):
            may = pool.may[:, pool.modules(kind)]  # (K, dup)
            mine = pool.modules(kind)[0] + np.flatnonzero(may[task])
            place = np.count_nonzero(kinds[:t] == kind)
            if which == "drawn":
                place = rng.choice([i for i, m in enumerate(mine) if m not in paths[task, :t]])
            if which == "own":
                # After those of the tasks before this one who may have the same modules.
                rivals = np.flatnonzero((may & may[task]).any(axis=1))
                needed = np.count_nonzero(plan[rivals] == kind, axis=1)
                place += int(needed[rivals < task].sum())
                if len(mine) < (wanted := int(needed.sum())):
                    raise UserError(
                        f"--paths=own wants {wanted} {pool.kinds[kind].name} modules for {len(rivals)}"
                        f" tasks, and there are {len(mine)}; choose --dup={wanted}, or a pool that has as"
                        f" many"
                    )
            paths[task, t] = mine[place]
    return paths


def draw_paths(pool: Pool, plan: np.ndarray, tasks, seed):
    """A path of its own for each example.

    Args:
        pool: the pool.
        plan: as in `paths_of_tasks`.
        tasks: int32 `[B]`.
        seed: int32 `[2]`.

    Returns:
        int32 `[B, T]`, any modules of those kinds that the task may have; PASS after the last.
    """
    open_ones = tf.gather(pool.may, tasks)  # (B, N)
    chance = tf.random.stateless_uniform(open_ones.shape, seed, alg="philox")
    kinds, path = tf.gather(plan, tasks), []
    for t in range(plan.shape[1]):
        of_kind = kinds[:, t, None] == pool.kind.astype(np.int32)
        score = tf.where(open_ones & of_kind, chance, -1.0)
        best = tf.argmax(score, axis=1, output_type=tf.int32)
        path.append(tf.where(kinds[:, t] < 0, pool.pass_id, best))
        open_ones &= ~tf.one_hot(path[-1], len(pool), True, False, dtype=tf.bool)
    return tf.stack(path, axis=1)
