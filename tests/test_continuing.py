"""Runs of the tiny method that are killed, damaged or cut short, and continued."""

import shutil

import numpy as np
import pytest
import tensorflow as tf
from tiny_run import (
    EPOCHS,
    Softmax,
    assert_same_run,
    assert_same_state,
    checkpoint_steps,
    contents,
    lines,
    run,
    without_timings,
)

from lrn_tf.errors import UserError
from lrn_tf.main import train
from lrn_tf.settings.resolve import resolve
from lrn_tf.storage.checkpoints import Checkpoints
from lrn_tf.storage.workdir import Workdir


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of 3 epochs of 5 steps that nobody killed."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, run(folder)


@pytest.mark.parametrize("checkpoint_every", [0, 2])
@pytest.mark.parametrize("killed_at", [1, 3, 5, 6, 8, 11, 15])
def test_a_killed_run_continued_is_a_run_never_killed(
    whole, tmp_path, killed_at, checkpoint_every, record_property
):
    with pytest.raises(tf.errors.OpError):
        run(tmp_path, method=dict(killed_at=killed_at), checkpoint_every=checkpoint_every)
    before = checkpoint_steps(tmp_path)
    continued = run(tmp_path, checkpoint_every=checkpoint_every)
    assert int(continued.steps[0].seed[1]) == max(before, default=0)  # nothing is repeated needlessly
    assert_same_run(tmp_path, whole[0])
    record_property("kills", 1)


def test_a_run_whose_weights_do_not_fit_is_left_as_it_is(whole, tmp_path):
    """Of another version's method, say: only TensorFlow sees that, when all else is the same."""

    class More(Softmax):
        @property
        def variables(self):
            return {**super().variables, "more": tf.Variable(0.0)}

    shutil.copytree(whole[0], tmp_path / "run")
    there = contents(tmp_path / "run")
    with pytest.raises(UserError, match="it holds other variables than this run has"):
        run(tmp_path / "run", make=More, epochs=EPOCHS + 1)
    assert contents(tmp_path / "run") == there


@pytest.mark.parametrize(
    "checkpoint_every, killed_at, saved, evaluated",
    [(0, 14, [10], [2]), (5, 14, [5, 10], [2]), (5, 8, [5], []), (2, 8, [2, 4, 6], [])],
)
def test_evaluated_every_other_epoch_it_is_the_same_run(
    whole, tmp_path, checkpoint_every, killed_at, saved, evaluated
):
    """Killed and continued, too; the last epoch is evaluated in any case."""
    given = dict(evaluate_every=2, checkpoint_every=checkpoint_every)
    with pytest.raises(tf.errors.OpError):
        run(tmp_path, method=dict(killed_at=killed_at), **given)
    assert checkpoint_steps(tmp_path) == saved
    there = lines(tmp_path) if (tmp_path / "metrics.jsonl").exists() else []
    assert [line["epoch"] for line in there] == evaluated
    assert len(run(tmp_path, **given).steps) == EPOCHS * 5 - saved[-1]
    _, *of_whole = without_timings(whole[0]).splitlines()
    assert without_timings(tmp_path).splitlines() == of_whole
    assert_same_state(tmp_path, whole[0])


def test_a_run_that_was_stopped_where_it_is_to_end_is_evaluated_there(whole, tmp_path, capsys):
    """At the end of an epoch whose turn it was not."""
    with pytest.raises(tf.errors.OpError):
        run(tmp_path, evaluate_every=3, checkpoint_every=5, method=dict(killed_at=11))
    assert checkpoint_steps(tmp_path) == [5, 10] and not (tmp_path / "metrics.jsonl").exists()
    (tmp_path / "metrics.jsonl").write_text('{"epoch": 2, "st')  # of a disk that was full
    for _ in range(2):  # the second time it has been
        assert not run(tmp_path, evaluate_every=3, epochs=2).steps
        assert "finished already, at step 10" in capsys.readouterr().err
        assert without_timings(tmp_path).splitlines() == without_timings(whole[0]).splitlines()[1:2]
    run(tmp_path)
    assert_same_state(tmp_path, whole[0])


@pytest.mark.slow
def test_killed_again_and_again(whole, tmp_path, record_property):
    for killed_at in range(2, 16):
        with pytest.raises(tf.errors.OpError):
            run(tmp_path, method=dict(killed_at=killed_at), checkpoint_every=1)
    run(tmp_path, checkpoint_every=1)
    assert_same_run(tmp_path, whole[0])
    record_property("kills", 14)


