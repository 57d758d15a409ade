"""The programs in tools/ run and print what their documentation says."""

import importlib
import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest

pytestmark = pytest.mark.slow

TOOLS = pathlib.Path(__file__).parents[1] / "tools"
TINY = ("--dup=2", "--depth=3", "--d_model=16")


def run(tool, *arguments):
    command = [sys.executable, str(TOOLS / tool), *TINY, *arguments]
    # The variable, which the tests themselves set, would bring TensorFlow's messages back.
    environment = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)


def test_benchmark_prints_every_part_and_ratio():
    done = run("benchmark.py", "--steps=2")
    assert done.returncode == 0, done.stderr[-2000:]
    # Milliseconds, their floor, the ratio of the two, and the ratio to the fixed network.
    rows = re.findall(r"^ *(\w.*?) {2,}([\d.]+) +([\d.]+) +[\d.]+ +[\d.]+$", done.stdout, re.MULTILINE)
    parts = ["route", "modules forward + backward", "module optimizer", "PPO"]
    wholes = ["LRN step", "fixed network step", "forward + backward"]
    assert {name for name, _, _ in rows} == {*parts, *wholes}
    for name, time, floor in rows:
        # Times on images this small have nothing to do with arithmetic, but none can beat it.
        assert 0 <= float(floor) <= 1.1 * float(time), name
    for pattern in (
        r"first step after [\d.]+ s; peak memory [\d.]+ GiB",
        r"mask-all: step [\d.]+ ms",
        r"waiting for data: [\d.]+ x",
        r"evaluation of 3,590 examples \d+ ms: fixed network \d+ ms \+ routing \d+ ms",
    ):
        assert re.search(pattern, done.stdout), done.stdout


def test_fixed_paths_of_tasks_learn_what_shared_ones_cannot():
    """One-against-all tasks: one network for all can only answer the majority class."""
    accuracy = {}
    for paths in ("task", "shared"):
        done = run("fixed_paths.py", f"--paths={paths}", "--dup=10", "--max_steps=150", "--every=150")
        assert done.returncode == 0, done.stderr[-2000:]
        accuracy[paths] = float(re.search(r"accuracy ([\d.]+)%", done.stdout).group(1))
    assert accuracy["task"] > 93
    assert accuracy["shared"] < 91


def test_early_phase_measures_what_it_says():
    done = run("early_phase.py", "--max_steps=20", "--every=20", "--batches=2")
    assert done.returncode == 0, done.stderr[-2000:]
    rows = re.findall(r"^step (\d+): (.*)$", done.stdout, re.MULTILINE)
    assert [int(step) for step, _ in rows] == [0, 20]
    for _, row in rows:
        found = dict(re.findall(r"(\D+?) ((?:-?\d+\.\d+ ?)+)", row.replace("; ", ";")))
        found = {name.strip(";"): [float(x) for x in values.split()] for name, values in found.items()}
        assert len(found["entropy"]) == 3 and min(found["entropy"]) > 0
        assert len(found["information"]) == len(found["agreement"]) == 6
        assert all(0 <= bits <= 3.33 for bits in found["information"])
        assert all(-1 <= cosine <= 1 for cosine in found["agreement"])
        assert 0 <= found["share of bonus"][0] <= 1
        assert {"loss", "accuracy", "signal, all", "signal, task"} < set(found)


@pytest.fixture
def early_phase(monkeypatch):
    monkeypatch.syspath_prepend(str(TOOLS))
    return importlib.import_module("early_phase")


def test_signal_finds_a_difference_between_groups_and_no_other(early_phase):
    """Against known variances; groups of two, where the plain ratio of variances would be far off."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(20_000), 2)
    noise = rng.normal(size=len(groups))
    assert early_phase.signal(noise, groups) == pytest.approx(0, abs=0.03)
    means = rng.normal(scale=0.5, size=20_000)
    assert early_phase.signal(means[groups] + noise, groups) == pytest.approx(0.25, abs=0.03)
    uneven = np.repeat(np.arange(15_000), np.tile([1, 2, 6], 5_000))
    values = means[uneven] + rng.normal(size=len(uneven))
    assert early_phase.signal(values, uneven) == pytest.approx(0.25, abs=0.03)


@pytest.mark.parametrize("tool", ["benchmark.py", "fixed_paths.py", "early_phase.py"])
def test_bad_input_is_one_line(tool):
    done = run(tool, "--dup=0")
    assert done.returncode == 2
    assert done.stderr.splitlines() == ["lrn_tf: --dup=0 is out of range; allowed is 1 to 1000"]
