"""Real runs of `python -m lrn_tf.main`: what they leave, and that a kill changes nothing of it.

Five runs share the fixture `runs`, two at a time. The one that is left alone is started as a user does, the
others in forked processes.
"""

import concurrent.futures
import json
import math
import os
import random
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf
from tiny_run import checkpoint_steps, lines, scalars, without_timings

pytestmark = pytest.mark.slow

# 32 steps an epoch; sums are looked at every 20.
STEPS = 32
# With the pointer, which is compiled faster; checkpoints and metrics are the same with either actor.
SMALL = ("--benchmark=digits_mtl", "--dup=1", "--depth=3", "--d_model=16", "--actor=pointer")
SMALL += ("--batch_size=64", "--minibatch_size=32", "--examples=2048", "--epochs=2")
COMMAND = (*SMALL, "--checkpoint_every=20")
TASKS = [f"digit {digit}" for digit in range(10)]
KINDS = ["conv_in", "conv", "flat_fc", "fc", "flat_out", "fc_out"]
TIMINGS = ("examples_per_second", "step_ms_median", "seconds")


def start(forked, folder, *arguments):
    out, err = (folder.parent / f"{folder.name}.{name}" for name in ("stdout", "stderr"))
    err.touch()
    return forked.start(
        "lrn_tf.main",
        [f"--workdir={folder}", "--pictures_every=0", *arguments],
        *(folder.parent, out, err),
        optimised=True,
    )


def finish(forked, folder, *arguments):
    assert start(forked, folder, *arguments).wait(timeout=600) == 0, stderr(folder)[-2000:]


def stderr(folder):
    return (folder.parent / f"{folder.name}.stderr").read_text()


def whole(forked, folder):
    """Never killed, and with nothing of these tests in its process."""
    # The tests themselves set them; the first would bring TensorFlow's messages back.
    ours = ("TF_CPP_MIN_LOG_LEVEL", "TF_ENABLE_ONEDNN_OPTS")
    environment = {name: value for name, value in os.environ.items() if name not in ours}
    command = [sys.executable, "-m", "lrn_tf.main", f"--workdir={folder}", *COMMAND]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    (folder.parent / "whole.stdout").write_text(done.stdout)
    (folder.parent / "whole.stderr").write_text(done.stderr)
    assert done.returncode == 0, done.stderr[-2000:]


def send(forked, folder, number, arguments, first, last):
    """Starts a run and sends it a signal at a random step; returns its exit code."""
    target = random.SystemRandom().randint(first, last)
    process = start(forked, folder, *arguments)
    at = 0
    while at < target and process.poll() is None:
        time.sleep(0.01)
        at = max([0, *(int(n) for n in re.findall(rf" (\d+)/{2 * STEPS} \[", stderr(folder)))])
    process.send_signal(number)
    process.wait(timeout=600)
    saved = checkpoint_steps(folder)
    print(f"signal {number} at step {at} (or a few later) of {2 * STEPS}; wanted {target}; {saved} saved")
    return process.returncode


def interrupted(forked, folder):
    """Told to stop, as by a cluster, killed, and stopped from the keyboard; each time continued."""
    # No checkpoints but those of epochs and of being stopped.
    assert send(forked, folder, signal.SIGTERM, SMALL, 3, 10) == 0, stderr(folder)
    (first,) = checkpoint_steps(folder)
    assert first < 20 and not (folder / "metrics.jsonl").exists()
    # After another checkpoint, also in the second epoch.
    assert send(forked, folder, signal.SIGKILL, COMMAND, 21, STEPS + 7) == -signal.SIGKILL
    assert send(forked, folder, signal.SIGINT, SMALL, STEPS + 9, 2 * STEPS - 12) == 130, stderr(folder)
    assert checkpoint_steps(folder)[-1] % STEPS
    assert stderr(folder).count("stopped and saved; the same command continues\n") == 2
    finish(forked, folder, *SMALL)


