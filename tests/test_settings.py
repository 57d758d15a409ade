"""Settings: defaults, presets, what is refused, and the flags made of them."""

import dataclasses
import itertools
import os
import pathlib

import pytest
from absl import flags
from absl.testing import flagsaver

from lrn_tf import main
from lrn_tf.errors import UserError
from lrn_tf.settings.resolve import defaults, resolve
from lrn_tf.settings.table import FIELDS, LRNS, METHODS, MODULAR, SGD_METHODS, Settings

FLAG_FILES = pathlib.Path(__file__).parents[1] / "flags"
BENCHMARKS = ("digits_mtl", "mnist_mtl", "cifar_mtl", "min_mtl", "mixed_mtl")

# Sec. 5.1 of the paper, in full.
PAPER = dict(
    method="lrn",
    pool="paper",
    dup=10,
    depth=6,
    epochs=100,
    batch_size=128,
    minibatch_size=64,
    ppo_epochs=1,
    learning_rate=1e-4,
    lr_decay=0.97,
    d_model=256,
    examples_per="task",
    pay_loss="every_step",
    heads="shared",
    sampling="proportional",
    image_size=0,
    validation=0.0,
    max_steps=0,
)
LITERAL = dict(PAPER, actor_scale=1.0, input_scale=1.0, bonus=1.0)
SMALL = dict(PAPER, dup=5, depth=4)
KNOT = dict(SMALL, image_size=16, validation=0.1, max_steps=520)
DIGITS = dict(SMALL, epochs=15, learning_rate=1e-3, lr_decay=0.82, d_model=64)
MIXED = dict(DIGITS, epochs=30, pool="mixed")
# Settings without which the paper's experiment could not be described; all others are additions.
OF_THE_PAPER = {
    "method",
    "dup",
    "depth",
    "epochs",
    "batch_size",
    "minibatch_size",
    "ppo_epochs",
    "lr_decay",
    "d_model",
    "examples_per",
}
OF_ROUTING_NETWORKS = {"lr_every", "blocks", "agents", "policy", "rho"}


@pytest.fixture(scope="module")
def parsed():
    """The settings of a command line."""

    def parse(*arguments):
        with flagsaver.flagsaver():
            flags.FLAGS(["lrn_tf", *arguments])
            return main.settings_from_flags()

    main.define_flags()
    yield parse
    flags.FLAGS.remove_flag_values(FIELDS)


def part(settings, like):
    return {name: getattr(settings, name) for name in like}


@pytest.mark.parametrize("name", FIELDS)
def test_every_setting_has_help_and_a_default_of_its_type(name):
    field = FIELDS[name]
    assert len(field.metadata["help"].split()) > 2 and not field.metadata["help"].endswith((".", " "))
    assert type(field.default) is field.type
    assert ("not from the paper" in field.metadata["help"]) == (
        name not in OF_THE_PAPER | OF_ROUTING_NETWORKS
    )


def test_defaults_and_presets_are_allowed():
    assert set(BENCHMARKS) == set(FIELDS["benchmark"].metadata["choices"])
    for benchmark, method in itertools.product(BENCHMARKS, FIELDS["method"].metadata["choices"]):
        settings = resolve({"benchmark": benchmark, "method": method})
        assert resolve(dataclasses.asdict(settings)) == settings


def test_given_comes_before_preset_and_preset_before_default():
    assert resolve({}).dup == DIGITS["dup"] != Settings.dup
    assert resolve({"benchmark": "cifar_mtl"}).dup == Settings.dup
    # A given value counts even where it equals the default that the preset replaces.
    assert resolve({"dup": Settings.dup}).dup == Settings.dup
    assert resolve({"benchmark": "digits_mtl", "dup": 2, "epochs": 3}).depth == DIGITS["depth"]


def test_numbers_given_in_python_are_as_those_of_flags():
    assert type(resolve({"bonus": 0}).bonus) is float


def test_without_need_of_it_there_is_no_bonus():
    assert resolve({"init_from": "a run"}).bonus == 0 < resolve({}).bonus
    assert resolve({"init_from": "a run", "bonus": 0.5}).bonus == 0.5
    assert resolve({"imitation": 100}).bonus == 0 < resolve({"imitation": 100, "bonus": 0.5}).bonus


@pytest.mark.parametrize("benchmark", BENCHMARKS)
def test_a_benchmark_alone_presets_the_paper_or_a_small_run(benchmark, parsed):
    expected = {"digits_mtl": DIGITS, "mixed_mtl": MIXED}.get(benchmark, PAPER)
    assert part(parsed(f"--benchmark={benchmark}"), expected) == expected


@pytest.mark.parametrize("method", SGD_METHODS)
def test_only_routing_networks_are_rewarded_for_a_blocks_share(method):
    rho = resolve({"benchmark": "mnist_mtl", "method": method}).rho
    assert rho == (0.3 if method == "routing" else 0)
    settings = resolve({"benchmark": "cifar_mtl", "method": method})
    assert settings.rho == 0
    assert "dup" not in settings.name


