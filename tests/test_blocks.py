"""Layers of several layers, against NumPy."""

import math

import keras
import numpy as np
import pytest

from lrn_tf.modules.blocks import (
    AttentionBlock,
    DenseOfEach,
    Positions,
    ResidualBlock,
    StandardisedConvolution,
)

CLOSE = dict(rtol=1e-4, atol=1e-5)


@pytest.fixture
def x():
    return np.random.default_rng(0).normal(size=(3, 5, 8)).astype(np.float32)


def made(layer, x):
    """The layer, with weights that are not the same at all places, and what it returns."""
    layer(x)
    rng = np.random.default_rng(1)
    layer.set_weights([w + rng.normal(0, 0.3, w.shape) for w in layer.get_weights()])
    return layer, layer(x).numpy()


def gelu(x):
    return x * 0.5 * (1 + np.vectorize(math.erf)(x / np.sqrt(2)))


def normed(x, norm):
    gamma, beta = norm.get_weights()
    centred = x - x.mean(axis=-1, keepdims=True)
    return gamma * centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-5) + beta


def test_dense_of_each_entry(x):
    layer, y = made(DenseOfEach(4, activation="gelu"), x)
    kernel, bias = layer.get_weights()
    expected = [[gelu(entry @ kernel + bias) for entry in sequence] for sequence in x]
    np.testing.assert_allclose(y, expected, **CLOSE)
    assert layer.compute_output_shape((None, 5, 8)) == (None, 5, 4)


def attended(x, attention):
    """What each entry of a sequence takes from all, one head after the other."""
    (q, q_bias), (k, k_bias), (v, v_bias), (out, bias) = (
        dense.get_weights()
        for dense in (
            attention.query_dense,
            attention.key_dense,
            attention.value_dense,
            attention.output_dense,
        )
    )
    result = np.tile(bias, (len(x), 1))
    for head in range(q.shape[1]):
        query, key, value = (x @ w[:, head] + b[head] for w, b in ((q, q_bias), (k, k_bias), (v, v_bias)))
        scores = np.exp(query @ key.T / np.sqrt(q.shape[2]))
        result += scores / scores.sum(axis=1, keepdims=True) @ value @ out[head]
    return result


def test_attention_block(x):
    block, y = made(AttentionBlock(2), x)
    (wide, wide_bias), (narrow, narrow_bias) = block.wide.get_weights(), block.narrow.get_weights()
    for sequence, found in zip(x, y, strict=True):
        middle = sequence + attended(normed(sequence, block.norms[0]), block.attention)
        expected = middle + gelu(normed(middle, block.norms[1]) @ wide + wide_bias) @ narrow + narrow_bias
        np.testing.assert_allclose(found, expected, **CLOSE)


@pytest.mark.parametrize("dtype, close", [("float32", 1e-4), ("mixed_bfloat16", 1e-2)])
def test_scale_and_mean_of_a_kernel_do_not_count_in_a_standardised_convolution(dtype, close):
    x = np.random.default_rng(0).normal(size=(2, 5, 6, 3)).astype(np.float32)
    layer = StandardisedConvolution(4, 3, dtype=dtype)
    y = np.array(keras.ops.cast(layer(x), "float32"))
    (kernel,) = layer.get_weights()
    # In bfloat16 a mean a hundred times as large as the deviation would leave nothing of it.
    layer.set_weights([np.array([0.5, 2, 10, 100]) * (kernel + 100 * kernel.std())])
    again = np.array(keras.ops.cast(layer(x), "float32"))
    np.testing.assert_allclose(again, y, rtol=0, atol=close * np.abs(y).max())
    # Each number is a sum of as much as one number's worth of what comes, wherever the kernel is whole.
    assert 0.5 < y[:, 1:-1, 1:-1].std() < 2


def test_a_kernel_of_one_number_is_refused():
    with pytest.raises(ValueError, match="a kernel of one number is 0 when it is standardised"):
        StandardisedConvolution(4, 1).build((None, 5, 6, 1))


@pytest.mark.parametrize(
    "make, shape",
    [
        (lambda: DenseOfEach(4), (5, 8)),
        (lambda: AttentionBlock(2, expansion=3), (5, 8)),
        (Positions, (5, 8)),
        (lambda: ResidualBlock(16, strides=2), (7, 6, 8)),
        (lambda: ResidualBlock(8), (7, 6, 8)),
        (lambda: StandardisedConvolution(4, 3, strides=2), (7, 6, 8)),
    ],
)
def test_blocks_say_their_shapes_and_are_saved_with_keras_models(make, shape, tmp_path):
    given = keras.Input(shape)
    block = make()
    expected = block.compute_output_shape((None, *shape))  # before it is built, as Keras may ask
    model = keras.Model(given, block(given))
    x = np.random.default_rng(0).normal(size=(2, *shape)).astype(np.float32)
    y = model(x).numpy()
    assert block.compute_output_shape((None, *shape)) == (None, *y.shape[1:]) == expected
    model.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(keras.models.load_model(tmp_path / "model.keras")(x), y)
