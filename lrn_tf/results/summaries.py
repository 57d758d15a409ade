"""What TensorBoard shows of a run: scalars, pictures, histograms, settings and embeddings."""

import contextlib
import dataclasses
import pathlib

import tensorflow as tf

from lrn_tf.data.benchmarks import Benchmark
from lrn_tf.errors import UserError
from lrn_tf.results import projector
from lrn_tf.results.evaluation import Evaluation
from lrn_tf.settings.table import Settings, behind_results
from lrn_tf.storage.metrics import EpochMetrics


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
        """What the page HParams sets against the last accuracy, loss and number of unused modules."""
        from tensorboard.plugins.hparams import api

        values = behind_results(dataclasses.asdict(settings))
        metrics = [
            api.Metric("eval/accuracy", display_name=f"{settings.split} accuracy"),
            api.Metric("eval/loss", display_name=f"{settings.split} loss"),
            api.Metric("eval/unused_modules", display_name="unused modules"),
        ]
        with self._writing(0):
            api.hparams_config(hparams=[api.HParam(name) for name in values], metrics=metrics)
            api.hparams(values)

    def evaluation(
        self, line: EpochMetrics, evaluation: Evaluation, benchmark: Benchmark, draw: bool
    ) -> None:
        """Its numbers, a histogram of the lengths of networks and, where wanted, pictures of all paths.

        Args: line: what metrics.jsonl says of the epoch.
        """
        numbers = {"eval/loss": line.eval_loss}
        if line.eval_accuracy is not None:
            numbers["eval/accuracy"] = line.eval_accuracy
        for group in ("eval_accuracy_per_task", "eval_mae_per_task", "eval_r2_per_task"):
            numbers |= {f"{group}/{task}": value for task, value in getattr(line, group).items()}
        if routes := line.routes:
            numbers["eval/unused_modules"] = routes.unused_modules
            numbers["eval/mean_length"] = routes.mean_length
            numbers["eval/confidence"] = evaluation.confidence
            bits = routes.task_information_bits
            numbers |= {f"task_information_bits/{kind}": value for kind, value in bits.items()}
        self.write(line.step, numbers)
        if not routes:
            return
        with self._writing(line.step):
            tf.summary.histogram("eval/length", evaluation.lengths, buckets=evaluation.paths.shape[1])
            if draw:
                from lrn_tf.results import pictures

                drawn = pictures.of_paths(evaluation, benchmark.test)
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
