"""Pools of modules (Sec. 4.1): what kinds there are, and which may follow which.

A pool is a list of kinds. Everything that routing needs (the decision process, the waves of the
execution, the router's candidates) follows from the roles and signatures here; nothing outside the
definition of a pool knows what its kinds are.
"""

import collections
import dataclasses
import numbers
from collections.abc import Callable, Sequence
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from lrn_tf.data.problem import Problem
from lrn_tf.errors import UserError

INPUT, HIDDEN, OUTPUT = ROLES = ("input", "hidden", "output")

Signature = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Kind:
    """All modules of one role and signature.

    Attributes:
        name: how its modules are called in tables and plots.
        role: `input` (first in a network), `hidden`, or `output` (last in a network).
        input: shape of what a module takes, without the batch.
        output: shape of what it returns, without the batch.
        layer: makes a new, unbuilt Keras layer with weights of its own. It is called for each module and
            must make the same layer every time. It may hold trainable weights only: state such as moving
            averages has no meaning where each call sees another subset of the batch.
        dup: the number of modules of this kind; of an output kind, for each of the label spaces it serves.
        serves: names of the label spaces that an output kind answers, each with modules of its own; empty
            for an output kind that answers whatever has as many answers as it returns.
        given: the name of what an input kind is given; empty for the only input of its shape.
    """

    name: str
    role: str
    input: Signature
    output: Signature
    layer: Callable[[], keras.layers.Layer]
    dup: int
    serves: tuple[str, ...] = ()
    given: str = ""

    @property
    def count(self) -> int:
        """How many modules there are of this kind."""
        return self.dup * max(len(self.serves), 1)

    def __post_init__(self):
        for name in ("input", "output", "serves"):  # lists are as good, but cannot be looked up
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if self.role not in ROLES:
            raise ValueError(f"kind {self.name}: role {self.role!r} is unknown; allowed are {ROLES}")
        if not isinstance(self.dup, numbers.Integral) or self.dup < 1:
            raise ValueError(f"kind {self.name}: dup {self.dup} must be a whole number, 1 at least")
        if self.serves and self.role != OUTPUT:
            raise ValueError(f"kind {self.name}: only output kinds serve label spaces")
        if self.given and self.role != INPUT:
            raise ValueError(f"kind {self.name}: only input kinds are given an input")
        if self.role == OUTPUT and len(self.output) != 1:
            raise ValueError(
                f"kind {self.name}: output modules return (answers,), declared is {self.output}"
            )


class Given(NamedTuple):
    """What an example may bring, as modules take it."""

    name: str
    shape: Signature
    tokens: bool = False  # whether it is whole numbers


class Demand(NamedTuple):
    """What a task wants of a pool."""

    input: str  # the name of what its examples bring
    space: str  # the name of its label space
    width: int  # how many numbers an output module returns for it


