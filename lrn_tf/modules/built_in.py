"""The built-in pools: functions from a problem and `dup` to a list of kinds, as a user's own are."""

import functools
from collections.abc import Callable

import keras

from lrn_tf.data.problem import InputSpec, Problem, by_width
from lrn_tf.errors import UserError
from lrn_tf.modules.blocks import AttentionBlock, DenseOfEach, Positions, ResidualBlock
from lrn_tf.modules.decision_process import DecisionProcess
from lrn_tf.modules.norm import EPSILON, GroupNormReLU
from lrn_tf.modules.pool import HIDDEN, INPUT, OUTPUT, Kind, Pool, Signature

FILTERS, UNITS = 32, 256  # of the paper's
WIDTHS = 32, 64, 128  # channels of residual blocks, before the first halving and after each
STEM, STAGES = 16, (16, 32, 64)  # channels of wide's first convolution, and of its stages over the factor
PATCH, TOKEN, HEADS = 4, 64, 4  # pixels of a patch's side, width of what is made of it, attention heads
VECTOR, SMALL = 64, 16  # of mixed: the vectors in which inputs meet, channels or width before that


def paper(problem: Problem, dup: int) -> list[Kind]:
    """The six kinds of Sec. 5.2. Norms have parameters of their own in every module (ours)."""
    image = _image(problem, "paper")
    height, width, _ = image
    features = (height, width, FILTERS)
    return [
        Kind("conv_in", INPUT, image, features, lambda: _conv(FILTERS), dup),
        Kind("conv", HIDDEN, features, features, lambda: _conv(FILTERS), dup),
        Kind("flat_fc", HIDDEN, features, (UNITS,), lambda: _fc(UNITS), dup),
        Kind("fc", HIDDEN, (UNITS,), (UNITS,), lambda: _fc(UNITS), dup),
        *output_kinds("flat_out", features, _out, problem, dup),
        *output_kinds("fc_out", (UNITS,), _out, problem, dup),
    ]


def residual(problem: Problem, dup: int) -> list[Kind]:
    """Pre-activation residual blocks (He et al. 2016), two of which halve the image (ours)."""
    image = _image(problem, "residual")
    full, half, quarter = _halved(image, WIDTHS)
    return [
        Kind("stem", INPUT, image, full, lambda: _convolution(WIDTHS[0]), dup),
        Kind("block", HIDDEN, full, full, lambda: ResidualBlock(WIDTHS[0]), dup),
        Kind("half", HIDDEN, full, half, lambda: ResidualBlock(WIDTHS[1], strides=2), dup),
        Kind("block_half", HIDDEN, half, half, lambda: ResidualBlock(WIDTHS[1]), dup),
        Kind("quarter", HIDDEN, half, quarter, lambda: ResidualBlock(WIDTHS[2], strides=2), dup),
        Kind("block_quarter", HIDDEN, quarter, quarter, lambda: ResidualBlock(WIDTHS[2]), dup),
        *output_kinds("out_half", half, _pooled_out, problem, dup),
        *output_kinds("out_quarter", quarter, _pooled_out, problem, dup),
    ]


def wide(problem: Problem, dup: int, factor: int) -> list[Kind]:
    """The stages of a WRN-16 (Zagoruyko and Komodakis 2016), with `ResidualBlock`s: each network is one.

    A kind is a stage, two residual blocks, and no two stages have the same shapes. So a router decides who
    shares a stage with whom, and cannot prefer other kinds of networks because they learn sooner.

    Args:
        factor: of its widths, their k.
    """
    image = _image(problem, f"wide_{factor}")
    full, half, quarter = _halved(image, [factor * width for width in STAGES])
    return [
        Kind("full", INPUT, image, full, lambda: _stack(_convolution(STEM), *_stage(full[-1], 1)), dup),
        Kind("half", HIDDEN, full, half, lambda: _stack(*_stage(half[-1], 2)), dup),
        Kind("quarter", HIDDEN, half, quarter, lambda: _stack(*_stage(quarter[-1], 2)), dup),
        *output_kinds("out", quarter, _pooled_out, problem, dup),
    ]