@pytest.mark.parametrize("method", LRNS)
def test_the_folder_of_a_run_says_what_it_is(method):
    settings = resolve({"benchmark": "cifar_mtl", "method": method})
    assert f"{method}_dup_10_depth_6_seed_0" in settings.workdir


@pytest.mark.parametrize("benchmark", ["mnist_mtl", "cifar_mtl", "min_mtl"])
@pytest.mark.parametrize("name", ["paper", "literal", "small", "knot"])
def test_flag_files(name, benchmark, parsed, monkeypatch):
    monkeypatch.chdir(FLAG_FILES.parent)  # one file may name another
    path = FLAG_FILES / f"{name}.cfg"
    settings = parsed(f"--flagfile={path}", f"--benchmark={benchmark}")
    expected = {"paper": PAPER, "literal": LITERAL, "small": SMALL, "knot": KNOT}[name]
    assert settings.benchmark == benchmark
    assert part(settings, expected) == expected
    if name == "paper":
        # It names what the paper names, whatever the defaults come to be.
        named = {line[2:].partition("=")[0] for line in path.read_text().splitlines() if line[:2] == "--"}
        assert named == {"learning_rate"} | OF_THE_PAPER - {"method", "examples_per"}


def test_the_knot_is_tied_in_cifar_mtl(parsed):
    assert parsed(f"--flagfile={FLAG_FILES / 'knot.cfg'}").benchmark == "cifar_mtl"


@pytest.mark.parametrize(
    ("name", "pool", "dup", "epochs", "scale"),
    [("best", "wide_4", 20, 94, 0.05), ("cpu", "wide_2", 10, 15, 0.05), ("paper", "paper", 10, 26, 0.1)],
)
def test_the_highest_need_no_other_flags(parsed, name, pool, dup, epochs, scale):
    settings = parsed(f"--flagfile={FLAG_FILES / f'cifar_mtl_{name}.cfg'}")
    assert (settings.benchmark, settings.method, settings.split) == ("cifar_mtl", "lrn", "test")
    assert (settings.pool, settings.dup, settings.epochs) == (pool, dup, epochs)
    assert (settings.heads, settings.augment, settings.core) == ("task", "flip_shift", 1)
    assert (settings.schedule, settings.router_lr_scale) == ("one_cycle", scale)


def test_there_are_no_other_flag_files():
    known = {"paper", "literal", "small", "knot", "cifar_mtl_best", "cifar_mtl_cpu", "cifar_mtl_paper"}
    assert {path.stem for path in FLAG_FILES.iterdir()} == known


def test_a_flag_after_a_flag_file_wins(parsed):
    settings = parsed(f"--flagfile={FLAG_FILES / 'paper.cfg'}", "--dup=3", "--noresume")
    assert (settings.dup, settings.depth, settings.resume) == (3, 6, False)


def test_flags_arrive_with_their_types(parsed):
    settings = parsed("--learning_rate=3", "--seed=7", "--dtype=bfloat16", "--data_dir=somewhere")
    assert settings.learning_rate == 3.0 and type(settings.learning_rate) is float
    assert (settings.seed, settings.dtype, settings.data_dir) == (7, "bfloat16", "somewhere")


def test_workdir_names_what_runs_differ_in():
    def workdir(**given):
        return resolve(given).workdir

    assert workdir(workdir="here") == "here"
    default = workdir()
    assert default == os.path.join("runs", "digits_mtl", "lrn_dup_5_depth_4_seed_0")
    others = [
        dict(benchmark="min_mtl"),
        dict(dup=6),
        dict(depth=5),
        dict(seed=1),
        dict(bonus=0.0),
        dict(imitation=9),
    ]
    assert len({default, *(workdir(**other) for other in others)}) == 1 + len(others)


