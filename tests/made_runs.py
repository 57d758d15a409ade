"""Folders of runs that nobody trained: what config.json and metrics.jsonl say, made up."""

import dataclasses
import json
import pathlib

from lrn_tf.settings import resolve
from lrn_tf.storage.config import Config
from lrn_tf.storage.files import SEAL, seal
from lrn_tf.storage.metrics import EpochMetrics, Routes

TASKS = ["left", "right"]
PROBLEM = {
    "name": "cifar_mtl",
    "tasks": TASKS,
    "classes": [["no", "yes"]] * 2,
    "image_shape": [4, 4, 1],
    "mean": [1.0],
    "std": [2.0],
}
ABOUT = {"problem": PROBLEM, "training_examples": 1280, "eval_examples": 9, "parameters": 7}
ROUTES = Routes(unused_modules=3, mean_length=3.5, task_information_bits={"conv": 0.5})


def metrics(epoch=1, eval_accuracy=0.5, **given):
    """An epoch of ten steps."""
    line = EpochMetrics(
        epoch=epoch,
        step=10 * epoch,
        train_loss=1.5,
        train_accuracy=0.6,
        split="test",
        eval_loss=1.25,
        eval_accuracy=eval_accuracy,
        eval_accuracy_per_task={"left": eval_accuracy, "right": 0.25},
        routes=ROUTES,
        learning_rate=0.1,
        metrics={"train/loss": 1.5},
        examples_per_second=1000.0,
        step_ms_median=20.0,
        seconds=1.0,
    )
    return dataclasses.replace(line, **given)


def config(**given):
    """What config.json says of a run on CIFAR-MTL."""
    settings = resolve({"benchmark": "cifar_mtl", "dup": 5, "depth": 4, "epochs": 3, **given})
    environment = {"TF_ENABLE_ONEDNN_OPTS": "1"}
    return Config(dataclasses.asdict(settings), ABOUT, {"numpy": "2"}, None, environment)


def make_run(folder, accuracies, routes=ROUTES, **given) -> str:
    """Writes a run's folder: accuracies by epoch, and settings that differ."""
    folder = pathlib.Path(folder)
    folder.mkdir()
    made = config(**given)
    (folder / "config.json").write_text(made.to_json())
    split = resolve(made.settings).split
    lines = [metrics(i + 1, a, routes=routes, split=split) for i, a in enumerate(accuracies)]
    (folder / "metrics.jsonl").write_text("".join(line.to_json() + "\n" for line in lines))
    return str(folder)


def change_settings(folder, change) -> None:
    """Rewrites a run's config.json, checksum and all, after `change` has altered the settings in it."""
    path = pathlib.Path(folder) / "config.json"
    held = json.loads(path.read_text())
    del held[SEAL]
    change(held["settings"])
    path.write_text(json.dumps(seal(held)))
