"""GroupNorm with ReLU, against Keras' layers."""

import contextlib

import keras
import numpy as np
import pytest
import tensorflow as tf

from lrn_tf.modules.blocks import ResidualBlock
from lrn_tf.modules.fused import compiled
from lrn_tf.modules.norm import GroupNormReLU

AS_IS = contextlib.nullcontext
HOW = pytest.mark.parametrize("how", [AS_IS, compiled], ids=["as it is", "compiled"])
# Of what is compared: how far numbers may be apart, over the largest of them.
NEAR = {"float64": 1e-12, "float32": 1e-5, "bfloat16": 1e-2, "float16": 2e-3}


def assert_near(found, expected, dtype):
    for a, b in zip(tf.nest.flatten(found), tf.nest.flatten(expected), strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        a, b = (tf.cast(x, tf.float64).numpy() for x in (a, b))
        np.testing.assert_allclose(a, b, rtol=0, atol=NEAR[dtype] * np.abs(b).max())


def weights_of(layer):
    return [tf.convert_to_tensor(v.value) for v in layer.trainable_variables]


def run(layer, x, *weights):
    return layer.stateless_call(weights, [], x)[0]


def with_gradients(run, *arguments):
    """What a function returns, and the gradients of a sum of its squares with unlike weights."""
    with tf.GradientTape() as tape:
        tape.watch(arguments)
        y = run(*arguments)
        wide = tf.cast(y, tf.float64)
        loss = tf.reduce_sum(tf.random.stateless_uniform(y.shape, [3, 4], dtype=tf.float64) * wide**2)
    return y, tape.gradient(loss, arguments)


@HOW
@pytest.mark.parametrize("dtype", NEAR)
@pytest.mark.parametrize("groups", [-1, 1, 4])
def test_is_keras_norm_and_relu(groups, dtype, how):
    policy = keras.DTypePolicy(f"mixed_{dtype}" if dtype in ("bfloat16", "float16") else dtype)
    mine = GroupNormReLU(groups, dtype=policy)
    norm = keras.layers.GroupNormalization(groups, epsilon=mine.epsilon, dtype=policy)
    rng = np.random.default_rng(0)
    x = tf.constant(rng.normal(3, 2, (5, 4, 6, 8)), dtype)
    for layer in (mine, norm):
        layer.build(x.shape)
    weights = [tf.constant(rng.normal(size=8), w.dtype) for w in weights_of(mine)]
    with how():
        found = with_gradients(lambda *a: run(mine, *a), x, *weights)
    expected = with_gradients(lambda *a: tf.nn.relu(run(norm, *a)), x, *weights)
    assert 0.1 < np.mean(found[0] == 0) < 0.9
    assert_near(found, expected, dtype)


@HOW
@pytest.mark.parametrize("ratio", [0, 100, 3000])
def test_a_mean_that_is_large_beside_the_deviation_costs_no_precision_that_keras_has(ratio, how):
    x = np.random.default_rng(0).normal(ratio, 1, (4, 16, 16, 8)).astype(np.float32)
    of_groups = x.astype(np.float64).reshape(4, 256, 4, 2)
    centred = of_groups - of_groups.mean(axis=(1, 3), keepdims=True)
    exact = centred / np.sqrt((centred**2).mean(axis=(1, 3), keepdims=True) + 1e-5)
    with how():
        found = GroupNormReLU(4)(tf.constant(x))
    np.testing.assert_allclose(
        found, np.maximum(exact, 0).reshape(x.shape), rtol=0, atol=1e-5 + 1e-6 * ratio
    )


@HOW
def test_there_may_be_no_examples(how):
    layer = GroupNormReLU(4)
    layer.build((None, 3, 3, 8))
    with how():
        y, gradients = with_gradients(lambda *a: run(layer, *a), tf.zeros((0, 3, 3, 8)), *weights_of(layer))
    assert y.shape == (0, 3, 3, 8) and not any(np.any(g) for g in gradients)


@pytest.mark.parametrize("taken", [0, 3])
def test_compiled_in_branches_it_has_the_same_gradients(taken):
    """Of what comes from outside of a branch, and of what is made in it; as in dispatch."""
    block = ResidualBlock(16)
    block.build((None, 4, 4, 16))
    x = tf.random.stateless_normal((8, 4, 4, 16), [1, 2])

    def found(how):
        @tf.function(autograph=False)
        def in_branches(taken, x, *weights):
            with how():
                parts = tf.split(x, [taken, 8 - taken])
                branches = [
                    tf.cond(
                        tf.shape(part)[0] > 0,
                        lambda part=part: run(block, part, *weights),
                        lambda: tf.zeros((0, 4, 4, 16)),
                    )
                    for part in parts
                ]
            return tf.concat(branches, axis=0)

        return with_gradients(lambda *a: in_branches(tf.constant(taken), *a), x, *weights_of(block))

    assert_near(found(compiled), found(AS_IS), "float32")


def test_only_what_is_traced_within_is_compiled():
    layer = GroupNormReLU(2)
    layer.build((None, 3, 3, 4))

    def is_compiled():
        function = tf.function(lambda x: layer(x), autograph=False)
        graph = function.get_concrete_function(tf.TensorSpec((None, 3, 3, 4))).graph.as_graph_def()
        return any(f.attr["_XlaMustCompile"].b for f in graph.library.function)

    with compiled():
        assert is_compiled()
    assert not is_compiled()


def test_it_is_made_again_from_its_config():
    layer = GroupNormReLU(2, epsilon=0.1, name="mine")
    again = keras.layers.deserialize(keras.layers.serialize(layer))
    x = tf.random.stateless_normal((2, 3, 3, 4), [1, 2])
    assert (again.groups, again.epsilon, again.name) == (2, 0.1, "mine")
    np.testing.assert_array_equal(again(x), layer(x))
    assert layer.compute_output_shape((None, 3, 3, 4)) == (None, 3, 3, 4)


@pytest.mark.parametrize(
    ("groups", "shape", "said"),
    [
        (3, (None, 2, 2, 8), "groups must divide the 8 channels, given 3"),
        (2, (None, 5, 8), r"takes \[B, H, W, c\], all but B known, given \[None, 5, 8\]"),
        (2, (None, None, 2, 8), r"given \[None, None, 2, 8\]"),
    ],
)
def test_what_it_does_not_take_is_said(groups, shape, said):
    with pytest.raises(ValueError, match=said):
        GroupNormReLU(groups).build(shape)
