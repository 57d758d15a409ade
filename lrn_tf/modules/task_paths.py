"""Paths that nobody learned: through kinds as one would have built each task's network by hand (ours)."""

import numpy as np

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


def paths_of_tasks(pool: Pool, depth: int, which: str, seed: int) -> np.ndarray:
    """A path of such kinds for each task.

    Args:
        pool: the pool.
        depth: T.
        which: modules: the first ones, for all tasks (`shared`), others for each task (`own`), or any
            (`drawn`).
        seed: of what is drawn.

    Returns:
        int32 `[K, T]`, PASS after a network's last module.

    Raises:
        UserError: there are too few modules for `own`.
    """
    rng = np.random.default_rng((seed, 2))
    paths = np.full((len(pool.demands), depth), pool.pass_id, np.int32)
    for task, plan in enumerate(kinds_of_tasks(pool, depth)):
        kinds = plan[plan >= 0]
        for t, kind in enumerate(kinds):
            may = pool.may[:, pool.modules(kind)]  # (K, dup)
            mine = pool.modules(kind)[0] + np.flatnonzero(may[task])
            place = np.count_nonzero(kinds[:t] == kind)
            if which == "drawn":
                place = rng.choice([i for i, m in enumerate(mine) if m not in paths[task, :t]])
            if which == "own":
                repeats = np.count_nonzero(kinds == kind)
                # Of those who may have the same modules, this is not the first.
                rivals = np.flatnonzero((may & may[task]).any(axis=1))
                place += repeats * int(np.searchsorted(rivals, task))
                if len(mine) < (wanted := repeats * len(rivals)):
                    raise UserError(
                        f"--paths=own wants {wanted} {pool.kinds[kind].name} modules for {len(rivals)}"
                        f" tasks, and there are {len(mine)}; choose --dup={wanted}, or a pool that has as"
                        f" many"
                    )
            paths[task, t] = mine[place]
    return paths
