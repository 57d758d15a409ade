"""Compiled programs are kept from one process to the next, and nothing kept can do harm."""

import os
import subprocess
import sys

import pytest

from lrn_tf.devices import compile_cache

# Compiles two programs, or takes them from the cache, and says how many files it had to write.
PROGRAM = """
import pathlib, re, os
from lrn_tf.devices import compile_cache
compile_cache.use()
flags = os.environ.get("TF_XLA_FLAGS", "")
mine = re.search("directory=\\"([^\\"]+)", flags)
def files():  # one that is written anew is another
    return {(p.name, p.stat().st_ino) for p in pathlib.Path(mine[1]).glob("*.pb")} if mine else set()
before = files()
from lrn_tf.devices.start import start_tensorflow
start_tensorflow()
import tensorflow as tf
answer = tf.function(lambda x: tf.reduce_sum(tf.sin(x @ x)), jit_compile=True)(tf.ones((4, 4)))
answer += tf.function(lambda x: tf.reduce_sum(tf.cos(x) - tf.cos(x)), jit_compile=True)(tf.ones(3))
after = files()
print(round(float(answer), 3), len(before), len(after - before), bool(mine))
"""


def run(cache):
    """What the program says: how many programs it took over, how many it compiled, had it a cache?"""
    environment = {**os.environ, "TF_XLA_FLAGS": "", "XDG_CACHE_HOME": str(cache)}
    environment.pop("TF_CPP_MIN_LOG_LEVEL", None)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True
    )
    assert not done.stderr  # TensorFlow has false alarms about what it takes from a cache
    answer, taken, compiled, has_cache = done.stdout.split()
    assert float(answer) == pytest.approx(-12.109, abs=2e-3)
    return int(taken), int(compiled), has_cache == "True"


def kept(cache):
    return sorted(cache.glob("lrn_tf/*/kept/*"))


def tidy(cache, monkeypatch, flags=""):
    """What every start does before it compiles, in this process."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    monkeypatch.setenv("TF_XLA_FLAGS", flags)
    monkeypatch.setattr(compile_cache, "_lock", None)
    compile_cache.use()
    held = compile_cache._lock
    return lambda: os.close(held)


@pytest.mark.slow
def test_a_second_process_compiles_what_is_damaged_and_nothing_else(tmp_path, monkeypatch):
    cache = tmp_path / "a home"
    assert run(cache) == (0, 2, True)
    tidy(cache, monkeypatch)()
    program, _ = kept(cache)
    whole = program.read_bytes()
    program.write_bytes(whole[:-100] + bytes(100))
    assert run(cache) == (1, 1, True)


@pytest.mark.slow
def test_a_run_that_continues_compiles_nothing(tmp_path):
    """Where XLA's names count what was made before, as what restores a checkpoint."""
    flags = "--dup=1 --depth=2 --d_model=8 --actor=pointer --examples=128 --pictures_every=0".split()
    environment = {**os.environ, "TF_XLA_FLAGS": "", "XDG_CACHE_HOME": str(tmp_path)}
    compiled = []
    for steps in (1, 2):
        flags = [*flags, f"--max_steps={steps}", f"--workdir={tmp_path / 'run'}"]
        command = [sys.executable, "-m", "lrn_tf.main", *flags]
        subprocess.run(command, env=environment, check=True, capture_output=True)
        compiled.append({p.name.partition("@")[0] for p in tmp_path.glob("lrn_tf/*/*/*.pb*")})
    assert compiled[0] == compiled[1] and compiled[0]
    # What was taken over is a link; what XLA writes anew is none.
    assert all(p.stat().st_nlink > 1 for p in tmp_path.glob("lrn_tf/*/live-*/*.pb"))


def folder_of(cache, monkeypatch):
    """A start; the folder that it was given, and what ends it."""
    before = set(cache.glob("lrn_tf/*/live-*"))
    end = tidy(cache, monkeypatch)
    (folder,) = set(cache.glob("lrn_tf/*/live-*")) - before
    return folder, end


def test_a_process_that_lives_keeps_its_folder_and_gives_what_it_has(tmp_path, monkeypatch):
    first, end_first = folder_of(tmp_path, monkeypatch)
    (first / "some.pb").write_bytes(b"compiled")
    (first / "half.pb.tmp").write_bytes(b"comp")
    second, end_second = folder_of(tmp_path, monkeypatch)
    assert first.exists() and (second / "some.pb").read_bytes() == b"compiled"
    assert [program.name.partition("@")[0] for program in kept(tmp_path)] == ["some.pb"]
    end_first()  # as a kill does
    third, end_third = folder_of(tmp_path, monkeypatch)
    assert not first.exists() and second.exists() and (third / "some.pb").exists()
    end_second(), end_third()


def test_the_oldest_go_when_there_is_too_much(tmp_path, monkeypatch):
    folder, end = folder_of(tmp_path, monkeypatch)
    for age, name in enumerate(("new", "middle", "old")):
        (folder / f"{name}.pb").write_bytes(bytes(100) + name.encode())
        os.utime(folder / f"{name}.pb", (0, 10**9 - age))
    monkeypatch.setattr(compile_cache, "LIMIT", 250)
    end()
    for _ in range(2):  # what was kept by the first start is counted too
        tidy(tmp_path, monkeypatch)()
    assert sorted(p.name.partition(".")[0] for p in kept(tmp_path)) == ["middle", "new"]


def test_a_users_own_cache_is_left_alone(tmp_path, monkeypatch):
    own = "--tf_xla_persistent_cache_directory=mine"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("TF_XLA_FLAGS", own)
    monkeypatch.setattr(compile_cache, "_lock", None)
    compile_cache.use()
    assert os.environ["TF_XLA_FLAGS"] == own and not list(tmp_path.iterdir())


def test_a_program_that_is_started_by_another_does_not_use_its_folder(tmp_path, monkeypatch):
    tidy(tmp_path, monkeypatch, flags="--before")
    mine = os.environ["TF_XLA_FLAGS"]
    monkeypatch.setattr(compile_cache, "_lock", None)  # as it is in another process
    compile_cache.use()
    assert os.environ["TF_XLA_FLAGS"] != mine and os.environ["TF_XLA_FLAGS"].count("cache_directory") == 1
    compile_cache.inherit_none()  # not its own
    assert "cache_directory" in os.environ["TF_XLA_FLAGS"]
    monkeypatch.setattr(compile_cache, "_lock", None)
    compile_cache.inherit_none()
    assert os.environ["TF_XLA_FLAGS"] == "--before"


def test_a_folder_that_cannot_be_used_is_no_reason_to_fail(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setenv("TF_XLA_FLAGS", "--before")
    monkeypatch.setattr(compile_cache, "_lock", None)
    compile_cache.use()
    assert os.environ["TF_XLA_FLAGS"] == "--before"
    monkeypatch.setattr(compile_cache, "FREE", 1 << 62)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    compile_cache.use()
    assert os.environ["TF_XLA_FLAGS"] == "--before"
