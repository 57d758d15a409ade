"""The folder of a run: who may use it, config.json and metrics.jsonl."""

import dataclasses
import importlib.metadata
import json
import os
import pathlib
import re
import resource
import subprocess
import sys

import pytest
from made_runs import ABOUT, MIXED, POOL, change_settings, metrics

from lrn_tf.data.problem import differences
from lrn_tf.errors import UserError
from lrn_tf.settings.resolve import resolve
from lrn_tf.settings.table import FIELDS, Settings
from lrn_tf.storage import workdir as workdir_module
from lrn_tf.storage.config import unlike
from lrn_tf.storage.files import seal
from lrn_tf.storage.workdir import Workdir

# What a run may be continued with although it differs.
FREE = {"data_dir", "workdir", "export_dir", "epochs", "max_steps", "resume"}
FREE |= {"evaluate_every", "checkpoint_every", "pictures_every", "profile", "distribute", "cache"}
REPOSITORY = pathlib.Path(workdir_module.__file__).resolve().parents[2]


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "runs" / "one"


def make(folder, **given):
    return Workdir(resolve({"workdir": str(folder), **given}))


def refused(workdir):
    """The one line with which a folder is refused."""
    with pytest.raises(UserError) as caught:
        workdir.check()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def another(field):
    """An allowed value of a setting that is not the one it has."""
    value = getattr(resolve({}), field.name)
    if field.metadata["choices"]:
        return next((choice for choice in field.metadata["choices"] if choice != value), None)
    if field.type is bool:
        return not value
    if field.type is str:
        return f"{value}x"
    return {"minibatch_size": 32, "lr_decay": 0.5, "validation": 0.25}.get(field.name, value + 128)


def test_a_new_folder_is_not_touched_before_create(folder):
    make(folder).check()
    make(folder, resume=False).check()
    assert not folder.parent.exists()
    make(folder).create(ABOUT)
    assert sorted(path.name for path in folder.iterdir()) == ["checkpoints", "config.json"]


def test_config_tells_how_the_run_came_about(folder):
    make(folder, dup=3, seed=4).create(ABOUT)
    config = json.loads((folder / "config.json").read_text())
    assert config["settings"] == dataclasses.asdict(resolve({"workdir": str(folder), "dup": 3, "seed": 4}))
    assert {"lrn_tf", "tensorflow", "keras", "keras-nlp", "numpy"} <= set(config["versions"])
    for package, version in config["versions"].items():
        assert version == importlib.metadata.version(package)
    git = ["git", "-C", str(REPOSITORY)]
    top = subprocess.run([*git, "rev-parse", "--show-toplevel"], capture_output=True, text=True)
    if top.returncode or pathlib.Path(top.stdout.strip()) != REPOSITORY:
        assert config["git_revision"] is None
    else:
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
        assert config["git_revision"].removesuffix("+") == head.stdout.strip()


@pytest.mark.parametrize("given", [None, "0", "1"])
def test_config_tells_whether_onednn_computed(folder, given, monkeypatch):
    monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS", raising=False)
    if given:
        monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", given)
    make(folder).create(ABOUT)
    assert json.loads((folder / "config.json").read_text())["environment"] == {
        "TF_ENABLE_ONEDNN_OPTS": given
    }


def test_no_revision_of_a_repository_that_only_surrounds_the_package(tmp_path, monkeypatch):
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    module = tmp_path / "site-packages" / "lrn_tf" / "storage" / "workdir.py"
    module.parent.mkdir(parents=True)
    monkeypatch.setattr(workdir_module, "__file__", str(module))
    make(tmp_path / "run").create(ABOUT)
    assert json.loads((tmp_path / "run" / "config.json").read_text())["git_revision"] is None


