"""Runs read from their folders, grouped, tabulated and drawn."""

import csv
import json
import re
import subprocess
import sys

import numpy as np
import pytest

from lrn_tf.errors import UserError
from lrn_tf.results import curves
from lrn_tf.storage import files, runs

SETTINGS = {"benchmark": "cifar_mtl", "dup": 5, "depth": 4, "bonus": 3.0, "seed": 0, "epochs": 3}


def line(epoch, accuracy, unused=3):
    return {
        "epoch": epoch,
        "step": 10 * epoch,
        "train_accuracy": accuracy + 0.1,
        "test_accuracy": accuracy,
        "unused_modules": unused,
        "mean_length": 3.5,
        "step_ms_median": 20.0,
        "seconds": 1.0,
    }


@pytest.fixture
def make(tmp_path):
    """Writes a run's folder: its name, accuracies by epoch, and settings that differ."""

    def make(name, accuracies, **settings):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "config.json").write_text(
            json.dumps(files.seal({"settings": SETTINGS | settings, "about": {"parameters": 7}}))
        )
        lines = [json.dumps(line(i + 1, a)) for i, a in enumerate(accuracies)]
        (folder / "metrics.jsonl").write_text("".join(text + "\n" for text in lines))
        return str(folder)

    return make


def test_runs_that_differ_in_their_seed_are_a_group(make):
    read = [
        runs.read(make("a", [0.1, 0.2, 0.3], seed=1)),
        runs.read(make("b", [0.5, 0.6], bonus=0.0)),
        runs.read(make("c", [0.2, 0.3], seed=0, epochs=2, workdir="elsewhere")),
    ]
    with_bonus, without = runs.group(read)
    assert [run.settings["seed"] for run in with_bonus.runs] == [0, 1]
    assert with_bonus.epochs == 2
    np.testing.assert_array_equal(with_bonus.column("test_accuracy"), [[0.2, 0.3], [0.1, 0.2]])
    assert without.label == "no_bonus" and [run.folder.name for run in without.runs] == ["b"]


@pytest.mark.parametrize(
    "others, labels",
    [
        ([{}], ["cifar_mtl"] * 1),
        ([{"dup": 10}], ["dup_5", "dup_10"]),
        ([{"dup": 10, "bonus": 0.0}], ["dup_5", "dup_10_no_bonus"]),
        ([{"depth": 6}, {"dup": 10}], ["dup_5_depth_4", "dup_5_depth_6", "dup_10_depth_4"]),
        ([{"benchmark": "min_mtl"}], ["cifar_mtl", "min_mtl"]),
        ([{"bonus": 0.3}], ["cifar_mtl", "bonus_0.3"]),
        # A setting that older runs did not have.
        ([{"method": "routing"}], ["cifar_mtl", "routing"]),
    ],
)
def test_labels_say_what_differs_and_no_more(make, others, labels):
    read = [runs.read(make(str(i), [0.1], **other)) for i, other in enumerate([{}, *others])]
    assert [group.label for group in runs.group(read)] == labels


def test_the_table(make):
    folders = [make(str(seed), [0.5, 0.1 * seed], seed=seed) for seed in (1, 2, 4)]
    rows = runs.table(runs.group([runs.read(folder) for folder in folders])).splitlines()
    assert len({len(row) for row in rows}) == 1
    cells = [cell.strip() for cell in rows[2].strip("|").split("|")]
    last = np.array([10, 20, 40])
    assert cells[:5] == [
        "cifar_mtl",
        "3",
        "2",
        f"{last.mean():.1f} ± {last.std(ddof=1):.1f}",
        "50.0 ± 0.0",
    ]
    assert cells[5:] == ["3.0 ± 0.0", "3.50 ± 0.00", "20"]
    (alone,) = runs.group([runs.read(folders[0])])
    assert "±" not in runs.table([alone])


def test_curves_are_drawn_and_every_epoch_is_written(make, tmp_path):
    groups = runs.group([runs.read(make("a", [0.1, 0.2])), runs.read(make("b", [0.3], seed=1))])
    curves.draw(groups, tmp_path / "curves.png", "title")
    curves.write(groups, tmp_path / "curves.csv")
    assert (tmp_path / "curves.png").read_bytes()[:4] == b"\x89PNG"
    with (tmp_path / "curves.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["seed"], row["epoch"], row["test_accuracy"]) for row in rows] == [
        ("0", "1", "0.1"),
        ("0", "2", "0.2"),
        ("1", "1", "0.3"),
    ]


def test_a_half_written_line_does_not_count(make):
    folder = make("a", [0.1, 0.2])
    with open(f"{folder}/metrics.jsonl", "a") as file:
        file.write('{"epoch": 3, "te')
    assert len(runs.read(folder).lines) == 2


@pytest.mark.parametrize(
    "spoil, said",
    [
        (lambda f: (f / "config.json").unlink(), "has no config.json"),
        (lambda f: (f / "metrics.jsonl").unlink(), "has no metrics.jsonl"),
        (lambda f: (f / "metrics.jsonl").write_text('{"epoch": 1'), "has not finished an epoch"),
        (lambda f: (f / "metrics.jsonl").write_text("nothing\n"), "cannot be read as a run"),
        (lambda f: (f / "metrics.jsonl").write_text("3\n"), "cannot be read as a run"),
        (lambda f: (f / "config.json").write_text("{}"), "cannot be read as a run"),
        (lambda f: (f / "config.json").write_bytes(b"\xff\xfe"), "cannot be read as a run"),
    ],
)
def test_what_is_no_run_is_named(make, tmp_path, spoil, said):
    folder = make("a", [0.1])
    spoil(tmp_path / "a")
    with pytest.raises(UserError, match=said) as caught:
        runs.read(folder)
    assert folder in str(caught.value) and "\n" not in str(caught.value)


def compare(*arguments):
    command = [sys.executable, "-m", "lrn_tf.compare", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def test_the_command(make, tmp_path):
    done = compare(make("a", [0.1]), make("b", [0.2], dup=10), f"--output={tmp_path}/new/folder")
    assert done.returncode == 0, done.stderr
    assert re.findall(r"^\| (dup_\d+)", done.stdout, re.MULTILINE) == ["dup_5", "dup_10"]
    assert sorted(path.name for path in (tmp_path / "new/folder").iterdir()) == ["curves.csv", "curves.png"]


@pytest.mark.parametrize(
    "arguments, said",
    [
        ((), "no folder of a run is given; name one or more, see --help"),
        (("/nowhere",), "/nowhere has no config.json; give the folder of a run"),
        (("a", "--ouput=b"), "Unknown command line flag 'ouput'"),
    ],
)
def test_bad_input_is_one_line(arguments, said):
    done = compare(*arguments)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1 and done.stderr.startswith(f"lrn_tf: {said}")


def test_an_output_that_cannot_be_written(make, tmp_path):
    (tmp_path / "file").write_text("")
    done = compare(make("a", [0.1]), f"--output={tmp_path}/file")
    assert done.returncode == 2 and "cannot be written" in done.stderr.splitlines()[0]
