"""What it costs to run a network: operations as TensorFlow counts them, and multiply-adds."""

import keras
import numpy as np
import tensorflow as tf

from lrn_tf.modules.pool import Pool, Signature, build_layer


def operations(layer: keras.layers.Layer, shape: Signature) -> dict[str, int]:
    """Floating-point operations of one example's way through a layer, by the name of TensorFlow's op.

    Args:
        layer: built.
        shape: of what the layer takes, without the batch.
    """
    graph = tf.function(lambda x: layer(x), autograph=False).get_concrete_function(
        tf.TensorSpec((1, *shape), layer.compute_dtype)
    )
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
    return found


def multiply_adds(layer: keras.layers.Layer, shape: Signature) -> int:
    """Multiply-adds of one example in a layer's convolutions and matrix products.

    Biases, norms and activations, which cost little beside those, are left out.
    """
    counted = operations(layer, shape).items()
    return sum(count for name, count in counted if "Conv" in name or "MatMul" in name) // 2


def of_kinds(pool: Pool) -> np.ndarray:
    """Multiply-adds of one example in a module of each kind of a pool."""
    return np.array([multiply_adds(build_layer(kind), kind.input) for kind in pool.kinds])
