"""The schema of metrics.jsonl: what is written is read, and nothing else is."""

import dataclasses
import json

import pytest
from made_runs import metrics

from lrn_tf.storage.metrics import EpochMetrics


@pytest.mark.parametrize("given", [{}, {"split": "validation"}, {"routes": None}, {"eval_loss": 0.1 + 0.2}])
def test_a_line_is_read_as_written(given):
    line = metrics(**given)
    raw = line.to_json()
    assert "\n" not in raw and EpochMetrics.from_json(raw.encode()) == line
    assert EpochMetrics.from_json(raw.encode()).to_json() == raw


def test_a_line_says_what_was_evaluated():
    found = json.loads(metrics(split="validation").to_json())
    assert found["split"] == "validation" and found["eval_accuracy_per_task"] == {
        "left": 0.5,
        "right": 0.25,
    }
    assert not [name for name in found if "test" in name]


DEEP = "[" * 10**5 + "]" * 10**5


@pytest.mark.parametrize(
    "name, value, said",
    [
        ("eval_loss", "NaN", "eval_loss is NaN, not a finite number"),
        ("eval_loss", "-Infinity", "eval_loss is -Infinity, not a finite number"),
        ("eval_loss", "1e400", "eval_loss is Infinity, not a finite number"),
        ("eval_loss", "1" + "0" * 400, "eval_loss is 1000"),
        ("eval_loss", "1" + "0" * 5000, "integer string conversion"),
        ("eval_loss", "true", "eval_loss is true, not a finite number"),
        ("eval_loss", '"0.1"', 'eval_loss is "0.1", not a finite number'),
        ("eval_loss", DEEP, "nested too deeply"),
        ("eval_loss", None, "has no 'eval_loss'"),
        ("eval_accuracy_per_task", "0.5", "eval_accuracy_per_task is 0.5, not an object"),
        (
            "eval_accuracy_per_task",
            '{"a": []}',
            "eval_accuracy_per_task of a is a list, not a finite number",
        ),
        ("routes", "{}", "routes has no 'unused_modules'"),
        ("routes", "3", "routes is 3, not an object"),
        ("epoch", "1.5", "epoch is 1.5, not a whole number"),
        ("epoch", "0", "epoch 0 and step 10 are not 1 or more"),
        ("step", "9" * 30, "step is 999"),
        ("split", '"train"', "split is 'train', not test or validation"),
        ("split", r'"\ud800"', "split is"),
        ("test_loss", "1", "has an unknown 'test_loss'"),
    ],
)
def test_what_cannot_be_is_refused(name, value, said):
    held = {key: json.dumps(v) for key, v in dataclasses.asdict(metrics()).items()} | {name: value}
    raw = ", ".join(f'"{key}": {v}' for key, v in held.items() if v is not None)
    with pytest.raises(ValueError) as caught:
        EpochMetrics.from_json(f"{{{raw}}}".encode())
    assert said in str(caught.value) and "\n" not in str(caught.value) and len(str(caught.value)) < 200


@pytest.mark.parametrize("raw", [b"", b"3", b"[]", b"null", b"\xff", b'{"step": 7}', b"{" * 10**5])
def test_what_is_no_line(raw):
    with pytest.raises(ValueError):
        EpochMetrics.from_json(raw)
