"""A disk that is full, read-only or gone: one line, and nothing lost but the steps since a checkpoint."""

import csv
import errno
import gc
import os
import shutil
import subprocess
import sys

import pytest
import tensorflow as tf
from tiny_run import assert_same_run, contents, run

from lrn_tf import compare
from lrn_tf.data.benchmarks import benchmark_of
from lrn_tf.errors import UserError
from lrn_tf.methods import build
from lrn_tf.results import curves
from lrn_tf.serving.export import export
from lrn_tf.settings.resolve import resolve
from lrn_tf.storage import files, runs
from lrn_tf.storage.workdir import Workdir
from lrn_tf.training import trainer
from lrn_tf.training.train import enough_memory


@pytest.fixture
def disk(tmp_path):
    """Mounts a small disk; call it with its size in kB. Call `disk.fill(left)` to leave so many kB."""
    folder = tmp_path / "disk"
    folder.mkdir()

    class Disk:
        path = folder

        def __init__(self, size, options=""):
            mount = ["mount", "-t", "tmpfs", "-o", f"size={size}k{options}", "none", str(folder)]
            if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
                pytest.skip("a disk cannot be mounted here")

        def free(self):
            state = os.statvfs(folder)
            return state.f_bavail * state.f_bsize

        def fill(self, left):
            """Leaves so many kB."""
            with (folder / "filler").open("ab") as file:
                file.write(bytes(max(0, self.free() - 1024 * left)))

        def clear(self):
            (folder / "filler").unlink()

        def remount(self, how):
            subprocess.run(["mount", "-o", f"remount,{how}", str(folder)], check=True)

    yield Disk
    if os.path.ismount(folder):
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    run(folder)
    return folder


def line_of(error):
    assert "\n" not in str(error.value)
    return str(error.value)


def when_saving(monkeypatch, step, happens):
    """Lets something happen just before the checkpoint of a step, or before its epoch's line is written."""
    real = trainer.Trainer._check_weights

    def check(self, at):
        if at == step:
            happens()
        return real(self, at)

    monkeypatch.setattr(trainer.Trainer, "_check_weights", check)


@pytest.mark.parametrize("left", [0, 4, 8, 12, 16])
@pytest.mark.parametrize("step", [5, 7, 10])
def test_a_disk_that_fills_up(disk, whole, monkeypatch, step, left, record_property):
    """First at 0 kB left, then ever later: in the epoch's line, the summaries, the checkpoint's files."""
    small = disk(400)
    with monkeypatch.context() as patch:
        when_saving(patch, step, lambda: small.fill(left))
        try:
            run(small.path / "run", checkpoint_every=7)
        except UserError as error:
            assert "cannot write" in str(error) and "\n" not in str(error)
            assert "free space" in str(error)
        else:
            assert left
    small.clear()
    run(small.path / "run", checkpoint_every=7)
    assert_same_run(small.path / "run", whole)
    record_property("full disks", 1)


def test_a_disk_that_is_full_from_the_start(disk, record_property):
    small = disk(40)
    small.fill(0)
    with pytest.raises(UserError, match="cannot be written .No space left on device") as caught:
        run(small.path / "run")
    line_of(caught)
    assert not [path for path in (small.path / "run").iterdir() if path.name.startswith(".")]
    record_property("full disks", 1)


def test_a_disk_that_is_read_only(disk):
    small = disk(4000)
    run(small.path / "run", epochs=1)
    before = contents(small.path)
    gc.collect()  # an open file keeps a disk busy
    small.remount("ro")
    for folder in ("run", "new"):
        with pytest.raises(UserError, match="cannot be written .Read-only file system") as caught:
            run(small.path / folder)
        line_of(caught)
    assert contents(small.path) == before


@pytest.mark.parametrize("step", [5, 7, 10])
@pytest.mark.parametrize("come", [None, "another run"])
def test_a_workdir_that_vanishes(tmp_path, whole, monkeypatch, step, come):
    """Deleted in mid-run, also when another run was begun in its place: that one is left alone."""
    folder = tmp_path / "run"

    def happens():
        shutil.rmtree(folder)
        if come:
            with Workdir(resolve({"workdir": str(folder)})).lock():
                (folder / "theirs").write_text("kept")

    with monkeypatch.context() as patch:
        when_saving(patch, step, happens)
        with pytest.raises(UserError, match="was deleted or replaced while the run was using it") as caught:
            run(folder, checkpoint_every=7)
    line_of(caught)
    assert sorted(path.name for path in folder.glob("*")) == (["lock", "theirs"] if come else [])
    run(folder, checkpoint_every=7)
    assert_same_run(folder, whole)


def test_a_workdir_that_vanishes_in_a_long_epoch(tmp_path, monkeypatch):
    """No checkpoint is due: it is seen when the sums are looked at."""
    folder, real = tmp_path / "run", trainer.Trainer._look
    monkeypatch.setattr(trainer.Trainer, "_look", lambda *args: [shutil.rmtree(folder), real(*args)])
    with pytest.raises(UserError, match="was deleted or replaced"):
        run(folder, size=201, epochs=1)
    assert not folder.exists()


