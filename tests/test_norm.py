"""GroupNorm with ReLU, against Keras' layers."""

import contextlib

import keras
import numpy as np
import pytest
import tensorflow as tf

from lrn_tf.modules.blocks import ResidualBlock
from lrn_tf.modules.norm import GroupNormReLU, as_programs

AS_IS = contextlib.nullcontext
# Of what is compared: how far numbers may be apart, over the largest of them.
NEAR = {"float64": 1e-12, "float32": 1e-5, "bfloat16": 1e-2}


def far(found, expected):
    """The largest distance of each tensor from what is expected."""
    pairs = zip(tf.nest.flatten(found), tf.nest.flatten(expected), strict=True)
    pairs = [[tf.cast(x, tf.float64).numpy() for x in pair] for pair in pairs]
    return [np.abs(a - b).max() / np.abs(b).max() for a, b in pairs]


def with_gradients(run, *arguments):
    """What a function returns, and the gradients of a sum of its squares with unlike weights."""
    with tf.GradientTape() as tape:
        tape.watch(arguments)
        y = run(*arguments)
        wide = tf.cast(y, tf.float64)
        loss = tf.reduce_sum(tf.random.stateless_uniform(y.shape, [3, 4], dtype=tf.float64) * wide**2)
    return y, tape.gradient(loss, arguments)


@pytest.mark.parametrize("dtype", NEAR)
@pytest.mark.parametrize("how", [AS_IS, as_programs], ids=["as it is", "as a program"])
@pytest.mark.parametrize("groups", [-1, 1, 4])
def test_is_keras_norm_and_relu(groups, how, dtype):
    policy = keras.DTypePolicy("mixed_bfloat16" if dtype == "bfloat16" else dtype)
    mine = GroupNormReLU(groups, dtype=policy)
    norm = keras.layers.GroupNormalization(groups, epsilon=mine.epsilon, dtype=policy)
    rng = np.random.default_rng(0)
    x = tf.constant(rng.normal(3, 2, (5, 4, 6, 8)), dtype)
    for layer in (mine, norm):
        layer.build(x.shape)
    of_norm = tf.float64 if dtype == "float64" else tf.float32
    weights = [tf.constant(rng.normal(size=8), of_norm) for _ in range(2)]

    def run(layer, x, *weights):
        return layer.stateless_call(weights, [], x)[0]

    with how():
        found = with_gradients(lambda *a: run(mine, *a), x, *weights)
    expected = with_gradients(lambda *a: tf.nn.relu(run(norm, *a)), x, *weights)
    assert found[0].dtype == x.dtype and 0.1 < np.mean(found[0] == 0) < 0.9
    assert max(far(found, expected)) < NEAR[dtype]


@pytest.mark.parametrize("taken", [0, 3])
def test_programs_in_branches_have_the_same_gradients(taken):
    """Of what comes from outside of a branch, and of what is made in it; as in dispatch."""
    block = ResidualBlock(16)
    block.build((None, 4, 4, 16))
    x = tf.random.stateless_normal((8, 4, 4, 16), [1, 2])

    def run(how):
        @tf.function(autograph=False)
        def run(taken, x, *weights):
            with how():
                parts = tf.split(x, [taken, 8 - taken])
                branches = [
                    tf.cond(
                        tf.shape(part)[0] > 0,
                        lambda part=part: block.stateless_call(weights, [], part)[0],
                        lambda: tf.zeros((0, 4, 4, 16)),
                    )
                    for part in parts
                ]
            return tf.concat(branches, axis=0)

        weights = [tf.convert_to_tensor(v.value) for v in block.trainable_variables]
        return with_gradients(lambda *a: run(tf.constant(taken), *a), x, *weights)

    assert max(far(run(as_programs), run(AS_IS))) < NEAR["float32"]


def test_only_what_is_traced_within_is_compiled():
    layer = GroupNormReLU(2)
    layer.build((None, 3, 3, 4))

    def compiled():
        function = tf.function(lambda x: layer(x), autograph=False)
        graph = function.get_concrete_function(tf.TensorSpec((None, 3, 3, 4))).graph.as_graph_def()
        return any(f.attr["_XlaMustCompile"].b for f in graph.library.function)

    with as_programs():
        assert compiled()
    assert not compiled()
