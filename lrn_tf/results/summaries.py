"""What TensorBoard shows of a run: scalars, pictures, histograms, settings and embeddings."""

import contextlib
import dataclasses
import pathlib

import tensorflow as tf

from lrn_tf.data.benchmarks import Benchmark
from lrn_tf.errors import UserError
from lrn_tf.results import projector
from lrn_tf.results.evaluation import Evaluation
from lrn_tf.settings import Settings, behind_results


class Summaries:
    """Writes what TensorBoard reads under a folder."""

    def __init__(self, folder: pathlib.Path):
        self._folder = folder
        self._writer = tf.summary.create_file_writer(str(folder))

    def write(self, step: int, scalars: dict[str, float]) -> None:
        """Args: step: of training. scalars: by tag, such as `losses/policy_loss`.

        Raises:
            UserError: the disk refuses, here and in all that follows.
        """
        with self._writing(step):
            for tag, value in scalars.items():
                tf.summary.scalar(tag, value)

    def settings(self, settings: Settings) -> None:
        """What the page HParams sets against the last test accuracy and number of unused modules."""
        from tensorboard.plugins.hparams import api

        values = behind_results(dataclasses.asdict(settings))
        metrics = [
            api.Metric("test/accuracy", display_name="test accuracy"),
            api.Metric("test/unused_modules", display_name="unused modules"),
        ]
        with self._writing(0):
            api.hparams_config(hparams=[api.HParam(name) for name in values], metrics=metrics)
            api.hparams(values)

    def evaluation(self, line: dict, evaluation: Evaluation, benchmark: Benchmark, draw: bool) -> None:
        """Its numbers, a histogram of the lengths of networks and, where wanted, pictures of all paths.

        Args: line: what metrics.jsonl says of the epoch.
        """
        step = line["step"]
        numbers = {
            "test/accuracy": line["test_accuracy"],
            "test/loss": line["test_loss"],
            "test/unused_modules": line["unused_modules"],
            "test/mean_length": line["mean_length"],
            "test/confidence": evaluation.confidence,
        }
        for group in ("test_accuracy_per_task", "task_information_bits"):
            numbers |= {f"{group}/{name}": value for name, value in line[group].items()}
        self.write(step, numbers)
        if not evaluation.num_modules:
            return
        with self._writing(step):
            tf.summary.histogram("test/length", evaluation.lengths, buckets=evaluation.paths.shape[1])
            if draw:
                from lrn_tf.results import pictures

                drawn = pictures.of_paths(evaluation, benchmark.tasks, benchmark.test)
                for name, figure in drawn.items():
                    tf.summary.image(f"paths/{name}", pictures.pixels(figure)[None])

    def embeddings(self, method, benchmark: Benchmark) -> None:
        """What the page Projector shows, if the method embeds anything: see `lrn_tf.results.projector`."""
        if hasattr(method, "embeddings"):
            with self._writing(0):
                projector.write(self._folder, method, benchmark)

    @contextlib.contextmanager
    def _writing(self, step):
        try:
            with self._writer.as_default(step=step):
                yield
            self._writer.flush()
        except (tf.errors.OpError, OSError) as error:
            raise UserError(
                f"cannot write summaries to {self._folder}; free space, then run the same command again"
            ) from error
