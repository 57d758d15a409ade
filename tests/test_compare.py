"""Runs read from their folders, grouped, tabulated and drawn."""

import csv
import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from made_runs import MIXED, ONLY_NUMBERS, change_settings, make_run

from lrn_tf.errors import UserError
from lrn_tf.results import curves
from lrn_tf.storage import runs


@pytest.fixture
def make(tmp_path):
    """Writes a run's folder: its name, accuracies by epoch, and settings that differ."""
    return lambda name, *given, **settings: make_run(tmp_path / name, *given, **settings)


def test_runs_that_differ_in_their_seed_are_a_group(make):
    read = [
        runs.read(make("a", [0.1, 0.2, 0.3], seed=1)),
        runs.read(make("b", [0.5, 0.6], bonus=0.0)),
        runs.read(make("c", [0.2, 0.3], seed=0, epochs=2, workdir="elsewhere")),
    ]
    with_bonus, without = runs.group(read)
    assert [run.settings["seed"] for run in with_bonus.runs] == [0, 1]
    assert with_bonus.epochs == [1, 2]
    np.testing.assert_array_equal(with_bonus.column("eval_accuracy"), [[0.2, 0.3], [0.1, 0.2]])
    assert without.label == "no_bonus" and [run.folder.name for run in without.runs] == ["b"]


@pytest.mark.parametrize(
    "others, labels",
    [
        ([{"seed": 1}], ["cifar_mtl"]),
        ([{"dup": 10}], ["dup_5", "dup_10"]),
        ([{"dup": 10, "bonus": 0.0}], ["dup_5", "dup_10_no_bonus"]),
        ([{"depth": 6}, {"dup": 10}], ["dup_5_depth_4", "dup_5_depth_6", "dup_10_depth_4"]),
        ([{"benchmark": "min_mtl"}], ["cifar_mtl", "min_mtl"]),
        ([{"bonus": 0.3}], ["cifar_mtl", "bonus_0.3"]),
        ([{"method": "routing"}], ["lrn", "routing"]),
        ([{"method": "routing"}, {"method": "routing", "rho": 0.5}], ["lrn", "routing", "routing_rho_0.5"]),
        ([{"method": "routing"}, {"dup": 10}], ["lrn_dup_5", "routing", "lrn_dup_10"]),
        ([{"validation": 0.1}], ["test", "validation_0.1"]),
        ([{"validation": 0.1, "dup": 10}], ["dup_5_test", "dup_10_validation_0.1"]),
        ([{"epochs": 9, "seed": 1}], ["cifar_mtl"]),
        # A schedule that spans all epochs makes each of them another one.
        ([{"epochs": 9, "schedule": "one_cycle"}], ["cifar_mtl", "epochs_9_one_cycle"]),
    ],
)
def test_labels_say_what_differs_and_no_more(make, others, labels):
    read = [runs.read(make(str(i), [0.1], **other)) for i, other in enumerate([{}, *others])]
    assert [group.label for group in runs.group(read)] == labels


def test_a_seed_counts_once(make):
    """Trained twice for other epochs, it is no second seed, and the longer run is not cut."""
    given = dict(a=dict(epochs=2), b=dict(epochs=3), c=dict(epochs=3, seed=1))
    accuracy = [0.1, 0.2, 0.3]
    read = [runs.read(make(name, accuracy[: g["epochs"]], **g)) for name, g in given.items()]
    groups = runs.group(read)
    assert [[run.folder.name for run in group.runs] for group in groups] == [["a", "c"], ["b"]]
    assert [group.epochs for group in groups] == [[1, 2], [1, 2, 3]]
    assert [group.label for group in groups] == ["cifar_mtl (a)", "cifar_mtl (b)"]


def test_runs_that_were_evaluated_now_and_then_share_the_epochs_that_all_have(make):
    """And those without a common one are rows of their own."""
    given = [([0.1, 0.2, 0.3, 0.4], 1), ([0.5, 0.7], 2), ([0.9], 4)]
    read = [
        runs.read(make(f"{i}", accuracy, seed=i, evaluate_every=every))
        for i, (accuracy, every) in enumerate(given)
    ]
    (group,) = runs.group(read[:2])
    assert group.epochs == [2, 4]
    np.testing.assert_array_equal(group.column("eval_accuracy"), [[0.2, 0.4], [0.5, 0.7]])
    np.testing.assert_array_equal(
        group.stack(lambda run: np.cumsum(run.column("seconds"))), [[2, 4], [1, 2]]
    )
    assert [group.epochs for group in runs.group([read[0], read[2]])] == [[4]]
    alone = runs.read(make("alone", [0.1], seed=3))
    assert [[run.settings["seed"] for run in g.runs] for g in runs.group([read[1], alone])] == [[1], [3]]
    *_, row = runs.table([group]).splitlines()
    assert row.split("|")[3].strip() == "4"


