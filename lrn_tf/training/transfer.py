"""Starting from a trained network: what is known by name keeps its weights, what is new gets new ones."""

import collections
import dataclasses

import numpy as np

from lrn_tf.data.problem import Problem
from lrn_tf.errors import UserError
from lrn_tf.learning import core
from lrn_tf.methods.lrn import LRNMethod
from lrn_tf.modules.pool import Pool
from lrn_tf.settings.table import Settings


def as_seen_by(old: Problem, problem: Problem) -> Problem:
    """A problem of which a network that has learned an old one sees what it knows as it did there.

    Inputs of the same name, shape and type, and numbers that are asked for by a task of the same name, are
    standardised as they were; tokens have room for as many as there were.
    """
    known = {(given.name, given.shape, given.dtype): given for given in old.inputs}
    answered = {(task.name, task.form, task.width): task for task in old.tasks}

    def seen(given):
        same = known.get((given.name, given.shape, given.dtype), given)
        vocabulary = max(given.vocabulary, same.vocabulary)
        return dataclasses.replace(given, mean=same.mean, std=same.std, vocabulary=vocabulary)

    def told(task):
        same = answered.get((task.name, task.form, task.width), task)
        return dataclasses.replace(task, mean=same.mean or task.mean, std=same.std or task.std)

    return dataclasses.replace(
        problem, inputs=tuple(map(seen, problem.inputs)), tasks=tuple(map(told, problem.tasks))
    )


def start_from(old: LRNMethod, method: LRNMethod, freeze: bool) -> str:
    """Gives a new method what another one has learned; says what that is.

    Modules are known by the name of their kind and their place in it, output modules by the label space
    that they answer instead of the name; tasks and inputs by their names; the rest of the router if its
    parts have the same shapes.

    Args:
        old: has learned.
        method: has just been made.
        freeze: modules that are known shall learn no more.

    Raises:
        UserError: none of the modules is known.
    """
    there = _places(old.pool)
    modules = [(m, there[place]) for place, m in _places(method.pool).items() if place in there]
    modules = [(m, was) for m, was in modules if _alike(old.modules, was, method.modules, m)]
    if not modules:
        raise UserError("--init_from has no module of a kind that this pool has; give another run, or none")
    for m, was in modules:
        method.modules.give(m, old.modules.weights_of(was))
    if method.settings.core:
        core.begin_with(method.modules, [m for m, _ in modules])
    if freeze:
        method.frozen.assign(np.isin(np.arange(len(method.pool)), [m for m, _ in modules]))
    tasks = _same_names(old.problem.task_names, method.problem.task_names)
    router = _router(old, method, modules, tasks)
    return (
        f"known before: {len(modules)} of {len(method.pool)} modules, {len(tasks)} of"
        f" {method.problem.num_tasks} tasks, {router}{_other_draw(old.settings, method.settings)}"
    )


def _other_draw(before: Settings, now: Settings) -> str:
    """What is to say where a run may hold out other examples than the one that it starts from."""
    # Pictures of a folder are resized before some of them are held out.
    for name in ("seed", "validation", "image_size"):
        was, is_now = getattr(before, name), getattr(now, name)
        if was != is_now and (name != "validation" or is_now):
            return (
                f"; --{name}={is_now} may hold out other examples than its --{name}={was}: where both have"
                " some, it is evaluated on what was learned"
            )
    return ""


def _places(pool: Pool) -> dict[tuple, int]:
    """The modules by what tells that they are the same in another pool."""
    found: dict[tuple, int] = {}
    counts: collections.Counter = collections.Counter()
    for k, kind in enumerate(pool.kinds):
        for i, m in enumerate(pool.modules(k)):
            # What output kinds are called may depend on what other tasks there are.
            called = ("serves", kind.serves[i // kind.dup]) if kind.serves else ("called", kind.name)
            place = (*called, kind.input, kind.output)
            found[*place, counts[place]] = m
            counts[place] += 1
    return found


def _alike(old, was, new, m):
    """Whether two modules have weights of the same shapes."""
    shapes = [[w.shape for w in of.weights_of(i)] for of, i in ((old, was), (new, m))]
    return shapes[0] == shapes[1]


def _same_names(old, new):
    """Pairs of numbers: in the new list, in the old one."""
    return [(i, old.index(name)) for i, name in enumerate(new) if name in old]


def _router(old, method, modules, tasks):
    """Gives the router what the old one knew; says how much that is."""
    was, now = old.router, method.router
    if was.task_embedding.output_dim != now.task_embedding.output_dim:
        return "and nothing of the router, whose --d_model is another"
    modules = [*modules, (method.pool.pass_id, old.pool.pass_id)]
    for name, rows in (("task_embedding", tasks), ("action_embedding", modules)):
        table = getattr(now, name).embeddings
        values, known = table.numpy(), getattr(was, name).embeddings.numpy()
        for i, j in rows:
            values[i] = known[j]
        table.assign(values)
    names = ("position_embedding", "encoder", "actor", "critic")
    parts = [(name, getattr(was, name), getattr(now, name)) for name in names]
    inputs = _same_names(*([given.name for given in p.inputs] for p in (old.problem, method.problem)))
    parts += [(method.problem.inputs[i].name, was.encoders[j], now.encoders[i]) for i, j in inputs]
    left = [name for name, known, new in parts if not _copy(known, new)]
    return "the router" + (f" but not its {', '.join(left)}" if left else "")


def _copy(known, new):
    """Copies all weights of a layer, if they have the same shapes; whether they have."""
    if [w.shape for w in known.weights] != [w.shape for w in new.weights]:
        return False
    new.set_weights(known.get_weights())
    return True