class Pool:
    """The modules of all kinds, numbered kind after kind.

    Attributes:
        kinds: the kinds, in order.
        demands: what each of the K tasks wants.
        inputs: what examples may bring, in the order in which modules are given it.
        input_of: for each kind, the number of the input that it is given; None for any but an input kind,
            and for one whose shape no input has.
        kind: int `[N]`, the kind of each module.
        signatures: the distinct shapes that kinds take, after those of the inputs.
        may: bool `[K, N]`, False for input modules of other inputs than a task's, and for output modules of
            other label spaces.
        width: the most numbers that an output module returns.
        pass_id: the action that adds no module; it comes after the `N` modules.
    """

    def __init__(
        self,
        kinds: Sequence[Kind],
        inputs: Sequence[Given],
        demands: Sequence[Demand] = (),
    ):
        """A pool of such kinds.

        Args:
            kinds: the list that defines the pool.
            inputs: what examples may bring.
            demands: of each task; without, there is one that takes the first input, and wants as many
                answers as any output module returns.

        Raises:
            ValueError: two kinds have one name; an input kind does not say which of two inputs of its shape
                it is given, or one that does not exist; there is no output kind, or one answers no task.
        """
        self.kinds = tuple(kinds)
        self.inputs = list(inputs)
        if len({kind.name for kind in self.kinds}) != len(self.kinds):
            raise ValueError(f"kinds need distinct names, got {[kind.name for kind in self.kinds]}")
        self.input_of = [self._input_of(kind) for kind in self.kinds]
        widths = {kind.output[0] for kind in self.kinds if kind.role == OUTPUT}
        if not widths:
            raise ValueError("there is no output kind; a network ends in an output module")
        self.width = max(widths)
        self.demands = list(demands) or [Demand(self.inputs[0].name, "", self.width)]
        self.kind = np.repeat(np.arange(len(self.kinds)), [kind.count for kind in self.kinds])
        shapes = [given.shape for given in self.inputs]
        self.signatures = list(dict.fromkeys([*shapes, *(kind.input for kind in self.kinds)]))
        self.may = np.concatenate([self._may(k) for k in range(len(self.kinds))], axis=1)
        self._followers = [self._may_follow(kind) for kind in self.kinds]
        self._without_values: dict[int, keras.layers.Layer] = {}
        self._check_answers()

    @classmethod
    def of(cls, kinds: Sequence[Kind], problem: Problem) -> "Pool":
        """A pool for the tasks of a problem."""
        inputs = [Given(given.name, given.shape, given.vocabulary > 0) for given in problem.inputs]
        demands = [
            Demand(task.input, space, task.width)
            for space, task in zip(problem.space_of, problem.tasks, strict=True)
        ]
        return cls(kinds, inputs, demands)

    def _input_of(self, kind):
        if kind.role != INPUT:
            return None
        fits = [
            i
            for i, given in enumerate(self.inputs)
            if given.shape == kind.input and kind.given in ("", given.name)
        ]
        if len(fits) > 1:
            names = " and ".join(repr(self.inputs[i].name) for i in fits)
            raise ValueError(
                f"kind {kind.name} takes {_shape(kind.input)}, which {names} have; say which it is given,"
                f" such as Kind(.., given={self.inputs[fits[0]].name!r})"
            )
        if kind.given and not fits:
            there = ", ".join(f"{given.name} {_shape(given.shape)}" for given in self.inputs)
            raise ValueError(
                f"kind {kind.name} is given {kind.given!r} and takes {_shape(kind.input)}; there is {there}"
            )
        return fits[0] if fits else None

    def _may(self, k):
        """Which modules of a kind each task may use, bool `[K, count]`."""
        kind, given = self.kinds[k], self.input_of[k]
        if kind.serves:
            spaces = np.array([demand.space for demand in self.demands])
            return np.repeat(spaces[:, None] == np.array(kind.serves), kind.dup, axis=1)
        if kind.role == INPUT:
            name = None if given is None else self.inputs[given].name
            mine = [demand.input == name for demand in self.demands]
        else:
            mine = [kind.role == HIDDEN or kind.output == (demand.width,) for demand in self.demands]
        return np.repeat(np.array(mine)[:, None], kind.count, axis=1)

    def _check_answers(self):
        wanted = {demand.space: demand.width for demand in self.demands}
        for k, kind in enumerate(self.kinds):
            for space in kind.serves:
                if wanted.get(space) != kind.output[0]:
                    wants = f"wants {wanted[space]}" if space in wanted else f"is not among {list(wanted)}"
                    raise ValueError(
                        f"kind {kind.name} returns {kind.output[0]} numbers for the label space {space!r},"
                        f" which {wants}"
                    )
            if kind.role == OUTPUT and not self.may[:, self.modules(k)].any():
                raise ValueError(
                    f"kind {kind.name} returns {kind.output[0]} numbers, and tasks want"
                    f" {sorted(set(wanted.values()))}"
                )

    @property
    def by_kind(self) -> dict[str, range]:
        """The modules of each kind, by its name."""
        return {kind.name: self.modules(k) for k, kind in enumerate(self.kinds)}

    def __len__(self) -> int:
        return len(self.kind)

    @property
    def pass_id(self) -> int:
        return len(self)

    def modules(self, kind: int) -> range:
        """The modules of a kind."""
        first = int(np.searchsorted(self.kind, kind))
        return range(first, first + self.kinds[kind].count)

    def followers(self, kind: int) -> list[int]:
        """The kinds whose modules may come right after a module of this kind."""
        return self._followers[kind]

    def _may_follow(self, kind):
        if kind.role == OUTPUT:
            return []
        others = enumerate(self.kinds)
        return [k for k, other in others if other.role != INPUT and other.input == kind.output]

    def takes_tokens(self, kind: int) -> bool:
        """Whether modules of a kind take whole numbers."""
        return self.input_of[kind] is not None and self.inputs[self.input_of[kind]].tokens

    def varied_network(self, depth: int, task: int = 0) -> list[int]:
        """The kinds of a network of at most `depth` modules, as many different ones as possible.

        It stands for a task's network as one would have built it by hand, where routing is compared to it.
        """
        may = [self.may[task, self.modules(k)].sum() for k in range(len(self.kinds))]
        open_ones = [[k] for k, kind in enumerate(self.kinds) if kind.role == INPUT and may[k]]
        networks = []
        for _ in range(depth - 1):
            longer = [
                network + [k]
                for network in open_ones
                for k in self.followers(network[-1])
                if network.count(k) < may[k]
            ]
            # What end in the same kind and hold the same ones go on in the same ways: the first will do.
            kept: dict[tuple, list[int]] = {}
            for network in longer:
                kept.setdefault((network[-1], *sorted(network)), network)
            open_ones = list(kept.values())
            networks += [network for network in open_ones if self.kinds[network[-1]].role == OUTPUT]
        return max(networks, key=lambda network: (len(set(network)), len(network)))

    def weight_shapes(self, kind: int) -> list[Signature]:
        """The shapes of one module's weights, found without allocating any."""
        return [tuple(v.shape) for v in self.without_values(kind).trainable_variables]

    def without_values(self, kind: int) -> keras.layers.Layer:
        """A module whose weights have shapes, but neither values nor memory; made once."""
        if kind not in self._without_values:
            # In a graph of its own Keras makes the variables as graph nodes, and no session ever runs it.
            with tf.Graph().as_default():
                self._without_values[kind] = build_layer(self.kinds[kind], self.takes_tokens(kind))
        return self._without_values[kind]

    def count_parameters(self) -> collections.Counter:
        """Trainable parameters of all modules by name of kind."""
        return collections.Counter(
            {
                kind.name: kind.count * sum(int(np.prod(shape)) for shape in self.weight_shapes(k))
                for k, kind in enumerate(self.kinds)
            }
        )


