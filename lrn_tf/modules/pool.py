"""Pools of modules (Sec. 4.1): what kinds there are, and which may follow which.

A pool is a list of kinds. Everything that routing needs (the decision process, the waves of the
execution, the router's candidates) follows from the roles and signatures here; nothing outside the
definition of a pool knows what its kinds are.
"""

import collections
import dataclasses
from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf

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
        layer: makes a new, unbuilt Keras layer with weights of its own. It is called `dup` times and
            must make the same layer every time. It may hold trainable weights only: state such as moving
            averages has no meaning where each call sees another subset of the batch.
        dup: the number of modules of this kind.
    """

    name: str
    role: str
    input: Signature
    output: Signature
    layer: Callable[[], keras.layers.Layer]
    dup: int

    def __post_init__(self):
        if self.role not in ROLES:
            raise ValueError(f"kind {self.name}: role {self.role!r} is unknown; allowed are {ROLES}")
        if self.dup < 1:
            raise ValueError(f"kind {self.name}: dup {self.dup} must be at least 1")


class Pool:
    """The modules of all kinds, numbered kind after kind.

    Attributes:
        kinds: the kinds, in order.
        kind: int `[N]`, the kind of each module.
        signatures: the distinct inputs of all kinds; the image's signature is number 0.
        num_classes: the width of what every output module returns.
        pass_id: the action that adds no module; it comes after the `N` modules.
    """

    def __init__(self, kinds: Sequence[Kind], image: Signature):
        """Args: kinds: the list that defines the pool. image: shape of an image, (H, W, c)."""
        self.kinds = tuple(kinds)
        self.image = tuple(image)
        if len({kind.name for kind in self.kinds}) != len(self.kinds):
            raise ValueError(f"kinds need distinct names, got {[kind.name for kind in self.kinds]}")
        self.kind = np.repeat(np.arange(len(self.kinds)), [kind.dup for kind in self.kinds])
        self.signatures = list(dict.fromkeys([self.image, *(kind.input for kind in self.kinds)]))
        widths = {kind.output for kind in self.kinds if kind.role == OUTPUT}
        if len(widths) != 1 or len(next(iter(widths))) != 1:
            raise ValueError(f"output kinds must share one output signature (classes,), got {widths}")
        (self.num_classes,) = next(iter(widths))

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
        return range(first, first + self.kinds[kind].dup)

    def followers(self, kind: int) -> list[int]:
        """The kinds whose modules may come right after a module of this kind."""
        if self.kinds[kind].role == OUTPUT:
            return []
        return [
            k
            for k, other in enumerate(self.kinds)
            if other.role != INPUT and other.input == self.kinds[kind].output
        ]

    def varied_network(self, depth: int) -> list[int]:
        """The kinds of a network of `depth` modules, as many different ones as possible.

        It stands for a network as one would have built it by hand, when routing is compared with one.
        """
        networks = [[k] for k, kind in enumerate(self.kinds) if kind.role == INPUT]
        for _ in range(depth - 1):
            networks = [network + [k] for network in networks for k in self.followers(network[-1])]
        networks = [network for network in networks if self.kinds[network[-1]].role == OUTPUT]
        return max(networks, key=lambda network: len(set(network)))

    def weight_shapes(self, kind: int) -> list[Signature]:
        """The shapes of one module's weights, found without allocating any."""
        # In a graph of its own Keras makes the variables as graph nodes, and no session ever runs it.
        with tf.Graph().as_default():
            layer = build_layer(self.kinds[kind])
            return [tuple(v.shape) for v in layer.trainable_variables]

    def count_parameters(self) -> collections.Counter:
        """Trainable parameters of all modules by name of kind."""
        return collections.Counter(
            {
                kind.name: kind.dup * sum(int(np.prod(shape)) for shape in self.weight_shapes(k))
                for k, kind in enumerate(self.kinds)
            }
        )


def build_layer(kind: Kind) -> keras.layers.Layer:
    """A new module of a kind, built and checked against the kind's signature.

    Raises:
        ValueError: the layer's output is not what the kind promises, or it has state.
    """
    # Called without state, a layer leaves its own weights uncast, but not those of layers inside it.
    layer = keras.Sequential([kind.layer()])
    layer.build((None, *kind.input))
    output = tuple(layer.compute_output_shape((None, *kind.input)))[1:]
    if output != kind.output:
        raise ValueError(f"kind {kind.name}: its layer returns {output}, declared is {kind.output}")
    if layer.non_trainable_variables:
        state = [v.path for v in layer.non_trainable_variables]
        raise ValueError(f"kind {kind.name}: modules cannot have state, but its layer has {state}")
    return layer


def module_names(kinds: dict[str, range]) -> list[str]:
    """What modules are called, in their order: `conv.3` is the fourth of the kind `conv`."""
    return [f"{kind}.{i}" for kind, modules in kinds.items() for i in range(len(modules))]