def test_other_tasks_and_modules_of_the_same_name_are_no_seeds(make):
    """As of two lists in Python."""
    given = dict(benchmark="python:tasks", pool="python:kinds")
    read = [runs.read(make(name, [0.1], seed=i, **given)) for i, name in enumerate("abcd")]
    read[1].about["pool"].append("fc: hidden, 2 to 2, 1 modules with weights 2x2")
    read[2] = runs.read(make("e", [0.1], problem=ONLY_NUMBERS, **given))
    groups = runs.group(read)
    assert [[run.folder.name for run in group.runs] for group in groups] == [["a", "d"], ["b"], ["e"]]
    assert [group.label for group in groups] == [f"python:tasks ({name})" for name in "abe"]


def test_other_functions_and_folders_make_no_seeds(make):
    """Tasks that are called alike may have other examples; where they lie is no difference."""
    ofs = ["/a/tasks.py:plain", "/b/tasks.py:plain", "/b/tasks.py:shuffled", "/a/v1", "/a/v2"]
    read = [runs.read(make(str(i), [0.1], benchmark=of, seed=i)) for i, of in enumerate(ofs)]
    groups = runs.group(read)
    assert [[run.folder.name for run in group.runs] for group in groups] == [
        ["0", "1"],
        ["2"],
        ["3"],
        ["4"],
    ]
    assert [group.label for group in groups] == ["tasks.py:plain", "tasks.py:shuffled", "v1", "v2"]


def test_a_folder_is_called_by_its_name(make):
    (group,) = runs.group([runs.read(make("a", [0.1], benchmark="/data/my pictures"))])
    assert group.label == "my pictures"


def test_the_table(make):
    folders = [make(str(seed), [0.5, 0.1 * seed], seed=seed) for seed in (1, 2, 4)]
    rows = runs.table(runs.group([runs.read(folder) for folder in folders])).splitlines()
    assert len({len(row) for row in rows}) == 1
    cells = [cell.strip() for cell in rows[2].strip("|").split("|")]
    last = np.array([10, 20, 40])
    assert cells[:6] == [
        "cifar_mtl",
        "3",
        "2",
        "test",
        f"{last.mean():.1f} ± {last.std(ddof=1):.1f}",
        "50.0 ± 0.0",
    ]
    assert cells[6:] == ["1.250 ± 0.000", "3.0 ± 0.0", "3.50 ± 0.00", "20"]
    (alone,) = runs.group([runs.read(folders[0])])
    assert "±" not in runs.table([alone])


def test_curves_are_drawn_and_every_epoch_is_written(make, tmp_path):
    groups = runs.group([runs.read(make("a", [0.1, 0.2])), runs.read(make("b", [0.3], seed=1))])
    curves.draw(groups, tmp_path / "curves.png", "title")
    curves.write(groups, tmp_path / "curves.csv")
    assert (tmp_path / "curves.png").read_bytes()[:4] == b"\x89PNG"
    with (tmp_path / "curves.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["seed"], row["epoch"], row["eval_accuracy"]) for row in rows] == [
        ("0", "1", "0.1"),
        ("0", "2", "0.2"),
        ("1", "1", "0.3"),
    ]


def test_validation_is_not_taken_for_a_test(make, tmp_path):
    folders = [make("a", [0.1, 0.2]), make("b", [0.3], validation=0.1)]
    groups = runs.group([runs.read(folder) for folder in folders])
    rows = runs.table(groups).splitlines()
    assert [cell.strip() for cell in rows[0].split("|")[4:7]] == ["split", "accuracy, %", "best epoch, %"]
    assert [row.split("|")[4].strip() for row in rows[2:]] == ["test", "validation"]
    curves.write(groups, tmp_path / "curves.csv")
    with (tmp_path / "curves.csv").open() as file:
        assert [row["split"] for row in csv.DictReader(file)] == ["test", "test", "validation"]
    for some, said in ((groups, "test or validation"), (groups[1:], "validation"), (groups[:1], "test")):
        assert curves.figure(some).axes[0].get_ylabel() == f"{said} accuracy, %"


