"""The training loop around a tiny method: what it is fed, what is written, and when it stops."""

import collections
import itertools
import re
import resource
import types

import numpy as np
import pytest
import tensorflow as tf
from made_runs import metrics
from tiny_run import (
    BATCH,
    EPOCHS,
    POOL,
    TASKS,
    Softmax,
    assert_same_run,
    benchmark,
    checkpoint_steps,
    lines,
    run,
    scalars,
    tensors,
)

from lrn_tf.data.benchmarks import Benchmark
from lrn_tf.data.examples import Examples, shuffled_rows
from lrn_tf.data.problem import NUMBERS, InputSpec, Problem, TaskSpec
from lrn_tf.errors import UserError
from lrn_tf.learning.objectives import RATED
from lrn_tf.methods.method import Prediction
from lrn_tf.training import pace, trainer


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of 3 epochs of 5 steps that nobody killed."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, run(folder)


def test_every_epoch_visits_rows_at_most_once_in_another_order(whole):
    steps, data = whole[1].steps, benchmark()
    assert len(steps) == EPOCHS * 5
    epochs = [np.concatenate([s.rows for s in steps[i : i + 5]]).astype(int) for i in (0, 5, 10)]
    for rows in epochs:
        assert len(rows) == len(set(rows)) == 20  # 2 of 22 fill no batch
        assert set(rows) <= set(range(22))
    for a, b in itertools.combinations(epochs, 2):
        assert a.tolist() != b.tolist() and set(a) != set(b)
    for step in steps:
        rows = step.rows.astype(int)
        assert step.tasks.tolist() == data.train.task[rows].tolist()
        assert step.labels.tolist() == data.train.target[rows].tolist()


class Traced(Softmax):
    """Counts how often its graphs are made, with a name too many in its metrics if told so."""

    def __init__(self, data, counts, more=()):
        super().__init__(data)
        self.counts, self.metrics = counts, (*self.metrics, *more)

    def train_step(self, *given):
        self.counts["train_step"] += 1
        return super().train_step(*given)

    def predict(self, *given):
        self.counts["predict"] += 1
        return super().predict(*given)


def test_graphs_are_made_once_and_not_for_a_run_that_is_through(tmp_path):
    counts = collections.Counter()
    for _ in range(2):
        run(tmp_path, make=Traced, method=dict(counts=counts))
        assert counts == {"train_step": 1, "predict": 1}


def test_a_method_returns_the_metrics_that_it_names(tmp_path):
    with pytest.raises(
        ValueError, match=r"train_step and metrics of the method differ in \['train/more'\]"
    ):
        run(tmp_path, make=Traced, method=dict(counts=collections.Counter(), more=["train/more"]))


def test_training_images_may_be_mirrored(whole, tmp_path):
    steps = run(tmp_path, augment="flip").steps
    for ours, plain in zip(steps, whole[1].steps, strict=True):
        assert ours.tasks.tolist() == plain.tasks.tolist() and ours.labels.tolist() == plain.labels.tolist()
    # A mirrored image has another pixel where the row is read.
    mirrored = [ours.rows != plain.rows for ours, plain in zip(steps, whole[1].steps, strict=True)]
    assert 0.25 < np.mean(mirrored) < 0.75


class OfMixed(Softmax):
    """Learns the first of two mixed targets."""

    def train_step(self, images, tasks, targets, seed, learning_rate):
        return super().train_step(images, tasks, targets.targets, seed, learning_rate)


def test_training_examples_may_be_mixed(whole, tmp_path):
    steps = run(tmp_path, make=OfMixed, mixup=0.5).steps
    for ours, plain in zip(steps, whole[1].steps, strict=True):
        assert ours.tasks.tolist() == plain.tasks.tolist() and ours.labels.tolist() == plain.labels.tolist()
    # Alone of its task an example stays as it is.
    mixed = [ours.rows != plain.rows for ours, plain in zip(steps, whole[1].steps, strict=True)]
    assert 0.1 < np.mean(mixed) < 0.7


