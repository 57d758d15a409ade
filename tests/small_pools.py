"""Small pools of many shapes, and the rules of construction in plain Python."""

import itertools

import keras
import numpy as np

from lrn_tf.data.problem import CLASSES, NUMBERS, InputSpec, Problem, TaskSpec
from lrn_tf.modules import built_in
from lrn_tf.modules.pool import HIDDEN, INPUT, OUTPUT, Demand, Given, Kind, Pool

IMAGE = (2, 2, 1)
IMAGES = Given("images", IMAGE)
WORDS = 7  # how many different tokens there are, in all pools that take any


def dense(units):
    """Flattens whatever comes; tanh, so that the order of modules matters."""
    return lambda: keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(units, activation="tanh")])


def dense_kind(name, role, taken, returned, dup, serves=(), given=""):
    """Args: taken: units; None is the image. returned: units."""
    shape = (taken,) if taken else IMAGE
    return Kind(name, role, shape, (returned,), dense(returned), dup, serves, given)


def vector_pool(*rows):
    """A pool of dense kinds, for a task with images: rows of name, role, taken, given, dup."""
    return Pool([dense_kind(*row) for row in rows], [IMAGES])


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
        [IMAGES],
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


def two_widths():
    """Tasks of two label spaces: one is answered from two signatures, the other from one, further on."""
    return Pool(
        [
            dense_kind("in", INPUT, None, 3, 2),
            dense_kind("hidden", HIDDEN, 3, 3, 2),
            dense_kind("widen", HIDDEN, 3, 4, 1),
            dense_kind("out", OUTPUT, 3, 2, 2, ("two",)),
            dense_kind("out_wide", OUTPUT, 4, 2, 1, ("two",)),
            dense_kind("out_5", OUTPUT, 4, 5, 3, ("five",)),
        ],
        [IMAGES],
        [Demand("images", "two", 2), Demand("images", "five", 5), Demand("images", "two", 2)],
    )


def heads_by_task():
    """Every task has output modules of its own: one of a kind, and two of another."""
    tasks = ("left", "middle", "right")
    return Pool(
        [
            dense_kind("in", INPUT, None, 3, 2),
            dense_kind("out", OUTPUT, 3, 2, 1, tasks),
            dense_kind("hidden", HIDDEN, 3, 4, 2),
            dense_kind("back", HIDDEN, 4, 3, 1),
            dense_kind("out_wide", OUTPUT, 4, 2, 2, ("right", "left")),
        ],
        [IMAGES],
        [Demand("images", task, 2) for task in tasks],
    )


def two_inputs():
    """Images and rows meet in one signature, which is that of rows; from images it is further."""
    return Pool(
        [
            dense_kind("row_in", INPUT, 3, 3, 2),
            dense_kind("image_in", INPUT, None, 4, 2),
            dense_kind("of_images", HIDDEN, 4, 5, 2),
            dense_kind("meet", HIDDEN, 5, 3, 1),
            dense_kind("hidden", HIDDEN, 3, 3, 2),
            dense_kind("out", OUTPUT, 3, 2, 2),
            dense_kind("out_of_images", OUTPUT, 5, 2, 1),
            dense_kind("out_3", OUTPUT, 3, 3, 1, ("three",)),
        ],
        [IMAGES, Given("rows", (3,))],
        [Demand("rows", "two", 2), Demand("images", "two", 2), Demand("rows", "three", 3)],
    )


def same_shape():
    """Two inputs of one shape, each with modules of its own, and a third; they have all else in common."""
    return Pool(
        [
            dense_kind("height_in", INPUT, 3, 4, 2, given="heights"),
            dense_kind("image_in", INPUT, None, 3, 1),
            dense_kind("weight_in", INPUT, 3, 3, 2, given="weights"),
            dense_kind("hidden", HIDDEN, 3, 4, 2),
            dense_kind("out", OUTPUT, 4, 2, 2),
        ],
        [Given("weights", (3,)), Given("heights", (3,)), IMAGES],
        [Demand("heights", "two", 2), Demand("weights", "two", 2), Demand("images", "two", 2)],
    )


def tokens():
    """Whole numbers beside images; what is made of them has the shape that they have, and they must not."""
    return Pool(
        [
            dense_kind("image_in", INPUT, None, 4, 1),
            Kind("embed", INPUT, (4,), (4, 2), lambda: keras.layers.Embedding(WORDS, 2), 2),
            Kind("embed_first", INPUT, (4,), (4,), embed_and_flatten, 3),
            Kind("flatten", HIDDEN, (4, 2), (4,), dense(4), 2),
            dense_kind("hidden", HIDDEN, 4, 4, 2),
            dense_kind("out", OUTPUT, 4, 2, 2, ("two", "another two")),
        ],
        [Given("tokens", (4,), True), IMAGES],
        [Demand("tokens", "two", 2), Demand("images", "another two", 2)],
    )


def embed_and_flatten():
    return keras.Sequential([keras.Sequential([keras.layers.Embedding(WORDS, 2)]), dense(4)()])


def way_back():
    """From `away` the only way out leads back through `step`, of which there is one module: nobody goes."""
    return vector_pool(
        ("in", INPUT, None, 3, 1),
        ("step", HIDDEN, 3, 4, 1),
        ("away", HIDDEN, 4, 5, 2),
        ("back", HIDDEN, 5, 3, 1),
        ("out", OUTPUT, 4, 2, 1),
    )


