"""Checkpoints: a kill at any moment leaves one that loads."""

import pathlib
import re
import sys

import tensorflow as tf

from lrn_tf.errors import UserError

KEEP = 3


class Checkpoints:
    """Saves variables under a folder and restores the newest state that is whole.

    TensorFlow writes a checkpoint under temporary names and its index file last, so a checkpoint whose
    index exists was written completely; every tensor carries a checksum, so damage shows on reading.
    """

    def __init__(self, folder: pathlib.Path, variables: dict[str, object]):
        """Args: folder: made when missing. variables: nested dicts and lists of `tf.Variable`."""
        self.folder = folder
        self._checkpoint = tf.train.Checkpoint(**variables)
        self._manager = tf.train.CheckpointManager(
            self._checkpoint, str(folder), max_to_keep=KEEP, checkpoint_name="step"
        )

    def save(self, step: int) -> None:
        """Writes a checkpoint and deletes the oldest of more than three.

        Raises:
            UserError: the disk refuses.
        """
        try:
            self._manager.save(checkpoint_number=step)
        except (tf.errors.OpError, OSError) as error:
            raise UserError(
                f"cannot write a checkpoint of step {step} to {self.folder}: {_first_line(error)}; free"
                f" space or mend the folder, then run the same command again"
            ) from error

    def restore(self) -> bool:
        """Restores the newest checkpoint that can be read; says so on stderr when it skips one.

        Returns:
            False when there is none.

        Raises:
            UserError: there are checkpoints, but none can be read.
        """
        paths = self._paths()
        for path in paths:
            try:
                status = self._checkpoint.read(str(path))
                status.assert_existing_objects_matched()
            except (tf.errors.OpError, ValueError, AssertionError) as error:
                print(f"checkpoint {path} is damaged ({_first_line(error)})", file=sys.stderr)
                continue
            self._forget_newer_than(path)
            return True
        if paths:
            raise UserError(
                f"none of the {len(paths)} checkpoints in {self.folder} can be read; give another"
                f" --workdir, or delete this one to start anew"
            )
        return False

    def _paths(self):
        """Complete checkpoints, newest first. The index of checkpoints is not asked: it may be damaged."""
        found = {}
        for index in self.folder.glob("step-*.index"):
            if match := re.fullmatch(r"step-(\d+)\.index", index.name):
                found[int(match.group(1))] = index.with_suffix("")
        return [found[step] for step in sorted(found, reverse=True)]

    def _forget_newer_than(self, path):
        """Lets the manager continue from a checkpoint, whatever its own records say."""
        paths = [str(p) for p in reversed(self._paths())]
        kept = paths[: paths.index(str(path)) + 1]
        tf.train.update_checkpoint_state(
            str(self.folder), model_checkpoint_path=kept[-1], all_model_checkpoint_paths=kept
        )
        self._manager = tf.train.CheckpointManager(
            self._checkpoint, str(self.folder), max_to_keep=KEEP, checkpoint_name="step"
        )


def _first_line(error):
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
