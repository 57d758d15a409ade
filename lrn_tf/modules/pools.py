"""The built-in pools: the paper's, and one whose modules change the shape of what they pass on."""

import keras

from lrn_tf.data.benchmarks import Problem
from lrn_tf.errors import UserError
from lrn_tf.modules.decision_process import DecisionProcess
from lrn_tf.modules.pool import HIDDEN, INPUT, OUTPUT, Kind, Pool, Signature
from lrn_tf.settings import Settings

FILTERS, UNITS = 32, 256
EPSILON = 1e-5


def paper(image: Signature, num_classes: int, dup: int) -> Pool:
    """The six kinds of Sec. 5.2. Norms have parameters of their own in every module (ours)."""
    height, width, _ = image
    features = (height, width, FILTERS)
    return Pool(
        [
            Kind("conv_in", INPUT, image, features, lambda: _conv(FILTERS), dup),
            Kind("conv", HIDDEN, features, features, lambda: _conv(FILTERS), dup),
            Kind("flat_fc", HIDDEN, features, (UNITS,), lambda: _fc(UNITS), dup),
            Kind("fc", HIDDEN, (UNITS,), (UNITS,), lambda: _fc(UNITS), dup),
            Kind("flat_out", OUTPUT, features, (num_classes,), lambda: _out(num_classes), dup),
            Kind("fc_out", OUTPUT, (UNITS,), (num_classes,), lambda: _out(num_classes), dup),
        ],
        image,
    )


def pyramid(image: Signature, num_classes: int, dup: int) -> Pool:
    """Convolutions that halve the image and widen it, blocks of two, two widths of features (ours)."""
    height, width, _ = image
    full = (height, width, 16)
    half = (-(-height // 2), -(-width // 2), 32)
    quarter = (-(-height // 4), -(-width // 4), 64)
    wide, narrow = (256,), (128,)
    return Pool(
        [
            Kind("stem", INPUT, image, full, lambda: _conv(16), dup),
            Kind("stem_half", INPUT, image, half, lambda: _conv(32, strides=2), dup),
            Kind("down_half", HIDDEN, full, half, lambda: _conv(32, strides=2), dup),
            Kind("block", HIDDEN, half, half, lambda: _stack(_conv(32), _conv(32)), dup),
            Kind("down_quarter", HIDDEN, half, quarter, lambda: _conv(64, strides=2), dup),
            Kind("flat_wide", HIDDEN, quarter, wide, lambda: _fc(256), dup),
            Kind("pool_narrow", HIDDEN, quarter, narrow, lambda: _pooled_fc(128), dup),
            Kind("narrow_wide", HIDDEN, narrow, wide, lambda: _fc(256), dup),
            Kind("half_out", OUTPUT, half, (num_classes,), lambda: _out(num_classes), dup),
            Kind("wide_out", OUTPUT, wide, (num_classes,), lambda: _out(num_classes), dup),
            Kind("narrow_out", OUTPUT, narrow, (num_classes,), lambda: _out(num_classes), dup),
        ],
        image,
    )


POOLS = {"paper": paper, "pyramid": pyramid}


def make_pool(problem: Problem, settings: Settings) -> Pool:
    """The pool that the settings name, checked against --depth.

    Raises:
        UserError: no network of that depth exists.
    """
    pool = POOLS[settings.pool](problem.image_shape, problem.num_classes, settings.dup)
    try:
        DecisionProcess(pool, settings.depth)
    except ValueError as error:
        raise UserError(f"--depth={settings.depth} --pool={settings.pool}: {error}") from error
    return pool


def _stack(*layers):
    return keras.Sequential(layers)


def _conv(filters, strides=1):
    return _stack(
        keras.layers.Conv2D(filters, 3, strides=strides, padding="same"),
        # One group per channel: instance normalisation.
        keras.layers.GroupNormalization(groups=-1, epsilon=EPSILON),
        keras.layers.ReLU(),
    )


def _fc(units):
    return _stack(
        keras.layers.Flatten(),
        keras.layers.Dense(units),
        keras.layers.LayerNormalization(epsilon=EPSILON),
        keras.layers.ReLU(),
    )


def _pooled_fc(units):
    return _stack(keras.layers.GlobalAveragePooling2D(), _fc(units))


def _out(num_classes):
    return _stack(keras.layers.Flatten(), keras.layers.Dense(num_classes))