def transformer(problem: Problem, dup: int) -> list[Kind]:
    """Patches and attention among them (after Dosovitskiy et al. 2021; ours)."""
    image = _image(problem, "transformer")
    patches = -(-image[0] // PATCH) * -(-image[1] // PATCH)
    tokens = (patches, TOKEN)
    return [
        Kind("patches", INPUT, image, tokens, lambda: _patches(patches), dup),
        Kind("attention", HIDDEN, tokens, tokens, lambda: AttentionBlock(HEADS), dup),
        *output_kinds("out", tokens, _averaged_out, problem, dup),
    ]


def mixed(problem: Problem, dup: int) -> list[Kind]:
    """Inputs of any shape, each with modules that fit it up to a vector, then shared ones (ours).

    Inputs of one shape share what fits them but for their first modules.
    """
    kinds = []
    for given in problem.inputs:
        kinds += _up_to_vector(given, dup)
    return [
        *kinds,
        Kind("fc", HIDDEN, (VECTOR,), (VECTOR,), lambda: _fc(VECTOR), dup),
        *output_kinds("out", (VECTOR,), _out, problem, dup),
    ]


POOLS = {
    "paper": paper,
    "residual": residual,
    **{f"wide_{factor}": functools.partial(wide, factor=factor) for factor in (1, 2, 4)},
    "transformer": transformer,
    "mixed": mixed,
}


def make_pool(kinds: Callable[[Problem, int], list[Kind]] | list[Kind], problem: Problem, settings) -> Pool:
    """A pool for a problem, checked against --dup and --depth.

    Args:
        kinds: a list, or what makes it of a problem and `dup`.
        problem: whose inputs and label spaces it serves.
        settings: a `lrn_tf.settings.table.Settings`.

    Raises:
        UserError: the kinds do not fit the problem, or no network of that depth exists.
    """
    try:
        made = kinds(problem, settings.dup) if callable(kinds) else kinds
        if not isinstance(made, list | tuple) or not all(isinstance(kind, Kind) for kind in made):
            raise ValueError("a pool is a list of lrn_tf.Kind; the function has returned something else")
        pool = Pool.of(made, problem)
        DecisionProcess(pool, settings.depth)
    except UserError:
        raise
    except ValueError as error:
        raise UserError(f"--depth={settings.depth} --pool={settings.pool}: {error}") from error
    return pool


def _image(problem, pool):
    """The shape of the images that a pool needs."""
    try:
        return problem.the_image(f"--pool={pool}").shape
    except ValueError as error:
        raise ValueError(f"{error}; --pool=mixed takes any") from error


def output_kinds(
    name: str,
    given: Signature,
    layer: Callable[[int], keras.layers.Layer],
    problem: Problem,
    dup: int,
) -> list[Kind]:
    """Output kinds for all label spaces of a problem, one for each number of answers.

    A label space that several tasks share gets `dup` modules, that of a single task one.

    Args:
        name: of the kind; with the number of answers after it where there are several kinds.
        given: the signature that its modules take.
        layer: makes a layer that returns so many answers.
        problem: the tasks.
        dup: the number of modules for a label space that is shared.
    """
    groups, kinds = by_width(problem.label_spaces), []
    for spaces in groups:
        width, own = spaces[0].width, spaces[0].tasks == 1
        called = name if len(groups) == 1 else f"{name}_{width}" + ("_own" if own else "")
        serves = tuple(space.name for space in spaces)
        copies = 1 if own else dup
        kinds.append(
            Kind(called, OUTPUT, given, (width,), lambda width=width: layer(width), copies, serves)
        )
    return kinds


def _up_to_vector(given: InputSpec, dup: int) -> list[Kind]:
    """The kinds of `mixed` for one input."""
    name, shape = given.name, given.shape
    if len(shape) == 1 and not given.vocabulary:
        return [Kind(f"{name}_in", INPUT, shape, (VECTOR,), lambda: _fc(VECTOR), dup, given=name)]
    if len(shape) == 3:
        features = (*shape[:2], SMALL)
        return [
            Kind(f"{name}_in", INPUT, shape, features, lambda: _conv(SMALL), dup, given=name),
            Kind(f"{name}_conv", HIDDEN, features, features, lambda: _conv(SMALL), dup),
            Kind(f"{name}_flat", HIDDEN, features, (VECTOR,), lambda: _fc(VECTOR), dup),
        ]
    if len(shape) > 3:
        raise ValueError(f"mixed has no modules for {name} {list(shape)}; give --pool=FILE.py:FUNCTION")
    tokens = (shape[0], SMALL)
    return [
        Kind(f"{name}_in", INPUT, shape, tokens, lambda: _tokens(given), dup, given=name),
        Kind(f"{name}_attention", HIDDEN, tokens, tokens, lambda: AttentionBlock(HEADS), dup),
        Kind(f"{name}_flat", HIDDEN, tokens, (VECTOR,), lambda: _fc(VECTOR), dup),
    ]


def _stack(*layers):
    return keras.Sequential(layers)


def _convolution(filters):
    return keras.layers.Conv2D(filters, 3, padding="same")


def _halved(image, widths):
    """Shapes of features: as large as the image, then with half the sides of those before."""
    sides = [tuple(-(-side // 2**level) for side in image[:2]) for level in range(len(widths))]
    return [(*side, width) for side, width in zip(sides, widths, strict=True)]


def _stage(filters, strides):
    return ResidualBlock(filters, strides), ResidualBlock(filters)


def _conv(filters):
    return _stack(
        _convolution(filters),
        # One group per channel: instance normalisation.
        GroupNormReLU(groups=-1),
    )


def _fc(units):
    return _stack(
        keras.layers.Flatten(),
        keras.layers.Dense(units),
        keras.layers.LayerNormalization(epsilon=EPSILON),
        keras.layers.ReLU(),
    )


def _patches(count):
    return _stack(
        keras.layers.Conv2D(TOKEN, PATCH, strides=PATCH, padding="same"),
        keras.layers.Reshape((count, TOKEN)),
        Positions(),
    )


def _tokens(given):
    """Tokens or a sequence of rows, as vectors that know their places."""
    if given.vocabulary:
        return _stack(keras.layers.Embedding(given.vocabulary, SMALL), Positions())
    return _stack(DenseOfEach(SMALL), Positions())


def _out(answers):
    return _stack(keras.layers.Flatten(), keras.layers.Dense(answers))


def _pooled_out(answers):
    return _stack(
        GroupNormReLU(groups=8),
        # With its dimensions kept, for the sake of the gradient: else a GPU's host waits for a shape.
        keras.layers.GlobalAveragePooling2D(keepdims=True),
        keras.layers.Flatten(),
        keras.layers.Dense(answers),
    )


def _averaged_out(answers):
    return _stack(
        keras.layers.LayerNormalization(epsilon=EPSILON),
        keras.layers.GlobalAveragePooling1D(keepdims=True),
        keras.layers.Flatten(),
        keras.layers.Dense(answers),
    )
