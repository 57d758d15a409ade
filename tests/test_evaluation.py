"""Evaluation: every example once, and what is counted, against NumPy and by hand."""

import dataclasses
import math

import numpy as np
import pytest
import tensorflow as tf

from lrn_tf.data.examples import Examples, consecutive_rows
from lrn_tf.data.problem import CLASSES, LABELS, NUMBERS, InputSpec, Problem, TaskSpec
from lrn_tf.methods.method import Prediction
from lrn_tf.modules.built_in import paper
from lrn_tf.modules.pool import Pool
from lrn_tf.results.evaluation import BATCH_SIZE, Evaluation, Evaluator

TASKS, WIDTH, DEPTH = 4, 3, 4
IMAGES = InputSpec("images", (2, 2, 1), "uint8", (0.0,), (1.0,))


def problem_of(*tasks):
    return Problem("fake", (IMAGES,), tuple(tasks))


PROBLEM = problem_of(*(TaskSpec(f"task {k}", "images", CLASSES, ("a", "b", "c")) for k in range(TASKS)))
POOL = Pool.of(paper(PROBLEM, dup=2), PROBLEM)


class Oracle:
    """Predicts from tables; an image's pixels tell which row of them is meant."""

    kinds = POOL.by_kind

    def __init__(self, size, rng):
        self.logits = rng.normal(size=(size, WIDTH)).astype(np.float32)
        # PASS among them, and modules 4 and 9 in nobody's network.
        ids = [m for m in range(len(POOL) + 1) if m not in (4, 9)]
        self.paths = np.stack([rng.permutation(ids)[:DEPTH] for _ in range(size)]).astype(np.int32)
        self.log_policy = -rng.exponential(size=size).astype(np.float32)

    def predict(self, images, tasks):
        pixels = tf.cast(images, tf.int32)
        row = pixels[:, 0, 0, 0] * 256 + pixels[:, 0, 1, 0]
        return Prediction(*(tf.gather(t, row) for t in (self.logits, self.paths, self.log_policy)))


def examples(size, rng):
    images = np.zeros((size, 2, 2, 1), np.uint8)
    images[:, 0, 0, 0], images[:, 0, 1, 0] = np.divmod(np.arange(size), 256)
    task = rng.choice([0, 1, 3], size, p=[0.5, 0.3, 0.2]).astype(np.int32)  # none of task 2
    label = rng.integers(0, WIDTH, size).astype(np.int32)
    return Examples(np.arange(size, dtype=np.int32), task, label, (images,))


def log_softmax(x):
    x = x.astype(np.float64)
    return x - np.log(np.exp(x).sum(axis=1, keepdims=True))


@pytest.mark.parametrize("size", [1, 100, BATCH_SIZE, BATCH_SIZE + 1, 2 * BATCH_SIZE + 44])
def test_the_whole_test_set_once(size):
    rng = np.random.default_rng(size)
    oracle, held = Oracle(size, rng), examples(size, rng)
    evaluation = Evaluator(oracle, held, PROBLEM)()

    predicted = oracle.logits.argmax(axis=1)
    right = predicted == held.target
    assert evaluation.task.tolist() == held.task.tolist()
    assert evaluation.target.tolist() == evaluation.label.tolist() == held.target.tolist()
    assert evaluation.predicted.tolist() == predicted.tolist()
    assert evaluation.right.tolist() == right.tolist()
    assert evaluation.paths.tolist() == oracle.paths.tolist()
    log_p = log_softmax(oracle.logits)
    np.testing.assert_allclose(evaluation.answers, np.exp(log_p), rtol=1e-5)
    np.testing.assert_allclose(evaluation.probability, np.exp(log_p.max(axis=1)), rtol=1e-5)
    np.testing.assert_allclose(evaluation.path_probability, np.exp(oracle.log_policy), rtol=1e-5)
    ce = -log_p[np.arange(size), held.target]
    np.testing.assert_allclose(evaluation.loss, ce, rtol=1e-5, atol=1e-6)

    assert evaluation.examples.tolist() == np.bincount(held.task, minlength=TASKS).tolist()
    assert evaluation.mean_loss == pytest.approx(ce.mean(), rel=1e-6)
    assert evaluation.confidence == pytest.approx(np.exp(oracle.log_policy.astype(float)).mean(), rel=1e-6)

    chosen = np.zeros((TASKS, len(POOL)), int)
    for task, path in zip(held.task, oracle.paths, strict=True):
        for module in path:
            if module != POOL.pass_id:
                chosen[task, module] += 1
    assert evaluation.chosen.tolist() == chosen.tolist()

    assert evaluation.accuracy == pytest.approx(right.mean())
    for task in range(TASKS):
        of_task = right[held.task == task]
        assert evaluation.accuracy_per_task[task] == (of_task.mean() if len(of_task) else 0)
    assert evaluation.mean_length == pytest.approx((oracle.paths != POOL.pass_id).sum(axis=1).mean())
    used = set(oracle.paths.ravel()) - {POOL.pass_id}
    assert evaluation.unused_modules == len(POOL) - len(used)
    assert evaluation.unused_modules >= 2


