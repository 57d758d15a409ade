"""Checkpoints: whatever happens to the newest ones, the newest that is whole is restored."""

import os
import re
import resource
import shutil

import numpy as np
import pytest
import tensorflow as tf

from lrn_tf.errors import UserError
from lrn_tf.storage.checkpoints import Checkpoints

DATA, INDEX = "data-00000-of-00001", "index"


def new_variables(size=3):
    return {
        "weights": [tf.Variable(tf.zeros((5, size))), tf.Variable(tf.zeros(size))],
        "step": tf.Variable(0, dtype=tf.int64),
    }


def set_all(variables, value):
    for variable in tf.nest.flatten(variables):
        variable.assign(tf.fill(variable.shape, tf.cast(value, variable.dtype)))


def saved(folder, steps):
    """A folder in which a checkpoint of each step was saved; every number in it is its step."""
    folder.mkdir()
    variables = new_variables()
    checkpoints = Checkpoints(folder, variables)
    for step in steps:
        set_all(variables, step)
        checkpoints.save(step)


def restored(folder):
    """What a new process finds: the checkpoints, the variables, and their one value or None."""
    variables = new_variables()
    set_all(variables, -1)
    checkpoints = Checkpoints(folder, variables)
    if not checkpoints.restore():
        return checkpoints, variables, None
    values = {float(value) for v in tf.nest.flatten(variables) for value in np.ravel(v.numpy())}
    assert len(values) == 1, "a mixture of checkpoints"
    return checkpoints, variables, values.pop()


def steps_in(folder):
    """The steps of which the folder holds all files."""
    names = [re.fullmatch(rf"step-(\d+)\.({DATA}|{INDEX})", path.name) for path in folder.iterdir()]
    found = [int(name.group(1)) for name in names if name]
    return sorted(step for step in set(found) if found.count(step) == 2)


