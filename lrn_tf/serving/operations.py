"""What a model may do, whoever made it: compute. Its graph reads no files and writes none.

TensorFlow runs whatever a SavedModel tells it to, some of it while loading, and there are operations that
read and write any file of the machine, or more. So the graph is read before TensorFlow does, and each of
its operations must be one that our exports need. This is no sandbox: a graph may still take all memory and
time there is, or meet a fault in TensorFlow's own code.
"""

import contextlib
import pathlib
import tempfile
from collections.abc import Iterator

from lrn_tf.errors import UserError

# Each depends on nothing but its inputs and the model's variables, and changes nothing. Some are of no
# built-in module, but of layers that a user's own may have.
COMPUTING = frozenset(
    # what is given, and in which order things happen
    "Assert Const EnsureShape Identity IdentityN If NoOp PartitionedCall ReadVariableOp"
    " PlaceholderWithDefault StatefulPartitionedCall StatelessIf StatelessWhile StopGradient While"
    # numbers
    " Abs AddV2 Cast Cos Erf Erfc Exp Floor FloorDiv FloorMod Log Log1p LogSoftmax Maximum Minimum Mul Neg"
    " Pow RealDiv Reciprocal Round Rsqrt Sigmoid Sign Sin Softmax Sqrt Square SquaredDifference Sub Xlogy"
    " ZerosLike"
    " Elu LeakyRelu Relu Relu6 Selu Softplus Softsign Tanh"
    # truth
    " All Any Equal Greater GreaterEqual Less LessEqual LogicalAnd LogicalNot LogicalOr Select SelectV2"
    # sums over numbers
    " ArgMax AvgPool BatchMatMulV2 BiasAdd Conv2D Conv2DBackpropInput Cumsum DenseBincount"
    " DepthwiseConv2dNative Einsum MatMul Max MaxPool Mean Min Prod ResizeBilinear ResizeNearestNeighbor"
    " ScaleAndTranslate Sum TopKV2"
    # where numbers stand
    " Rank TensorListConcatV2 TensorListElementShape TensorListFromTensor TensorListGetItem"
    " TensorListLength TensorListReserve TensorListSetItem TensorListSplit TensorListStack"
    " BatchToSpaceND BroadcastTo ConcatV2 DynamicStitch ExpandDims Fill GatherNd GatherV2 MirrorPad OneHot"
    " Pack Pad PadV2 Range Reshape ReverseV2 ScatterNd Shape Size Slice SpaceToBatchND Split SplitV Squeeze"
    " StridedSlice TensorScatterUpdate Tile Transpose Unpack UpperBound Where".split()
)
# A server written in C++ needs these, too: it finds variables by their names, and restores them from a
# file by functions of the graph. Functions that hold one are left out of what is loaded here.
SERVING = frozenset(
    "AssignVariableOp DisableCopyOnRead MergeV2Checkpoints Placeholder RestoreV2 SaveV2 ShardedFilename"
    " StaticRegexFullMatch StringJoin VarHandleOp".split()
)
# And what there is in a model besides: no tables, which TensorFlow fills from files, and no such files.
OBJECTS = ("user_object", "variable", "bare_concrete_function", "constant", "captured_tensor")
REGISTERED = ("", "tf.TrackableConstant")


@contextlib.contextmanager
def only_computing(folder: pathlib.Path) -> Iterator[str]:
    """Yields a folder from which TensorFlow can load the model that is in another.

    It shows TensorFlow no files but the weights and the graph as it was read here, so that no other graph
    can be put in its place.

    Raises:
        UserError: the graph may do more than compute.
        OSError, google.protobuf.message.DecodeError: it cannot be read.
    """
    model = load_graph(folder)
    if found := more_than_computing(model):
        raise UserError(f"{folder} {found}, which no model has that lrn_tf exports; do not use it")
    for graph in model.meta_graphs:
        _leave_out_serving(graph.graph_def)
    with tempfile.TemporaryDirectory(prefix="lrn_tf_") as copy:
        pathlib.Path(copy, "saved_model.pb").write_bytes(model.SerializeToString())
        pathlib.Path(copy, "variables").symlink_to((folder / "variables").absolute())
        yield copy


def load_graph(folder: pathlib.Path):
    """The SavedModel in a folder, as a protocol buffer: without its weights, and nothing of it is run."""
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    return SavedModel.FromString((folder / "saved_model.pb").read_bytes())


def more_than_computing(model) -> str:
    """What a SavedModel, as a protocol buffer, holds beyond what our exports need; empty if nothing."""
    # Of anything else than one graph with objects, TensorFlow runs what it likes, as its first version did.
    if len(model.meta_graphs) != 1 or not model.meta_graphs[0].HasField("object_graph_def"):
        return f"holds {len(model.meta_graphs)} graphs, or one without objects"
    (graph,) = model.meta_graphs
    for node in graph.object_graph_def.nodes:
        kind = node.WhichOneof("kind")
        if kind not in OBJECTS or node.registered_name not in REGISTERED:
            return f"holds the object {node.registered_name or kind}"
    functions = graph.graph_def.library.function
    within = [node for function in functions for node in function.node_def]
    for node in (*graph.graph_def.node, *within):
        if node.op not in COMPUTING | SERVING:
            return f"holds the operation {node.op}"
    # Of a name that stands for none of the functions, TensorFlow would look for another.
    known = {function.signature.name for function in functions if _computes(function)}
    for node in within:
        for name in _called(node.attr):
            if name not in known:
                return f"calls {name}, which is none of its functions or does more than compute"
    return ""


def _leave_out_serving(graph):
    """Removes functions that do more than compute, and the nodes outside of functions, which call them.

    Of those nodes TensorFlow runs none when it loads a graph with objects; it only looks up constants.
    """
    functions = [function for function in graph.library.function if _computes(function)]
    constants = [node for node in graph.node if node.op == "Const"]
    del graph.library.function[:], graph.node[:]
    graph.library.function.extend(functions)
    graph.node.extend(constants)


def _computes(function):
    return all(node.op in COMPUTING for node in function.node_def)


def _called(attributes):
    """Names of all functions in a node's attributes, also within those of others."""
    for value in attributes.values():
        for function in (value.func, *value.list.func):
            if function.name:
                yield function.name
            yield from _called(function.attr)
