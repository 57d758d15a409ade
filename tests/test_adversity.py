"""Bad input at the command line: one line on stderr, exit code 2, nothing half-written."""

import os
import re
import subprocess
import sys

import pytest
import requests
import tensorflow as tf
from made_runs import ABOUT

from lrn_tf import main
from lrn_tf.errors import UserError
from lrn_tf.settings.resolve import resolve
from lrn_tf.storage.workdir import Workdir
from lrn_tf.training import train


def command(folder, *arguments, options=()):
    """Runs the program in a folder."""
    # The variable, which the tests themselves set, would bring TensorFlow's messages back.
    environment = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    return subprocess.run(
        [sys.executable, *options, "-m", "lrn_tf.main", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "here").mkdir()
    return tmp_path / "here"


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["--benchmark=imagenet"], ["--benchmark=imagenet is unknown", "digits_mtl, mnist_mtl, cifar_mtl"]),
        (
            ["--pool=papers"],
            [
                "--pool=papers is unknown",
                "paper, residual, wide_1, wide_2, wide_4, transformer, mixed, FILE",
            ],
        ),
        (["--method=sgd"], ["--method=sgd is unknown", "lrn"]),
        (["--pay_loss=never"], ["every_step, until_output, terminal"]),
        (["--heads=mine"], ["--heads=mine is unknown", "shared, task"]),
        (
            ["--method=shared", "--dup=3"],
            ["--dup=3 is not for --method=shared but for lrn, random_route, unrouted"],
        ),
        (["--dtype=float16"], ["float32, bfloat16"]),
        (["--dupp=3"], ["'dupp'", "Did you mean: dup"]),
        (["--no_such_flag"], ["no_such_flag"]),
        (["--dup=many"], ["--dup=many", "invalid literal for int"]),
        (["--dup=2.5"], ["--dup=2.5"]),
        (["--learning_rate=fast"], ["--learning_rate=fast"]),
        (["--resume=perhaps"], ["--resume=perhaps"]),
        (["--dup="], ["--dup="]),
        (["--depth"], ["--depth"]),
        (["--dup=0"], ["--dup=0 is out of range", "1 to 1000"]),
        (["--dup=-1"], ["--dup=-1 is out of range"]),
        (["--depth=0"], ["--depth=0 is out of range", "1 to 64"]),
        (["--depth=999999999999999999999"], ["out of range"]),
        (["--learning_rate=-0.1"], ["--learning_rate=-0.1 is out of range"]),
        (["--learning_rate=nan"], ["--learning_rate=nan is out of range"]),
        (["--learning_rate=inf"], ["--learning_rate=inf is out of range"]),
        (["--lr_decay=1.5"], ["--lr_decay=1.5 is out of range", "0.0 to 1.0"]),
        (["--batch_size=100"], ["--minibatch_size=64 does not divide --batch_size=100"]),
        (["--d_model=30"], ["--d_model=30 is not a multiple"]),
        (["--image_size=2"], ["--image_size=2 is out of range", "4 to 512"]),
        (["--flagfile=missing.cfg"], ["missing.cfg"]),
        (["--workdir=r\udcff"], [r"--workdir=r\udcff is not UTF-8"]),
        (["--export_dir=r\udcff"], [r"--export_dir=r\udcff is not UTF-8"]),
        (["cifar_mtl"], ["'cifar_mtl' is no flag", "--name=value"]),
        (["--dup=3", "junk", "--depth=4"], ["'junk' is no flag"]),
        (["-"], ["'-' is no flag"]),
        ([""], ["'' is no flag"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_refused_at_once(folder, arguments, said):
    ended = command(folder, *arguments)
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert re.fullmatch(r"lrn_tf: .+\n", ended.stderr), ended.stderr
    for part in said:
        assert part in ended.stderr
    assert not list(folder.iterdir())


@pytest.mark.parametrize("argument", ["--dupp=3", "--dup=0", "--help"])
def test_flags_are_answered_before_anything_slow_is_imported(folder, argument):
    """Neither a mistyped flag nor --help should cost the seconds that TensorFlow takes."""
    ended = command(folder, argument, options=["-X", "importtime"])
    imported = {line.split("|")[-1].strip() for line in ended.stderr.splitlines() if "|" in line}
    assert "lrn_tf.settings.resolve" in imported
    slow = {"tensorflow", "keras", "numpy", "matplotlib", "sklearn", "tensorflow_datasets"}
    assert not imported & slow


SETS = "TF_ENABLE_ONEDNN_OPTS", "TF_CUDNN_USE_AUTOTUNE", "XLA_FLAGS"
ASKS = f"import os, lrn_tf; print(*(os.environ.get(name) for name in {SETS}), sep=', ')"
TUNING = "--xla_gpu_autotune_level=0 --xla_gpu_enable_triton_gemm=false"


@pytest.mark.parametrize(
    "before, given, said",
    [
        ("", {}, f"1, 0, {TUNING}"),
        # The user's word counts.
        ("", {"TF_ENABLE_ONEDNN_OPTS": "0", "TF_CUDNN_USE_AUTOTUNE": "1"}, f"0, 1, {TUNING}"),
        (
            "",
            {"XLA_FLAGS": "--xla_gpu_autotune_level=4 --mine"},
            "1, 0, --xla_gpu_autotune_level=4 --mine --xla_gpu_enable_triton_gemm=false",
        ),
        ("", {"XLA_FLAGS": TUNING}, f"1, 0, {TUNING}"),
        # It has been read already.
        ("import sys; sys.modules['tensorflow'] = sys; ", {}, "None, None, None"),
    ],
)
def test_tensorflow_is_tuned_before_it_starts(before, given, said):
    environment = {name: value for name, value in os.environ.items() if name not in SETS} | given
    done = subprocess.run(
        [sys.executable, "-c", before + ASKS], env=environment, capture_output=True, text=True
    )
    assert done.stdout == f"{said}\n"


def held(folder, **given):
    """A folder that holds a run."""
    Workdir(resolve({"workdir": str(folder), **given})).create(ABOUT)
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["--dup=4", "--seed=1"], "--dup was 5, is 4; --seed was 0, is 1"),
        (["--noresume"], "drop --noresume to continue it or give another --workdir"),
    ],
)
def test_a_workdir_that_holds_another_run(folder, arguments, said):
    before = held(folder)
    ended = command(folder, "--workdir=.", *arguments)
    assert ended.returncode == 2
    assert re.fullmatch(r"lrn_tf: .+\n", ended.stderr) and said in ended.stderr
    assert {path: path.read_bytes() for path in before} == before
    assert len(list(folder.rglob("*"))) == len(before) + 1


