"""The schema of metrics.jsonl: what is written is read, and nothing else is."""

import dataclasses
import json
import math
import types
import typing

import hypothesis
import pytest
from hypothesis import strategies as st
from made_runs import MIXED, ONLY_NUMBERS, metrics
from wild import wild

from lrn_tf.settings.table import FLOAT32_MAX
from lrn_tf.storage.metrics import SPLITS, EpochMetrics, Routes


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"split": "validation"},
        {"routes": None},
        {"eval_loss": 0.1 + 0.2},
        {"problem": MIXED},
        {"problem": ONLY_NUMBERS},
        {"train_accuracy": None, "routes": None},
    ],
)
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


def test_a_line_of_tasks_that_ask_for_numbers():
    line = metrics(problem=ONLY_NUMBERS)
    found = json.loads(line.to_json())
    assert found["train_accuracy"] is None and found["eval_accuracy"] is None
    assert found["eval_accuracy_per_task"] == {}
    assert found["eval_mae_per_task"] == {"size": 1.75} and found["eval_r2_per_task"] == {"size": -0.5}
    assert line.value("eval_accuracy") is None and line.value("unused_modules") == 3
    without = dataclasses.replace(line, routes=None)
    assert without.value("unused_modules") is None and without.value("epoch") == 1


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
        ("eval_accuracy", "false", "eval_accuracy is false, not a finite number"),
        ("train_accuracy", "NaN", "train_accuracy is NaN, not a finite number"),
        ("eval_mae_per_task", "null", "eval_mae_per_task is null, not an object"),
        ("eval_mae_per_task", '{"a": null}', "eval_mae_per_task of a is null, not a finite number"),
        ("eval_r2_per_task", '{"a": -1e400}', "eval_r2_per_task of a is -Infinity, not a finite number"),
        ("eval_r2_per_task", None, "has no 'eval_r2_per_task'"),
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


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
NUMBER = st.floats(-FLOAT32_MAX, FLOAT32_MAX)
OF_TYPE = {
    int: st.integers(1, 2**63 - 1),
    float: NUMBER,
    float | None: st.none() | NUMBER,
    str: st.sampled_from(list(SPLITS)),
    dict[str, float]: st.dictionaries(TEXT, NUMBER, max_size=3),
}


def strategies(of):
    return {name: OF_TYPE[hint] for name, hint in typing.get_type_hints(of).items() if hint in OF_TYPE}


ROUTED = st.builds(Routes, **strategies(Routes))
LINES = st.builds(EpochMetrics, **strategies(EpochMetrics), routes=st.none() | ROUTED)


def test_any_line_is_read_as_written():
    seen = []

    @wild(200)
    @hypothesis.given(LINES)
    def try_one(line):
        raw = line.to_json()
        assert raw.isascii() and "\n" not in raw
        assert EpochMetrics.from_json(raw.encode()) == line
        seen.append(line)

    try_one()
    assert any(line.eval_accuracy is None for line in seen) and any(line.routes is None for line in seen)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def fits(value, hint):
    """Whether a parsed value is of a type, by rules as plain as can be."""
    if hint is float:
        return type(value) in (int, float) and math.isfinite(value) and abs(value) <= FLOAT32_MAX
    if hint is int:
        return type(value) is int and abs(value) < 2**63
    if hint is str:
        return type(value) is str and not any(0xD800 <= ord(c) <= 0xDFFF for c in value)
    if isinstance(hint, types.UnionType):
        return value is None or fits(value, hint.__args__[0])
    return type(value) is dict and all(fits(k, str) and fits(v, float) for k, v in value.items())


def test_a_line_with_anything_in_a_place_is_read_or_refused():
    """And read only where each value is of the type that its field says."""
    outcomes = []

    @wild(600)
    @hypothesis.given(st.sampled_from(sorted(strategies(EpochMetrics))), JSON)
    def try_one(name, value):
        held = {**dataclasses.asdict(metrics()), name: value}
        good = fits(value, typing.get_type_hints(EpochMetrics)[name])
        good = (
            good and (name != "split" or value in SPLITS) and (name not in ("epoch", "step") or value > 0)
        )
        try:
            line = EpochMetrics.from_json(json.dumps(held).encode())
        except ValueError as error:
            assert not good and "\n" not in str(error) and len(str(error)) < 200
        else:
            assert good and getattr(line, name) == value
        outcomes.append(bool(good))

    try_one()
    assert 10 < sum(outcomes) < len(outcomes) - 10