@pytest.mark.parametrize("field", FIELDS.values(), ids=lambda field: field.name)
def test_which_settings_may_differ_from_the_run_held(folder, field):
    value = another(field)
    if value is None:
        pytest.skip("has one value only")
    make(folder).create(ABOUT)
    held = json.loads((folder / "config.json").read_text())["settings"]
    # Directly, as a few values would be refused together with others.
    asked = Workdir(dataclasses.replace(Settings(**held), **{field.name: value}))
    asked.path, asked._config = folder, folder / "config.json"
    if field.name == "resume":
        assert "drop --noresume" in refused(asked)
    elif field.name in FREE:
        asked.check()
    else:
        said = refused(asked)
        assert f"(--{field.name} was {held[field.name]}, is {value})" in said
        assert "give another --workdir" in said


def test_a_run_from_before_a_setting_is_continued_without_it(folder):
    make(folder).create(ABOUT)
    change_settings(folder, lambda settings: settings.pop("core"))
    make(folder).check()
    assert "(--core was 0.0, is 1.0)" in refused(make(folder, core=1))


def test_all_differences_are_named_at_once(folder):
    make(folder, dup=3).create(ABOUT)
    said = refused(make(folder, dup=4, seed=1, epochs=2))
    assert "--dup was 3, is 4" in said and "--seed was 0, is 1" in said and "epochs" not in said


def test_a_held_run_is_not_changed_by_a_refusal(folder):
    make(folder).create(ABOUT)
    before = (folder / "config.json").read_bytes()
    refused(make(folder, dup=9))
    refused(make(folder, resume=False))
    assert (folder / "config.json").read_bytes() == before


def test_continuing_records_the_new_end(folder):
    make(folder, max_steps=5).create(ABOUT)
    continued = make(folder, max_steps=9)
    continued.check()
    continued.create(ABOUT)
    assert json.loads((folder / "config.json").read_text())["settings"]["max_steps"] == 9


def changed(problem, part=None, **values):
    """The problem with other values; or `(inputs or tasks, which, values)` of a part of it."""
    if part is not None:
        of, i, of_part = part
        parts = list(getattr(problem, of))
        parts[i] = dataclasses.replace(parts[i], **of_part)
        values = {of: tuple(parts)}
    return dataclasses.replace(problem, **values)


LEARNED = {**ABOUT, "problem": MIXED}


@pytest.mark.parametrize(
    "other, said",
    [
        ({"problem": changed(MIXED, heads="task")}, "heads were shared, are task"),
        (
            {"problem": changed(MIXED, ("inputs", 0, {"shape": (4, 5, 1)}))},
            "shape of input images was (4, 4, 1), is (4, 5, 1)",
        ),
        (
            {"problem": changed(MIXED, ("inputs", 1, {"name": "table"}))},
            "name of input rows was rows, is table",
        ),
        (
            {"problem": changed(MIXED, ("inputs", 2, {"vocabulary": 12}))},
            "vocabulary of input tokens was 11, is 12",
        ),
        (
            {"problem": changed(MIXED, ("inputs", 0, {"mean": (1.001,)}))},
            "mean of input images was (1.0,), is (1.001,)",
        ),
        (
            {"problem": changed(MIXED, ("tasks", 1, {"std": (0.5, 4.0)}))},
            "std of task size was (0.5, 3.0), is (0.5, 4.0)",
        ),
        ({"problem": changed(MIXED, ("tasks", 1, {"mean": (), "std": ()}))}, "mean of task size was (1.5"),
        (
            {"problem": changed(MIXED, ("tasks", 0, {"answers": ("no", "yes", "never")}))},
            "answers of task left was ('no', 'yes', 'perhaps'), is ('no', 'yes', 'never')",
        ),
        (
            {"problem": changed(MIXED, ("tasks", 2, {"weight": 0.5}))},
            "weight of task topics was 1.0, is 0.5",
        ),
        ({"problem": changed(MIXED, tasks=MIXED.tasks[:2])}, "there is no task topics"),
        ({"problem": changed(MIXED, inputs=MIXED.inputs[:1])}, "there is no input rows"),
        ({"training_examples": 1279}, "there were 1,280 training examples, there are 1,279"),
        ({"eval_examples": 10}, "there were 9 eval examples, there are 10"),
        ({"pool": []}, "in its pool there was conv: input, 4x4x1 to 2, 5 modules with weights 16x2, 2;"),
        ({"pool": [*POOL, "fc: hidden"]}, "in its pool there was nothing; there is fc: hidden"),
    ],
)
def test_a_run_is_not_continued_on_other_data_or_with_another_pool(folder, other, said):
    make(folder).create(LEARNED)
    before = (folder / "config.json").read_bytes()
    with pytest.raises(UserError, match="holds a run on other data or with other modules: ") as caught:
        make(folder).check({**LEARNED, **other})
    assert said in str(caught.value) and "\n" not in str(caught.value)
    assert str(caught.value).endswith("; give those, or another --workdir")
    assert (folder / "config.json").read_bytes() == before
    make(folder).check(LEARNED)