def test_evaluating_again_sees_the_weights_as_they_are():
    rng = np.random.default_rng(0)
    oracle, held = Oracle(300, rng), examples(300, rng)
    oracle.logits = tf.Variable(oracle.logits)
    evaluate = Evaluator(oracle, held, PROBLEM)
    evaluate()
    oracle.logits.assign(100 * tf.one_hot(held.target, WIDTH))
    assert evaluate().accuracy == 1.0
    assert evaluate().mean_loss == pytest.approx(0.0, abs=1e-6)


# Classes, fewer of them, numbers, a single one, labels; and of each one that has no examples.
MEAN, STD = (1.5, -2.0), (0.5, 30.0)
FORMS = problem_of(
    TaskSpec("three", "images", CLASSES, ("a", "b", "c")),
    TaskSpec("two", "images", CLASSES, ("no", "yes")),
    TaskSpec("sizes", "images", NUMBERS, ("height", "width"), MEAN, STD),
    TaskSpec("age", "images", NUMBERS, ("years",), (40.0,), (10.0,)),
    TaskSpec("marks", "images", LABELS, ("red", "round")),
    *(TaskSpec(f"no {form}", "images", form, ("a", "b")) for form in (CLASSES, LABELS)),
    TaskSpec("no numbers", "images", NUMBERS, ("a", "b"), (0.0, 0.0), (1.0, 1.0)),
)


def examples_of_forms(size, rng, tasks):
    """Of some of the tasks of FORMS, with targets filled up by 0."""
    held = examples(size, rng)
    task, target = rng.choice(tasks, size).astype(np.int32), np.zeros((size, WIDTH), np.float32)
    for i, k in enumerate(task):
        spec = FORMS.tasks[k]
        if spec.form == CLASSES:
            target[i, 0] = rng.integers(spec.width)
        elif spec.form == NUMBERS:
            target[i, : spec.width] = rng.normal(spec.mean, spec.std)
        else:
            target[i, : spec.width] = rng.integers(0, 2, spec.width)
    return Examples(held.row, task, target, held.inputs)


def by_hand(logits, task, target):
    """Answers, right share and loss of one example of FORMS."""
    width, answers = task.width, np.zeros(WIDTH)
    x, y = logits[:width].astype(np.float64), target[:width].astype(np.float64)
    if task.form == CLASSES:
        log_p = log_softmax(x[None])[0]
        answers[:width] = np.exp(log_p)
        return answers, float(x.argmax() == target[0]), -log_p[int(target[0])]
    if task.form == NUMBERS:
        answers[:width] = x * task.std + task.mean
        return answers, 0.0, np.mean(((answers[:width] - y) / task.std) ** 2)
    p = 1 / (1 + np.exp(-x))
    answers[:width] = p
    return answers, np.mean((p > 0.5) == y), np.mean(-y * np.log(p) - (1 - y) * np.log(1 - p))