def test_rows_depend_on_seed_and_epoch_alone():
    def rows(seed, epoch):
        return shuffled_rows(np.zeros(22), 4, seed, epoch, "proportional")

    again, other = rows(1, 2), rows(2, 1)
    assert again.shape == (5, 4) and again.dtype == np.int32
    assert again.tolist() == rows(1, 2).tolist() != other.tolist()


def test_learning_rates_and_seeds(whole, tmp_path):
    steps = whole[1].steps
    assert [s.rate for s in steps] == pytest.approx(np.repeat([0.1, 0.1 * 0.82, 0.1 * 0.82**2], 5))
    assert [s.seed.tolist() for s in steps] == [[0, step] for step in range(15)]
    other = run(tmp_path, seed=3, lr_decay=0.5, epochs=2).steps
    assert [s.seed.tolist() for s in other] == [[3, step] for step in range(10)]
    assert [s.rate for s in other] == pytest.approx([0.1] * 5 + [0.05] * 5)


def test_a_line_for_every_epoch(whole):
    folder, method = whole
    found = lines(folder)
    assert [(line["epoch"], line["step"]) for line in found] == [(1, 5), (2, 10), (3, 15)]
    for line, start in zip(found, (0, 5, 10), strict=True):
        losses = [float(s.loss) for s in method.steps[start : start + 5]]
        assert line["train_loss"] == line["metrics"]["train/loss"] == pytest.approx(np.mean(losses))
        assert line["learning_rate"] == pytest.approx(0.1 * 0.82 ** (line["epoch"] - 1))
        assert list(line["eval_accuracy_per_task"]) == ["task 0", "task 1", "task 2"]
        assert line["routes"]["unused_modules"] == len(POOL) - 2 and line["routes"]["mean_length"] == 2
        assert line["seconds"] >= 0 and line["step_ms_median"] > 0 and line["examples_per_second"] > 0
    assert found[-1]["train_accuracy"] > 0.9 and found[-1]["eval_accuracy"] > 0.9
    test = benchmark().test
    right = [
        found[-1]["eval_accuracy_per_task"][f"task {k}"] * (test.task == k).sum() for k in range(TASKS)
    ]
    assert found[-1]["eval_accuracy"] == pytest.approx(sum(right) / len(test))


def test_seconds_are_those_since_the_line_before(tmp_path, monkeypatch):
    """Whichever process took them, and whenever it evaluates; the clock counts steps here."""
    steps = []
    monkeypatch.setattr(pace, "time", types.SimpleNamespace(perf_counter=lambda: float(len(steps))))
    run(tmp_path, epochs=1, method=dict(steps=steps))
    with pytest.raises(tf.errors.OpError):
        run(tmp_path, evaluate_every=2, checkpoint_every=1, method=dict(steps=steps, killed_at=9))
    run(tmp_path, evaluate_every=2, method=dict(steps=steps))
    assert [(line["epoch"], line["seconds"]) for line in lines(tmp_path)] == [(1, 5), (2, 5), (3, 5)]
    run(tmp_path, evaluate_every=3, epochs=7, method=dict(steps=steps))
    assert [(line["epoch"], line["seconds"]) for line in lines(tmp_path)[3:]] == [(6, 15), (7, 5)]


def test_validation_is_called_so(tmp_path, capsys):
    run(tmp_path, epochs=1, validation=0.2)
    (line,) = lines(tmp_path)
    assert line["split"] == "validation" and not [name for name in line if "test" in name]
    assert f"  validation {line['eval_accuracy']:6.2%}  length" in capsys.readouterr().out
    assert not [tag for tag in scalars(tmp_path) if "test" in tag]


def test_a_loss_that_is_finite_only_while_training(tmp_path):
    """Weights at the end of what float32 holds: no line, and no checkpoint, of what cannot be compared."""
    with pytest.raises(UserError, match="loss on the test examples was not finite at step 5; ") as caught:
        run(tmp_path, method=dict(weights_times=[(5, 3e38)]))
    assert "Try a smaller --learning_rate" in str(caught.value)
    assert not (tmp_path / "metrics.jsonl").exists() and checkpoint_steps(tmp_path) == []


