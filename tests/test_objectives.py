"""What answers are worth, for all forms of tasks, against loops over examples in NumPy."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from lrn_tf.data.mixup import Mixed
from lrn_tf.data.problem import CLASSES, LABELS, NUMBERS, InputSpec, Problem, TaskSpec
from lrn_tf.learning.objectives import RATED, Objectives

BATCH = 40
MOMENTS = {1: ((50.0,), (7.0,)), 3: ((-2.0, 1000.0, 0.0), (0.5, 300.0, 1.0))}


def problem(*tasks):
    """A problem of tasks (form, number of answers, weight)."""
    specs = []
    for form, width, weight in tasks:
        moments = MOMENTS[width] if form == NUMBERS else ((), ())
        names = tuple(f"answer {i}" for i in range(width))
        specs.append(TaskSpec(f"task {len(specs)}", "rows", form, names, *moments, weight=weight))
    rows = InputSpec("rows", (2,), "float32", (0.0, 0.0), (1.0, 1.0))
    return Problem("made up", (rows,), tuple(specs))


PROBLEMS = {
    "classes": problem((CLASSES, 4, 1.0), (CLASSES, 4, 1.0)),
    "classes of several widths": problem((CLASSES, 2, 1.0), (CLASSES, 5, 1.0), (CLASSES, 3, 1.0)),
    "classes, weighted": problem((CLASSES, 3, 2.0), (CLASSES, 3, 0.5)),
    "one number": problem((NUMBERS, 1, 1.0)),
    "numbers": problem((NUMBERS, 3, 1.0), (NUMBERS, 1, 3.0)),
    "labels": problem((LABELS, 4, 1.0)),
    "labels of several widths": problem((LABELS, 4, 1.0), (LABELS, 1, 1.0)),
    "classes and numbers": problem((CLASSES, 5, 1.0), (NUMBERS, 3, 1.0)),
    "numbers and labels": problem((NUMBERS, 1, 0.1), (LABELS, 5, 1.0)),
    "all": problem(
        *((NUMBERS, 3, 2.0), (CLASSES, 2, 1.0), (LABELS, 4, 0.3)),
        *((CLASSES, 5, 1.0), (NUMBERS, 1, 1.0), (LABELS, 2, 1.0)),
    ),
}


def batch(problem, seed=0):
    """Logits, wild after a task's own answers; tasks; and targets as examples hold them."""
    rng = np.random.default_rng(seed)
    task = rng.permutation(np.arange(BATCH) % problem.num_tasks)
    logits = rng.normal(0, 2, (BATCH, problem.width))
    targets = np.zeros((BATCH, max(t.width if t.form != CLASSES else 1 for t in problem.tasks)))
    for i, k in enumerate(task):
        spec = problem.tasks[k]
        logits[i, spec.width :] = rng.choice([1e30, -1e30, 50.0])
        if spec.form == CLASSES:
            targets[i, 0] = rng.integers(spec.width)
        elif spec.form == LABELS:
            targets[i, : spec.width] = rng.integers(0, 2, spec.width)
        else:
            targets[i, : spec.width] = rng.normal(spec.mean, spec.std)
    whole = targets[:, 0].astype(np.int32) if problem.only_classes else targets.astype(np.float32)
    return tf.constant(logits, tf.float32), tf.constant(task, tf.int32), tf.constant(whole)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def of_example(spec, logits, target):
    """Loss, how much is right, and the answers of one example: each task's own columns, and only they."""
    x, y = logits[: spec.width], np.atleast_1d(target)
    if spec.form == CLASSES:
        probabilities = np.exp(x) / np.exp(x).sum()
        return -np.log(probabilities[int(y[0])]), float(x.argmax() == y[0]), probabilities
    y = y[: spec.width]
    if spec.form == NUMBERS:
        mean, std = np.array(spec.mean), np.array(spec.std)
        answers = x * std + mean
        return np.mean(((answers - y) / std) ** 2), 0.0, answers
    loss = -np.mean([np.log(sigmoid(a) if b else 1 - sigmoid(a)) for a, b in zip(x, y, strict=True)])
    return loss, np.mean((x > 0) == (y == 1)), sigmoid(x)


