"""Pools: what they refuse, how they number modules, and how large the paper's is."""

import keras
import numpy as np
import pytest

from lrn_tf.modules import pools
from lrn_tf.modules.pool import HIDDEN, INPUT, OUTPUT, Kind, Pool, build_layer, module_names

IMAGE = (4, 4, 1)


def dense(units):
    return lambda: keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(units)])


def kind(name, role, taken, given, layer=None, dup=1):
    return Kind(name, role, taken, given, layer or dense(given[0]), dup)


def smallest(*others):
    return Pool([kind("in", INPUT, IMAGE, (3,)), kind("out", OUTPUT, (3,), (2,)), *others], IMAGE)


def test_numbering_and_names():
    pool = pools.paper((8, 8, 3), 5, 3)
    assert len(pool) == pool.pass_id == 18
    assert pool.num_classes == 5
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
    pool = Pool([kind("out", OUTPUT, (3,), (2,)), kind("in", INPUT, IMAGE, (3,))], IMAGE)
    assert pool.signatures == [IMAGE, (3,)]


def test_followers():
    pool = pools.paper((8, 8, 3), 5, 2)
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


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: kind("x", "middle", (3,), (3,)), "x: role 'middle' is unknown.*hidden"),
        (lambda: kind("x", HIDDEN, (3,), (3,), dup=0), "x: dup 0 must be at least 1"),
        (lambda: smallest(kind("in", HIDDEN, (3,), (3,))), "distinct names"),
        (lambda: smallest(kind("out_2", OUTPUT, (3,), (5,))), "share one output signature"),
        (lambda: smallest(kind("out_2", OUTPUT, (3,), (2, 1))), "share one output signature"),
        (lambda: Pool([kind("in", INPUT, IMAGE, (3,))], IMAGE), "share one output signature"),
        (lambda: Pool([kind("out", OUTPUT, IMAGE, (2, 1, 1))], IMAGE), "share one output signature"),
    ],
)
def test_refused_pools(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_layer_must_return_what_its_kind_declares():
    with pytest.raises(ValueError, match=r"kind x: its layer returns \(4,\), declared is \(3,\)"):
        build_layer(kind("x", HIDDEN, (3,), (3,), dense(4)))


@pytest.mark.parametrize("layer", [keras.layers.BatchNormalization, lambda: keras.layers.Dropout(0.5)])
def test_layers_with_state_are_refused(layer):
    with pytest.raises(ValueError, match="kind x: modules cannot have state"):
        build_layer(kind("x", HIDDEN, (3,), (3,), layer))
    with pytest.raises(ValueError, match="cannot have state"):
        smallest(kind("x", HIDDEN, (3,), (3,), layer)).weight_shapes(2)


def conv(taken, given):
    return 9 * taken * given + given + 2 * given


def fc(taken, given):
    return taken * given + given + 2 * given


def test_parameters_of_the_papers_pool_on_cifar():
    pixels = 32 * 32
    one = pools.paper((32, 32, 3), 5, 1).count_parameters()
    assert one == {
        "conv_in": conv(3, 32),
        "conv": conv(32, 32),
        "flat_fc": fc(pixels * 32, 256),
        "fc": fc(256, 256),
        "flat_out": pixels * 32 * 5 + 5,
        "fc_out": 256 * 5 + 5,
    }
    assert one["flat_fc"] == 8_389_376
    ten = pools.paper((32, 32, 3), 5, 10).count_parameters()
    assert ten == {name: 10 * count for name, count in one.items()}


def test_parameters_of_the_papers_pool_on_mini_imagenet():
    counts = pools.paper((84, 84, 3), 5, 10).count_parameters()
    assert counts["flat_fc"] == 10 * fc(84 * 84 * 32, 256)
    assert 585e6 < sum(counts.values()) < 595e6


def test_parameters_of_the_pyramid():
    one = pools.pyramid((9, 9, 1), 2, 1).count_parameters()
    assert one == {
        "stem": conv(1, 16),
        "stem_half": conv(1, 32),
        "down_half": conv(16, 32),
        "block": 2 * conv(32, 32),
        "down_quarter": conv(32, 64),
        "flat_wide": fc(3 * 3 * 64, 256),
        "pool_narrow": fc(64, 128),
        "narrow_wide": fc(128, 256),
        "half_out": 5 * 5 * 32 * 2 + 2,
        "wide_out": 256 * 2 + 2,
        "narrow_out": 128 * 2 + 2,
    }


@pytest.mark.parametrize("make", pools.POOLS.values())
@pytest.mark.parametrize("image", [(4, 4, 1), (9, 7, 3)])
def test_every_kind_keeps_its_promise(make, image):
    pool = make(image, 3, 1)
    for k, kind in enumerate(pool.kinds):
        layer = build_layer(kind)
        assert [tuple(w.shape) for w in layer.trainable_variables] == pool.weight_shapes(k)
        assert layer(np.ones((2, *kind.input), np.float32)).shape == (2, *kind.output)


def test_weight_shapes_allocate_nothing():
    """No machine holds one flat_fc module of this pool: 2,252 TB."""
    pool = pools.paper((2**18, 2**18, 3), 5, 1)
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
    pool = pools.paper((8, 8, 1), 2, 3)
    assert [pool.kinds[k].name for k in pool.varied_network(depth)] == kinds
