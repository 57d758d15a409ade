"""Batches shared by devices and by processes: as on one device, and what happens when a worker is lost."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest
from tiny_run import checkpoint_steps, lines

from lrn_tf.devices import distribution
from lrn_tf.errors import UserError
from lrn_tf.settings.resolve import resolve

SMALL = ("--batch_size=32",)
# A worker waits no longer than this for one that is gone; it takes ten seconds.
PATIENCE = 90


@pytest.fixture(scope="module")
def start(forked):
    """Starts a process that trains; what it says is in `worker_<n>` beside its folder."""

    def start_one(folder, *arguments, **options):
        log = output(folder, 0)
        given = [f"--workdir={folder}", *arguments]
        return forked.start("lrn_tf.main", given, folder.parent, log, log, **options)

    return start_one


def output(folder, worker):
    return folder.parent / f"{folder.name}_worker_{worker}"


def said(folder, worker=0):
    return output(folder, worker).read_text()


def start_workers(folder, *arguments, of_second=()):
    """Two processes that train together over the loopback.

    Started as a user does: how Python ends decides when the other one notices.
    """
    variables = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    command = [sys.executable, "-m", "lrn_tf.main", f"--workdir={folder}", *arguments]
    sockets = [socket.create_server(("localhost", 0)) for _ in range(2)]
    cluster = {"worker": [f"localhost:{s.getsockname()[1]}" for s in sockets]}
    for s in sockets:
        s.close()
    processes = []
    for index in range(2):
        config = json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}})
        with output(folder, index).open("w") as log:
            process = subprocess.Popen(
                [*command, "--distribute=multi_worker", *(of_second if index else ())],
                env={**variables, "TF_CONFIG": config},
                stdout=log,
                stderr=log,
            )
        processes.append(process)
    return processes


def finish(folder, *processes):
    for worker, process in enumerate(processes):
        assert process.wait(timeout=600) == 0, said(folder, worker)[-2000:]
        assert "Traceback" not in said(folder, worker)


@pytest.fixture(scope="module")
def alone(start, tmp_path_factory):
    """Runs of a method on one device, by the method's arguments."""
    known = {}

    def run(*arguments):
        if arguments not in known:
            known[arguments] = tmp_path_factory.mktemp("alone") / "run"
            finish(known[arguments], start(known[arguments], *SMALL, *arguments))
        return known[arguments]

    return run


def assert_same(folder, expected):
    """Means over all steps of everything that a step reports, and what the network then does."""
    (ours,), (theirs,) = lines(folder), lines(expected)
    assert_same_epoch(ours, theirs)


def assert_same_epoch(ours, theirs):
    assert ours["step"] == theirs["step"]
    assert ours["metrics"].keys() == theirs["metrics"].keys()
    for name, value in theirs["metrics"].items():
        assert ours["metrics"][name] == pytest.approx(value, rel=1e-4, abs=1e-4), name
    assert ours["eval_loss"] == pytest.approx(theirs["eval_loss"], abs=1e-4)
    assert ours["eval_accuracy"] == pytest.approx(theirs["eval_accuracy"], abs=2e-3)
    unused = [line["routes"] and line["routes"]["unused_modules"] for line in (ours, theirs)]
    assert unused[0] == unused[1]


# With the pointer, which is compiled faster: an actor does not know of devices.
LRN = (
    "--method=lrn",
    "--dup=2",
    "--depth=2",
    "--d_model=16",
    "--minibatch_size=16",
    "--actor=pointer",
    "--max_steps=20",
)
# Fewer steps: max pooling of blank pixels, which all are the same but for rounding, lets differences grow.
# An LRN on two devices, with several inputs and forms of answers, is in test_own_problem.py.
METHODS = [
    ("--method=unrouted", "--paths=random", "--core=1", "--dup=2", "--depth=3", "--max_steps=5"),
    ("--method=routing", "--blocks=3", "--max_steps=5"),
    ("--method=routing", "--blocks=3", "--policy=approximate", "--agents=dispatched", "--max_steps=5"),
    ("--method=cross_stitch", "--max_steps=5"),
]


@pytest.mark.slow
@pytest.mark.parametrize("arguments", METHODS, ids=" ".join)
def test_two_devices_do_what_one_does(arguments, alone, start, tmp_path):
    """The CPU is made to look like two."""
    folder = tmp_path / "run"
    finish(folder, start(folder, *SMALL, *arguments, "--distribute=mirrored", devices=2))
    assert "2 share each batch" in said(folder)
    assert_same(folder, alone(*arguments))