@pytest.mark.slow
def test_a_model_is_exported_whole_or_not_at_all(disk, exported, record_property):
    small = disk(4000)
    shutil.copytree(exported / "model", small.path / "model")
    before = contents(small.path / "model")
    for left in (0, 60, 300):
        small.fill(left)
        with pytest.raises(UserError, match="cannot export to .*; give another folder") as caught:
            export(str(exported / "run"), str(small.path / "model"))
        line_of(caught)
        assert contents(small.path / "model") == before
        assert sorted(path.name for path in small.path.iterdir()) == ["filler", "model"]
        small.clear()
    record_property("full disks", 3)


@pytest.mark.parametrize("file", ["curves.csv", "curves.png"])
def test_tables_and_curves_are_written_whole_or_not_at_all(disk, whole, file, record_property):
    """What stood there before stays."""
    small = disk(800)
    groups = runs.group([runs.read(str(whole))])
    write = {"curves.csv": curves.write, "curves.png": curves.draw}[file]
    write(groups, small.path / file)
    before = contents(small.path)
    small.fill(0)
    with pytest.raises(OSError) as caught:
        write(groups * 20, small.path / file)
    assert caught.value.errno == errno.ENOSPC and caught.value.filename == str(small.path / file)
    small.clear()
    assert contents(small.path) == before
    record_property("full disks", 1)


def test_compare_says_it_in_one_line(disk, whole, monkeypatch):
    small = disk(40)
    small.fill(0)
    monkeypatch.setattr(compare, "OUTPUT", type("Flag", (), {"value": str(small.path / "out")}))
    monkeypatch.setattr(compare, "TITLE", type("Flag", (), {"value": ""}))
    with pytest.raises(UserError, match="--output=.* cannot be written .No space left on device") as caught:
        compare.main([str(whole)])
    line_of(caught)


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "table.csv"
    curves.save_csv([("a", "b"), (1, "x,y")], path)
    assert list(csv.reader(path.open(newline=""))) == [["a", "b"], ["1", "x,y"]]

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        files.replace(path, "new")
    assert path.read_text().startswith("a,b")


PRINTS = """
from lrn_tf import program
program.run(lambda files: print("x" * 100), takes="file")
"""


@pytest.mark.parametrize("output, said", [("/dev/full", "No space left on device"), ("|", "Broken pipe")])
def test_an_output_that_takes_nothing(output, said):
    """Where the standard output goes is a disk or a pipe, too; what it refuses may show at the very end."""
    if output == "|":
        readable, target = os.pipe()
        os.close(readable)
    else:
        target = os.open(output, os.O_WRONLY)
    command = [sys.executable, "-c", PRINTS, "a"]
    done = subprocess.run(command, stdout=target, stderr=subprocess.PIPE, text=True, timeout=60)
    os.close(target)
    assert (done.returncode, done.stderr) == (2, f"lrn_tf: output: {said}; mend that, then run it again\n")


def test_memory_that_is_not_enough(monkeypatch, tmp_path):
    settings = resolve({"method": "shared"})
    benchmark = benchmark_of(settings)
    monkeypatch.setattr(build, "_memory", lambda: 10**4)
    with pytest.raises(UserError, match="more than the 0.0 GB that this machine has; choose a smaller"):
        build.describe(benchmark, settings)
    method = build.METHODS["shared"]
    weights = sum(method.count_parameters(benchmark.problem, settings, None).values())
    # Examples and their targets are held twice, as arrays and on the device.
    parts = (benchmark.train, benchmark.test)
    held = sum(array.nbytes for part in parts for array in (*part.inputs, part.target))
    needed = weights * method.BYTES_PER_PARAMETER + 2 * held
    monkeypatch.setattr(build, "_memory", lambda: needed - 1)
    with pytest.raises(UserError, match="more than the"):
        build.describe(benchmark, settings)
    monkeypatch.setattr(build, "_memory", lambda: needed)
    build.describe(benchmark, settings)
    monkeypatch.undo()
    of_container = tmp_path / "memory.max"
    of_container.write_text("20000\n")
    monkeypatch.setattr(build, "CONTAINER", of_container)
    with pytest.raises(UserError, match="more than the 0.0 GB that this machine has"):
        build.describe(benchmark, settings)
    for unlimited in ("max\n", None):
        of_container.unlink() if unlimited is None else of_container.write_text(unlimited)
        build.describe(benchmark, settings)
    for error in (MemoryError(), tf.errors.ResourceExhaustedError(None, None, "OOM when allocating")):
        with pytest.raises(UserError, match="memory is not enough; choose a smaller --dup") as caught:
            with enough_memory():
                raise error
        line_of(caught)
