"""The programs in tools/ run and print what their documentation says."""

import os
import pathlib
import re
import subprocess
import sys

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


@pytest.mark.parametrize("tool", ["benchmark.py", "fixed_paths.py"])
def test_bad_input_is_one_line(tool):
    done = run(tool, "--dup=0")
    assert done.returncode == 2
    assert done.stderr.splitlines() == ["lrn_tf: --dup=0 is out of range; allowed is 1 to 1000"]
