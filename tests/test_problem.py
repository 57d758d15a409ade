"""What a problem says of its inputs and tasks: moments, vocabularies, label spaces."""

import dataclasses

import numpy as np
import pytest
from given_tasks import classes, load, rows

from lrn_tf.data.benchmarks import moments
from lrn_tf.data.examples import DeviceExamples
from lrn_tf.data.problem import InputSpec, LabelSpace, Problem, TaskSpec
from lrn_tf.data.tasks import Task

TASKS = (
    TaskSpec("a", "x", "classes", ("0", "1")),
    TaskSpec("b", "x", "labels", ("0", "1")),
    TaskSpec("c", "x", "classes", ("yes", "no")),
    TaskSpec("d", "x", "numbers", ("0", "1"), (0.0, 0.0), (1.0, 1.0)),
    TaskSpec("e", "y", "classes", ("0", "1", "2")),
    TaskSpec("f", "y", "labels", ("l", "m")),
)
INPUTS = InputSpec("x", (3,), "float32", (0.0,) * 3, (1.0,) * 3), InputSpec("y", (5,), "int32", (), (), 9)


def test_moments_of_inputs_and_targets_are_those_of_the_training_examples():
    x, y = rows(200, 4, 6) * 3 + 5, rows(200, 2) * 1e4 - 7
    tasks = [
        Task("a", x, y),
        Task("b", np.arange(800, dtype=np.uint8).reshape(50, 2, 4, 2), classes(25, 25)),
        Task("c", np.ones((20, 4), int), np.arange(20.0)),
        Task("d", rows(20, 3), np.eye(20, 2, dtype=int)),
    ]
    benchmark = load(tasks)
    problem, train = benchmark.problem, benchmark.train
    for given, array in zip(problem.inputs, train.inputs, strict=True):
        axes = tuple(range(array.ndim - 1))
        exact = array.astype(np.float64)
        if given.dtype == "int32":
            assert (given.mean, given.std) == ((), ())
            continue
        np.testing.assert_allclose(given.mean, exact.mean(axis=axes), rtol=1e-6)
        np.testing.assert_allclose(given.std, exact.std(axis=axes), rtol=1e-6)
    for k, task in enumerate(problem.tasks):
        exact = train.target[train.task == k, : task.width].astype(np.float64)
        if task.form == "numbers":
            np.testing.assert_allclose(task.mean, exact.mean(axis=0), rtol=1e-6)
            np.testing.assert_allclose(task.std, exact.std(axis=0), rtol=1e-6)
        else:
            assert (task.mean, task.std) == ((), ())


# A third is rounded when it is added up.
@pytest.mark.parametrize("constant", [0.0, 1 / 3, -0.1, 1e30, 1e-42])
@pytest.mark.parametrize("n", [10, 1797, 20000])
def test_what_is_constant_has_a_std_of_one(constant, n):
    x = np.random.default_rng(0).normal(size=(n, 2))
    x[:, 1] = constant
    benchmark = load([Task("a", x, x)])
    (given,), (task,) = benchmark.problem.inputs, benchmark.problem.tasks
    for found in (given, task):
        assert found.std[1] == 1
        assert found.std[0] == pytest.approx(1, rel=0.5)
        assert found.mean[1] == pytest.approx(np.float32(constant), rel=1e-6)


def test_large_and_tiny_numbers_have_moments():
    x = rows(100, 2) * [3e29, 1e-41]
    y = x.clip(-1e30, 1e30)
    benchmark = load([Task("a", y, y)])
    for found in (*benchmark.problem.inputs, *benchmark.problem.tasks):
        assert np.isfinite(found.mean).all() and found.std[0] == pytest.approx(3e29, rel=0.3)
        # What float32 cannot divide by is none.
        assert found.std[1] == 1


