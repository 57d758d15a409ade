"""Settings: defaults, presets, what is refused, and the flags made of them."""

import dataclasses
import itertools
import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver

from lrn_tf import main
from lrn_tf.errors import UserError
from lrn_tf.settings import LRNS, SGD_METHODS, Settings, resolve

FIELDS = {field.name: field for field in dataclasses.fields(Settings)}
FLAG_FILES = pathlib.Path(__file__).parents[1] / "flags"
BENCHMARKS = ("digits_mtl", "mnist_mtl", "cifar_mtl", "min_mtl")

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
    reward="every_step",
    image_size=0,
    validation=0.0,
    max_steps=0,
)
LITERAL = dict(PAPER, actor_scale=1.0, image_scale=1.0, bonus=1.0)
SMALL = dict(PAPER, dup=5, depth=4)
KNOT = dict(SMALL, image_size=16, validation=0.1, max_steps=520)
DIGITS = dict(SMALL, epochs=15, learning_rate=1e-3, lr_decay=0.82, d_model=64)
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


@pytest.mark.parametrize("benchmark", BENCHMARKS)
def test_a_benchmark_alone_presets_the_paper_or_a_small_run(benchmark, parsed):
    expected = DIGITS if benchmark == "digits_mtl" else PAPER
    assert part(parsed(f"--benchmark={benchmark}"), expected) == expected


@pytest.mark.parametrize("method", SGD_METHODS)
def test_methods_with_a_trunk_have_the_schedule_of_routing_networks(method):
    settings = resolve({"benchmark": "cifar_mtl", "method": method})
    np.testing.assert_allclose(
        [settings.rate(epoch) for epoch in (0, 19, 20, 40)], [1e-2, 1e-2, 1e-3, 1e-4]
    )
    assert resolve({"benchmark": "mnist_mtl", "method": method}).rho == 0.3
    assert settings.rho == 0
    assert "dup" not in settings.name


@pytest.mark.parametrize("method", LRNS)
def test_methods_with_a_router_have_the_schedule_of_the_paper(method):
    settings = resolve({"benchmark": "cifar_mtl", "method": method})
    np.testing.assert_allclose(
        [settings.rate(epoch) for epoch in (0, 1, 100)], 1e-4 * 0.97 ** np.array([0, 1, 100])
    )
    assert f"{method}_dup_10_depth_6_seed_0" in settings.workdir


@pytest.mark.parametrize("path", sorted(FLAG_FILES.glob("*.cfg")), ids=lambda path: path.stem)
def test_flag_files(path, parsed, monkeypatch):
    monkeypatch.chdir(FLAG_FILES.parent)  # one file may name another
    settings = parsed(f"--flagfile={path}")
    benchmark, size = re.fullmatch(r"([a-z]+_mtl)_?([a-z]*)", path.stem).groups()
    expected = {"paper": PAPER, "literal": LITERAL, "small": SMALL, "knot": KNOT, "": DIGITS}[size]
    assert settings.benchmark == benchmark
    assert part(settings, expected) == expected
    if size == "paper":
        # It names what the paper names, whatever the defaults come to be.
        named = {line[2:].partition("=")[0] for line in path.read_text().splitlines() if line[:2] == "--"}
        assert named == {"benchmark", "learning_rate"} | OF_THE_PAPER - {"method", "examples_per"}


def test_flag_files_exist_for_every_benchmark():
    names = {path.stem for path in FLAG_FILES.glob("*.cfg")}
    for benchmark in set(BENCHMARKS) - {"digits_mtl"}:
        assert {f"{benchmark}_{size}" for size in ("paper", "literal", "small")} <= names
    assert "digits_mtl" in names


def test_a_flag_after_a_flag_file_wins(parsed):
    settings = parsed(f"--flagfile={FLAG_FILES / 'cifar_mtl_paper.cfg'}", "--dup=3", "--noresume")
    assert (settings.benchmark, settings.dup, settings.depth, settings.resume) == ("cifar_mtl", 3, 6, False)


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
    others = [dict(benchmark="min_mtl"), dict(dup=6), dict(depth=5), dict(seed=1), dict(bonus=0.0)]
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
        ("entropy", (0.0,), (-0.01, float("nan"), float("inf"))),
        ("validation", (0.0, 0.5), (-0.1, 0.51, float("nan"))),
        ("d_model", (4, 12), (0, 2, -4)),
        ("image_size", (0, 4, 512), (-1, 3, 513)),
        ("actor_scale", (0.0, 3.0), (-1.0, float("nan"), float("inf"))),
        ("image_scale", (0.0, 0.1), (-1.0, float("nan"), float("inf"))),
        ("seed", (0, 2**31 - 1), (-1, 2**31)),
        ("max_steps", (0, 1), (-1,)),
        ("checkpoint_every", (0, 1), (-1,)),
        ("pictures_every", (0, 1), (-1,)),
        ("benchmark", BENCHMARKS, ("", "mnist", "MNIST_MTL")),
        ("pool", ("paper", "pyramid"), ("papers",)),
        ("method", ("lrn",), ("none",)),
        ("reward", ("every_step", "until_output", "terminal"), ("never",)),
        ("examples_per", ("task", "label"), ("class",)),
        ("augment", ("none", "flip", "flip_shift"), ("shift",)),
        ("dtype", ("float32", "bfloat16"), ("float16",)),
    ],
)
def test_allowed_values(name, allowed, refused):
    for value in allowed:
        assert getattr(resolve({name: value}), name) == value
    for value in refused:
        with pytest.raises(UserError) as caught:
            resolve({name: value})
        # What was given and what is allowed, in one line.
        message = str(caught.value)
        assert f"--{name}={value}" in message and "\n" not in message
        for choice in FIELDS[name].metadata["choices"] or [FIELDS[name].metadata["low"]]:
            assert str(choice) in message


@pytest.mark.parametrize(
    "given, said",
    [
        ({"minibatch_size": 48}, "--minibatch_size=48 does not divide --batch_size=128"),
        ({"batch_size": 32}, "--minibatch_size=64 does not divide --batch_size=32"),
        ({"d_model": 66}, "--d_model=66 is not a multiple of the router's 4 heads"),
    ],
)
def test_settings_that_do_not_go_together(given, said):
    with pytest.raises(UserError, match=said):
        resolve(given)


@pytest.mark.parametrize(
    "program",
    [["-m", "lrn_tf.main"], ["-c", "from lrn_tf.main import console; console()"]],
    ids=["module", "lrn-tf"],
)
def test_help_lists_every_setting(program):
    shown = subprocess.run([sys.executable, *program, "--help"], capture_output=True, text=True, timeout=60)
    assert not shown.stderr
    # As it was before the lines were broken.
    text = " ".join(shown.stdout.split())
    for field in FIELDS.values():
        flag = f"--[no]{field.name}" if field.type is bool else f"--{field.name}"
        assert f"{flag}: {' '.join(field.metadata['help'].split())}. Default: " in text
    assert "Default: 10; 5 for digits_mtl (an integer)" in text
    assert "Default: 0.97; 0.82 for digits_mtl with --method=lrn|random_route; 0.1 for --method=rou" in text