@pytest.mark.parametrize("where", [(Checkpoints, "save"), (Workdir, "append_metrics")])
def test_killed_at_the_end_of_an_epoch(whole, tmp_path, monkeypatch, where):
    """Before the epoch's line, or between its line and its checkpoint."""
    owner, name = where
    real, calls = getattr(owner, name), []

    def killed_the_second_time(self, argument):
        calls.append(argument)
        if len(calls) == 2:
            raise RuntimeError("killed")
        return real(self, argument)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, killed_the_second_time)
        with pytest.raises(RuntimeError, match="killed"):
            run(tmp_path)
    assert checkpoint_steps(tmp_path) == [5]
    run(tmp_path)
    assert_same_run(tmp_path, whole[0])


def test_continues_from_an_older_checkpoint_when_the_newest_is_damaged(whole, tmp_path, capsys):
    with pytest.raises(tf.errors.OpError):
        run(tmp_path, method=dict(killed_at=13))
    (data,) = (tmp_path / "checkpoints").glob("step-10.data*")
    data.write_bytes(b"x" * data.stat().st_size)
    run(tmp_path)
    assert "step-10 is damaged" in (said := capsys.readouterr().err) and "continuing at step 5" in said
    assert_same_run(tmp_path, whole[0])


def test_ended_by_max_steps_and_continued(whole, tmp_path):
    run(tmp_path, max_steps=7)
    assert [(line["epoch"], line["step"]) for line in lines(tmp_path)] == [(1, 5), (2, 7)]
    losses = [float(s.loss) for s in whole[1].steps[5:7]]
    assert lines(tmp_path)[-1]["train_loss"] == pytest.approx(np.mean(losses))
    assert checkpoint_steps(tmp_path)[-1] == 7

    # Nothing is left to do, so nothing changes.
    written = (tmp_path / "metrics.jsonl").read_bytes()
    for max_steps in (7, 6):
        assert not run(tmp_path, max_steps=max_steps).steps
        assert (tmp_path / "metrics.jsonl").read_bytes() == written

    run(tmp_path, max_steps=12)
    assert [line["step"] for line in lines(tmp_path)] == [5, 10, 12]
    run(tmp_path)
    assert_same_run(tmp_path, whole[0])


def test_more_epochs_continue_a_finished_run(whole, tmp_path):
    run(tmp_path, epochs=1)
    run(tmp_path, epochs=EPOCHS)
    assert_same_run(tmp_path, whole[0])
    assert not run(tmp_path, epochs=EPOCHS).steps
    assert_same_run(tmp_path, whole[0])


def test_metrics_without_a_checkpoint_start_anew(whole, tmp_path):
    shutil.copy(whole[0] / "metrics.jsonl", tmp_path)
    run(tmp_path)
    assert_same_run(tmp_path, whole[0])


MAKES_TASKS = """
import numpy as np, lrn_tf

def tasks():
    images = np.random.default_rng(0).integers(0, 256, (60, 4, 4, 1)).astype(np.uint8)
    return [lrn_tf.Task("light", images, (images[:, 0, 0, 0] > 127).astype(int), answers={answers})]
"""


@pytest.mark.parametrize(
    "answers, said",
    [
        (("dark", "brighter"), "answers of task light was ('dark', 'light'), is ('dark', 'brighter')"),
        (("dark", "light"), None),
    ],
)
def test_a_function_that_makes_other_tasks_meanwhile(tmp_path, answers, said):
    """Its name is the same as before; nothing of the run is touched."""
    file = tmp_path / "mine.py"
    given = dict(benchmark=f"{file}:tasks", method="shared", batch_size=16, pictures_every=0)
    given["workdir"] = str(tmp_path / "run")
    file.write_text(MAKES_TASKS.format(answers=("dark", "light")))
    train(resolve({**given, "epochs": 1}))
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    file.write_text(MAKES_TASKS.format(answers=answers))
    if said is None:
        assert train(resolve({**given, "epochs": 2})) == 0
        assert [line["epoch"] for line in lines(tmp_path / "run")] == [1, 2]
        return
    with pytest.raises(UserError, match="holds a run on other data or with other modules") as caught:
        train(resolve({**given, "epochs": 2}))
    assert said in str(caught.value) and "\n" not in str(caught.value)
    assert {path: path.read_bytes() for path in before} == before
