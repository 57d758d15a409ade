"""The programs: their names, their help, and what they refuse before TensorFlow starts."""

import os
import re
import subprocess
import sys

import pytest

import lrn_tf
from lrn_tf.program import PROGRAMS
from lrn_tf.settings.table import FIELDS, GROUPS, METHODS

CONSOLE = "from lrn_tf.program import console; console()"


def group_of(name):
    names = list(FIELDS)
    return GROUPS[[field for field in names[: names.index(name) + 1] if field in GROUPS][-1]]


@pytest.mark.parametrize(
    "program",
    [["-m", "lrn_tf.main"], ["-c", CONSOLE, "train"]],
    ids=["module", "lrn-tf"],
)
def test_help_lists_every_setting_by_what_it_is_about(program):
    shown = subprocess.run([sys.executable, *program, "--help"], capture_output=True, text=True, timeout=60)
    assert not shown.stderr and shown.returncode == 0
    group = None
    for line in shown.stdout.splitlines():
        if line.rstrip(":") in GROUPS.values():
            group = line.rstrip(":")
        elif flag := re.match(r"  --(\[no\])?(\w+):", line):
            assert group_of(flag[2]) == group
    # As it was before the lines were broken.
    text = " ".join(shown.stdout.split())
    for field in FIELDS.values():
        flag = f"--[no]{field.name}" if field.type is bool else f"--{field.name}"
        methods = field.metadata["methods"]
        only = "" if methods == METHODS else f"For --method={'|'.join(methods)}. "
        assert f"{flag}: {' '.join(field.metadata['help'].split())}. {only}Default: " in text
    assert "Default: 10; 5 for digits_mtl and mixed_mtl (an integer)" in text
    both = "digits_mtl and mixed_mtl with --method=lrn|random_route|unrouted"
    assert f"Default: 0.97; 0.82 for {both}; 0.1 for --method=rou" in text
    assert (
        "For --method=lrn|random_route|unrouted. Default: paper; mixed for mixed_mtl; one of: paper, "
        in text
    )
    assert "cifar_mtl, min_mtl, mixed_mtl, a folder, FILE.py:FUNCTION" in text


def console(*arguments):
    return subprocess.run(
        [sys.executable, "-c", CONSOLE, *arguments], capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize("arguments", [(), ("--help",)])
def test_the_console_lists_its_programs(arguments):
    shown = console(*arguments)
    assert shown.returncode == 0 and not shown.stderr
    assert re.findall(r"^  lrn-tf (\w+) ", shown.stdout, re.M) == list(PROGRAMS)


def test_the_version_is_that_which_is_installed():
    shown = console("--version")
    assert shown.stdout == f"lrn_tf {lrn_tf.__version__}\n" and re.match(r"\d+\.\d+", lrn_tf.__version__)


def test_keras_must_be_that_of_tensorflow():
    refused = subprocess.run(
        [sys.executable, "-m", "lrn_tf.main", "--max_steps=1"],
        env={**os.environ, "KERAS_BACKEND": "torch"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    said = "lrn_tf: KERAS_BACKEND=torch is set, and lrn_tf is made for tensorflow; unset it\n"
    assert (refused.returncode, refused.stderr) == (2, said)


@pytest.mark.parametrize("name", PROGRAMS)
def test_each_program_is_that_of_python_m(name):
    module = "lrn_tf.main" if name == "train" else f"lrn_tf.{name}"
    ran = subprocess.run(
        [sys.executable, "-m", module, "--help"], capture_output=True, text=True, timeout=60
    )
    assert console(name, "--help").stdout == ran.stdout
    assert "(default: '')" not in ran.stdout
    refused = console(name, "--nonsense=1")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert re.fullmatch(r"lrn_tf: Unknown command line flag 'nonsense'.*\n", refused.stderr)


def test_the_console_refuses_what_is_no_program():
    refused = console("tarin", "--dup=3")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr == f"lrn_tf: tarin is no program; choose one of: {', '.join(PROGRAMS)}\n"