def build_layer(kind: Kind, tokens: bool = False) -> keras.layers.Layer:
    """A new module of a kind, built and checked against the kind's signature.

    Args:
        kind: the kind.
        tokens: whether what it takes are whole numbers.

    Raises:
        UserError: the layer cannot be made for the kind's input, its output is not what the kind promises,
            or it has state.
    """
    try:
        layer = _built(kind, tokens)
        output = tuple(layer.compute_output_shape((None, *kind.input)))[1:]
    except (MemoryError, tf.errors.OpError):
        raise
    except Exception as error:  # of the user's code, or of Keras
        said = " ".join(str(error).split())[:300]
        raise UserError(f"kind {kind.name}: its layer raised {type(error).__name__}: {said}") from error
    if output != kind.output:
        raise UserError(f"kind {kind.name}: its layer returns {output}, declared is {kind.output}")
    idle = _idle_seeds(layer)
    if state := [v.path for v in layer.non_trainable_variables if v.path not in idle]:
        raise UserError(
            f"kind {kind.name}: modules cannot have state, as of Dropout or BatchNormalization, and its"
            f" layer has {state}; leave that out"
        )
    return layer


def _built(kind, tokens):
    # Called without state, a layer leaves its own weights uncast, but not those of layers inside it.
    layers = [kind.layer()]
    if tokens:
        # Keras would make them the type of the layers, and bfloat16 rounds whole numbers above 256.
        while isinstance(layers[0], keras.Sequential):
            layers[:1] = layers[0].layers
        layers.insert(0, keras.Input(kind.input, dtype="int32"))
    layer = keras.Sequential(layers)
    layer.build((None, *kind.input))
    return layer


def _idle_seeds(layer):
    """Paths of the seeds that recurrent layers hold for dropout, where they have none."""
    cells = [inner for inner in layer._flatten_layers() if hasattr(inner, "recurrent_dropout")]
    idle = [cell for cell in cells if not cell.dropout and not cell.recurrent_dropout]
    return {cell.seed_generator.state.path for cell in idle if hasattr(cell, "seed_generator")}


def describe(pool: Pool | None) -> list[str]:
    """What the modules are, a line for each kind: pools with the same lines can have the same weights.

    It says of which layers they are, since other layers, too, may have weights of these shapes.
    """
    if pool is None:
        return []
    lines = []
    for k, kind in enumerate(pool.kinds):
        weights = ", ".join(_shape(shape) for shape in pool.weight_shapes(k)) or "none"
        serves = f", for {', '.join(kind.serves)}" if kind.serves else ""
        serves += f", given {kind.given}" if kind.given else ""
        lines.append(
            f"{kind.name}: {kind.role}, {_shape(kind.input)} to {_shape(kind.output)}, {kind.count} modules"
            f" of {_parts(pool.without_values(k))} with weights {weights}{serves}"
        )
    return lines


def _parts(layer):
    """The classes of the layers in a layer, each once, and their activations."""
    said = []
    for inner in layer._flatten_layers():
        if not isinstance(inner, keras.Sequential | keras.layers.InputLayer):
            activation = getattr(getattr(inner, "activation", None), "__name__", "linear")
            said.append(type(inner).__name__ + (f" ({activation})" if activation != "linear" else ""))
    return ", ".join(dict.fromkeys(said))


def _shape(shape):
    return "x".join(map(str, shape)) or "1"


def module_names(kinds: dict[str, range]) -> list[str]:
    """What modules are called, in their order: `conv.3` is the fourth of the kind `conv`."""
    return [f"{kind}.{i}" for kind, modules in kinds.items() for i in range(len(modules))]
