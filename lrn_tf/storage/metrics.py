"""A line of metrics.jsonl: what came out of an epoch."""

import dataclasses
import json
from typing import Any

from lrn_tf.storage.from_json import of_type, parse

# What `split` may say, and in a sentence. An accuracy on validation examples is none on the test examples.
SPLITS = {"test": "test examples", "validation": "held-out training examples"}


@dataclasses.dataclass(frozen=True)
class Routes:
    """What an evaluation says of the networks along the examples' paths.

    Attributes:
        unused_modules: modules in nobody's network.
        mean_length: modules in a network.
        task_information_bits: by kind, what the choice of its modules tells about the task.
    """

    unused_modules: int
    mean_length: float
    task_information_bits: dict[str, float]


@dataclasses.dataclass(frozen=True)
class EpochMetrics:
    """An epoch. What is evaluated is in `split`, and all that begins with `eval_` was measured on it.

    Attributes:
        epoch: counted from 1.
        step: how many there were at its end.
        split: "test" or "validation": `lrn_tf.settings.table.Settings.split`.
        train_loss, eval_loss: as the method has them: cross-entropies in nats, and squared errors of
            numbers that are standardised.
        train_accuracy: the mean over batches that have one. None where every task asks for numbers, and so
            is `eval_accuracy`.
        eval_accuracy_per_task: by the name of the task; of those that ask for classes or labels.
        eval_mae_per_task: of those that ask for numbers, mean absolute errors in their units.
        eval_r2_per_task: likewise; 1 is all right, 0 what a constant can do.
        routes: None of a method without paths.
        learning_rate: of its last step.
        metrics: means over the epoch of what the method reports, by TensorBoard's tag.
        examples_per_second: trained on, without evaluations.
        step_ms_median: milliseconds that this process had to do with a step; a GPU may have had longer.
        seconds: of training since the epoch before that is here, without evaluations.
    """

    epoch: int
    step: int
    train_loss: float
    train_accuracy: float | None
    split: str
    eval_loss: float
    eval_accuracy: float | None
    eval_accuracy_per_task: dict[str, float]
    eval_mae_per_task: dict[str, float]
    eval_r2_per_task: dict[str, float]
    routes: Routes | None
    learning_rate: float
    metrics: dict[str, float]
    examples_per_second: float
    step_ms_median: float
    seconds: float

    @classmethod
    def from_json(cls, raw: bytes) -> "EpochMetrics":
        """What a line says.

        Raises:
            ValueError: it is none, or says what cannot be.
        """
        found = of_type(cls, parse(raw), "the line")
        if found.split not in SPLITS:
            raise ValueError(f"split is {ascii(found.split)}, not {' or '.join(SPLITS)}")
        if found.epoch < 1 or found.step < 1:
            raise ValueError(f"epoch {found.epoch} and step {found.step} are not 1 or more")
        return found

    def to_json(self) -> str:
        """The line, without its end."""
        return json.dumps(dataclasses.asdict(self))

    def value(self, name: str) -> Any:
        """What has this name here or in `routes`; None where that is missing."""
        return getattr(self, name) if name not in ROUTES else getattr(self.routes, name, None)

    def without_timings(self) -> "EpochMetrics":
        """What two runs of the same settings have in common."""
        return dataclasses.replace(self, examples_per_second=0.0, step_ms_median=0.0, seconds=0.0)


ROUTES = tuple(field.name for field in dataclasses.fields(Routes))