IMAGES_4, ROWS = ("images", (4, 4, 1)), ("rows", (3,))
SEQUENCES, TOKENS = ("sequences", (3, 2)), ("tokens", (5,))
# Two tasks share a label space, so that there are copies of their output modules.
SAME, MIXED = [("images", CLASSES, 2)] * 2, [("images", CLASSES, 3), ("sequences", NUMBERS, 1)]


def problem(inputs, tasks, heads="shared"):
    """A problem of inputs (name, shape), of which "tokens" are some, and tasks (input, form, answers)."""
    specs = []
    for name, shape in inputs:
        if name == "tokens":
            specs.append(InputSpec(name, shape, "int32", (), (), WORDS))
        else:
            specs.append(InputSpec(name, shape, "float32", (0.0,) * shape[-1], (1.0,) * shape[-1]))
    named = tuple(
        TaskSpec(f"task {k}", given, form, tuple(map(str, range(width))))
        for k, (given, form, width) in enumerate(tasks)
    )
    return Problem("any", tuple(specs), named, heads)


def problem_of(pool):
    """A problem whose tasks want what the pool's do."""
    inputs = [(given.name, given.shape) for given in pool.inputs]
    return problem(inputs, [(demand.input, CLASSES, demand.width) for demand in pool.demands])


def pool_of(name, problem, dup):
    """A built-in pool, for a problem."""
    return Pool.of(built_in.POOLS[name](problem, dup), problem)


def any_inputs(pool, count, rng, dtype="float32"):
    """Random inputs for a pool, as modules and router want them."""
    arrays = [
        rng.integers(0, WORDS, (count, *shape)).astype(np.int32)
        if tokens
        else rng.normal(size=(count, *shape)).astype(dtype)
        for _, shape, tokens in pool.inputs
    ]
    return arrays[0] if len(arrays) == 1 else tuple(arrays)


CUSTOM = (
    dead_end,
    lost_input,
    cycle,
    cycle_reversed,
    uneven,
    same_signature,
    class_signature,
    long_chain,
    two_widths,
    heads_by_task,
    two_inputs,
    same_shape,
    tokens,
)
BUILT_IN = {
    "paper_1": lambda: pool_of("paper", problem([IMAGES_4], SAME), 1),
    "paper_2": lambda: pool_of("paper", problem([IMAGES_4], SAME), 2),
    "paper_3": lambda: pool_of("paper", problem([IMAGES_4], SAME), 3),
    "residual_1": lambda: pool_of("residual", problem([IMAGES_4], SAME), 1),
    "residual_2": lambda: pool_of("residual", problem([IMAGES_4], SAME, heads="task"), 2),
    "transformer_2": lambda: pool_of("transformer", problem([("images", (8, 5, 1))], SAME), 2),
    "mixed_2": lambda: pool_of("mixed", problem([IMAGES_4, SEQUENCES], MIXED), 2),
}
POOLS = {make.__name__: make for make in CUSTOM} | BUILT_IN


class Rules:
    """The decision process (Sec. 4.1, 4.2) word by word, one module at a time, for one depth and task."""

    def __init__(self, pool, depth, task=0):
        self.depth = depth
        self.no_module = len(pool)  # PASS
        self.demand = pool.demands[task]
        modules = [
            (kind, space) for kind in pool.kinds for space in kind.serves or [None] for _ in range(kind.dup)
        ]
        self._of = [kind for kind, _ in modules]
        self.taken = {given.name: given.shape for given in pool.inputs}[self.demand.input]
        # Output modules answer the label space that they are for, or whatever has as many answers.
        self.others = {
            m
            for m, (kind, space) in enumerate(modules)
            if kind.role == OUTPUT and space != self.demand.space
            if space is not None or kind.output != (self.demand.width,)
        }
        # Input modules are for what they fit.
        mine = ("", self.demand.input)
        self.others |= {
            m
            for m, (kind, _) in enumerate(modules)
            if kind.role == INPUT and (kind.input != self.taken or kind.given not in mine)
        }
        self._known = {}

    def valid(self, actions):
        """The valid actions of the step after a tuple of actions."""
        step = len(actions) + 1
        network = [a for a in actions if a != self.no_module]
        if network and self._of[network[-1]].role == OUTPUT:
            return {self.no_module}
        signature = self._of[network[-1]].output if network else self.taken
        unused = frozenset(range(len(self._of))) - self.others - set(network)
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
        if actions[0] == self.no_module or self._of[actions[0]].role != INPUT:
            return False
        network = [a for a in actions if a != self.no_module]
        kinds = [self._of[m] for m in network]
        roles = [kind.role for kind in kinds]
        return (
            len(actions) == self.depth
            and len(set(network)) == len(network)
            and (roles[0], roles[-1]) == (INPUT, OUTPUT)
            and set(roles[1:-1]) <= {HIDDEN}
            and kinds[0].input == self.taken
            and not set(network) & self.others
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


def with_passes(networks, depth, no_module, rng):
    """Episodes `[n, depth]` that build the networks, with PASS at random places after the first step."""
    episodes = np.full((len(networks), depth), no_module, np.int32)
    for row, network in enumerate(networks):
        steps = [0, *sorted(rng.choice(np.arange(1, depth), len(network) - 1, replace=False))]
        episodes[row, steps] = network
    return episodes


def networks_of_all_tasks(pool, depth, rules):
    """Every network of at most `depth` modules that some task may have."""
    tasks = range(len(pool.demands))
    return sorted(set().union(*(rules(pool, depth, task).networks() for task in tasks)))