def bfloat16(forked, folder):
    finish(forked, folder, *SMALL, "--dtype=bfloat16", "--max_steps=20")


def diverged(forked, folder):
    process = start(forked, folder, *SMALL, "--learning_rate=1e30", "--checkpoint_every=1")
    assert process.wait(timeout=600) == 2


@pytest.fixture(scope="module")
def runs(forked, tmp_path_factory):
    """Waits for a run and returns its folder."""
    parent = tmp_path_factory.mktemp("runs")
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        started = {}
        for job in (whole, interrupted, diverged, bfloat16):
            started[job] = pool.submit(job, forked, parent / job.__name__)

        def folder_of(job):
            started[job].result()
            return parent / job.__name__

        yield folder_of


def tensors(folder, step=None):
    """All that a checkpoint, the last one, holds but TensorFlow's own bookkeeping."""
    step = checkpoint_steps(folder)[-1] if step is None else step
    reader = tf.train.load_checkpoint(str(folder / "checkpoints" / f"step-{step}"))
    names = [n for n in reader.get_variable_to_shape_map() if not n.startswith(("_CHECK", "save_counter"))]
    return {name: reader.get_tensor(name) for name in names}


def test_a_run_that_was_stopped_and_continued_is_like_one_that_was_not(runs, record_property):
    expected, folder = runs(whole), runs(interrupted)
    assert without_timings(folder) == without_timings(expected)
    assert checkpoint_steps(folder)[-1] == checkpoint_steps(expected)[-1] == 2 * STEPS
    ours, theirs = tensors(folder), tensors(expected)
    assert ours.keys() == theirs.keys() and len(ours) > 100
    for name, value in ours.items():
        np.testing.assert_array_equal(value, theirs[name], err_msg=name)
    assert "continuing at step" in stderr(folder)
    record_property("kills", 1)


def test_metrics(runs):
    found = lines(runs(whole))
    assert [(line["epoch"], line["step"]) for line in found] == [(1, STEPS), (2, 2 * STEPS)]
    for line in found:
        assert 0 < line["train_loss"] < 5 and 0.5 < line["train_accuracy"] <= 1
        assert list(line["eval_accuracy_per_task"]) == TASKS
        # All tasks have the same test images.
        mean = np.mean(list(line["eval_accuracy_per_task"].values()))
        assert 0.5 < line["eval_accuracy"] == pytest.approx(mean)
        assert type(line["routes"]["unused_modules"]) is int and 0 <= line["routes"]["unused_modules"] <= 4
        assert 2 <= line["routes"]["mean_length"] <= 3
        assert list(line["routes"]["task_information_bits"]) == KINDS
        assert all(0 <= bits <= math.log2(10) for bits in line["routes"]["task_information_bits"].values())
        assert all(line[name] > 0 for name in TIMINGS)
    assert [line["learning_rate"] for line in found] == pytest.approx([1e-3, 0.82e-3])
    assert found[1]["train_loss"] < found[0]["train_loss"]


def test_config(runs):
    config = json.loads((runs(whole) / "config.json").read_text())
    asked = {
        "dup": 1,
        "depth": 3,
        "d_model": 16,
        "batch_size": 64,
        "lr_decay": 0.82,
        "checkpoint_every": 20,
    }
    assert {name: config["settings"][name] for name in asked} == asked
    assert config["versions"]["tensorflow"] == tf.__version__
    assert config["environment"] == {"TF_ENABLE_ONEDNN_OPTS": "1"}
    assert "git_revision" in config