def test_a_workdir_whose_config_cannot_be_read(folder):
    (folder / "config.json").write_text('{"settings": ')
    ended = command(folder, "--workdir=.")
    assert ended.returncode == 2
    assert re.fullmatch(
        r"lrn_tf: config.json cannot be read \(.+\); delete it .*, or give another --workdir\n",
        ended.stderr,
    )


def test_a_workdir_below_a_file(folder):
    """A real process that comes as far as TensorFlow: its messages are not shown."""
    (folder / "file").write_text("kept")
    ended = command(folder, "--workdir=file/run", "--dup=1", "--depth=3", "--d_model=16")
    assert ended.returncode == 2
    *sizes, last = ended.stderr.splitlines()
    assert re.fullmatch(r"lrn_tf: --workdir=file/run cannot be written \(.+\); give another folder", last)
    assert [line.partition(":")[0] for line in sizes] == ["digits_mtl", "lrn", "memory", "device"]
    assert (folder / "file").read_text() == "kept" and len(list(folder.iterdir())) == 1


@pytest.fixture
def refused(folder, monkeypatch):
    """Starts a run in this process, in which TensorFlow is there already; returns why it is refused."""
    monkeypatch.setattr(train, "start", lambda settings: ("none", tf.distribute.get_strategy()))

    def refuse(**given):
        settings = resolve({"workdir": str(folder / "run"), **given})
        with pytest.raises(UserError) as caught:
            main.train(settings)
        assert "\n" not in str(caught.value)
        assert not (folder / "run").exists()
        return str(caught.value)

    return refuse


@pytest.mark.parametrize(
    "pool, smallest", [("paper", 2), ("residual", 3), ("wide_2", 4), ("transformer", 2), ("mixed", 3)]
)
def test_a_depth_in_which_no_network_fits(refused, pool, smallest):
    said = refused(depth=1, pool=pool)
    assert f"--depth=1 --pool={pool}" in said and f"the smallest depth that fits is {smallest}" in said


def test_a_batch_larger_than_the_training_set(refused):
    said = refused(batch_size=1 << 16, dup=1, d_model=16)
    assert "--batch_size=65536 is more than the 14" in said and "choose a smaller one" in said


@pytest.mark.parametrize(
    "benchmark, remedy",
    [
        ("mnist_mtl", r"tfds\.load\('mnist', data_dir='.*nothing'\)"),
        ("cifar_mtl", r"tfds\.load\('cifar100', data_dir='.*nothing'\)"),
        ("min_mtl", r"nothing.*\.jpg"),
    ],
)
def test_missing_data_and_no_network(refused, folder, monkeypatch, capsys, benchmark, remedy):
    def no_network(*_, **__):
        raise requests.ConnectionError("no network")

    monkeypatch.setattr(requests, "head", no_network)
    (folder / "nothing").mkdir()
    said = refused(benchmark=benchmark, data_dir=str(folder / "nothing"))
    assert re.search(remedy, said), said
    assert re.search(r"--benchmark=digits_mtl,?.* works offline", said)
    assert not list((folder / "nothing").iterdir())


def test_an_interrupted_run_says_how_to_go_on(monkeypatch, capsys):
    def interrupted(argv):
        raise KeyboardInterrupt

    monkeypatch.setattr(main, "define_flags", lambda: None)
    monkeypatch.setattr(sys, "argv", ["lrn_tf"])
    with pytest.raises(SystemExit) as ended:
        main.run(interrupted)
    assert ended.value.code == 130
    assert capsys.readouterr().err == "\nstopped; the same command continues from the last checkpoint\n"


def test_a_bug_keeps_its_traceback(monkeypatch):
    """Only what is the user's to mend becomes one line."""

    def wrong(argv):
        raise ZeroDivisionError

    monkeypatch.setattr(main, "define_flags", lambda: None)
    monkeypatch.setattr(sys, "argv", ["lrn_tf"])
    with pytest.raises(ZeroDivisionError):
        main.run(wrong)
