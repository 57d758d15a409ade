"""Examples: batches of them on the device, and the order in which they are learned."""

import collections
import itertools

import numpy as np
import pytest
from given_tasks import classes, load, rows

from lrn_tf.data.examples import DeviceExamples, Examples, prepare_all, shuffled_rows
from lrn_tf.data.tasks import Task
from lrn_tf.data.together import together

SIZES = [(100, 30, 7), (50,), (3, 3, 3), (1, 200), (40, 41, 42, 43)]


@pytest.fixture(scope="module")
def several():
    """A benchmark with three inputs."""
    rng = np.random.default_rng(0)
    return load(
        [
            Task("images", rng.integers(0, 256, (30, 4, 4, 3), np.uint8), classes(10, 10, 10)),
            Task("table", rows(40, 5) * 9, rows(40, 2)),
            Task("words", rng.integers(0, 99, (20, 7)), np.eye(20, 4, dtype=bool)),
        ]
    )


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_batch_of_several_inputs(several, split):
    part, problem = getattr(several, split), several.problem
    chosen = np.random.default_rng(1).permutation(len(part))
    inputs, tasks, targets = DeviceExamples(part, problem).batch(chosen.astype(np.int32))
    np.testing.assert_array_equal(tasks, part.task[chosen])
    np.testing.assert_array_equal(targets, part.target[chosen])
    assert isinstance(inputs, tuple) and len(inputs) == 3
    for i, (given, x) in enumerate(zip(problem.inputs, inputs, strict=True)):
        mine = part.task[chosen] == i
        raw = part.inputs[i][part.row[chosen[mine]]]
        assert mine.any() and x.shape == (len(chosen), *given.shape)
        assert x.dtype == ("int32" if given.vocabulary else "float32")
        expected = raw if given.vocabulary else (raw - np.array(given.mean)) / np.array(given.std)
        np.testing.assert_allclose(x.numpy()[mine], expected, rtol=1e-5, atol=1e-5)
        assert np.isfinite(x.numpy()).all()


def test_a_batch_of_one_input():
    images = np.random.default_rng(0).integers(0, 256, (30, 4, 4, 3), np.uint8)
    benchmark = load([Task("a", images, classes(15, 15)), Task("b", images, classes(20, 10))])
    (given,), part = benchmark.problem.inputs, benchmark.train
    x, tasks, targets = DeviceExamples(part, benchmark.problem).batch([1, 40, 3, 3])
    raw = part.inputs[0][part.row[[1, 40, 3, 3]]].astype(float)
    np.testing.assert_allclose(x, (raw - np.array(given.mean)) / np.array(given.std), rtol=1e-4, atol=1e-5)
    assert tasks.numpy().tolist() == [0, 1, 0, 0] and targets.dtype == "int32"
    np.testing.assert_array_equal(targets, part.target[[1, 40, 3, 3]])


def test_what_a_user_brings_becomes_what_is_trained_on(several):
    part, problem = several.train, several.problem
    every = np.arange(len(part), dtype=np.int32)
    inputs, tasks, _ = DeviceExamples(part, problem).batch(every)
    given = {
        spec.name: array[np.where(part.task == i, part.row, 0)]
        for i, (spec, array) in enumerate(zip(problem.inputs, part.inputs, strict=True))
    }
    for i, (ours, theirs) in enumerate(zip(prepare_all(given, tasks, problem), inputs, strict=True)):
        mine = part.task == i
        np.testing.assert_array_equal(ours[mine], theirs[mine])
        assert mine.any() and not np.any(ours[~mine])


def test_some_examples(several):
    some = several.train.some([5, 2, 2])
    assert len(some) == 3 and all(a is b for a, b in zip(some.inputs, several.train.inputs, strict=True))
    np.testing.assert_array_equal(some.row, several.train.row[[5, 2, 2]])
    np.testing.assert_array_equal(some.target, several.train.target[[5, 2, 2]])


