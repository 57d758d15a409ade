"""Modules of a kind that have a core in common, so that each learns from all examples of its kind (ours).

The weights of a module are thought of as those of its kind's core and a part of its own, of which the core
learns from all modules (Evgeniou and Pontil 2004 have the like for tasks). Both live in one variable: a
module follows the gradient of its own examples, and `core` times that of all examples of its kind. It needs
modules that start alike, and a kind whose modules answer the same question: not output modules.
"""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from lrn_tf.modules.dispatch import Modules
from lrn_tf.modules.pool import OUTPUT, Pool
from lrn_tf.modules.weights import is_stack


def with_core(pool: Pool) -> list[bool]:
    """Of each kind, whether its modules may have a core: several, which are no output modules."""
    return [kind.role != OUTPUT and kind.count > 1 for kind in pool.kinds]


def start_alike(modules: Modules) -> None:
    """Gives all modules of a kind with a core the weights of its first one."""
    for has_core, weights in zip(with_core(modules.pool), modules.weights, strict=True):
        for weight in weights if has_core else ():
            if is_stack(weight):
                weight.assign(tf.broadcast_to(weight[:1], weight.shape))
            else:
                for other in weight[1:]:
                    other.assign(weight[0])


def begin_with(modules: Modules, known: Sequence[int]) -> None:
    """Gives modules that are new to a kind with a core the mean weights of those that are known."""
    for k, has_core in enumerate(with_core(modules.pool)):
        of_kind = modules.pool.modules(k)
        there = [modules.weights_of(m) for m in of_kind if m in known]
        if not has_core or not there:
            continue
        mean = [np.mean([np.array(w) for w in same], axis=0) for same in zip(*there, strict=True)]
        for m in of_kind:
            if m not in known:
                modules.give(m, mean)


def share(pool: Pool, gradients: Sequence[Sequence], used, core: float):
    """What modules with a core follow, and which of them move.

    Args:
        pool: the pool.
        gradients: of each kind's weights, as `Modules.weights`.
        used: bool `[N]` in host memory, which modules the batch used.
        core: how many times a module follows the gradient of all of its kind, besides its own.

    Returns:
        the gradients, in the same structure, and bool `[N]`: of a kind with a core all modules move if one
        was used.
    """
    shared = with_core(pool)
    gradients = [
        [_with_sum(g, core) for g in kind] if has_core else kind
        for has_core, kind in zip(shared, gradients, strict=True)
    ]
    of_my_kind = pool.kind[:, None] == pool.kind  # (N, N)
    with_mine = np.eye(len(pool), dtype=bool) | of_my_kind & np.array(shared)[pool.kind]
    with tf.device("CPU:0"):
        return gradients, tf.reduce_any(with_mine & used[None], axis=1)


def _with_sum(gradient, core):
    """The gradient of a stack, or of a list of large weights, and `core` times its sum over modules."""
    if isinstance(gradient, list):
        total = core * tf.add_n(gradient)
        return [g + total for g in gradient]
    return gradient + core * tf.reduce_sum(gradient, axis=0, keepdims=True)
