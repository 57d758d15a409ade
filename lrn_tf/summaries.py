"""TensorBoard scalars."""

import pathlib

import tensorflow as tf


class Summaries:
    """Writes scalars for TensorBoard under a folder."""

    def __init__(self, folder: pathlib.Path):
        self._writer = tf.summary.create_file_writer(str(folder))

    def write(self, step: int, scalars: dict[str, float]) -> None:
        """Args: step: of training. scalars: by tag, such as `losses/policy_loss`."""
        with self._writer.as_default(step=step):
            for tag, value in scalars.items():
                tf.summary.scalar(tag, value)
        self._writer.flush()