def test_what_the_user_sees(runs):
    folder = runs(whole)
    assert "Traceback" not in stderr(folder) and "WARNING" not in stderr(folder)
    said = re.split(r"[\r\n]+", stderr(folder))
    beginnings = [
        "digits_mtl: 10 tasks",
        "lrn: ",
        "memory: about",
        "device: ",
        "tracing a step",
        "starting: 64",
    ]
    assert [line[: len(b)] for line, b in zip(said, beginnings, strict=False)] == beginnings
    rows = (folder.parent / "whole.stdout").read_text().splitlines()
    assert [row.split()[:4] for row in rows] == [
        ["epoch", "1", "step", "32"],
        ["epoch", "2", "step", "64"],
    ]


def test_tensorboard_while_training(runs):
    folder = runs(whole)
    found, epochs = scalars(folder), lines(folder)
    looks = [20, 32, 40, 60, 64]
    losses = ("policy_loss", "value_loss", "entropy", "approx_kl", "old_approx_kl", "clipfrac")
    tags = ["train/loss", "train/accuracy", "reward/bonus", "reward/return", "route/length"]
    tags += ["route/entropy_per_example", "route/entropy_of_batch_mean", "explained_variance/step_1"]
    tags += [f"losses/{name}" for name in losses]
    for tag in tags:
        assert [step for step, _ in found[tag]] == looks, tag
        # Each is the mean since the last one, so together they are the means of the epochs.
        values = np.array([value for _, value in found[tag]])
        assert np.isfinite(values).all(), tag
        means = [np.dot(values[:2], [20, 12]) / STEPS, np.dot(values[2:], [8, 20, 4]) / STEPS]
        expected = [line["metrics"][tag] for line in epochs]
        np.testing.assert_allclose(means, expected, rtol=1e-4, atol=1e-6, err_msg=tag)
    rates = [1e-3] * 2 + [0.82e-3] * 3
    assert found["charts/learning_rate"] == [
        (step, pytest.approx(rate)) for step, rate in zip(looks, rates, strict=True)
    ]
    for (step, speed), (_, per_second) in zip(
        found["charts/SPS"], found["charts/examples_per_second"], strict=True
    ):
        assert step in looks and speed > 0
        assert per_second == pytest.approx(64 * speed, rel=1e-5)


def test_tensorboard_after_each_epoch(runs):
    folder = runs(whole)
    found = scalars(folder)
    for line in lines(folder):
        expected = {
            "eval/accuracy": line["eval_accuracy"],
            "eval/loss": line["eval_loss"],
            "eval/unused_modules": line["routes"]["unused_modules"],
            "eval/mean_length": line["routes"]["mean_length"],
        }
        expected |= {f"eval_accuracy_per_task/{k}": v for k, v in line["eval_accuracy_per_task"].items()}
        expected |= {
            f"task_information_bits/{k}": v for k, v in line["routes"]["task_information_bits"].items()
        }
        for tag, value in expected.items():
            assert len(found[tag]) == 2, tag
            assert (line["step"], pytest.approx(value, rel=1e-6)) in found[tag], tag


def test_a_run_that_diverges(runs):
    """It ends on a line of its own after the progress bar, and saves nothing that is broken."""
    folder = runs(diverged)
    last = stderr(folder).splitlines()[-1]
    assert re.fullmatch(r"lrn_tf: .* not finite .* step [1-3][;,].* smaller --learning_rate", last), last
    assert "Traceback" not in stderr(folder) and not (folder / "metrics.jsonl").exists()
    for step in checkpoint_steps(folder):
        assert all(np.isfinite(value).all() for value in tensors(folder, step).values())


def test_bfloat16_keeps_its_variables_in_float32(runs):
    folder = runs(bfloat16)
    assert {value.dtype.name for value in tensors(folder).values()} <= {
        "float32",
        "float64",
        "int32",
        "int64",
    }
    assert all(np.isfinite(value).all() for value in tensors(folder).values())
    assert [line["step"] for line in lines(folder)] == [20]
    # It does compute otherwise: near to what float32 gives, but not the same.
    loss, exact = (scalars(f)["train/loss"][0][1] for f in (folder, runs(whole)))
    assert 0 < abs(loss - exact) < 0.05