@pytest.mark.parametrize("tasks", [[0, 1, 2, 3, 4], [2, 3], [0, 3], [1, 4], [4]], ids=str)
def test_answers_of_any_form(tasks):
    rng = np.random.default_rng(tasks)
    oracle, held = Oracle(400, rng), examples_of_forms(400, rng, tasks)
    e = Evaluator(oracle, held, FORMS)()
    expected = [
        by_hand(x, FORMS.tasks[k], y) for x, k, y in zip(oracle.logits, held.task, held.target, strict=True)
    ]
    answers, right, loss = (np.array(column) for column in zip(*expected, strict=True))
    np.testing.assert_allclose(e.answers, answers, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(e.right, right, rtol=1e-6)
    np.testing.assert_allclose(e.loss, loss, rtol=1e-4, atol=1e-6)
    assert e.mean_loss == pytest.approx(loss.mean(), rel=1e-5)

    rated = ~np.isin(held.task, [2, 3])
    if rated.any():
        assert e.accuracy == pytest.approx(right[rated].mean(), rel=1e-6)
    else:
        assert e.accuracy is None
    for k in range(FORMS.num_tasks):
        mine = held.task == k
        if FORMS.tasks[k].form == NUMBERS:
            assert np.isnan(e.accuracy_per_task[k])
        else:
            share = right[mine].mean() if mine.any() else 0
            assert e.accuracy_per_task[k] == pytest.approx(share, rel=1e-6)
    for k in set(tasks) & {2, 3}:
        mine, width = held.task == k, FORMS.tasks[k].width
        true, told = held.target[mine, :width].astype(np.float64), answers[mine, :width]
        mae, r2 = e.errors(k)
        np.testing.assert_allclose(mae, np.abs(true - told).mean(axis=0), rtol=1e-5)
        np.testing.assert_allclose(r2, 1 - ((true - told) ** 2).mean(axis=0) / true.var(axis=0), rtol=1e-4)


def test_what_metrics_have_of_any_form():
    rng = np.random.default_rng(1)
    held = examples_of_forms(300, rng, [0, 1, 2, 3, 4])
    e = Evaluator(Oracle(300, rng), held, FORMS)()
    found = e.metrics()
    assert list(found["eval_accuracy_per_task"]) == ["three", "two", "marks", "no classes", "no labels"]
    assert (
        list(found["eval_mae_per_task"])
        == ["sizes", "age", "no numbers"]
        == list(found["eval_r2_per_task"])
    )
    assert found["eval_mae_per_task"]["sizes"] == pytest.approx(e.errors(2)[0].mean())
    assert found["eval_r2_per_task"]["sizes"] == pytest.approx(e.errors(2)[1].mean())
    assert found["eval_mae_per_task"]["no numbers"] == found["eval_r2_per_task"]["no numbers"] == 0
    assert found["eval_accuracy"] == e.accuracy and found["eval_loss"] == e.mean_loss
    assert found["routes"].unused_modules == e.unused_modules
    # All of it is JSON's: no number is NumPy's.
    for group in ("eval_accuracy_per_task", "eval_mae_per_task", "eval_r2_per_task"):
        assert {type(value) for value in found[group].values()} == {float}


@pytest.mark.parametrize(
    "true, told, mae, r2",
    [
        ([1, 2, 3, 6], [1, 2, 3, 6], 0, 1),
        ([1, 2, 3, 6], [3, 3, 3, 3], 1.5, 0),  # the mean
        ([1, 2, 3, 6], [4, 4, 4, 4], 2, -4 / 14),
        ([1, 2, 3, 6], [1, 2, 3, 4], 0.5, 1 - 4 / 14),
        ([5, 5, 5, 5], [5, 5, 5, 5], 0, 0),  # there is nothing to tell
        ([5, 5, 5, 5], [4, 4, 4, 4], 1, 0),
        ([7], [9], 2, 0),
        ([0, 1e-10], [1e30, 1e30], 1e30, -1e30),  # no file holds more
    ],
)
def test_errors_by_hand(true, told, mae, r2):
    n = len(true)
    task = TaskSpec("x", "images", NUMBERS, ("y",), (0.0,), (1.0,))
    target, answers = (np.array(a, np.float32)[:, None] for a in (true, told))
    zeros = np.zeros(n)
    e = Evaluation(
        problem_of(task), {}, np.zeros(n, int), target, answers, zeros, zeros, np.zeros((n, 0), int), zeros
    )
    assert [error.tolist() for error in e.errors(0)] == [[pytest.approx(mae)], [pytest.approx(r2)]]
    assert e.accuracy is None and np.isnan(e.accuracy_per_task).all()
    assert e.metrics()["routes"] is None


@pytest.mark.parametrize("size, batch_size", [(1, 1), (5, 2), (6, 2), (7, 256), (512, 256)])
def test_consecutive_rows(size, batch_size):
    rows = consecutive_rows(size, batch_size)
    assert rows.shape == (math.ceil(size / batch_size), batch_size)
    assert rows.ravel().tolist() == [*range(size), *[0] * (rows.size - size)]


def evaluation(chosen):
    """One network of one module for each time that a task has chosen a module."""
    chosen = np.array(chosen)
    task, module = (np.repeat(index.ravel(), chosen.ravel()) for index in np.indices(chosen.shape))
    return recorded(task, module[:, None], chosen.shape[0], chosen.shape[1])


def recorded(task, paths, num_tasks, num_modules, right=True):
    """An evaluation of which only tasks, paths and right answers matter."""
    task, ones = np.asarray(task), np.ones(len(task))
    right = np.broadcast_to(right, len(task)).astype(float)
    kinds = {"one kind": range(num_modules)}
    tasks = problem_of(*(TaskSpec(f"{k}", "images", CLASSES, ("no", "yes")) for k in range(num_tasks)))
    answers = np.tile([0.0, 1.0], (len(task), 1))
    return Evaluation(
        tasks, kinds, task, ones.astype(int), answers, right, 0 * ones, np.asarray(paths), ones
    )


@pytest.mark.parametrize("tasks", [2, 3, 10])
def test_a_module_for_each_task_is_log2_of_tasks(tasks):
    held = evaluation(7 * np.eye(tasks, dtype=int))
    assert held.task_information(range(tasks)) == pytest.approx(math.log2(tasks))


def test_modules_shared_alike_tell_nothing():
    # Tasks of unlike sizes, modules of unlike popularity, independent of one another.
    held = evaluation(np.outer([1, 2, 7], [3, 5, 0, 40]))
    assert held.task_information(range(4)) == pytest.approx(0.0, abs=1e-12)
    assert held.task_information(range(4)) >= 0.0


def test_task_information_by_hand():
    # P(task, module) = 3/8, 1/8; 1/8, 3/8, and every marginal is 1/2.
    by_hand = 2 * (3 / 8) * math.log2((3 / 8) / (1 / 4)) + 2 * (1 / 8) * math.log2((1 / 8) / (1 / 4))
    assert evaluation([[3, 1], [1, 3]]).task_information([0, 1]) == pytest.approx(by_hand)
    # H(task) + H(module) - H(both), with unlike marginals and a pair that never occurs.
    chosen = np.array([[6, 0, 2], [1, 4, 3]])

    def entropy(counts):
        share = np.ravel(counts)[np.ravel(counts) > 0] / np.sum(counts)
        return -(share * np.log2(share)).sum()

    by_hand = entropy(chosen.sum(axis=1)) + entropy(chosen.sum(axis=0)) - entropy(chosen)
    assert evaluation(chosen).task_information(range(3)) == pytest.approx(by_hand)


def test_task_information_is_about_the_given_modules_only():
    # Modules 0 and 1 are shared, 2 and 3 are not, 4 and 5 are in nobody's network.
    held = evaluation([[5, 5, 9, 0, 0, 0], [5, 5, 0, 9, 0, 0]])
    assert held.task_information(range(2)) == pytest.approx(0.0, abs=1e-12)
    assert held.task_information(range(2, 4)) == pytest.approx(1.0)
    assert held.task_information(range(4, 6)) == 0.0
    assert 0.0 < held.task_information(range(6)) < 1.0


def test_what_follows_from_the_recording():
    paths = [[0, 2, 4], [2, 4, 9], [0, 4, 4], [1, 0, 2]]  # 4 and more add none
    held = recorded([0, 0, 0, 1], paths, num_tasks=3, num_modules=4, right=[1, 0, 0, 1])
    assert held.chosen.tolist() == [[2, 0, 2, 0], [1, 1, 1, 0], [0, 0, 0, 0]]
    assert held.lengths.tolist() == [2, 1, 1, 3]
    assert held.mean_length == 7 / 4
    assert held.unused_modules == 1
    assert held.accuracy == 2 / 4
    assert held.accuracy_per_task.tolist() == [1 / 3, 1.0, 0.0]


def test_a_method_without_paths():
    held = dataclasses.replace(recorded([0, 1], np.zeros((2, 0), int), 2, 0), kinds={})
    assert held.chosen.shape == (2, 0)
    assert (held.mean_length, held.unused_modules, held.confidence) == (0.0, 0, 1.0)


def brute_force_sharing(task, paths, num_tasks, num_modules):
    """`Evaluation.sharing`, example by example."""
    networks = [{m for m in path if m < num_modules} for path in paths]
    shared = np.full((num_tasks, num_tasks), np.nan)
    for a, b in np.ndindex(num_tasks, num_tasks):
        pairs = [
            (networks[i], networks[j]) for i in np.flatnonzero(task == a) for j in np.flatnonzero(task == b)
        ]
        both = sum(len(one & other) for one, other in pairs)
        mean = sum((len(one) + len(other)) / 2 for one, other in pairs)
        if mean:
            shared[a, b] = both / mean
    return shared


def test_sharing_is_that_of_all_pairs_of_examples():
    rng = np.random.default_rng(3)
    task = rng.choice([0, 1, 3], 60)
    paths = np.stack([rng.permutation(9)[:4] for _ in task])  # 6, 7 and 8 add none
    paths[task == 3] = [0, 5, 8, 8]
    held = recorded(task, paths, num_tasks=4, num_modules=6)
    expected = brute_force_sharing(task, paths, 4, 6)
    np.testing.assert_allclose(held.sharing, expected)
    assert held.sharing[3, 3] == 1 and np.isnan(held.sharing[2]).all()


def test_networks_are_paths_without_gaps_the_most_used_first():
    # 4 and 5 add none: the first three are one network. Order matters: the last one is another.
    paths = [[0, 4, 3], [0, 3, 4], [5, 0, 3], [1, 2, 3], [3, 0, 4]]
    held = recorded([0] * 5, paths, num_tasks=1, num_modules=4)
    networks, which = held.networks
    assert networks[0].tolist() == [0, 3, 4]
    assert {tuple(network) for network in networks} == {(0, 3, 4), (1, 2, 3), (3, 0, 4)}
    assert which[:3].tolist() == [0, 0, 0]
    for path, u in zip(paths, which, strict=True):
        assert [m for m in networks[u] if m < 4] == [m for m in path if m < 4]


def test_names_of_modules():
    held = dataclasses.replace(recorded([0], [[0]], 1, 3), kinds={"a": range(2), "b": range(2, 3)})
    assert held.names([2, 0, 3, 1]) == ["b.0", "a.0", "a.1"]