def flip(path, bit):
    raw = bytearray(path.read_bytes())
    raw[bit // 8 % len(raw)] ^= 1 << bit % 8
    path.write_bytes(raw)


def every_bit_inverted(path):
    path.write_bytes(bytes(255 - byte for byte in path.read_bytes()))


DAMAGE = {
    "empty": lambda path: os.truncate(path, 0),
    "one_byte_short": lambda path: os.truncate(path, path.stat().st_size - 1),
    "half": lambda path: os.truncate(path, path.stat().st_size // 2),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "inverted": every_bit_inverted,
    "first_bit": lambda path: flip(path, 0),
    "some_bit": lambda path: flip(path, 8 * 100 + 3),
    "deleted": os.remove,
}


@pytest.fixture
def folder(tmp_path):
    saved(tmp_path / "checkpoints", (10, 20, 30, 40))
    return tmp_path / "checkpoints"


def test_nothing_to_restore(tmp_path, capsys):
    assert restored(tmp_path / "missing")[2] is None
    (tmp_path / "empty").mkdir()
    assert restored(tmp_path / "empty")[2] is None
    assert capsys.readouterr().err == ""


def test_restores_the_newest_and_keeps_three(folder, capsys):
    assert steps_in(folder) == [20, 30, 40]
    checkpoints, variables, value = restored(folder)
    assert value == 40
    assert capsys.readouterr().err == ""
    # By number, not by name: 100 is newer than 40.
    for step in (50, 100):
        set_all(variables, step)
        checkpoints.save(step)
    assert steps_in(folder) == [40, 50, 100]
    assert restored(folder)[2] == 100


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("file", [DATA, INDEX])
def test_falls_back_to_the_one_before_and_goes_on(folder, file, damage, capsys):
    DAMAGE[damage](folder / f"step-40.{file}")
    checkpoints, variables, value = restored(folder)
    assert value == 30
    said = capsys.readouterr().err
    if (file, damage) != (INDEX, "deleted"):  # without an index it never was a checkpoint
        assert said.count("\n") == 1 and "step-40 is damaged" in said

    # The run repeats what was lost. The damaged one counts neither as the newest nor as one of three.
    for step, kept in ((35, [20, 30, 35]), (40, [30, 35, 40]), (45, [35, 40, 45])):
        set_all(variables, step)
        checkpoints.save(step)
        assert steps_in(folder) == kept
        assert restored(folder)[2] == step
    assert capsys.readouterr().err == ""


def test_damage_found_at_every_place(folder, tmp_path):
    """A flipped bit either shows or changes nothing; a wrong number is never restored."""
    found = {DATA: [], INDEX: []}
    for file in found:
        size = (folder / f"step-40.{file}").stat().st_size
        for bit in range(5, 8 * size, 8 * size // 40):
            copy = shutil.copytree(folder, tmp_path / f"{file}-{bit}")
            flip(copy / f"step-40.{file}", bit)
            found[file].append(restored(copy)[2])
    assert set(found[DATA]) == {30}
    # The last bytes of an index are padding.
    assert set(found[INDEX]) <= {30, 40} and found[INDEX].count(30) > len(found[INDEX]) / 2


def test_falls_back_twice(folder, capsys):
    os.remove(folder / f"step-40.{DATA}")
    os.truncate(folder / f"step-30.{INDEX}", 10)
    checkpoints, variables, value = restored(folder)
    assert value == 20
    said = capsys.readouterr().err.splitlines()
    assert ["step-40" in said[0], "step-30" in said[1], len(said)] == [True, True, 2]
    # Saved ones are not taken for older than the damaged ones.
    set_all(variables, 25)
    checkpoints.save(25)
    assert restored(folder)[2] == 25


def test_all_damaged(folder):
    for step in steps_in(folder):
        os.truncate(folder / f"step-{step}.{DATA}", 7)
    with pytest.raises(
        UserError, match=r"none of the 3 checkpoints in .* can be read; give another"
    ) as caught:
        restored(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        b"garbage",
        b"",
        b"\xff\xfe\x00\x80",
        b'model_checkpoint_path: "/elsewhere/step-7"\nall_model_checkpoint_paths: "/elsewhere/step-7"\n',
        b'model_checkpoint_path: "step-20"\nall_model_checkpoint_paths: "step-20"\n',
        None,
    ],
    ids=["text", "empty", "not_utf8", "elsewhere", "behind", "deleted"],
)
def test_the_file_named_checkpoint_does_not_matter(folder, content):
    """TensorFlow keeps a list of checkpoints in it."""
    index = folder / "checkpoint"
    if content is None:
        index.unlink(missing_ok=True)
    else:
        index.write_bytes(content)
    checkpoints, variables, value = restored(folder)
    assert value == 40
    for step in (50, 60):
        set_all(variables, step)
        checkpoints.save(step)
    assert steps_in(folder) == [40, 50, 60]
    assert restored(folder)[2] == 60


def test_a_kill_while_saving_leaves_the_one_before(folder):
    """TensorFlow writes the data first and the index last."""
    (folder / "step-50.data-00000-of-00001").write_bytes(b"half")
    (folder / "step-60.index.tempstate123").write_bytes(b"half")
    (folder / "step-x.index").write_bytes(b"")
    assert restored(folder)[2] == 40


def test_the_folder_may_move_and_be_relative(folder, tmp_path, monkeypatch):
    (tmp_path / "other").mkdir()
    shutil.move(folder, tmp_path / "other" / "place")
    monkeypatch.chdir(tmp_path / "other")
    relative = (tmp_path / "other" / "place").relative_to(tmp_path / "other")
    checkpoints, variables, value = restored(relative)
    assert value == 40
    for step in (50, 60, 70):
        set_all(variables, step)
        checkpoints.save(step)
    assert steps_in(relative) == [50, 60, 70]
    assert not folder.exists()
    assert restored(relative)[2] == 70


def test_the_folder_may_have_a_name_that_is_no_text(folder, tmp_path):
    odd = tmp_path / os.fsdecode(b"\xff")
    shutil.move(folder, odd)
    assert restored(odd)[2] == 40


def test_checkpoints_of_other_variables_are_not_restored(folder):
    variables = new_variables(size=4)
    with pytest.raises(UserError, match="step-40 cannot be read .it holds other variables than this run"):
        Checkpoints(folder, variables).restore()
    more = {**new_variables(), "sums": tf.Variable(0.0)}
    with pytest.raises(UserError, match="step-40 cannot be read .it holds other variables than this run"):
        Checkpoints(folder, more).restore()
    assert steps_in(folder) == [20, 30, 40]


@pytest.mark.parametrize("name", ["PermissionDenied", "ResourceExhausted", "Unavailable", "Unknown"])
def test_what_cannot_be_read_but_is_not_damaged_is_left_alone(folder, name, monkeypatch, capsys):
    """No older one is taken, which would then be the newest, and the newer ones deleted."""

    def fails(self, path):
        path = os.fsdecode(path)
        raise getattr(tf.errors, f"{name}Error")(
            None, None, f"{{{{node x}}}} not {path} now [Op:RestoreV2]"
        )

    before = {path: path.read_bytes() for path in folder.iterdir()}
    with monkeypatch.context() as patch:
        patch.setattr(tf.train.Checkpoint, "read", fails)
        with pytest.raises(UserError) as caught:
            restored(folder)
    reason = f"not {folder / 'step-40'} now"
    expected = (
        f"checkpoint {folder / 'step-40'} cannot be read ({reason}); mend that, or give another --workdir"
    )
    assert str(caught.value) == expected
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    assert restored(folder)[2] == 40 and capsys.readouterr().err == ""


def test_a_folder_in_the_place_of_a_file_is_left_alone(folder):
    """TensorFlow itself says so, and as something else than damage."""
    os.rename(folder / f"step-40.{DATA}", folder / "kept")
    (folder / f"step-40.{DATA}").mkdir()
    with pytest.raises(UserError, match="step-40 cannot be read .*Is a directory.; mend that"):
        restored(folder)
    (folder / f"step-40.{DATA}").rmdir()
    os.rename(folder / "kept", folder / f"step-40.{DATA}")
    assert restored(folder)[2] == 40


@pytest.mark.parametrize("file", [DATA, INDEX])
def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(folder, file):
    os.remove(folder / f"step-40.{file}")
    os.mkfifo(folder / f"step-40.{file}")
    with pytest.raises(UserError, match=rf"cannot be read .step-40.{file} is no regular file.; mend"):
        restored(folder)


def test_a_full_disk_keeps_what_was_saved(folder):
    variables = new_variables(size=3)
    checkpoints = Checkpoints(folder, {**variables, "large": tf.Variable(tf.ones(1 << 20))})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # The largest file that this process may write, in bytes.
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
    try:
        with pytest.raises(
            UserError, match="cannot write a checkpoint of step 50 to .*; free space"
        ) as caught:
            checkpoints.save(50)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "\n" not in str(caught.value)
    assert steps_in(folder) == [20, 30, 40]
    assert restored(folder)[2] == 40


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write a checkpoint of step 3"):
        Checkpoints(tmp_path / "file" / "checkpoints", new_variables()).save(3)