@pytest.mark.parametrize("channels, drawn", [(1, 1), (2, 1), (3, 3), (4, 1)])
def test_what_an_example_shows(channels, drawn):
    images = np.random.default_rng(0).integers(0, 256, (4, 5, 5, channels), np.uint8)
    tasks = [Task("a", rows(4), [0, 1, 0, 1]), Task("b", images, [0, 1, 0, 1])]
    benchmark = load([*tasks, Task("c", rows(4, 5, 5, 1), [0, 1, 0, 1])])
    part = benchmark.train
    for example in range(len(part)):
        shown = part.shown(benchmark.problem, example)
        if part.task[example] != 1:
            assert shown is None
        else:
            expected = part.inputs[1][part.row[example]][..., :drawn]
            np.testing.assert_array_equal(shown, expected)


def test_bytes_of_examples(several):
    of_targets = several.train.target.size * 4
    assert several.train.nbytes == 24 * 48 + 32 * 5 * 4 + 16 * 7 * 4 + of_targets


def test_columns_of_examples_are_as_long():
    drawn = together("mine", [Task("a", rows(6), classes(3, 3))])
    for part in (drawn.train, drawn.test):
        assert isinstance(part, Examples) and len(part) == len(part.row) == len(part.task) == len(
            part.target
        )
        assert [len(s) for s in drawn.strata] == [len(x) for x in drawn.train.inputs]


def tasks_of(sizes):
    """The task of each example, of tasks with so many; their numbers have gaps."""
    return (
        np.random.default_rng(0).permutation(np.repeat(3 * np.arange(len(sizes)), sizes)).astype(np.int32)
    )


@pytest.mark.parametrize("seed, epoch", [(0, 0), (3, 7)])
def test_in_proportion_each_example_comes_once(seed, epoch):
    batches = shuffled_rows(tasks_of((100, 30, 7)), 10, seed, epoch, "proportional")
    expected = np.random.default_rng((seed, epoch)).permutation(137)[:130].reshape(13, 10)
    np.testing.assert_array_equal(batches, expected)
    assert batches.dtype == np.int32


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("sampling, power", [("equal", 0.0), ("sqrt", 0.5)])
def test_tasks_are_drawn_in_their_shares_and_in_whole_rounds(sizes, sampling, power):
    task = tasks_of(sizes)
    batches = shuffled_rows(task, 3, 0, 0, sampling)
    steps = len(task) // 3
    assert batches.shape == (steps, 3) and batches.dtype == np.int32
    share = np.array(sizes, float) ** power
    for k, expected in enumerate(share / share.sum() * 3 * steps):
        often = collections.Counter(row for row in batches.ravel().tolist() if task[row] == 3 * k)
        assert abs(often.total() - expected) <= 1
        whole, rest = divmod(often.total(), sizes[k])
        assert sorted(often.values()) == sorted(
            [whole + 1] * rest + [whole] * ((sizes[k] - rest) * (whole > 0))
        )


@pytest.mark.parametrize("sampling", ["proportional", "equal", "sqrt"])
def test_seed_and_epoch_decide_the_order(sampling):
    task = tasks_of((100, 30, 7))

    def order(*key):
        return shuffled_rows(task, 10, *key, sampling).tolist()

    orders = [order(seed, epoch) for seed in range(3) for epoch in range(3)]
    assert order(2, 1) == orders[2 * 3 + 1]
    assert all(a != b for a, b in itertools.combinations(orders, 2))
    # What comes is not in the order of tasks, nor are the same examples always cut off.
    of_task = task[np.array(orders)]
    assert all((np.diff(of_one.ravel()) != 0).sum() > 20 for of_one in of_task)
    left = [frozenset(range(137)) - set(np.ravel(o).tolist()) for o in orders]
    assert len(set(left)) > 1


@pytest.mark.parametrize("sampling", ["proportional", "equal", "sqrt"])
def test_fewer_examples_than_a_batch_are_none(sampling):
    assert shuffled_rows(tasks_of((3, 2)), 6, 0, 0, sampling).shape == (0, 6)