def test_a_method_that_does_not_route_has_no_routes(make, tmp_path):
    groups = runs.group([runs.read(make("a", [0.1], None, method="shared"))])
    (*_, row) = runs.table(groups).splitlines()
    assert [cell.strip() for cell in row.split("|")[-4:-2]] == ["-", "-"]
    curves.write(groups, tmp_path / "curves.csv")
    with (tmp_path / "curves.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert (row["eval_accuracy"], row["unused_modules"], row["mean_length"]) == ("0.1", "", "")


def test_runs_without_an_accuracy(make, tmp_path):
    groups = runs.group([runs.read(make("a", [None, None], problem=ONLY_NUMBERS))])
    (*_, row) = runs.table(groups).splitlines()
    assert [cell.strip() for cell in row.split("|")[4:8]] == ["test", "-", "-", "1.250"]
    curves.write(groups, tmp_path / "curves.csv")
    with (tmp_path / "curves.csv").open() as file:
        (*_, row) = csv.DictReader(file)
    assert [row[name] for name in ("eval_accuracy", "train_accuracy", "eval_loss", "train_loss")] == [
        *("", "", "1.25", "1.5")
    ]


@pytest.mark.parametrize(
    "of, panels",
    [
        ([{}], ["test accuracy, %", "unused modules"]),
        ([{"problem": MIXED}], ["test accuracy, %", "unused modules"]),
        ([{"problem": ONLY_NUMBERS}], ["test loss", "unused modules"]),
        ([{"problem": ONLY_NUMBERS}, {}], ["test accuracy, %", "test loss", "unused modules"]),
        ([{"routes": None}], ["test accuracy, %"]),
    ],
)
def test_what_there_is_is_drawn(make, of, panels):
    groups = [
        runs.Group(f"{i}", [runs.read(make(f"{i}", [0.1, 0.2], **given))]) for i, given in enumerate(of)
    ]
    figure = curves.figure(groups, panels=curves.panels_of(groups))
    assert [axes.get_ylabel() for axes in figure.axes] == panels
    for axes in figure.axes:
        assert any(np.isfinite(line.get_ydata()).all() for line in axes.lines)


def test_what_a_stranger_calls_things_moves_no_cursor(make):
    folders = [make("a", [0.1]), make("b", [0.1])]
    change_settings(folders[1], lambda settings: settings.update(benchmark="a.py:\x1b[2J\nx"))
    table = runs.table(runs.group([runs.read(folder) for folder in folders]))
    assert "| a.py:\\x1b[2J\\nx |" in table and "\x1b" not in table


@pytest.mark.parametrize("text", [r"$\foo$", "$", "$$", "5 $ or 6 $", "a_b^{c}"])
def test_text_in_a_picture_is_no_formula(make, text):
    group = runs.Group(text, [runs.read(make("a", [0.1]))])
    drawn = curves.figure([group], text)
    assert curves.png(drawn)[:4] == b"\x89PNG"
    assert drawn.get_suptitle().replace(r"\$", "$") == text


def test_a_setting_that_came_later_has_its_default_in_earlier_runs(make, tmp_path):
    given = dict(method="routing", benchmark="digits_mtl")
    folders = [make("a", [0.1], **given), make("b", [0.1], **given, rho=0.5)]
    folders.append(make("c", [0.1], **given, seed=1))
    change_settings(folders[0], lambda settings: settings.pop("rho"))
    one, other = runs.group(list(map(runs.read, folders)))
    assert (one.label, other.label) == ("digits_mtl", "rho_0.5")
    assert [run.folder.name for run in one.runs] == ["a", "c"]


def test_a_run_on_pictures_is_read_wherever_they_are(make, tmp_path, monkeypatch):
    """Also after they were deleted: what it has learned is still there."""
    (tmp_path / "pictures").mkdir()
    monkeypatch.chdir(tmp_path)
    folder = make("a", [0.1], benchmark="pictures")
    monkeypatch.chdir("/")
    assert runs.read(folder).settings["benchmark"] == str(tmp_path / "pictures")
    (tmp_path / "pictures").rmdir()
    assert runs.read(folder).asked.benchmark == str(tmp_path / "pictures")


def test_a_half_written_line_does_not_count(make):
    folder = make("a", [0.1, 0.2])
    with open(f"{folder}/metrics.jsonl", "a") as file:
        file.write('{"epoch": 3, "te')
    assert len(runs.read(folder).lines) == 2


def make_pipe(path):
    """In place of a file; whoever opens it waits for ever."""
    path.unlink()
    os.mkfifo(path)


def write_config(folder, **settings):
    change_settings(folder, lambda held: held.update(settings))


def write_line(folder, **values):
    held = json.loads((folder / "metrics.jsonl").read_text())
    (folder / "metrics.jsonl").write_text(json.dumps(held | values) + "\n")


@pytest.mark.parametrize(
    "spoil, said",
    [
        (lambda f: (f / "config.json").unlink(), "has no config.json"),
        (lambda f: make_pipe(f / "config.json"), "Not a regular file"),
        (lambda f: make_pipe(f / "metrics.jsonl"), "Not a regular file"),
        (lambda f: (f / "metrics.jsonl").unlink(), "has no metrics.jsonl"),
        (lambda f: (f / "metrics.jsonl").write_text('{"epoch": 1'), "has not been evaluated yet"),
        (lambda f: (f / "metrics.jsonl").write_text("nothing\n"), "cannot be read as a run"),
        (lambda f: (f / "metrics.jsonl").write_text("3\n"), "cannot be read as a run"),
        (lambda f: (f / "config.json").write_text("{}"), "cannot be read as a run"),
        (lambda f: (f / "config.json").write_bytes(b"\xff\xfe"), "cannot be read as a run"),
        (lambda f: (f / "config.json").write_bytes(b"[" * 10**5), "it is nested too deeply"),
        (lambda f: write_config(f, seed="x"), "its settings are none of this version .* --seed is str"),
        (lambda f: write_config(f, bonus=[3]), "its settings are none of this version .* --bonus is list"),
        (lambda f: write_config(f, benchmark="\ud800"), "--benchmark=.* is not UTF-8"),
        (lambda f: write_config(f, wings=2), "there is no setting 'wings'"),
        (
            lambda f: write_line(f, eval_loss=None),
            "line 1 is damaged .*eval_loss is null, not a finite number",
        ),
        (lambda f: write_line(f, split="train"), "split is 'train', not test or validation"),
        (
            lambda f: write_line(f, split="validation"),
            "epoch 1 of metrics.jsonl has other tasks or examples",
        ),
        (lambda f: write_line(f, eval_accuracy_per_task={}), "has other tasks or examples"),
        (lambda f: write_line(f, eval_mae_per_task={"left": 1}), "has other tasks or examples"),
        (lambda f: write_line(f, eval_r2_per_task={"left": 1}), "has other tasks or examples"),
        (lambda f: write_line(f, eval_accuracy=None), "has other tasks or examples"),
        (lambda f: (f / "metrics.jsonl").write_bytes(b"[" * 10**5 + b"\n"), "it is nested too deeply"),
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
    # A folder's name need not be UTF-8.
    folders = make("a\udcff", [0.1]), make("b", [0.2], dup=10)
    done = compare(*folders, f"--output={tmp_path}/new/folder", r"--title=$\foo$")
    assert done.returncode == 0, done.stderr
    assert re.findall(r"^\| (dup_\d+)", done.stdout, re.MULTILINE) == ["dup_5", "dup_10"]
    assert sorted(path.name for path in (tmp_path / "new/folder").iterdir()) == ["curves.csv", "curves.png"]


def test_nothing_is_written_if_nothing_can_be_drawn(make, tmp_path):
    program = "import matplotlib.figure as m; del m.Figure.savefig; from lrn_tf.compare import *"
    program = [sys.executable, "-c", f"{program}; program.run(main, takes='folder')"]
    done = subprocess.run([*program, make("a", [0.1]), f"--output={tmp_path}/new"], capture_output=True)
    assert b"no attribute 'savefig'" in done.stderr and not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    "arguments, said",
    [
        ((), "no folder of a run is given; name one or more, see --help"),
        (("/nowhere",), "/nowhere has no config.json; give the folder of a run"),
        (("/nowhere\udcff",), "/nowhere\\udcff has no config.json"),
        (("a", "--ouput=b"), "Unknown command line flag 'ouput'"),
        (("a", "--output=b\udcff"), "--output=b\\udcff is not UTF-8; give one that is"),
        (("a", "--title=\udcff"), "--title=\\udcff is not UTF-8; give one that is"),
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
