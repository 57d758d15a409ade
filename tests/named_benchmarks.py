"""Benchmarks by their names, and what is in them."""

import collections

import pytest

from lrn_tf.data import benchmarks
from lrn_tf.errors import UserError
from lrn_tf.settings.resolve import resolve


def load(benchmark, **given):
    return benchmarks.benchmark_of(resolve({"benchmark": benchmark, **given}))


def refused(benchmark, **given):
    """The one line with which loading is refused."""
    with pytest.raises(UserError) as error:
        load(benchmark, **given)
    message = str(error.value)
    assert "\n" not in message
    return message


def counts(examples):
    """How often each (task, label) occurs."""
    return collections.Counter(zip(examples.task.tolist(), examples.target.tolist(), strict=True))


def expected_counts(tasks, labels, count):
    return {(task, label): count for task in range(tasks) for label in range(labels)}


def damage(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