def test_tells_where_it_begins_and_what_an_epoch_gave(tmp_path, capsys):
    run(tmp_path, epochs=1)
    shown = capsys.readouterr()
    assert "starting: 5 steps, 5 an epoch; tensorboard --logdir" in shown.err
    assert re.fullmatch(r"epoch   1  step      5  train .* test .*% .*ms/step\)\n", shown.out)
    run(tmp_path, epochs=2)
    shown = capsys.readouterr()
    assert "continuing at step 5 of 10" in shown.err
    assert shown.out.startswith("epoch   2")


def assert_sound(folder, broken, steps_per_epoch):
    """Nothing of the broken step or later was written, and all that was is finite."""
    for step in checkpoint_steps(folder):
        assert step < broken
        assert all(np.isfinite(value).all() for value in tensors(folder, step).values())
    if (broken - 1) // steps_per_epoch:
        assert [line["epoch"] for line in lines(folder)] == [*range(1, (broken - 1) // steps_per_epoch + 1)]
        assert "NaN" not in (folder / "metrics.jsonl").read_text()
    else:
        assert not (folder / "metrics.jsonl").exists()


@pytest.mark.parametrize("checkpoint_every", [0, 5])
@pytest.mark.parametrize(
    "broken, factor", [(1, np.nan), (5, np.inf), (20, np.nan), (23, np.nan), (50, np.inf), (51, -np.inf)]
)
def test_a_loss_that_is_not_finite_stops_the_run(tmp_path, broken, factor, checkpoint_every):
    """Epochs of 50 steps; the sums are looked at every 20."""
    steps = []
    breaks = dict(loss_times={broken: factor}, weights_times={broken: factor}, steps=steps)
    given = dict(size=201, epochs=2, checkpoint_every=checkpoint_every)
    with pytest.raises(UserError, match=rf"not finite at step {broken};.* --learning_rate") as caught:
        run(tmp_path, **given, method=breaks)
    assert "\n" not in str(caught.value)
    assert broken <= len(steps) < broken + 20
    assert_sound(tmp_path, broken, 50)
    # With nothing changed it stops there again.
    with pytest.raises(UserError, match=rf"not finite at step {broken};"):
        run(tmp_path, **given, method=breaks)
    assert_sound(tmp_path, broken, 50)


@pytest.mark.parametrize("broken", [7, 10, 15])
def test_weights_that_are_not_finite_are_not_saved(tmp_path, broken):
    """Of the step that broke them the loss was taken before."""
    with pytest.raises(UserError, match="not finite"):
        run(tmp_path, method=dict(weights_times={broken: np.nan}), checkpoint_every=1)
    assert_sound(tmp_path, broken, 5)
    assert checkpoint_steps(tmp_path)[-1] == broken - 1


def test_continues_from_the_last_good_checkpoint_when_the_cause_is_gone(whole, tmp_path):
    with pytest.raises(UserError):
        run(tmp_path, method=dict(loss_times={9: np.nan}, weights_times={9: np.nan}), checkpoint_every=2)
    assert checkpoint_steps(tmp_path)[-1] == 8
    run(tmp_path, checkpoint_every=2)
    assert_same_run(tmp_path, whole[0])


def test_a_batch_is_not_larger_than_the_training_set(tmp_path):
    assert len(run(tmp_path / "all", size=4, epochs=1).steps) == 1
    with pytest.raises(UserError, match=r"--batch_size=4 .* 3 training\s+examples"):
        run(tmp_path / "more", size=3)


def test_tensorboard_has_what_metrics_have(whole):
    found = scalars(whole[0])
    for tag, name in (("eval/accuracy", "eval_accuracy"), ("train/loss", "train_loss")):
        expected = [(line["step"], line[name]) for line in lines(whole[0])]
        assert found[tag] == [(step, pytest.approx(value)) for step, value in expected]
    rates = [(5, 0.1), (10, 0.1 * 0.82), (15, 0.1 * 0.82**2)]
    assert found["charts/learning_rate"] == [(step, pytest.approx(rate)) for step, rate in rates]


def test_a_full_disk_stops_the_run(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # The largest file that this process may write, in bytes; the summaries' is the first to reach it.
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(UserError, match="cannot write") as caught:
            run(tmp_path, epochs=1000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "\n" not in str(caught.value)
    # With space again the same command continues.
    before = checkpoint_steps(tmp_path)[-1]
    continued = run(tmp_path, epochs=before // 5 + 1)
    assert len(continued.steps) == 5


@pytest.mark.parametrize("max_steps", [0, 15])
def test_profile(tmp_path, max_steps):
    run(tmp_path, size=121, epochs=1, profile=True, max_steps=max_steps)
    assert list(tmp_path.glob("plugins/profile/*/*.xplane.pb"))


def test_a_run_that_goes_on_has_a_profile_too(tmp_path):
    run(tmp_path, size=121, max_steps=11)
    run(tmp_path, size=121, max_steps=21, profile=True)
    assert list(tmp_path.glob("plugins/profile/*/*.xplane.pb"))


@pytest.mark.slow
def test_speed_leaves_out_the_compilation(tmp_path):
    """The first step takes 2 s, all others 20 ms."""
    run(tmp_path, size=241, epochs=1, method=dict(sleep={1: 2.0, 0: 0.02}))
    found = scalars(tmp_path)
    assert [step for step, _ in found["charts/SPS"]] == [20, 40, 60]
    for _, speed in found["charts/SPS"]:
        assert 15 < speed <= 50
    per_second = [value for _, value in found["charts/examples_per_second"]]
    assert per_second == pytest.approx([BATCH * speed for _, speed in found["charts/SPS"]])
    assert lines(tmp_path)[0]["step_ms_median"] >= 20


def test_what_is_evaluated_are_the_test_examples(tmp_path):
    """And not, say, the training examples, whose loss is another one."""
    method, data = run(tmp_path, epochs=1), benchmark()
    losses = []
    for part in (data.test, data.train):
        (spec,) = data.problem.inputs
        images = (part.inputs[0][part.row] - spec.mean) / spec.std
        logits = method.predict(tf.constant(images, tf.float32), part.task).logits
        losses.append(tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(part.target, logits)))
    assert lines(tmp_path)[-1]["eval_loss"] == pytest.approx(float(losses[0]), rel=1e-4)
    assert abs(losses[0] - losses[1]) > 1e-3


MEAN, STD = (0.5, 10.0), (2.0, 0.25)


def sums_and_differences():
    """Two tasks that ask for numbers: two of a row, or one."""
    rng = np.random.default_rng(3)
    tasks = (
        TaskSpec("both", "rows", NUMBERS, ("sum", "difference"), MEAN, STD),
        TaskSpec("one", "rows", NUMBERS, ("third",), (0.0,), (1.0,)),
    )
    rows = rng.normal(size=(32, 3)).astype(np.float32)
    target = np.stack([rows[:, 0] + rows[:, 1], rows[:, 0] - rows[:, 1]], axis=1)
    task = np.arange(32, dtype=np.int32) % 2
    target[task == 1] = np.stack([rows[task == 1, 2], np.zeros(16)], axis=1)
    found = [Examples(np.arange(n, dtype=np.int32), task[:n], target[:n], (rows[:n],)) for n in (32, 20)]
    spec = InputSpec("rows", (3,), "float32", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    return Benchmark(Problem("numbers", (spec,), tasks), *found)


class Regression:
    """Least squares, of each task for itself; an answer is in units of its standard deviation."""

    metrics = ("train/loss",)
    kinds, pool, trunk = {}, None, None

    def __init__(self, data):
        self._weights = tf.Variable(tf.zeros((2, 3, 2)))
        self.weights, self.variables = [self._weights], {"weights": self._weights}
        moments = [(MEAN, STD), ((0, 0), (1, 1))]
        self._mean, self._std = (tf.constant(m, tf.float32) for m in zip(*moments, strict=True))

    def _answer(self, rows, tasks):
        return tf.einsum("bi,bij->bj", rows, tf.gather(self._weights, tasks))

    def train_step(self, rows, tasks, targets, seed, learning_rate):
        wanted = (targets - tf.gather(self._mean, tasks)) / tf.gather(self._std, tasks)
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((self._answer(rows, tasks) - wanted) ** 2)
        (gradient,) = tape.gradient(loss, [self._weights])
        self._weights.assign_sub(learning_rate * gradient)
        return {"train/loss": loss}

    def predict(self, rows, tasks):
        batch = tasks.shape[0]
        return Prediction(self._answer(rows, tasks), tf.zeros((batch, 0), tf.int32), tf.zeros(batch))


class Sometimes(Softmax):
    """Whose every second batch has no accuracy."""

    metrics = (*Softmax.metrics, RATED)

    def train_step(self, images, tasks, labels, seed, learning_rate):
        found = super().train_step(images, tasks, labels, seed, learning_rate)
        rated = tf.cast(seed[1] % 2, tf.float32)
        return {**found, "train/accuracy": 0.75 * rated, RATED: rated}


def test_the_training_accuracy_is_that_of_batches_that_have_one(tmp_path):
    run(tmp_path, make=Sometimes)
    found = [line["train_accuracy"] for line in lines(tmp_path)]
    assert found == [pytest.approx(0.75)] * EPOCHS
    assert RATED not in lines(tmp_path)[0]["metrics"]


def test_tasks_that_ask_for_numbers_have_errors_and_no_accuracy(tmp_path, capsys):
    data = sums_and_differences()
    method = run(tmp_path, data=data, make=Regression)
    *_, line = lines(tmp_path)
    assert line["train_accuracy"] is None and line["eval_accuracy"] is None and line["routes"] is None
    assert line["eval_accuracy_per_task"] == {}
    weights, test, expected = method.weights[0].numpy(), data.test, {}
    for k, (mean, std) in enumerate([(MEAN, STD), ((0.0,), (1.0,))]):
        mine = test.task == k
        true = test.target[mine, : len(mean)]
        answer = (test.inputs[0][mine] @ weights[k])[:, : len(mean)] * std + mean
        r2 = 1 - ((true - answer) ** 2).sum(axis=0) / ((true - true.mean(axis=0)) ** 2).sum(axis=0)
        name = data.problem.task_names[k]
        expected |= {f"eval_mae_per_task/{name}": np.abs(true - answer).mean()}
        expected |= {f"eval_r2_per_task/{name}": r2.mean()}
    for tag, value in expected.items():
        group, name = tag.split("/")
        assert line[group][name] == pytest.approx(value, rel=1e-4)
        assert scalars(tmp_path)[tag][-1] == (line["step"], pytest.approx(value, rel=1e-4))
    assert not [tag for tag in scalars(tmp_path) if "accuracy" in tag]
    *_, row = capsys.readouterr().out.splitlines()
    r2 = "  ".join(f"R2 of {name} {value:.2f}" for name, value in line["eval_r2_per_task"].items())
    assert f"train loss {line['train_loss']:.3f}  test loss {line['eval_loss']:.3f}  {r2}  " in row


def test_a_row_of_many_tasks_fits_a_terminal():
    r2 = {f"a task with a long name {i}": i / 10 for i in range(50)}
    row = trainer._row(metrics(eval_r2_per_task=r2))
    assert "R2 of 50 tasks 2.45  " in row and len(row) < 150


def test_a_run_is_not_continued_on_other_examples(tmp_path):
    data = sums_and_differences()
    run(tmp_path, data=data, make=Regression, epochs=1)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    other = Benchmark(data.problem, data.train, data.test.some(np.arange(19)))
    with pytest.raises(
        UserError, match="there were 20 eval examples, there are 19; give those, or another"
    ):
        run(tmp_path, data=other, make=Regression)
    assert {path: path.read_bytes() for path in before} == before
    with pytest.raises(UserError, match="with other modules: there is a new task task 2; "):
        run(tmp_path)
    assert len(checkpoint_steps(tmp_path)) == 1
