"""The folder of a run: what was asked (config.json) and what came out (metrics.jsonl)."""

import contextlib
import dataclasses
import fcntl
import importlib.metadata
import json
import os
import pathlib
import subprocess
from typing import Any

from lrn_tf.errors import UserError
from lrn_tf.settings import FREE_ON_RESUME, Settings
from lrn_tf.storage.files import is_text, replace, seal, unseal

PACKAGES = ("lrn_tf", "tensorflow", "keras", "keras-nlp", "tensorflow-datasets", "numpy")


class Workdir:
    """A run's folder.

    Attributes:
        path: the folder.
        checkpoints: the folder of checkpoints in it.
        metrics: the path of metrics.jsonl, one JSON object per epoch.
    """

    def __init__(self, settings: Settings):
        self.path = pathlib.Path(settings.workdir)
        self.checkpoints = self.path / "checkpoints"
        self.metrics = self.path / "metrics.jsonl"
        self._config = self.path / "config.json"
        self._settings = settings
        self._lock = None

    def check(self) -> None:
        """Sees that the run may use the folder. Writes nothing.

        Raises:
            UserError: it holds a run with other settings, or any run under --noresume, or its name is no
                UTF-8.
        """
        if not is_text(self.path):
            raise UserError(f"--workdir={self.path} is no UTF-8; give a folder whose name is")
        try:
            held = dict(unseal(json.loads(self._config.read_text(encoding="utf-8")))["settings"])
        except (FileNotFoundError, NotADirectoryError):
            return
        except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
            raise UserError(
                f"{self._config} cannot be read; delete it to continue with the settings you give, or give"
                f" another --workdir"
            ) from error
        asked = dataclasses.asdict(self._settings)
        different = [
            f"--{name} was {held.get(name)}, is {value}"
            for name, value in asked.items()
            if name not in FREE_ON_RESUME and held.get(name) != value
        ]
        if different:
            raise UserError(
                f"--workdir={self.path} holds a run with other settings ({'; '.join(different)}); repeat"
                f" those settings or give another --workdir"
            )
        if not self._settings.resume:
            raise UserError(
                f"--workdir={self.path} holds a run already; drop --noresume to continue it or give"
                f" another --workdir"
            )

    @contextlib.contextmanager
    def lock(self):
        """Makes the folder, and keeps other runs out of it until the context ends or the process dies.

        Raises:
            UserError: another run is using the folder, or it cannot be made.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT)
        except OSError as error:
            raise self._unwritable(error) from error
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise UserError(
                    f"--workdir={self.path} is in use by another run; wait for its end or give another"
                    f" --workdir"
                ) from error
            except OSError:
                pass  # a file system without locks
            self.check()  # another run may have come and gone since the first look
            self._lock = handle
            yield
        finally:
            self._lock = None
            os.close(handle)

    def check_held(self) -> None:
        """Sees that the folder is still the one that was locked. Without a lock it is.

        Raises:
            UserError: somebody deleted it meanwhile, or put another in its place.
        """
        if self._lock is None:
            return
        try:
            held = os.path.samestat(os.fstat(self._lock), os.stat(self.path / "lock"))
        except OSError:
            held = False
        if not held:
            raise UserError(
                f"--workdir={self.path} was deleted or replaced while the run was using it; run the same"
                f" command again to start anew"
            )

    def create(self, about: dict[str, Any]) -> None:
        """Makes the folder and writes config.json.

        Args:
            about: what it shall say of the data and the method besides the settings.

        Raises:
            UserError: the folder cannot be written.
        """
        config = {
            "settings": dataclasses.asdict(self._settings),
            "about": about,
            "versions": {name: _version(name) for name in PACKAGES},
            "git_revision": _git_revision(),
        }
        try:
            self.checkpoints.mkdir(parents=True, exist_ok=True)
            replace(self._config, json.dumps(seal(config), indent=2) + "\n")
        except OSError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error):
        return UserError(
            f"--workdir={self.path} cannot be written ({error.strerror}); give a folder that can"
        )

    def append_metrics(self, line: dict[str, Any]) -> None:
        """Adds one line to metrics.jsonl.

        Raises:
            UserError: the disk refuses.
        """
        with self._writing_metrics(), self.metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    @contextlib.contextmanager
    def _writing_metrics(self):
        try:
            yield
        except OSError as error:
            raise UserError(
                f"cannot write {self.metrics} ({error.strerror}); free space or mend the folder, then run"
                f" the same command again"
            ) from error

    def read_metrics(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl; none before the first epoch's end."""
        return read_lines(self.metrics) if self.metrics.exists() else []

    def rewind_metrics(self, step: int, steps_per_epoch: int) -> None:
        """Forgets lines written after `step`, and that of an epoch which --max_steps cut short."""
        kept = [
            line
            for line in self.read_metrics()
            if line["step"] <= step and line["step"] % steps_per_epoch == 0
        ]
        if self.metrics.exists():
            with self._writing_metrics():
                replace(self.metrics, "".join(json.dumps(line) + "\n" for line in kept))


def read_lines(path: pathlib.Path) -> list[dict[str, Any]]:
    """The lines of a metrics.jsonl; what a kill left of a last, half-written line is ignored.

    Raises:
        UserError: a line is damaged.
    """
    *whole, _ = path.read_bytes().split(b"\n")
    return [_metrics_line(path, i + 1, line) for i, line in enumerate(whole)]


def _metrics_line(path, number, text):
    try:
        line = json.loads(text)
        int(line["step"])
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} cannot be read as a run's metrics, line {number} is damaged; mend or delete that line"
        ) from error
    return line


def _version(package):
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git_revision():
    """The revision of the source tree, with a + when it has changes; None outside of git."""
    package = pathlib.Path(__file__).resolve().parents[1]

    def git(*arguments):
        return subprocess.run(
            ["git", *arguments], cwd=package, capture_output=True, text=True, timeout=10, check=True
        ).stdout.strip()

    try:
        if pathlib.Path(git("rev-parse", "--show-toplevel")) != package.parent:
            return None
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.SubprocessError):
        return None
