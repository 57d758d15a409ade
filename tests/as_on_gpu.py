"""What a traced function would do on a GPU, found out without one from TensorFlow's list of kernels.

TensorFlow's builds with CUDA register their kernels whether or not there is a GPU. A kernel says which
types it is for, and what it takes from and leaves in host memory.
"""

import collections
import dataclasses
import functools

import tensorflow as tf
from tensorflow.python.framework import kernels, op_def_registry
from tensorflow.python.framework.function_def_to_graph import function_def_to_graph

# A constant is wherever it is wanted, and so is what is made of constants alone.
HOST, DEVICE, CONSTANT = "host", "device", "constant"
CALLS = ("PartitionedCall", "StatefulPartitionedCall")
BRANCHES = ("If", "StatelessIf")
# Operations that run nothing: they are away before a graph runs, or only pass memory on.
IDLE = (
    *("Const", "NoOp", "Placeholder", "Identity", "IdentityN", "StopGradient", "PreventGradient"),
    *("Reshape", "Squeeze", "ExpandDims", "Shape", "VarHandleOp", "ReadVariableOp"),
)


@dataclasses.dataclass
class Found:
    """What a function would do.

    Attributes:
        launches: how many operations of each type run on the GPU; of two branches, those of the longer one.
            A function that XLA compiles is one.
        copies: the values that go from the GPU to the host, each with the type of operation that wants it.
        missing: operations without a kernel for GPUs, as (type, types of what they take and return).
        on_host: the same of operations that were put on the host.
    """

    launches: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    copies: dict = dataclasses.field(default_factory=dict)
    missing: set = dataclasses.field(default_factory=set)
    on_host: set = dataclasses.field(default_factory=set)


def as_on_gpu(function) -> Found:
    """Takes a concrete function apart; its arguments and variables of whole numbers are on the host."""
    found = Found()
    functions = {f.signature.name: f for f in function.graph.as_graph_def().library.function}
    places = [HOST if x.dtype.is_integer else DEVICE for x in function.graph.inputs]
    with function.graph.as_default():
        found.launches, _ = _Walk(found, functions).graph(function.graph, places, "")
    return found


class _Walk:
    def __init__(self, found, functions):
        self.found, self.functions, self.graphs = found, functions, {}

    def graph(self, graph, places, scope):
        """Follows a function's operations; returns its launches and where its outputs are."""
        place = {x.ref(): p for x, p in zip(graph.inputs, places, strict=True)}
        launches = collections.Counter()
        for op in _needed(graph):
            if op.type in CALLS and not self._compiled(op):
                more, outputs = self._call(op, "f", op.inputs, place, scope)
            elif op.type in BRANCHES:
                self._to_host(op, op.inputs[0], place, scope)
                both = [
                    self._call(op, name, op.inputs[1:], place, scope)
                    for name in ("then_branch", "else_branch")
                ]
                more = max((branch for branch, _ in both), key=lambda c: c.total())
                outputs = [
                    DEVICE if DEVICE in pair else HOST for pair in zip(*(b for _, b in both), strict=True)
                ]
            elif op.type in ("While", "StatelessWhile", "Case", "StatelessCase"):
                raise NotImplementedError(f"{op.name}: {op.type}")
            else:
                more, outputs = self._one(op, place, scope)
            launches += more
            place.update({x.ref(): p for x, p in zip(op.outputs, outputs, strict=True)})
        return launches, [place[x.ref()] for x in graph.outputs]

    def _compiled(self, op):
        attributes = self.functions[op.get_attr("f").name].attr
        return "_XlaMustCompile" in attributes and attributes["_XlaMustCompile"].b

    def _call(self, op, attribute, inputs, place, scope):
        name = op.get_attr(attribute).name
        if name not in self.graphs:
            self.graphs[name] = function_def_to_graph(self.functions[name])
        given = [place[x.ref()] for x in inputs]
        return self.graph(self.graphs[name], given, f"{scope}{op.name}/{attribute}/")

    def _to_host(self, op, x, place, scope):
        if place[x.ref()] == DEVICE and x.dtype not in (tf.resource, tf.variant):
            self.found.copies[scope + x.name] = op.type

    def _one(self, op, place, scope):
        if op.type == "Placeholder":
            return collections.Counter(), [place[x.ref()] for x in op.outputs]
        constant = (
            op.inputs and not op.op_def.is_stateful and all(place[x.ref()] == CONSTANT for x in op.inputs)
        )
        if op.type == "Const" or constant:
            return collections.Counter(), [CONSTANT] * len(op.outputs)
        if op.type == "ReadVariableOp" and op.outputs[0].dtype.is_integer:
            return collections.Counter(), [HOST]
        if op.type in CALLS:
            return collections.Counter({"XlaLaunch": 1}), [DEVICE] * len(op.outputs)
        types = tuple(x.dtype.name for x in (*op.inputs, *op.outputs))
        if "CPU" in op.device:
            taken, left = [HOST] * len(op.inputs), [HOST] * len(op.outputs)
            self.found.on_host.add((op.type, types))
        elif (kernel := _kernel(op)) is None:
            taken, left = [HOST] * len(op.inputs), [HOST] * len(op.outputs)
            self.found.missing.add((op.type, types))
        else:
            definition, host = op_def_registry.get(op.type), kernel.host_memory_arg
            taken = _by_tensor(op, definition.input_arg, host)
            left = _by_tensor(op, definition.output_arg, host)
        for x, where in zip(op.inputs, taken, strict=True):
            if where == HOST and op.type != "Shape":
                self._to_host(op, x, place, scope)
        runs = op.type not in IDLE and (DEVICE in left or (DEVICE in taken and not left))
        return collections.Counter({op.type: int(runs)}), left


def _needed(graph):
    """The operations that run: stateful ones, and what the returned values depend on; in their order."""
    ends = [x.op for x in graph.outputs] + list(graph.control_outputs)
    ends += [op for op in graph.get_operations() if op.op_def.is_stateful and op.type != "VarHandleOp"]
    done, order = set(), []
    stack = [(op, False) for op in ends]
    while stack:
        op, ready = stack.pop()
        if ready:
            order.append(op)
        elif op not in done:
            done.add(op)
            stack.append((op, True))
            stack += [(x.op, False) for x in op.inputs] + [(c, False) for c in op.control_inputs]
    return order


def _kernel(op):
    """The kernel that a GPU would run; None if it has none for these types."""
    given = op.node_def.attr
    for kernel in _kernels(op.type):
        if kernel.device_type in ("GPU", "DEFAULT") and all(
            _allows(c.allowed_values.list, given[c.name]) for c in kernel.constraint
        ):
            return kernel
    return None


@functools.cache
def _kernels(kind):
    return list(kernels.get_registered_kernels_for_op(kind).kernel)


def _allows(values, given):
    if given.WhichOneof("value") == "s":
        return given.s in values.s
    return set(given.list.type or [given.type]) <= set(values.type)


def _by_tensor(op, arguments, host):
    """HOST or DEVICE for each tensor of an operation's inputs or outputs."""
    places = []
    for argument in arguments:
        if argument.number_attr:
            count = op.get_attr(argument.number_attr)
        else:
            count = len(op.get_attr(argument.type_list_attr)) if argument.type_list_attr else 1
        places += [HOST if argument.name in host else DEVICE] * count
    return places