def by_hand(problem, logits, tasks, targets):
    """`of_example` of each: losses, shares that are right, and answers filled up with 0."""
    answers = np.zeros((BATCH, problem.width))
    loss, right = np.zeros(BATCH), np.zeros(BATCH)
    for i, k in enumerate(tasks.numpy()):
        spec = problem.tasks[k]
        given = logits.numpy()[i].astype(np.float64), targets.numpy()[i].astype(np.float64)
        loss[i], right[i], answers[i, : spec.width] = of_example(spec, *given)
    return loss, right, answers


@pytest.fixture(params=PROBLEMS)
def given(request):
    return PROBLEMS[request.param], *batch(PROBLEMS[request.param])


@pytest.mark.parametrize("compiled", [False, True])
def test_losses_what_is_right_and_answers(given, compiled):
    made, logits, tasks, targets = given
    objectives = Objectives(made)

    def run(logits, tasks, targets):
        arguments = logits, tasks, targets
        return objectives.loss(*arguments), objectives.right(*arguments), objectives.answers(logits, tasks)

    found = tf.function(run, jit_compile=True, autograph=False) if compiled else run
    loss, right, answers = found(logits, tasks, targets)
    expected_loss, expected_right, expected_answers = by_hand(made, logits, tasks, targets)
    np.testing.assert_allclose(loss, expected_loss, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(right, expected_right, atol=1e-6)
    np.testing.assert_allclose(answers, expected_answers, rtol=1e-4, atol=1e-4)
    own = np.array([np.arange(made.width) < made.tasks[k].width for k in tasks.numpy()])
    assert (answers.numpy()[~own] == 0).all()
    assert loss.dtype == right.dtype == answers.dtype == tf.float32


def test_two_mixed_targets_count_by_their_shares_and_the_first_is_asked_for(given):
    made, logits, tasks, targets = given
    order = np.lexsort((np.arange(BATCH)[::-1], tasks))  # another example of the same task
    others = np.zeros(BATCH, int)
    before = np.roll(order, 1)
    others[order] = np.where(tasks.numpy()[order] == tasks.numpy()[before], before, order)
    share = np.linspace(0.5, 1, BATCH, dtype=np.float32)
    found = Mixed(targets, tf.gather(targets, others), tf.constant(share))
    objectives = Objectives(made)
    first, right, _ = by_hand(made, logits, tasks, targets)
    second, *_ = by_hand(made, logits, tasks, found.others)
    expected = share * first + (1 - share) * second
    np.testing.assert_allclose(objectives.loss(logits, tasks, found), expected, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(objectives.right(logits, tasks, found), right, atol=1e-6)


def test_the_mean_of_what_is_right_leaves_numbers_out(given):
    made, logits, tasks, targets = given
    objectives = Objectives(made)
    right = objectives.right(logits, tasks, targets)
    _, expected, _ = by_hand(made, logits, tasks, targets)
    counts = [made.tasks[k].form != NUMBERS for k in tasks.numpy()]
    assert ("train/accuracy" in objectives.metrics) == any(counts)
    wanted = expected[counts].mean() if any(counts) else 0
    assert float(objectives.mean_right(right, tasks)) == pytest.approx(wanted, abs=1e-6)


def test_the_mean_of_what_is_right_in_a_batch_of_numbers_only():
    made = PROBLEMS["classes and numbers"]
    objectives = Objectives(made)
    numbers, classes = tf.ones(4, tf.int32), tf.constant([1, 1, 0, 1])
    assert float(objectives.mean_right(tf.zeros(4), numbers)) == 0
    for tasks, rated in ((numbers, 0), (classes, 1)):
        assert float(objectives.means(tf.zeros(4), tf.zeros(4), tasks)[RATED]) == rated


def test_weights(given):
    made, _, tasks, _ = given
    found = np.broadcast_to(Objectives(made).weights(tasks), BATCH)
    np.testing.assert_allclose(found, [made.tasks[k].weight for k in tasks.numpy()])


def test_losses_are_without_weights(given):
    made, *arguments = given
    plain = problem(*((task.form, task.width, 1.0) for task in made.tasks))
    np.testing.assert_array_equal(Objectives(made).loss(*arguments), Objectives(plain).loss(*arguments))


@pytest.mark.parametrize("smoothing", [0.1, 0.5])
def test_smoothed_labels_equal_keras(given, smoothing):
    """Classes only: numbers and labels of their own are left as they are."""
    made, logits, tasks, targets = given
    found = Objectives(made, smoothing).loss(logits, tasks, targets).numpy()
    plain = Objectives(made).loss(logits, tasks, targets).numpy()
    for i, k in enumerate(tasks.numpy()):
        spec = made.tasks[k]
        if spec.form != CLASSES:
            assert found[i] == plain[i]
            continue
        target = np.eye(spec.width)[int(np.ravel(targets.numpy()[i])[0])]
        expected = keras.losses.categorical_crossentropy(
            target, logits.numpy()[i, : spec.width], from_logits=True, label_smoothing=smoothing
        )
        assert found[i] == pytest.approx(float(expected), rel=1e-4)


def slope(problem, logits, task, target, i, c):
    """How the weighted loss of an example changes with one logit, by differences in double precision."""
    spec, step = problem.tasks[task], 1e-5
    losses = []
    for side in (-step, step):
        moved = logits.astype(np.float64)
        moved[c] += side
        losses.append(spec.weight * of_example(spec, moved, target.astype(np.float64))[0])
    return (losses[1] - losses[0]) / (2 * step)


def test_gradients(given):
    made, logits, tasks, targets = given
    objectives = Objectives(made)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = objectives.loss(logits, tasks, targets) * objectives.weights(tasks)
    found = tape.gradient(loss, logits).numpy()
    assert np.isfinite(found).all()
    for i, k in enumerate(tasks.numpy()):
        width = made.tasks[k].width
        assert (found[i, width:] == 0).all()
        expected = [slope(made, logits.numpy()[i], k, targets.numpy()[i], i, c) for c in range(width)]
        np.testing.assert_allclose(found[i, :width], expected, rtol=1e-3, atol=1e-5)
        assert found[i, :width].any()


@pytest.mark.parametrize("wild", [np.nan, np.inf, -np.inf])
def test_what_lies_after_a_tasks_own_answers_may_be_anything(given, wild):
    made, logits, tasks, targets = given
    objectives = Objectives(made)
    own = np.array([np.arange(made.width) < made.tasks[k].width for k in tasks.numpy()])
    broken = tf.constant(np.where(own, logits, wild), tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(broken)
        loss = objectives.loss(broken, tasks, targets)
    np.testing.assert_array_equal(loss, objectives.loss(logits, tasks, targets))
    assert np.isfinite(tape.gradient(loss, broken)).all()
    np.testing.assert_array_equal(
        objectives.right(broken, tasks, targets), objectives.right(logits, tasks, targets)
    )
    np.testing.assert_array_equal(objectives.answers(broken, tasks), objectives.answers(logits, tasks))


def test_an_example_is_worth_the_same_whatever_else_is_in_the_batch(given):
    made, logits, tasks, targets = given
    objectives = Objectives(made)
    for of in (objectives.loss, objectives.right):
        whole = of(logits, tasks, targets)
        alone = [of(logits[i : i + 1], tasks[i : i + 1], targets[i : i + 1])[0] for i in range(BATCH)]
        np.testing.assert_allclose(whole, alone, rtol=1e-5, atol=1e-6)


def test_a_loss_of_1_is_what_the_mean_of_the_training_targets_costs():
    made = PROBLEMS["numbers"]
    (spec, _) = made.tasks
    rng = np.random.default_rng(0)
    targets = rng.normal(spec.mean, spec.std, (20_000, 3)).astype(np.float32)
    none = tf.zeros((len(targets), 3)), tf.zeros(len(targets), tf.int32)
    assert np.mean(Objectives(made).loss(*none, tf.constant(targets))) == pytest.approx(1, rel=0.02)
    np.testing.assert_allclose(Objectives(made).answers(*none)[0], spec.mean)


def test_numbers_are_those_of_their_user_before_any_target_was_seen():
    """A task without moments: targets count as they are."""
    spec = TaskSpec("task", "rows", NUMBERS, ("a", "b"))
    made = Problem("made up", PROBLEMS["all"].inputs, (spec,))
    logits, tasks, targets = tf.constant([[1.0, -2.0]]), tf.constant([0]), tf.constant([[3.0, 1.0]])
    np.testing.assert_allclose(Objectives(made).answers(logits, tasks), logits)
    np.testing.assert_allclose(Objectives(made).loss(logits, tasks, targets), [(4 + 9) / 2])