@pytest.mark.parametrize(
    "name, allowed, refused",
    [
        ("dup", (1, 1000), (0, -1, 1001)),
        ("depth", (1, 64), (0, -3, 65)),
        ("epochs", (1,), (0, -1)),
        ("batch_size", (64, 192), (0, -64)),
        ("minibatch_size", (1, 128), (0,)),
        ("ppo_epochs", (1,), (0,)),
        ("learning_rate", (0.0, 1.0), (-1e-9, float("nan"), float("inf"))),
        ("lr_decay", (0.0, 1.0), (-0.1, 1.1, float("nan"))),
        ("bonus", (0.0, 2.5), (-0.5, float("nan"), float("inf"))),
        ("imitation", (0, 2**31 - 1), (-1, 2**31)),
        ("entropy", (0.0,), (-0.01, float("nan"), float("inf"))),
        ("validation", (0.0, 0.5), (-0.1, 0.51, float("nan"))),
        ("d_model", (4, 12), (0, 2, -4)),
        ("image_size", (0, 4, 512), (-1, 3, 513)),
        ("actor_scale", (0.0, 3.0), (-1.0, float("nan"), float("inf"))),
        ("input_scale", (0.0, 0.1), (-1.0, float("nan"), float("inf"))),
        ("seed", (0, 2**31 - 1), (-1, 2**31)),
        ("max_steps", (0, 1), (-1,)),
        ("evaluate_every", (1, 10), (0, -1)),
        ("checkpoint_every", (0, 1), (-1,)),
        ("pictures_every", (0, 1), (-1,)),
        (
            "benchmark",
            (*BENCHMARKS, str(FLAG_FILES), "a.py:tasks"),
            ("", "mnist", "MNIST_MTL", "no/folder"),
        ),
        (
            "pool",
            ("paper", "residual", "wide_2", "transformer", "mixed", "a.py:kinds"),
            ("wide_3", str(FLAG_FILES)),
        ),
        ("method", ("lrn",), ("none",)),
        ("pay_loss", ("every_step", "until_output", "terminal"), ("never",)),
        ("examples_per", ("task", "label"), ("class",)),
        ("heads", ("shared", "task"), ("own", "tasks")),
        ("sampling", ("proportional", "equal", "sqrt"), ("uniform",)),
        ("augment", ("none", "flip", "shift", "flip_shift"), ("shift_flip",)),
        ("dtype", ("float32", "bfloat16"), ("float16",)),
    ],
)
def test_allowed_values(name, allowed, refused):
    where = {"benchmark": "min_mtl"} if name == "examples_per" else {}
    for value in allowed:
        assert getattr(resolve({name: value, **where}), name) == value
    for value in refused:
        with pytest.raises(UserError) as caught:
            resolve({name: value, **where})
        # What was given and what is allowed, in one line.
        message = str(caught.value)
        assert f"--{name}={value}" in message and "\n" not in message
        for choice in FIELDS[name].metadata["choices"] or [FIELDS[name].metadata["low"]]:
            assert str(choice) in message


@pytest.mark.parametrize(
    "given, said",
    [
        ({"minibatch_size": 48}, "--minibatch_size=48 does not divide --batch_size=128"),
        ({"examples_per": "label"}, "--examples_per=label is for min_mtl only; drop it"),
        ({"batch_size": 32}, "--minibatch_size=64 does not divide --batch_size=32"),
        ({"freeze": "modules"}, "--freeze=modules needs a trained network; give --init_from=RUN"),
        ({"init_from": "a run", "imitation": 5}, "--imitation=5 would unlearn"),
        ({"schedule": "one_cycle", "lr_decay": 0.5}, "--lr_decay=0.5 is not for --schedule=one_cycle"),
        ({"schedule": "one_cycle", "lr_every": 3}, "--lr_every=3 is not for --schedule=one_cycle"),
        ({"d_model": 66}, "--d_model=66 is not a multiple of the router's 4 heads"),
    ],
)
def test_settings_that_do_not_go_together(given, said):
    with pytest.raises(UserError, match=said):
        resolve(given)


# --- Settings of other methods


def another(field):
    """An allowed value of a setting that is not its default."""
    meta = field.metadata
    if meta["choices"]:
        return meta["choices"][-1] if field.default != meta["choices"][-1] else meta["choices"][0]
    if field.type is str:
        return f"some {field.name}"
    value = 2 * (field.default or 1)
    return value if meta["high"] is None else min(value, meta["high"])


ONLY_FOR_SOME = [name for name, field in FIELDS.items() if field.metadata["methods"] != METHODS]


def test_what_is_only_for_some_methods():
    of_lrns = ("d_model", "actor", "pay_loss")
    of_ppo = ("minibatch_size", "ppo_epochs", "entropy", "router_lr_scale")
    of_routing = ("blocks", "agents", "policy", "rho")
    assert {*of_lrns, *of_routing} <= set(ONLY_FOR_SOME)
    of_pools = ("pool", "dup", "depth", "heads")
    assert all(FIELDS[name].metadata["methods"] == MODULAR for name in of_pools)
    assert all(FIELDS[name].metadata["methods"] == LRNS for name in of_lrns)
    assert all(FIELDS[name].metadata["methods"] == ("lrn",) for name in of_ppo)
    assert FIELDS["paths"].metadata["methods"] == ("unrouted",)
    assert all(FIELDS[name].metadata["methods"] == ("routing",) for name in of_routing)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ONLY_FOR_SOME)
def test_a_setting_of_another_method_is_refused(name, method):
    field, value = FIELDS[name], another(FIELDS[name])
    # What goes together with it.
    given = {"method": method, name: value, **({"init_from": "a run"} if name == "freeze" else {})}
    if method in field.metadata["methods"]:
        assert getattr(resolve(given), name) == value
        return
    with pytest.raises(UserError) as caught:
        resolve(given)
    message = str(caught.value)
    able = ", ".join(field.metadata["methods"])
    assert f"={value} is not for --method={method} but for {able}; drop it" in message
    assert "\n" not in message
    # Its default is no mistake: what was saved of a run names all of them.
    standing = defaults("digits_mtl", method)[name]
    assert getattr(resolve({"method": method, name: standing}), name) == standing


def test_the_default_method_refuses_too(parsed):
    with pytest.raises(UserError, match="--rho=0.3 is not for --method=lrn but for routing; drop it"):
        parsed("--rho=0.3")
    with pytest.raises(
        UserError, match="--dup=3 is not for --method=shared but for lrn, random_route, unrouted"
    ):
        parsed("--method=shared", "--dup=3")
