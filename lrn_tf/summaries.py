"""TensorBoard scalars."""

import pathlib

import tensorflow as tf

from lrn_tf.errors import UserError


class Summaries:
    """Writes scalars for TensorBoard under a folder."""

    def __init__(self, folder: pathlib.Path):
        self._folder = folder
        self._writer = tf.summary.create_file_writer(str(folder))

    def write(self, step: int, scalars: dict[str, float]) -> None:
        """Args: step: of training. scalars: by tag, such as `losses/policy_loss`.

        Raises:
            UserError: the disk refuses.
        """
        try:
            with self._writer.as_default(step=step):
                for tag, value in scalars.items():
                    tf.summary.scalar(tag, value)
            self._writer.flush()
        except tf.errors.OpError as error:
            raise UserError(
                f"cannot write summaries to {self._folder}; free space, then run the same command again"
            ) from error
