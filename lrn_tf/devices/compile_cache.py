"""What XLA has compiled, kept for the next start: compiling is most of the time before a run's first step.

TensorFlow keeps compiled programs in a folder if it is told to, but fails where a file in it is damaged or
vanishes. So every process has a folder of its own, `live-*`, filled with links to the programs of earlier
ones. Those lie in `kept`, with their checksum in their name; nothing half-written comes there, since it is
the next process to start that keeps what others, dead or alive, have compiled.
"""

import contextlib
import fcntl
import hashlib
import importlib.metadata
import os
import pathlib
import platform
import re
import shutil
import tempfile
import zlib

LIMIT = 10**9  # bytes
# Below that much free space nothing is kept: TensorFlow fails where it cannot write a program.
FREE = 2 * 10**8
ENDING = ".pb"
# What `use` adds to TF_XLA_FLAGS.
MINE = re.compile(
    r'--tf_xla_persistent_cache_directory="[^"]*/lrn_tf/\w+/live-[^"]+"'
    r" --tf_xla_persistent_cache_read_only=false"
)
# Of this process's folder, whose lock says that it lives.
_lock = None


def use() -> None:
    """Has TensorFlow, which must not have been imported yet, take and keep compiled programs.

    The folder is `lrn_tf` in $XDG_CACHE_HOME or ~/.cache. Where it cannot be used, all is compiled
    anew. A user's own TF_XLA_FLAGS with a cache are left as they are.
    """
    global _lock
    inherit_none()
    flags = os.environ.get("TF_XLA_FLAGS", "")
    if _lock is not None or "persistent_cache" in flags:
        return
    with contextlib.suppress(OSError, RuntimeError):  # RuntimeError: there is no home
        home = os.environ.get("XDG_CACHE_HOME") or pathlib.Path("~/.cache").expanduser()
        root = pathlib.Path(home) / "lrn_tf" / _machine()
        mine, _lock = _prepare(root)
        os.environ["TF_XLA_FLAGS"] = (
            f'{flags} --tf_xla_persistent_cache_directory="{mine}"'
            " --tf_xla_persistent_cache_read_only=false"
        ).strip()


def inherit_none() -> None:
    """Forgets the folder of the process that started this one: it is deleted when that one ends."""
    if _lock is None and (flags := os.environ.get("TF_XLA_FLAGS")):
        os.environ["TF_XLA_FLAGS"] = MINE.sub("", flags).strip()


def _machine():
    """What a compiled program depends on besides itself."""
    processor = platform.processor()
    with contextlib.suppress(OSError):
        lines = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        processor = [line for line in lines if line.startswith(("model name", "flags"))][:2]
    version = importlib.metadata.version("tensorflow")
    depends = [version, platform.machine(), processor, os.environ.get("XLA_FLAGS", "")]
    return hashlib.sha256(repr(depends).encode()).hexdigest()[:16]


def _prepare(root):
    """Tidies up, and makes this process's folder; returns it and the lock that holds it."""
    kept = root / "kept"
    kept.mkdir(mode=0o700, parents=True, exist_ok=True)
    if shutil.disk_usage(kept).free < FREE:
        raise OSError("too little space")
    with _locked(root / "lock"):  # one process at a time
        for folder in root.glob("live-*"):
            _keep(folder, kept)
        _trim(root.parent)
        mine = pathlib.Path(tempfile.mkdtemp(prefix="live-", dir=root))
        for program in kept.iterdir():
            name, _, checksum = program.name.rpartition("@")
            if f"{zlib.crc32(program.read_bytes()):08x}" == checksum:
                os.link(program, mine / name)
            else:
                program.unlink()
        lock = os.open(mine / "lock", os.O_RDWR | os.O_CREAT)
        fcntl.flock(lock, fcntl.LOCK_EX)
    return mine, lock


@contextlib.contextmanager
def _locked(path, how=fcntl.LOCK_EX):
    handle = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(handle, how)
        yield
    finally:
        os.close(handle)


def _keep(folder, kept):
    """Keeps what a process has compiled, and deletes its folder if it is dead."""
    known = {program.name.rpartition("@")[0] for program in kept.iterdir()}
    for program in folder.glob(f"*{ENDING}"):  # TensorFlow renames them to that when they are whole
        if program.name not in known:
            with contextlib.suppress(OSError):
                os.link(program, kept / f"{program.name}@{zlib.crc32(program.read_bytes()):08x}")
    with contextlib.suppress(BlockingIOError), _locked(folder / "lock", fcntl.LOCK_EX | fcntl.LOCK_NB):
        shutil.rmtree(folder, ignore_errors=True)


def _trim(home):
    """Deletes the oldest programs, of all machines and versions, down to the limit."""
    programs = [(p.stat(), p) for p in home.glob("*/kept/*")]
    total = sum(stat.st_size for stat, _ in programs)
    for stat, program in sorted(programs, key=lambda found: found[0].st_mtime):
        if total <= LIMIT:
            break
        program.unlink(missing_ok=True)
        total -= stat.st_size
