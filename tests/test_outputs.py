"""What programs write: nothing of the user's goes away for it, and nothing is half there."""

import gc
import json
import os

import pytest

import lrn_tf
from lrn_tf import main
from lrn_tf.errors import UserError
from lrn_tf.methods.given_paths import TaskHead
from lrn_tf.serving import export as export_module
from lrn_tf.serving.export import CARD, export
from lrn_tf.settings.resolve import resolve
from lrn_tf.storage import files


def test_what_is_beside_a_model_stays(exported, tmp_path):
    """Also under names that are like that of the model."""
    names = ["mine.partial", ".mine", "mine.tmp", "mine~"]
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "thesis.tex").write_text("years of work")
    export(str(exported / "run"), str(tmp_path / "mine"))
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*names, "mine"])
    assert all((tmp_path / name / "thesis.tex").read_text() == "years of work" for name in names)
    # Whoever may read what the user writes may read the model, which may be served by somebody else.
    assert (tmp_path / "mine").stat().st_mode == (tmp_path / "mine.tmp").stat().st_mode


def test_two_exports_at_once_end_with_one_whole_model(exported, tmp_path, monkeypatch):
    """The second begins and ends just before the first gives its model the name that both want."""
    arguments, rename, overtaken = (str(exported / "run"), str(tmp_path / "mine")), os.rename, []

    def overtake(*names):
        if not overtaken:
            overtaken.append(True)
            export(*arguments)
        rename(*names)

    monkeypatch.setattr(export_module.os, "rename", overtake)
    export(*arguments)
    assert overtaken
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    lrn_tf.load(str(tmp_path / "mine"))


@pytest.mark.slow
def test_what_was_trained_is_gone_when_it_is_exported(tmp_path, monkeypatch):
    """Memory is for one network, which is made anew."""
    left = []

    def look(*_):
        left.append(
            [o for o in gc.get_objects() if type(o) is TaskHead and not any(o is b for b in before)]
        )

    monkeypatch.setattr(export_module, "export", look)
    before = [o for o in gc.get_objects() if type(o) is TaskHead]
    given = dict(method="task_head", max_steps=1, examples=128, pictures_every=0)
    run, output = str(tmp_path / "run"), str(tmp_path / "model")
    main.train(resolve({**given, "workdir": run, "export_dir": output}))
    assert left == [[]]


@pytest.mark.parametrize("output", ["run", "run/model", "run/..", "run/../run/", "link", "link/new"])
def test_a_model_is_no_part_of_a_run(exported, tmp_path, monkeypatch, output):
    """Nor a run of a model. It is said before anything is trained, and before TensorFlow is started."""
    monkeypatch.setattr(main, "import_tensorflow", lambda *_: pytest.fail("too late"))
    (tmp_path / "link").symlink_to(tmp_path / "run")
    run, output = str(tmp_path / "run"), str(tmp_path / output)
    with pytest.raises(UserError, match="lie one in the other; give another folder to export to"):
        main.train(resolve({"workdir": run, "export_dir": output}))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "output, why",
    [
        ("file/model", "Not a directory"),
        ("file/deep/model", "Not a directory"),
        ("/proc/model", "No such file or directory"),
        ("/dev/full/model", "Not a directory"),
        ("x" * 300, "File name too long"),
    ],
)
def test_a_place_that_cannot_be_written_is_refused_before_training(tmp_path, monkeypatch, output, why):
    monkeypatch.setattr(main, "import_tensorflow", lambda *_: pytest.fail("too late"))
    (tmp_path / "file").write_text("kept")
    with pytest.raises(UserError, match=rf"cannot export to .* .{why}.; give another folder"):
        main.train(resolve({"workdir": str(tmp_path / "run"), "export_dir": str(tmp_path / output)}))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "kept"


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_place_without_permission_is_refused_before_training(tmp_path, monkeypatch):
    monkeypatch.setattr(main, "import_tensorflow", lambda *_: pytest.fail("too late"))
    (tmp_path / "closed").mkdir(mode=0o500)
    with pytest.raises(UserError, match="cannot export to .* .Permission denied."):
        main.train(
            resolve({"workdir": str(tmp_path / "run"), "export_dir": str(tmp_path / "closed/model")})
        )


@pytest.mark.parametrize("folder", ["", "new", "new/folder", "link", "link/new"])
def test_what_is_tried_leaves_nothing(tmp_path, folder):
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to("there")
    files.check_writable(tmp_path / folder)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["link", "there"]


def test_a_run_within_a_model_is_not_replaced_with_it(exported, tmp_path):
    (tmp_path / "model" / "run").mkdir(parents=True)
    (tmp_path / "model" / CARD).write_text("{}")
    with pytest.raises(UserError, match="lie one in the other"):
        export(str(tmp_path / "model" / "run"), str(tmp_path / "model"))
    assert (tmp_path / "model" / "run").exists()


def test_a_file_is_replaced_and_what_is_beside_it_stays(tmp_path):
    (tmp_path / "table.csv.partial").write_text("mine")
    path = tmp_path / "table.csv"
    for content in ("old", "new"):
        files.replace(path, content)
        assert path.read_text() == content
    assert sorted(p.name for p in tmp_path.iterdir()) == ["table.csv", "table.csv.partial"]
    assert (tmp_path / "table.csv.partial").read_text() == "mine"
    assert path.stat().st_mode == (tmp_path / "table.csv.partial").stat().st_mode


def test_the_longest_name_that_a_disk_allows(tmp_path):
    name = "x" * os.pathconf(tmp_path, "PC_NAME_MAX")
    files.replace(tmp_path / name, json.dumps({}))
    assert [path.name for path in tmp_path.iterdir()] == [name]