@pytest.mark.slow
def test_two_processes_do_what_one_does(alone, tmp_path):
    folder = tmp_path / "run"
    finish(folder, *start_workers(folder, *SMALL, *LRN, "--profile"))
    assert_same(folder, alone(*LRN))
    # The first alone says and writes anything.
    assert "epoch" in said(folder, 0) and said(folder, 1).splitlines()[1:] == []
    for written in ("events*", "plugins/profile/*/*.xplane.pb"):
        assert len(list(folder.glob(written))) == 1


ENDLESS = ("--method=task_head", "--batch_size=32", "--epochs=1000", "--checkpoint_every=20")


def wait_for_checkpoint(folder, processes):
    while not checkpoint_steps(folder):
        assert all(process.poll() is None for process in processes), said(folder)[-2000:]
        time.sleep(0.2)


@pytest.mark.slow
@pytest.mark.parametrize("lost", [0, 1])
def test_when_a_worker_is_lost_the_other_ends_and_the_run_continues(lost, start, tmp_path):
    folder = tmp_path / "run"
    processes = start_workers(folder, *ENDLESS)
    wait_for_checkpoint(folder, processes)
    processes[lost].kill()
    assert processes[1 - lost].wait(timeout=PATIENCE) == 2
    last = said(folder, 1 - lost).splitlines()[-1]
    assert last.startswith("lrn_tf: one of the 2 workers was lost; start all of them again"), last
    # With another number of workers: one.
    saved = checkpoint_steps(folder)[-1]
    finish(folder, start(folder, *ENDLESS, f"--max_steps={saved + 5}"))
    assert f"continuing at step {saved:,} of {saved + 5:,}" in said(folder)
    assert lines(folder)[-1]["step"] == saved + 5


@pytest.mark.slow
def test_a_worker_that_gives_up_before_it_trains_takes_the_other_along(tmp_path):
    folder = tmp_path / "run"
    processes = start_workers(folder, *ENDLESS, of_second=["--benchmark=nowhere.py:tasks"])
    assert [process.wait(timeout=PATIENCE) for process in processes] == [2, 2]
    assert said(folder, 0).splitlines()[-1].startswith("lrn_tf: one of the 2 workers was lost")


@pytest.mark.slow
def test_a_worker_that_is_asked_to_stop_takes_the_other_along(tmp_path):
    folder = tmp_path / "run"
    processes = start_workers(folder, *ENDLESS)
    wait_for_checkpoint(folder, processes)
    processes[1].send_signal(signal.SIGTERM)
    assert [process.wait(timeout=PATIENCE) for process in processes] == [0, 0]
    assert "stopped and saved" in said(folder, 0) and "stopped and saved" in said(folder, 1)
    # Together, and not before the next look.
    assert checkpoint_steps(folder)[-1] % 20 == 0


@pytest.mark.parametrize(
    "text, reason",
    [
        ("", "TF_CONFIG is missing"),
        ("workers", "cannot be understood"),
        ("[]", "cannot be understood"),
        ('{"cluster": {"worker": ["a:1"]}}', "cannot be understood"),
        ('{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}', "does not name"),
        ('{"cluster": {"worker": ["a:1"]}, "task": {"type": "ps", "index": 0}}', "does not name"),
        ('{"cluster": {"worker": ["a"]}, "task": {"type": "worker", "index": 0}}', "does not name"),
    ],
)
def test_tf_config_that_names_no_workers(text, reason):
    with pytest.raises(UserError, match=reason) as error:
        distribution.check_tf_config(text)
    assert distribution.EXAMPLE in str(error.value) and "\n" not in str(error.value)


def test_the_example_of_tf_config():
    distribution.check_tf_config(distribution.EXAMPLE)


class Three:
    num_replicas_in_sync = 3


@pytest.mark.parametrize(
    "given, refused",
    [
        (dict(batch_size=64), "--batch_size=64"),
        (dict(batch_size=96, minibatch_size=32), "--minibatch_size=32"),
        (dict(batch_size=64, method="shared"), "--batch_size=64"),
        (dict(batch_size=96, minibatch_size=48), None),
        (dict(batch_size=96, method="shared"), None),
    ],
)
def test_batches_that_cannot_be_shared(given, refused):
    settings = resolve(given)
    if refused is None:
        distribution.check_parts(settings, Three())
    else:
        with pytest.raises(UserError, match=refused):
            distribution.check_parts(settings, Three())


def test_one_device_alone_is_worker_0_of_1():
    assert distribution.workers(distribution.make_strategy("none")) == (0, 1)
    assert distribution.make_strategy("none").num_replicas_in_sync == 1
