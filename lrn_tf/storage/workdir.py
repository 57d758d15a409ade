"""The folder of a run: what was asked (config.json) and what came out (metrics.jsonl)."""

import contextlib
import dataclasses
import fcntl
import functools
import importlib.metadata
import os
import pathlib
import subprocess

from lrn_tf.errors import UserError, printable, unwritable
from lrn_tf.settings.table import Settings, free_on_resume
from lrn_tf.storage.config import About, Config, unlike
from lrn_tf.storage.files import read, replace
from lrn_tf.storage.metrics import EpochMetrics

PACKAGES = ("lrn_tf", "tensorflow", "keras", "keras-nlp", "tensorflow-datasets", "numpy")
# What changes results and is no setting: see lrn_tf/__init__.py.
VARIABLES = ("TF_ENABLE_ONEDNN_OPTS",)


class Workdir:
    """A run's folder.

    Attributes:
        path: the folder.
        checkpoints: the folder of checkpoints in it.
        metrics: the path of metrics.jsonl, one JSON object per evaluated epoch.
    """

    def __init__(self, settings: Settings):
        self.path = pathlib.Path(settings.workdir)
        self.checkpoints = self.path / "checkpoints"
        self.metrics = self.path / "metrics.jsonl"
        self._config = self.path / "config.json"
        self._settings = settings
        self._lock = None

    def check(self, about: About | None = None) -> None:
        """Sees that the run may use the folder. Writes nothing.

        Args:
            about: what config.json shall say besides the settings, once that is known.

        Raises:
            UserError: it holds a run with other settings, on other data or with another pool, or any run
                under --noresume.
        """
        held = self.held()
        if held is None:
            return
        asked, free = dataclasses.asdict(self._settings), free_on_resume(self._settings)
        different = [
            f"--{name} was {_short(held.settings[name])}, is {_short(value)}"
            for name, value in asked.items()
            if name not in free and held.settings[name] != value
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
        if about is not None and (different := unlike(held.about, about)):
            raise UserError(
                f"--workdir={self.path} holds a run on other data or with other modules: {different}; give"
                f" those, or another --workdir"
            )

    def held(self) -> Config | None:
        """The config.json of the run that the folder holds; None if there is none.

        Raises:
            UserError: it cannot be read.
        """
        try:
            return Config.from_json(read(self._config))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (ValueError, OSError) as error:
            raise UserError(
                f"{self._config} cannot be read ({error}); delete it to continue with the settings you"
                f" give, or give another --workdir"
            ) from error

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
            raise unwritable("workdir", self.path, error) from error
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

    def create(self, about: About, through: bool = False) -> None:
        """Makes the folder and writes config.json.

        Args:
            about: what it shall say besides the settings.
            through: there is nothing left to train, so that config.json stays what made the weights.

        Raises:
            UserError: the folder cannot be written.
        """
        config = Config(
            settings=dataclasses.asdict(self._settings),
            about=about,
            versions={name: _version(name) for name in PACKAGES},
            git_revision=_git_revision(pathlib.Path(__file__).resolve().parents[1]),
            environment={name: os.environ.get(name) for name in VARIABLES},
        )
        try:
            self.checkpoints.mkdir(parents=True, exist_ok=True)
            if not (through and self._config.exists()):
                replace(self._config, config.to_json())
        except OSError as error:
            raise unwritable("workdir", self.path, error) from error

    def append_metrics(self, line: EpochMetrics) -> None:
        """Adds one line to metrics.jsonl.

        Raises:
            UserError: the disk refuses.
        """
        with self._writing_metrics(), self.metrics.open("a", encoding="utf-8") as file:
            file.write(line.to_json() + "\n")

    @contextlib.contextmanager
    def _writing_metrics(self):
        try:
            yield
        except OSError as error:
            raise UserError(
                f"cannot write {self.metrics} ({error.strerror}); free space or mend the folder, then run"
                f" the same command again"
            ) from error

    def read_metrics(self) -> list[EpochMetrics]:
        """The lines of metrics.jsonl; none before the first evaluation."""
        return read_lines(self.metrics) if self.metrics.exists() else []

    def rewind_metrics(self, step: int, steps_per_epoch: int) -> list[EpochMetrics]:
        """Forgets lines written after `step`, and that of an epoch which --max_steps cut short.

        Returns the others.
        """
        kept = [
            line for line in self.read_metrics() if line.step <= step and line.step % steps_per_epoch == 0
        ]
        if self.metrics.exists():
            with self._writing_metrics():
                replace(self.metrics, "".join(line.to_json() + "\n" for line in kept))
        return kept


def _short(value):
    """A setting in a message; the folder may be a stranger's."""
    return printable(str(value))[:200]


def read_lines(path: pathlib.Path) -> list[EpochMetrics]:
    """The lines of a metrics.jsonl; what a kill left of a last, half-written line is ignored.

    Raises:
        UserError: a line is damaged.
    """
    *whole, _ = read(path).split(b"\n")
    return [_metrics_line(path, i + 1, line) for i, line in enumerate(whole)]


def _metrics_line(path, number, text):
    try:
        return EpochMetrics.from_json(text)
    except ValueError as error:
        raise UserError(
            f"{path} cannot be read as a run's metrics, line {number} is damaged ({error}); mend or delete"
            f" that line"
        ) from error


def _version(package):
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


@functools.cache  # what runs is what was there when it was imported
def _git_revision(package):
    """The revision of a package's source tree, with a + when it has changes; None outside of git."""

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
