"""Pools: what they refuse, how they number modules, whom these serve, and how large built-in ones are."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from small_pools import heads_by_task, pool_of, problem, two_inputs, two_widths

from lrn_tf.data.problem import CLASSES, LABELS, NUMBERS, SHARED
from lrn_tf.errors import UserError
from lrn_tf.modules import built_in
from lrn_tf.modules.blocks import Positions, ResidualBlock
from lrn_tf.modules.decision_process import DecisionProcess
from lrn_tf.modules.pool import (
    HIDDEN,
    INPUT,
    OUTPUT,
    Demand,
    Given,
    Kind,
    Pool,
    build_layer,
    describe,
    module_names,
)
from lrn_tf.settings.resolve import resolve
from lrn_tf.storage.config import unlike_pools

IMAGE = (4, 4, 1)
IMAGES = Given("images", IMAGE)


def dense(units):
    return lambda: keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(units)])


def kind(name, role, taken, given, layer=None, dup=1, serves=(), of=""):
    return Kind(name, role, taken, given, layer or dense(given[0]), dup, serves, of)


SMALLEST = kind("in", INPUT, IMAGE, (3,)), kind("out", OUTPUT, (3,), (2,))


class Squared(keras.layers.Dense):
    """One of a user's own."""


def smallest(*others):
    return Pool([*SMALLEST, *others], [IMAGES])


def images_of(shape, *tasks, heads=SHARED):
    """A problem of tasks that are shown images: a form and a number of answers each."""
    return problem([("images", shape)], [("images", *task) for task in tasks], heads)


def paper(shape, answers, dup):
    """The paper's pool, for two tasks that share their output modules."""
    return pool_of("paper", images_of(shape, *[(CLASSES, answers)] * 2), dup)


def test_numbering_and_names():
    pool = paper((8, 8, 3), 5, 3)
    assert len(pool) == pool.pass_id == 18
    assert pool.width == 5
    assert module_names(pool.by_kind)[:4] == ["conv_in.0", "conv_in.1", "conv_in.2", "conv.0"]
    assert module_names(pool.by_kind)[-1] == "fc_out.2"
    assert pool.kind.tolist() == [k for k in range(6) for _ in range(3)]
    assert [list(pool.modules(k)) for k in range(6)] == np.arange(18).reshape(6, 3).tolist()
    assert pool.signatures == [(8, 8, 3), (8, 8, 32), (256,)]


def test_numbering_with_unequal_dup():
    pool = smallest(kind("a", HIDDEN, (3,), (3,), dup=3), kind("b", HIDDEN, (3,), (4,), dup=2))
    assert module_names(pool.by_kind) == ["in.0", "out.0", "a.0", "a.1", "a.2", "b.0", "b.1"]
    assert [list(pool.modules(k)) for k in range(4)] == [[0], [1], [2, 3, 4], [5, 6]]


def test_the_image_is_signature_0_even_if_no_kind_names_it_first():
    pool = Pool([kind("out", OUTPUT, (3,), (2,)), kind("in", INPUT, IMAGE, (3,))], [IMAGES])
    assert pool.signatures == [IMAGE, (3,)]


def test_followers():
    pool = paper((8, 8, 3), 5, 2)
    name = [k.name for k in pool.kinds]
    followers = {name[k]: [name[f] for f in pool.followers(k)] for k in range(6)}
    assert followers == {
        "conv_in": ["conv", "flat_fc", "flat_out"],
        "conv": ["conv", "flat_fc", "flat_out"],
        "flat_fc": ["fc", "fc_out"],
        "fc": ["fc", "fc_out"],
        "flat_out": [],
        "fc_out": [],
    }


def test_nothing_follows_an_output_module_even_where_signatures_fit():
    pool = smallest(kind("takes_classes", HIDDEN, (2,), (3,)))
    assert pool.followers(1) == []


TASKS = [Demand("images", "a", 2), Demand("images", "b", 3)]


