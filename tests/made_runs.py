"""Folders of runs that nobody trained: what config.json and metrics.jsonl say, made up."""

import dataclasses
import json
import pathlib

from lrn_tf.data.problem import CLASSES, LABELS, NUMBERS, InputSpec, Problem, TaskSpec
from lrn_tf.settings.resolve import resolve
from lrn_tf.settings.table import LRNS
from lrn_tf.storage.config import Config
from lrn_tf.storage.files import SEAL, seal
from lrn_tf.storage.metrics import EpochMetrics, Routes

IMAGES = InputSpec("images", (4, 4, 1), "uint8", (1.0,), (2.0,))
ROWS = InputSpec("rows", (3,), "float32", (0.0, 1.0, -5.5), (1.0, 0.5, 2.0))
TOKENS = InputSpec("tokens", (6,), "int32", (), (), 11)
PROBLEM = Problem(
    "cifar_mtl",
    (IMAGES,),
    tuple(TaskSpec(name, "images", CLASSES, ("no", "yes")) for name in ("left", "right")),
)
# Every kind of input, and every form of answers.
MIXED = Problem(
    "mixed",
    (IMAGES, ROWS, TOKENS),
    (
        TaskSpec("left", "images", CLASSES, ("no", "yes", "perhaps")),
        TaskSpec("size", "rows", NUMBERS, ("height", "width"), (1.5, -2.0), (0.5, 3.0), 2.0),
        TaskSpec("topics", "tokens", LABELS, ("art", "sports", "politics")),
    ),
)
ONLY_NUMBERS = Problem("numbers", (ROWS,), MIXED.tasks[1:2])
POOL = ["conv: input, 4x4x1 to 2, 5 modules with weights 16x2, 2"]
ABOUT = {"problem": PROBLEM, "pool": POOL, "training_examples": 1280, "eval_examples": 9, "parameters": 7}
ROUTES = Routes(unused_modules=3, mean_length=3.5, task_information_bits={"conv": 0.5})


def metrics(epoch=1, eval_accuracy=0.5, problem=PROBLEM, **given):
    """An epoch of ten steps; the first task has the accuracy of all, the others have another one."""
    numbers, others = ([t.name for t in problem.tasks if (t.form == NUMBERS) == is_it] for is_it in (1, 0))
    line = EpochMetrics(
        epoch=epoch,
        step=10 * epoch,
        train_loss=1.5,
        train_accuracy=0.6 if others else None,
        split="test",
        eval_loss=1.25,
        eval_accuracy=eval_accuracy if others else None,
        eval_accuracy_per_task={name: 0.25 if i else eval_accuracy for i, name in enumerate(others)},
        eval_mae_per_task=dict.fromkeys(numbers, 1.75),
        eval_r2_per_task=dict.fromkeys(numbers, -0.5),
        routes=ROUTES,
        learning_rate=0.1,
        metrics={"train/loss": 1.5},
        examples_per_second=1000.0,
        step_ms_median=20.0,
        seconds=1.0,
    )
    return dataclasses.replace(line, **given)


def config(problem=PROBLEM, **given):
    """What config.json says of a run on CIFAR-MTL."""
    small = {"dup": 5, "depth": 4} if given.get("method", "lrn") in LRNS else {}
    settings = resolve({"benchmark": "cifar_mtl", "epochs": 3, **small, **given})
    environment = {"TF_ENABLE_ONEDNN_OPTS": "1"}
    about = {**ABOUT, "problem": problem}
    return Config(dataclasses.asdict(settings), about, {"numpy": "2"}, None, environment)


def make_run(folder, accuracies, routes=ROUTES, problem=PROBLEM, **given) -> str:
    """Writes a run's folder: accuracies by epoch, and settings that differ."""
    folder = pathlib.Path(folder)
    folder.mkdir()
    made = config(problem, **given)
    (folder / "config.json").write_text(made.to_json())
    said = dict(problem=problem, routes=routes, split=resolve(made.settings).split)
    every = made.settings["evaluate_every"]
    lines = [metrics((i + 1) * every, accuracy, **said) for i, accuracy in enumerate(accuracies)]
    (folder / "metrics.jsonl").write_text("".join(line.to_json() + "\n" for line in lines))
    return str(folder)


def change_settings(folder, change) -> None:
    """Rewrites a run's config.json, checksum and all, after `change` has altered the settings in it."""
    change_config(folder, lambda held: change(held["settings"]))


def change_config(folder, change) -> None:
    """Rewrites a run's config.json, checksum and all, after `change` has altered what it says."""
    path = pathlib.Path(folder) / "config.json"
    held = json.loads(path.read_text())
    del held[SEAL]
    change(held)
    path.write_text(json.dumps(seal(held)))
