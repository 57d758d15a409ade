"""What it costs to run a module: operations as TensorFlow counts them, and multiply-adds."""

import math

import keras
import numpy as np
import tensorflow as tf

from lrn_tf.modules.pool import Pool, Signature, build_layer


def operations(layer: keras.layers.Layer, shape: Signature, tokens: bool = False) -> dict[str, int]:
    """Floating-point operations of one example's way through a layer, by the name of TensorFlow's op.

    Args:
        layer: built, for this alone: recurrent layers are unrolled.
        shape: of what the layer takes, without the batch.
        tokens: whether that are whole numbers.
    """
    given = tf.TensorSpec((1, *shape), tf.int32 if tokens else layer.compute_dtype)
    for inner in layer._flatten_layers():
        if hasattr(inner, "unroll"):  # the profiler counts the body of a loop once
            inner.unroll = True
    graph = tf.function(lambda x: layer(x), autograph=False).get_concrete_function(given)
    profiler = tf.compat.v1.profiler
    options = profiler.ProfileOptionBuilder
    options = options(options.float_operation()).with_empty_output().build()
    root = profiler.profile(graph.graph, cmd="op", options=options)
    found, nodes = {}, [root]
    while nodes:
        node = nodes.pop()
        nodes += node.children
        if node.float_ops:
            found[node.name] = node.float_ops
    # Which the profiler does not know.
    if products := [op for op in graph.graph.get_operations() if op.type == "Einsum"]:
        found["Einsum"] = 2 * sum(map(_products, products))
    return found


def _products(einsum):
    """How many products an Einsum adds up: a size of each index, whichever of the two it is of."""
    terms = einsum.get_attr("equation").decode().partition("->")[0].split(",")
    sizes = {}
    for term, given in zip(terms, einsum.inputs, strict=True):
        before, dots, after = term.partition("...")
        shape = given.shape.as_list()
        sizes |= zip(before, shape, strict=False)
        sizes |= zip(after, shape[len(shape) - len(after) :], strict=True)
        if dots:
            beside = math.prod(shape[len(before) : len(shape) - len(after)])
            sizes["..."] = max(sizes.get("...", 1), beside)
    return math.prod(sizes.values())


def multiply_adds(layer: keras.layers.Layer, shape: Signature, tokens: bool = False) -> int:
    """Multiply-adds of one example in a layer's convolutions and matrix products; args as `operations`.

    Biases, norms and activations, which cost little beside those, are left out.
    """
    counted = operations(layer, shape, tokens).items()
    products = ("Conv", "MatMul", "Einsum")
    return sum(count for name, count in counted if any(part in name for part in products)) // 2


def of_kinds(pool: Pool) -> np.ndarray:
    """Multiply-adds of one example in a module of each kind of a pool."""
    costs = []
    for k, kind in enumerate(pool.kinds):
        tokens = pool.takes_tokens(k)
        costs.append(multiply_adds(build_layer(kind, tokens), kind.input, tokens))
    return np.array(costs)


def of_actions(pool: Pool, of_kinds: np.ndarray) -> np.ndarray:
    """Multiply-adds of each module, from those of the kinds, and of PASS, which is last and has none."""
    return np.append(of_kinds[pool.kind], 0)