def served(*others, demands=TASKS):
    """A pool for tasks `a` and `b`, where b can be answered only by others."""
    return Pool([*SMALLEST, *others], [IMAGES], demands)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: kind("x", "middle", (3,), (3,)), "x: role 'middle' is unknown.*hidden"),
        (lambda: kind("x", HIDDEN, (3,), (3,), dup=0), "x: dup 0 must be a whole number, 1 at least"),
        (lambda: kind("x", HIDDEN, (3,), (3,), dup=2.0), "x: dup 2.0 must be a whole number, 1 at least"),
        (lambda: kind("x", HIDDEN, (3,), (3,), serves=("a",)), "x: only output kinds serve"),
        (lambda: kind("x", OUTPUT, (3,), (2, 1)), r"x: output modules return \(answers,\).*\(2, 1\)"),
        (lambda: smallest(kind("in", HIDDEN, (3,), (3,))), "distinct names"),
        (
            lambda: smallest(kind("out_5", OUTPUT, (3,), (5,))),
            r"out returns 2 numbers, and tasks want \[5\]",
        ),
        (lambda: Pool([kind("in", INPUT, IMAGE, (3,))], [IMAGES]), "there is no output kind"),
        (lambda: kind("x", HIDDEN, (3,), (3,), of="rows"), "x: only input kinds are given"),
        (
            lambda: Pool(SMALLEST, [IMAGES, Given("rows", (5,)), Given("maps", IMAGE)]),
            r"in takes 4x4x1, which 'images' and 'maps' have; .* Kind\(.., given='images'\)",
        ),
        (
            lambda: smallest(kind("x", INPUT, IMAGE, (3,), of="maps")),
            "x is given 'maps' and takes 4x4x1; there is images 4x4x1$",
        ),
        (lambda: smallest(kind("x", INPUT, (5,), (3,), of="images")), "x is given 'images' and takes 5;"),
        (lambda: served(kind("x", OUTPUT, (3,), (4,))), r"x returns 4 numbers, and tasks want \[2, 3\]"),
        (lambda: served(kind("x", OUTPUT, (3,), (2,), serves=("c",))), "'c', which is not among.*'a', 'b'"),
        (
            lambda: served(kind("x", OUTPUT, (3,), (2,), serves=("a", "b"))),
            "x returns 2 .*'b', which wants 3",
        ),
    ],
)
def test_refused_pools(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_whom_output_modules_serve():
    """Word by word: of a kind that serves some label spaces, `dup` modules for each, in their order."""
    pool = served(
        kind("x", OUTPUT, (3,), (3,), dup=2, serves=("b",)),
        kind("y", OUTPUT, (3,), (2,), dup=2, serves=("c", "a")),
        kind("z", OUTPUT, (3,), (3,)),
        demands=[*TASKS, Demand("images", "c", 2)],
    )
    names = np.array(module_names(pool.by_kind))
    assert names[pool.may[0]].tolist() == ["in.0", "out.0", "y.2", "y.3"]
    assert names[pool.may[1]].tolist() == ["in.0", "x.0", "x.1", "z.0"]
    assert names[pool.may[2]].tolist() == ["in.0", "out.0", "y.0", "y.1"]
    assert [k.count for k in pool.kinds] == [1, 1, 2, 4, 1]
    assert len(pool) == len(pool.kind) == 9


def test_a_pool_of_a_problem():
    """What each task brings and wants, whatever number its input has."""
    posed = problem(
        [("images", IMAGE), ("tokens", (6,)), ("rows", (3,))],
        [("rows", NUMBERS, 2), ("images", CLASSES, 2), ("tokens", CLASSES, 2), ("images", LABELS, 3)],
    )
    kinds = [
        kind("in", INPUT, IMAGE, (3,)),
        kind("of_tokens", INPUT, (6,), (3,)),
        kind("of_rows", INPUT, (3,), (3,)),
        kind("numbers", OUTPUT, (3,), (2,), serves=("2 numbers",)),
        kind("two", OUTPUT, (3,), (2,), serves=("2 classes",)),
        kind("three", OUTPUT, (3,), (3,)),
    ]
    pool = Pool.of(kinds, posed)
    assert pool.inputs == [("images", IMAGE, False), ("tokens", (6,), True), ("rows", (3,), False)]
    assert pool.input_of == [0, 1, 2, None, None, None]
    assert [pool.takes_tokens(k) for k in range(6)] == [False, True, False, False, False, False]
    assert pool.demands == [
        Demand("rows", "2 numbers", 2),
        Demand("images", "2 classes", 2),
        Demand("tokens", "2 classes", 2),
        Demand("images", "3 labels", 3),
    ]
    assert pool.may[:, 3:].tolist() == [
        [True, False, False],
        [False, True, False],
        [False, True, False],
        [False, False, True],
    ]
    by_task = problem([("images", IMAGE)], [("images", CLASSES, 2)] * 2, heads="task")
    heads = kind("out", OUTPUT, (3,), (2,), dup=3, serves=("task 0", "task 1"))
    assert Pool.of([SMALLEST[0], heads], by_task).may[:, 1:].tolist() == [[True] * 3 + [False] * 3] + [
        [False] * 3 + [True] * 3
    ]


def test_a_layer_must_return_what_its_kind_declares():
    with pytest.raises(ValueError, match=r"kind x: its layer returns \(4,\), declared is \(3,\)"):
        build_layer(kind("x", HIDDEN, (3,), (3,), dense(4)))


@pytest.mark.parametrize(
    "taken, layer, said",
    [
        ((64,), lambda: keras.layers.Conv2D(4, 3), "its layer raised ValueError: "),
        ((64,), lambda: 1 // 0, "its layer raised ZeroDivisionError: "),
        ((64,), lambda: None, "its layer raised "),
    ],
)
def test_a_layer_that_cannot_be_made_is_named(taken, layer, said):
    """In a line of its own, not in Keras' traceback: it is a user's."""
    with pytest.raises(UserError, match=f"^kind x: {said}"):
        smallest(kind("x", HIDDEN, taken, (3,), layer)).count_parameters()


@pytest.mark.parametrize("layer", [keras.layers.BatchNormalization, lambda: keras.layers.Dropout(0.5)])
def test_layers_with_state_are_refused(layer):
    with pytest.raises(ValueError, match="kind x: modules cannot have state"):
        build_layer(kind("x", HIDDEN, (3,), (3,), layer))
    with pytest.raises(ValueError, match="cannot have state"):
        smallest(kind("x", HIDDEN, (3,), (3,), layer)).weight_shapes(2)


def test_of_recurrent_layers_those_without_dropout_have_no_state():
    """Keras gives all of them a seed."""
    for layer in (keras.layers.LSTM, keras.layers.GRU, keras.layers.SimpleRNN):
        build_layer(kind("x", HIDDEN, (4, 3), (2,), lambda layer=layer: layer(2)))
        for dropout in (dict(dropout=0.1), dict(recurrent_dropout=0.1)):
            with pytest.raises(ValueError, match="cannot have state"):
                build_layer(kind("x", HIDDEN, (4, 3), (2,), lambda layer=layer, of=dropout: layer(2, **of)))


def conv(taken, given):
    return 9 * taken * given + given + 2 * given


def fc(taken, given):
    return taken * given + given + 2 * given


def test_parameters_of_the_papers_pool_on_cifar():
    pixels = 32 * 32
    one = paper((32, 32, 3), 5, 1).count_parameters()
    assert one == {
        "conv_in": conv(3, 32),
        "conv": conv(32, 32),
        "flat_fc": fc(pixels * 32, 256),
        "fc": fc(256, 256),
        "flat_out": pixels * 32 * 5 + 5,
        "fc_out": 256 * 5 + 5,
    }
    assert one["flat_fc"] == 8_389_376
    ten = paper((32, 32, 3), 5, 10).count_parameters()
    assert ten == {name: 10 * count for name, count in one.items()}


def test_parameters_of_the_papers_pool_on_mini_imagenet():
    counts = paper((84, 84, 3), 5, 10).count_parameters()
    assert counts["flat_fc"] == 10 * fc(84 * 84 * 32, 256)
    assert 585e6 < sum(counts.values()) < 595e6


def block(taken, given):
    """Two norms, two convolutions without biases, and a third where the width changes."""
    return 2 * taken + 2 * given + 9 * taken * given + 9 * given * given + (taken != given) * taken * given


def test_parameters_of_residual_blocks():
    one = pool_of("residual", images_of((9, 9, 1), *[(CLASSES, 2)] * 2), 1).count_parameters()
    assert one == {
        "stem": 9 * 1 * 32 + 32,
        "block": block(32, 32),
        "half": block(32, 64),
        "block_half": block(64, 64),
        "quarter": block(64, 128),
        "block_quarter": block(128, 128),
        "out_half": 2 * 64 + 64 * 2 + 2,
        "out_quarter": 2 * 128 + 128 * 2 + 2,
    }


@pytest.mark.parametrize("factor", [1, 2, 4])
def test_a_network_of_wide_is_a_wide_residual_network(factor):
    """One of each kind, whatever depth there is; WRN-16's parameters, and a bias in the first layer."""
    pool = pool_of(f"wide_{factor}", images_of((9, 9, 3), *[(CLASSES, 5)] * 2), 1)
    assert [kind.name for kind in pool.kinds] == ["full", "half", "quarter", "out"]
    assert [pool.followers(k) for k in range(4)] == [[1], [2], [3], []]
    assert pool.varied_network(9) == [0, 1, 2, 3]
    first, second, third = (factor * width for width in (16, 32, 64))
    assert pool.count_parameters() == {
        "full": 9 * 3 * 16 + 16 + block(16, first) + block(first, first),
        "half": block(first, second) + block(second, second),
        "quarter": block(second, third) + block(third, third),
        "out": 2 * third + third * 5 + 5,
    }


@pytest.mark.parametrize("dup", [1, 10])
def test_residual_blocks_have_an_order_of_magnitude_fewer_parameters_than_the_papers_pool(dup):
    posed = images_of((32, 32, 3), *[(CLASSES, 5)] * 20)
    names = ("paper", "residual", "transformer")
    count = {name: sum(pool_of(name, posed, dup).count_parameters().values()) for name in names}
    assert count["residual"] < count["paper"] / 10
    assert count["transformer"] < count["paper"] / 10


def test_parameters_of_a_transformer():
    one = pool_of("transformer", images_of((8, 6, 3), *[(CLASSES, 5)] * 2), 1).count_parameters()
    norm, width = 2 * 64, 64
    assert one == {
        "patches": 4 * 4 * 3 * width + width + 2 * 2 * width,
        "attention": 2 * norm + 4 * (width * width + width) + 2 * 2 * width * width + 2 * width + width,
        "out": norm + width * 5 + 5,
    }


def weights_of(layer):
    """Random ones, so that no bias is 0 and no scale 1."""
    rng = np.random.default_rng(0)
    layer.set_weights([rng.normal(0.5, 0.5, w.shape).astype(np.float32) for w in layer.trainable_variables])
    return [w.numpy() for w in layer.trainable_variables]


def normed(x, axes, scale, shift):
    """Mean 0 and variance 1 over some axes, then scale and shift."""
    centred = x - x.mean(axis=axes, keepdims=True)
    return centred / np.sqrt((centred**2).mean(axis=axes, keepdims=True) + 1e-5) * scale + shift


def group_normed(x, scale, shift):
    """In groups of eight channels."""
    grouped = x.reshape(*x.shape[:3], -1, 8)
    return normed(grouped, (1, 2, 4), 1, 0).reshape(x.shape) * scale + shift


def convolved(x, kernel, strides):
    """With kernels of mean 0 and length 1 for each channel that it returns."""
    centred = kernel - kernel.mean(axis=(0, 1, 2))
    lengths = np.linalg.norm(centred.reshape(-1, kernel.shape[-1]), axis=0)
    return tf.nn.conv2d(x, centred / lengths, strides, "SAME").numpy()


@pytest.mark.parametrize("taken, given, strides", [(16, 16, 1), (16, 24, 1), (16, 32, 2), (16, 16, 2)])
def test_a_residual_block_adds_two_convolutions_to_what_came(taken, given, strides):
    block = ResidualBlock(given, strides)
    block.build((None, 5, 6, taken))
    weights = weights_of(block)
    kernels = {k.shape: k for k in weights if k.ndim == 4}
    (g_1, b_1), (g_2, b_2) = ([w.numpy() for w in norm.trainable_variables] for norm in block.norms)
    first, second = (convolution.kernel.numpy() for convolution in block.convolutions)
    x = np.random.default_rng(1).normal(size=(3, 5, 6, taken)).astype(np.float32)
    y = np.maximum(group_normed(x, g_1, b_1), 0)
    way = x if (taken, strides) == (given, 1) else convolved(y, kernels[1, 1, taken, given], strides)
    y = np.maximum(group_normed(convolved(y, first, strides), g_2, b_2), 0)
    expected = way + convolved(y, second, 1)
    assert len(weights) == 6 + (way is not x)
    np.testing.assert_allclose(block(x), expected, rtol=1e-4, atol=1e-4)
    assert block.compute_output_shape(x.shape) == expected.shape


def test_positions_are_added():
    layer = Positions()
    layer.build((None, 4, 3))
    (table,) = weights_of(layer)
    x = np.random.default_rng(1).normal(size=(2, 4, 3)).astype(np.float32)
    np.testing.assert_allclose(layer(x), x + table, rtol=1e-6)


def everything(heads=SHARED):
    """Tasks of all forms, with inputs of all shapes."""
    inputs = [("images", (4, 6, 3)), ("sequences", (5, 2)), ("rows", (7,)), ("tokens", (6,))]
    tasks = [
        *(("images", CLASSES, 3), ("sequences", CLASSES, 3), ("rows", NUMBERS, 1), ("rows", LABELS, 3)),
        *(("tokens", CLASSES, 2), ("images", NUMBERS, 1)),
    ]
    return problem(inputs, tasks, heads)


def test_parameters_of_mixed():
    pool = pool_of("mixed", everything(), 2)
    assert pool.count_parameters() == {
        "images_in": 2 * (9 * 3 * 16 + 16 + 2 * 16),
        "images_conv": 2 * (9 * 16 * 16 + 16 + 2 * 16),
        "images_flat": 2 * fc(4 * 6 * 16, 64),
        "sequences_in": 2 * (2 * 16 + 16 + 5 * 16),
        "sequences_attention": 2 * (2 * 2 * 16 + 4 * (16 * 16 + 16) + 2 * 2 * 16 * 16 + 2 * 16 + 16),
        "sequences_flat": 2 * fc(5 * 16, 64),
        "rows_in": 2 * fc(7, 64),
        "tokens_in": 2 * (7 * 16 + 6 * 16),
        "tokens_attention": 2 * (2 * 2 * 16 + 4 * (16 * 16 + 16) + 2 * 2 * 16 * 16 + 2 * 16 + 16),
        "tokens_flat": 2 * fc(6 * 16, 64),
        "fc": 2 * fc(64, 64),
        # Two tasks have three classes, and two one number, so both have copies; three labels and two
        # classes have a task each.
        "out_3": 2 * (64 * 3 + 3),
        "out_1": 2 * (64 * 1 + 1),
        "out_3_own": 64 * 3 + 3,
        "out_2_own": 64 * 2 + 2,
    }


CASES = [
    ("paper", images_of((4, 4, 1), (CLASSES, 3), (CLASSES, 3))),
    ("paper", images_of((9, 7, 3), (CLASSES, 3), (NUMBERS, 2), heads="task")),
    ("residual", images_of((4, 4, 1), (CLASSES, 3), (CLASSES, 3))),
    ("residual", images_of((9, 7, 3), (CLASSES, 3), (NUMBERS, 2))),
    ("wide_1", images_of((4, 4, 1), (CLASSES, 3), (CLASSES, 3))),
    ("wide_4", images_of((9, 7, 3), (CLASSES, 3), (NUMBERS, 2), heads="task")),
    ("transformer", images_of((4, 4, 1), (CLASSES, 3), (CLASSES, 3))),
    ("transformer", images_of((9, 7, 3), (CLASSES, 3), (NUMBERS, 2))),
    ("mixed", images_of((4, 4, 1), (CLASSES, 3), (CLASSES, 3))),
    ("mixed", everything()),
    ("mixed", everything(heads="task")),
]


@pytest.mark.parametrize("name, posed", CASES)
def test_every_kind_keeps_its_promise(name, posed):
    pool = pool_of(name, posed, 1)
    for k, kind in enumerate(pool.kinds):
        layer = build_layer(kind, pool.takes_tokens(k))
        assert [tuple(w.shape) for w in layer.trainable_variables] == pool.weight_shapes(k)
        given = np.ones((2, *kind.input), np.int32 if pool.takes_tokens(k) else np.float32)
        assert layer(given).shape == (2, *kind.output)


@pytest.mark.parametrize("dup", [1, 3])
@pytest.mark.parametrize("name, posed", CASES)
def test_every_task_has_copies_of_what_it_shares_and_one_of_what_is_its_own(name, posed, dup):
    """Of each output kind as many modules as there are of other kinds, or one where nobody shares it."""
    pool = pool_of(name, posed, dup)
    assert all(kind.dup == dup for kind in pool.kinds if kind.role != OUTPUT)
    for task, space in enumerate(posed.space_of):
        shared = posed.space_of.count(space) > 1
        for taken in {kind.input for kind in pool.kinds if kind.role == OUTPUT}:
            mine = [
                m
                for m, k in enumerate(pool.kind)
                if pool.kinds[k].role == OUTPUT and pool.kinds[k].input == taken and pool.may[task, m]
            ]
            assert len(mine) == (dup if shared else 1)
            assert {pool.kinds[pool.kind[m]].output for m in mine} == {(posed.tasks[task].width,)}
    # Whoever answers has a label space, and is nobody else's.
    names = np.array(posed.space_of)
    for m in np.flatnonzero([pool.kinds[k].role == OUTPUT for k in pool.kind]):
        assert len(set(names[pool.may[:, m]])) == 1


@pytest.mark.parametrize("name", ["paper", "residual", "wide_1", "transformer"])
def test_pools_of_images_take_no_other_input(name):
    posed = everything()
    with pytest.raises(UserError, match=f"--pool={name} needs images of one size.*rows \\[7\\]"):
        built_in.make_pool(built_in.POOLS[name], posed, resolve({"pool": name}))


def test_mixed_has_no_modules_for_films():
    posed = problem([("films", (4, 4, 4, 1))], [("films", CLASSES, 2)])
    with pytest.raises(UserError, match=r"no modules for films \[4, 4, 4, 1\]"):
        built_in.make_pool(built_in.mixed, posed, resolve({"pool": "mixed"}))


def test_a_pool_is_checked_against_depth_and_dup():
    posed, settings = images_of(IMAGE, (CLASSES, 2)), resolve({"pool": "paper", "dup": 3, "depth": 2})
    assert len(built_in.make_pool(built_in.paper, posed, settings)) == 4 * 3 + 2
    assert len(built_in.make_pool(SMALLEST, posed, settings)) == 2
    with pytest.raises(UserError, match="--depth=2 --pool=residual: .*smallest depth that fits is 3"):
        built_in.make_pool(built_in.residual, posed, resolve({"pool": "residual", "dup": 3, "depth": 2}))
    with pytest.raises(UserError, match="a pool is a list of lrn_tf.Kind"):
        built_in.make_pool(lambda problem, dup: "kinds", posed, settings)


def test_what_the_users_function_raises_is_said_once():
    def broken(problem, dup):
        raise UserError("--pool=mine.py:broken raised KeyError")

    with pytest.raises(UserError, match="^--pool=mine.py:broken raised KeyError$"):
        built_in.make_pool(broken, images_of(IMAGE, (CLASSES, 2)), resolve({}))


@pytest.mark.slow
def test_pools_of_other_weights_are_told_apart():
    pool = smallest(kind("a", HIDDEN, (3,), (3,), dup=3))
    assert describe(pool)[0] == "in: input, 4x4x1 to 3, 1 modules of Dense, Flatten with weights 16x3, 3"
    others = [
        smallest(kind("a", HIDDEN, (3,), (3,), dup=2)),
        smallest(kind("a", HIDDEN, (3,), (3,), lambda: keras.layers.Dense(3, use_bias=False), dup=3)),
        smallest(kind("a", HIDDEN, (3,), (3,), lambda: keras.layers.Dense(3, "gelu"), dup=3)),
        smallest(kind("a", HIDDEN, (3,), (3,), lambda: Squared(3), dup=3)),
        smallest(kind("b", HIDDEN, (3,), (3,), dup=3)),
        smallest(),
        two_widths(),
        heads_by_task(),
        two_inputs(),
    ]
    lines = [describe(p) for p in (pool, *others, None)]
    for (i, before), (j, now) in itertools.product(enumerate(lines), repeat=2):
        assert bool(unlike_pools(before, now)) == (i != j)
    assert unlike_pools(describe(pool), describe(None)).startswith("in its pool there was in: input")


def test_weight_shapes_allocate_nothing():
    """No machine holds one flat_fc module of this pool: 2,252 TB."""
    pool = paper((2**18, 2**18, 3), 5, 1)
    assert pool.weight_shapes(2) == [(2**41, 256), (256,), (256,), (256,)]


@pytest.mark.parametrize(
    "depth, kinds",
    [
        (2, ["conv_in", "flat_out"]),
        (4, ["conv_in", "conv", "flat_fc", "fc_out"]),
        (6, ["conv_in", "conv", "conv", "flat_fc", "fc", "fc_out"]),
    ],
)
def test_varied_network(depth, kinds):
    pool = paper((8, 8, 1), 2, 3)
    assert [pool.kinds[k].name for k in pool.varied_network(depth)] == kinds


def test_varied_network_of_a_deep_pool():
    """Of two kinds that may follow each other there are a billion sequences of thirty."""
    layers = dict(input=(3,), output=(3,), layer=None, dup=20)
    hidden = [Kind(name, HIDDEN, **layers) for name in ("a", "b")]
    pool = Pool(
        [Kind("in", INPUT, **layers), *hidden, Kind("out", OUTPUT, **layers)], [Given("rows", (3,))]
    )
    assert pool.varied_network(32) == [0, *[1] * 20, *[2] * 10, 3]


def test_varied_network_of_a_pool_whose_networks_end_early():
    assert smallest().varied_network(5) == [0, 1]
    DecisionProcess(smallest(), 5)
