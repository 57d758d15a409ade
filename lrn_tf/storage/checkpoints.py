"""Checkpoints: a kill at any moment leaves one that loads."""

import contextlib
import os
import pathlib
import re
import sys

import tensorflow as tf

from lrn_tf.errors import UserError, reason

KEEP = 3
# The tensor that says which variables a checkpoint holds.
OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
# What TensorFlow raises where a checkpoint was cut short, changed or lost a file; nothing else is damage.
DAMAGE = (tf.errors.DataLossError, tf.errors.NotFoundError, tf.errors.OutOfRangeError)


class Checkpoints:
    """Saves variables under a folder and restores the newest state that is whole.

    A checkpoint is written under another name, and its index file is renamed last, so one whose index
    exists was written completely; every tensor carries a checksum, so damage shows on reading.
    """

    def __init__(self, folder: pathlib.Path, variables: dict[str, object]):
        """Args: folder: exists when saving. variables: nested dicts and lists of `tf.Variable`."""
        self.folder = folder
        self._checkpoint = tf.train.Checkpoint(**variables)

    @property
    def newest(self) -> int:
        """The step of the newest checkpoint, damaged or not; 0 when there is none."""
        paths = self._paths()
        return int(paths[0].name.removeprefix("step-")) if paths else 0

    def save(self, step: int) -> None:
        """Writes a checkpoint and deletes the oldest of more than three.

        Raises:
            UserError: the disk refuses.
        """
        partial = self.folder / "saving"
        try:
            os.stat(self.folder)  # TensorFlow would make one that was deleted, and all above it
            _delete(partial)  # of a kill
            self._checkpoint.write(str(partial))
            # "saving.data-..." comes before "saving.index".
            for file in sorted(self.folder.glob("saving.*")):
                os.replace(file, self.folder / f"step-{step}{file.suffix}")
            for path in self._paths()[KEEP:]:
                _delete(path)
        except (tf.errors.OpError, OSError) as error:
            with contextlib.suppress(OSError):
                _delete(partial)  # it takes space
            raise UserError(
                f"cannot write a checkpoint of step {step} to {self.folder}: {reason(error)}; free"
                f" space or mend the folder, then run the same command again"
            ) from error

    def restore(self, clean: bool = True) -> bool:
        """Restores the newest checkpoint that can be read; says so on stderr when it skips one.

        Args:
            clean: delete damaged checkpoints that are newer.

        Returns:
            False when there is none.

        Raises:
            UserError: there are checkpoints, but none can be read, or one cannot for another reason than
                damage. That one is left as it is, and no older one is taken instead.
        """
        paths = self._paths()
        for path in paths:
            for part in path.parent.glob(f"{path.name}.*"):
                if part.exists() and not (part.is_file() or part.is_dir()):  # one would wait for ever
                    raise _unreadable(path, f"{part.name} is no regular file")
            try:
                self._read(path)
            except DAMAGE as error:
                print(f"checkpoint {path} is damaged ({reason(error)})", file=sys.stderr)
                continue
            except tf.errors.OpError as error:  # no permission, no memory, a disk that does not answer
                raise _unreadable(path, reason(error)) from error
            except (ValueError, AssertionError) as error:
                raise _unreadable(path, "it holds other variables than this run has") from error
            # Damaged ones would count as the newest when the oldest are deleted.
            for damaged in paths[: paths.index(path) if clean else 0]:
                _delete(damaged)
            return True
        if paths:
            raise UserError(
                f"none of the {len(paths)} checkpoints in {self.folder} can be read; give another"
                f" --workdir, or delete this one to start anew"
            )
        return False

    def _read(self, path):
        # Only TensorFlow's operations tell damage from other failures; what reads the rest does not.
        prefix = os.fsencode(path)  # a name need not be UTF-8
        tf.raw_ops.RestoreV2(
            prefix=prefix, tensor_names=[OBJECT_GRAPH], shape_and_slices=[""], dtypes=[tf.string]
        )
        status = self._checkpoint.read(prefix)
        status.assert_existing_objects_matched()
        status.expect_partial()  # no warning where only the weights are wanted

    def _paths(self):
        """Complete checkpoints, newest first."""
        found = {}
        for index in self.folder.glob("step-*.index"):
            if match := re.fullmatch(r"step-(\d+)\.index", index.name):
                found[int(match.group(1))] = index.with_suffix("")
        return [found[step] for step in sorted(found, reverse=True)]


def _delete(path):
    """Deletes a checkpoint, its index first: without one it is no checkpoint."""
    path.with_name(path.name + ".index").unlink(missing_ok=True)
    for data in path.parent.glob(f"{path.name}.*"):
        data.unlink(missing_ok=True)


def _unreadable(path, reason):
    return UserError(f"checkpoint {path} cannot be read ({reason}); mend that, or give another --workdir")