def test_a_task_that_was_added_is_named(folder):
    make(folder).create(
        {**LEARNED, "problem": changed(MIXED, tasks=MIXED.tasks[:1], inputs=MIXED.inputs[:1])}
    )
    with pytest.raises(UserError, match=r"there is a new task size; give those"):
        make(folder).check(LEARNED)


def test_what_a_stranger_calls_a_kind_is_told_in_one_line():
    """A run's config.json may say anything that is text."""
    odd = {**ABOUT, "pool": ["a\nb\x1b[2J", *ABOUT["pool"][1:]]}
    told = unlike(odd, ABOUT)
    assert r"there was a\nb\x1b[2J; there is" in told and told.isprintable()


def test_what_another_machine_rounds_otherwise_is_the_same_problem():
    """A millionth of the spread, also where the mean is next to nothing beside it."""
    for field in ("mean", "std"):
        near = changed(
            MIXED, ("inputs", 1, {field: tuple(x + 1e-6 for x in getattr(MIXED.inputs[1], field))})
        )
        assert differences(MIXED, near) == differences(near, MIXED) == ""
        far = changed(
            MIXED, ("inputs", 1, {field: tuple(x + 1e-3 for x in getattr(MIXED.inputs[1], field))})
        )
        assert f"{field} of input rows" in differences(MIXED, far)


def test_names_and_answers_are_not_told_at_length(folder):
    make(folder).create(LEARNED)
    long = tuple(f"answer {i}" for i in range(1000))
    with pytest.raises(UserError) as caught:
        make(folder).check({**LEARNED, "problem": changed(MIXED, ("tasks", 0, {"answers": long}))})
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"7",
        b"{}",
        b'{"settings": null}',
        b'{"settings": [1]}',
        b'{"settings": "dup"}',
        b'{"settings": {"dup": "5"}}',
        b'{"settings": {"wings": 2}}',
        b"[" * 10**5,
        b'{"settings": {}}',  # without a checksum
        json.dumps(seal({"settings": dataclasses.asdict(resolve({}))})).encode(),  # and nothing else
        b"\xff\xfe",
    ],
)
def test_a_config_that_cannot_be_read(folder, content):
    folder.mkdir(parents=True)
    (folder / "config.json").write_bytes(content)
    assert re.search(r"config.json cannot be read \(.+\); delete it to continue", refused(make(folder)))


def test_a_config_that_is_a_folder(folder):
    (folder / "config.json").mkdir(parents=True)
    assert "config.json cannot be read" in refused(make(folder))


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("kept")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        workdir = make(folder)
        workdir.check()
        with pytest.raises(UserError, match=r"cannot be written \(.+\); give another folder") as caught:
            workdir.create(ABOUT)
        assert "\n" not in str(caught.value)
    assert (tmp_path / "file").read_text() == "kept"


def test_a_name_that_is_too_long(tmp_path):
    workdir = make(tmp_path / ("x" * 300))
    with pytest.raises(UserError, match="--workdir"):
        workdir.check()
        workdir.create(ABOUT)


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_folder_without_permission(tmp_path):
    (tmp_path / "closed").mkdir(mode=0)
    workdir = make(tmp_path / "closed" / "run")
    with pytest.raises(UserError, match="--workdir"):
        workdir.check()
        workdir.create(ABOUT)


