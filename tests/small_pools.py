"""Small pools of many shapes, and the rules of construction in plain Python."""

import itertools

import keras
import numpy as np

from lrn_tf.modules import pools
from lrn_tf.modules.pool import HIDDEN, INPUT, OUTPUT, Kind, Pool

IMAGE = (2, 2, 1)


def dense(units):
    """Flattens whatever comes; tanh, so that the order of modules matters."""
    return lambda: keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(units, activation="tanh")])


def vector_pool(*rows):
    """A pool of dense kinds: rows of name, role, units taken (None is the image), units given, dup."""
    return Pool(
        [
            Kind(name, role, (taken,) if taken else IMAGE, (given,), dense(given), dup)
            for name, role, taken, given, dup in rows
        ],
        IMAGE,
    )


def dead_end():
    """Kinds on no network: one whose output nobody takes, one whose input nobody gives."""
    return vector_pool(
        ("in", INPUT, None, 3, 2),
        ("dead", HIDDEN, 3, 7, 2),
        ("orphan", HIDDEN, 9, 3, 1),
        ("out", OUTPUT, 3, 2, 1),
    )


def lost_input():
    """An input kind that cannot take the image, and whoever could only follow it."""
    return vector_pool(
        ("in", INPUT, None, 3, 1),
        ("lost", INPUT, 9, 8, 1),
        ("follower", HIDDEN, 8, 3, 1),
        ("out", OUTPUT, 3, 2, 2),
    )


def cycle():
    return vector_pool(
        ("in", INPUT, None, 3, 1),
        ("up", HIDDEN, 3, 4, 2),
        ("down", HIDDEN, 4, 3, 2),
        ("out", OUTPUT, 4, 2, 1),
    )


def cycle_reversed():
    """The same, but with the kind that comes second in a network listed first."""
    return vector_pool(
        ("in", INPUT, None, 3, 1),
        ("down", HIDDEN, 4, 3, 2),
        ("up", HIDDEN, 3, 4, 2),
        ("out", OUTPUT, 4, 2, 1),
    )


def uneven():
    """As many copies of each kind as of no other, and two ways in and out."""
    return vector_pool(
        ("in", INPUT, None, 3, 4),
        ("in_wide", INPUT, None, 5, 1),
        ("narrow", HIDDEN, 5, 3, 2),
        ("hidden", HIDDEN, 3, 3, 3),
        ("out", OUTPUT, 3, 2, 1),
        ("out_wide", OUTPUT, 5, 2, 5),
    )


def same_signature():
    """Input and hidden kinds take and give images."""

    def conv():
        return keras.layers.Conv2D(1, 3, padding="same", activation="tanh")

    return Pool(
        [
            Kind("in", INPUT, IMAGE, IMAGE, conv, 2),
            Kind("hidden", HIDDEN, IMAGE, IMAGE, conv, 2),
            Kind("out", OUTPUT, IMAGE, (3,), dense(3), 2),
        ],
        IMAGE,
    )


def class_signature():
    """A hidden kind that gives what output kinds give, and one that takes it."""
    return vector_pool(
        ("in", INPUT, None, 3, 1),
        ("squeeze", HIDDEN, 3, 2, 1),
        ("widen", HIDDEN, 2, 3, 1),
        ("out", OUTPUT, 3, 2, 1),
        ("out_squeezed", OUTPUT, 2, 2, 1),
    )


def long_chain():
    """One input kind leads out at once, the other only over three hidden ones."""
    return vector_pool(
        ("in", INPUT, None, 3, 1),
        ("in_far", INPUT, None, 4, 1),
        ("far_1", HIDDEN, 4, 5, 1),
        ("far_2", HIDDEN, 5, 6, 2),
        ("far_3", HIDDEN, 6, 3, 1),
        ("out", OUTPUT, 3, 2, 1),
    )


CUSTOM = (
    dead_end,
    lost_input,
    cycle,
    cycle_reversed,
    uneven,
    same_signature,
    class_signature,
    long_chain,
)
BUILT_IN = {
    "paper_1": lambda: pools.paper((4, 4, 1), 2, 1),
    "paper_2": lambda: pools.paper((4, 4, 1), 2, 2),
    "paper_3": lambda: pools.paper((4, 4, 1), 2, 3),
    "pyramid_1": lambda: pools.pyramid((4, 4, 1), 2, 1),
    "pyramid_2": lambda: pools.pyramid((4, 4, 1), 2, 2),
}
POOLS = {make.__name__: make for make in CUSTOM} | BUILT_IN


class Rules:
    """The decision process (Sec. 4.1, 4.2) word by word, one module at a time, for one depth."""

    def __init__(self, pool, depth):
        self.depth = depth
        self.no_module = len(pool)  # PASS
        self._image = pool.image
        self._of = [pool.kinds[kind] for kind in pool.kind]
        self._known = {}

    def valid(self, actions):
        """The valid actions of the step after a tuple of actions."""
        step = len(actions) + 1
        network = [a for a in actions if a != self.no_module]
        if network and self._of[network[-1]].role == OUTPUT:
            return {self.no_module}
        signature = self._of[network[-1]].output if network else self._image
        unused = frozenset(range(len(self._of))) - set(network)
        found = set()
        for m in unused:
            kind = self._of[m]
            if kind.input == signature and (kind.role == INPUT) == (step == 1):
                if kind.role == OUTPUT or self._ends(kind.output, unused - {m}, self.depth - step):
                    found.add(m)
        if step > 1 and self._ends(signature, unused, self.depth - step):
            found.add(self.no_module)
        return found

    def _ends(self, signature, unused, steps):
        """Whether a chain of at most `steps` unused modules ends in an output module."""
        state = signature, unused, steps
        if state not in self._known:
            following = [m for m in unused if self._of[m].input == signature and self._of[m].role != INPUT]
            self._known[state] = steps > 0 and any(
                self._of[m].role == OUTPUT or self._ends(self._of[m].output, unused - {m}, steps - 1)
                for m in following
            )
        return self._known[state]

    def is_legal(self, actions):
        """Whether a whole episode is one: says nothing of how it came about, unlike `valid`."""
        network = [a for a in actions if a != self.no_module]
        kinds = [self._of[m] for m in network]
        roles = [kind.role for kind in kinds]
        return (
            len(actions) == self.depth
            and actions[0] != self.no_module
            and len(set(network)) == len(network)
            and (roles[0], roles[-1]) == (INPUT, OUTPUT)
            and set(roles[1:-1]) <= {HIDDEN}
            and kinds[0].input == self._image
            and all(a.output == b.input for a, b in itertools.pairwise(kinds))
        )

    def networks(self):
        """Every network of at most `depth` modules, as tuples of modules."""
        open_ones = [(m,) for m in self.valid(())]
        while open_ones:
            network = open_ones.pop()
            for m in self.valid(network) - {self.no_module}:
                if self._of[m].role == OUTPUT:
                    yield (*network, m)
                else:
                    open_ones.append((*network, m))

    def sample(self, count, rng):
        """Random legal episodes, int32 `[count, depth]`."""
        episodes = []
        for _ in range(count):
            actions = ()
            while len(actions) < self.depth:
                actions += (int(rng.choice(sorted(self.valid(actions)))),)
            episodes.append(actions)
        return np.array(episodes, np.int32)