def test_moments_of_bytes_are_exact():
    values = np.random.default_rng(0).integers(0, 256, (3000, 3, 3, 2), np.uint8)
    mean, std = moments(values)
    np.testing.assert_allclose(mean, values.mean(axis=(0, 1, 2), dtype=np.float64), rtol=1e-6)
    np.testing.assert_allclose(std, values.std(axis=(0, 1, 2), dtype=np.float64), rtol=1e-6)


def test_few_examples_may_leave_an_input_without_any():
    tasks = [Task(name, rows(20, d), np.arange(20.0)) for d, name in enumerate("abc", 1)]
    benchmark = load(tasks, examples=1)
    left = [len(array) for array in benchmark.train.inputs]
    assert sorted(left) == [0, 0, 1]
    problem = benchmark.problem
    assert [given.shape for given in problem.inputs] == [(1,), (2,), (3,)]
    for found, of in zip(left, range(3), strict=True):
        if not found:
            assert problem.inputs[of].mean == (0,) * (of + 1) and problem.inputs[of].std == (1,) * (of + 1)
            assert (problem.tasks[of].mean, problem.tasks[of].std) == ((0,), (1,))
    inputs, task, _ = DeviceExamples(benchmark.train, problem).batch([0])
    assert [x.shape for x in inputs] == [(1, 1), (1, 2), (1, 3)] and left[task[0]] == 1


def test_there_may_be_more_tokens_than_are_seen():
    x, y = np.arange(24).reshape(12, 2), [0, 1] * 6
    for said, known in ((0, 24), (24, 24), (100, 100)):
        assert load([Task("t", x, y, vocabulary=said)]).problem.inputs[0].vocabulary == known


def test_the_vocabulary_holds_the_tokens_of_the_test():
    x = np.arange(40).reshape(20, 2)
    task = Task("a", x, classes(10, 10), test=([[99, 1]], [0]))
    for choice in ({}, {"examples": 1}, {"validation": 0.2}):
        assert load([task], **choice).problem.inputs[0].vocabulary == 100
    assert load([Task("a", x, classes(10, 10))]).problem.inputs[0].vocabulary == 40


def test_tasks_of_one_form_and_number_share_a_label_space():
    problem = Problem("mine", INPUTS, TASKS)
    assert problem.label_spaces == (
        LabelSpace("2 classes", "classes", 2, 2),
        LabelSpace("2 labels", "labels", 2, 2),
        LabelSpace("2 numbers", "numbers", 2, 1),
        LabelSpace("3 classes", "classes", 3, 1),
    )
    assert problem.space_of == [
        *("2 classes", "2 labels", "2 classes", "2 numbers", "3 classes"),
        "2 labels",
    ]


def test_each_task_may_have_a_label_space_of_its_own():
    problem = Problem("mine", INPUTS, TASKS, heads="task")
    assert problem.label_spaces == tuple(LabelSpace(t.name, t.form, t.width, 1) for t in TASKS)
    assert problem.space_of == list("abcdef")


@pytest.mark.parametrize("heads", ["shared", "task"])
def test_heads_are_as_chosen(heads):
    tasks = [Task("a", rows(4), [0, 1, 0, 1]), Task("b", rows(4, 2), [1, 1, 0, 1])]
    assert load(tasks, heads=heads).problem.heads == heads


def test_what_a_problem_says_of_its_tasks():
    problem = Problem("mine", INPUTS, TASKS)
    assert problem.task_names == tuple("abcdef") and problem.num_tasks == 6
    assert problem.answers[2] == ("yes", "no") and problem.width == 3
    assert problem.input_of == [0, 0, 0, 0, 1, 1]
    assert not problem.only_classes
    assert dataclasses.replace(problem, tasks=(TASKS[0], TASKS[4])).only_classes


def test_a_problem_of_tables_is_no_problem_of_images():
    with pytest.raises(ValueError, match=r"^pool needs images of one size .*; mine has x \[3\], y \[5\]$"):
        Problem("mine", INPUTS, TASKS).the_image("pool")
    image = InputSpec("x", (4, 5, 1), "uint8", (0.0,), (1.0,))
    assert Problem("mine", (image,), TASKS[:1]).the_image("pool") is image