@pytest.fixture
def running(folder):
    workdir = make(folder)
    workdir.create(ABOUT)
    return workdir


def test_metrics_are_read_as_written(running):
    assert running.read_metrics() == []
    lines = [metrics(eval_loss=0.1 + 0.2, eval_accuracy_per_task={"a b": 1.0}), metrics(2, routes=None)]
    for line in lines:
        running.append_metrics(line)
    assert running.read_metrics() == lines
    text = running.metrics.read_text()
    assert text.count("\n") == 2 and text.endswith("\n")


@pytest.mark.parametrize(
    "step, kept", [(0, []), (6, []), (7, [7]), (13, [7]), (14, [7, 14]), (99, [7, 14])]
)
def test_metrics_are_rewound_to_the_checkpoint(running, step, kept):
    """Lines after the checkpoint are written again; step 17 of epochs of 7 was cut short."""
    for written in (7, 14, 17):
        running.append_metrics(metrics(step=written))
    whole = running.metrics.read_bytes().splitlines(keepends=True)
    running.rewind_metrics(step, steps_per_epoch=7)
    assert [line.step for line in running.read_metrics()] == kept
    # What stays is the same to the byte.
    assert running.metrics.read_bytes() == b"".join(whole[: len(kept)])


def test_half_a_line_is_forgotten(running):
    running.append_metrics(metrics(step=7))
    with running.metrics.open("a") as file:
        file.write('{"step": 14, "lo')
    assert running.read_metrics() == [metrics(step=7)]
    running.rewind_metrics(7, steps_per_epoch=7)
    running.append_metrics(metrics(step=14))
    assert [line.step for line in running.read_metrics()] == [7, 14]


def test_a_full_disk(running):
    running.append_metrics(metrics(step=7))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # The largest file that this process may write, in bytes.
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        with pytest.raises(UserError, match=r"cannot write \S+metrics.jsonl \(.+\); free space"):
            running.append_metrics(metrics(step=14, metrics={"x" * 20_000: 1.0}))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert running.read_metrics() == [metrics(step=7)]


def test_rewinding_without_metrics_writes_nothing(running):
    running.rewind_metrics(0, steps_per_epoch=7)
    assert not running.metrics.exists()


def test_a_file_is_replaced_whole_or_not_at_all(running, monkeypatch):
    running.append_metrics(metrics(step=7))
    running.append_metrics(metrics(step=14))
    before = running.metrics.read_bytes()

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        running.rewind_metrics(7, steps_per_epoch=7)
    assert running.metrics.read_bytes() == before


def test_a_folder_in_use_is_refused(folder):
    with make(folder).lock():
        with pytest.raises(UserError, match="is in use by another run; wait for its end or give another"):
            with make(folder).lock():
                pytest.fail("two have the lock")
    with make(folder).lock():
        assert [path.name for path in folder.iterdir()] == ["lock"]
    make(folder).create(ABOUT)
    with pytest.raises(UserError, match="holds a run with other settings"):
        with make(folder, dup=7).lock():
            pytest.fail("the run that came first is overwritten")


def test_settings_of_a_stranger_are_told_in_one_line(folder):
    make(folder, init_from="a\nb\x1b[2J" + 1000 * "c").create(ABOUT)
    with pytest.raises(UserError, match=r"--init_from was a\\nb\\x1b\[2Jc+, is ; --bonus") as caught:
        make(folder).check()
    assert str(caught.value).isprintable() and len(str(caught.value)) < 1000


HOLDER = """
import sys, time
from lrn_tf.settings.resolve import resolve
from lrn_tf.storage.workdir import Workdir
with Workdir(resolve({"workdir": sys.argv[1]})).lock():
    print("locked", flush=True)
    time.sleep(600)
"""


def test_a_lock_dies_with_its_owner(folder):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "locked\n"
    with pytest.raises(UserError, match="is in use by another run"):
        with make(folder).lock():
            pytest.fail("two have the lock")
    process.kill()
    process.communicate()
    with make(folder).lock():
        pass
