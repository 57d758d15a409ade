"""Every program works with tasks and modules of a user's own: see own_problem.py."""

import json
import pathlib
import random
import re

import numpy as np
import pytest
from test_distribution import assert_same_epoch
from tiny_run import lines, without_timings

import lrn_tf

pytestmark = pytest.mark.slow

HERE = pathlib.Path(__file__).resolve().parent
POOL = f"--pool={HERE}/own_problem.py:pool"
OWN = (f"--benchmark={HERE}/own_problem.py:tasks", POOL)
SMALL = (
    *("--dup=2", "--depth=3", "--d_model=8", "--actor=pointer", "--batch_size=32", "--minibatch_size=16"),
    "--imitation=4",  # it is stopped, and shared by devices, while its router imitates and after that
)


@pytest.fixture(scope="module")
def trained(forked, tmp_path_factory):
    """The folder of a run, "run", and of its exported model, "model"."""
    folder = tmp_path_factory.mktemp("own")
    end, _, errors = main(forked, folder, "--workdir=run", "--export_dir=model")
    assert end == 0, errors
    return folder


def main(forked, folder, *more, own=OWN):
    return forked(
        "lrn_tf.main", [*own, *SMALL, "--epochs=2", "--pictures_every=0", *more], folder, longest=300
    )


def test_training_says_what_it_measures(trained):
    last = lines(trained / "run")[-1]
    assert set(last["eval_accuracy_per_task"]) == {"bright", "digit of ten"}
    assert set(last["eval_mae_per_task"]) == set(last["eval_r2_per_task"]) == {"sum"}


def test_a_run_that_was_stopped_continues_to_the_same_end(forked, trained, tmp_path):
    """Also where tasks and pool have been moved meanwhile."""
    (tmp_path / "moved.py").write_text((HERE / "own_problem.py").read_text())
    moved = ("--benchmark=moved.py:tasks", "--pool=moved.py:pool")
    for own, *more in ((OWN, "--max_steps=3"), (moved,)):
        end, _, errors = main(forked, tmp_path, "--workdir=run", *more, own=own)
        assert end == 0, errors
    assert without_timings(tmp_path / "run") == without_timings(trained / "run")


def test_two_devices_share_each_batch(forked, trained, tmp_path):
    end, _, errors = forked(
        "lrn_tf.main",
        [*OWN, *SMALL, "--epochs=2", "--pictures_every=0", "--workdir=run", "--distribute=mirrored"],
        tmp_path,
        longest=300,
        devices=2,
    )
    assert end == 0, errors
    assert "2 share each batch" in errors
    for ours, theirs in zip(lines(tmp_path / "run"), lines(trained / "run"), strict=True):
        assert_same_epoch(ours, theirs)


@pytest.mark.parametrize(
    "own, said",
    [
        ((f"--benchmark={HERE}/own_problem.py:raises", POOL), "RuntimeError: no luck"),
        ((f"--benchmark={HERE}/own_problem.py:not_tasks", POOL), "lrn_tf.Task"),
        ((OWN[0], f"--pool={HERE}/own_problem.py:not_tasks"), "not_tasks"),
        ((OWN[0], f"--pool={HERE}/own_problem.py:nothing"), "it has"),
        ((OWN[0], f"--pool={HERE}/nowhere.py:pool"), "there is no file"),
        ((OWN[0], "--pool=paper"), "needs images of one size"),
    ],
)
def test_what_does_not_fit_gets_one_line(forked, tmp_path, own, said):
    end, _, errors = main(forked, tmp_path, "--workdir=run", own=own)
    assert end == 2 and said in errors.splitlines()[-1], errors
    assert "Traceback" not in errors
    assert not (tmp_path / "run").exists()


def test_a_run_goes_on_with_the_pool_and_the_tasks_that_made_it(forked, tmp_path):
    own = ("--benchmark=mine.py:tasks", "--pool=mine.py:pool")
    mine, code = tmp_path / "mine.py", (HERE / "own_problem.py").read_text()
    mine.write_text(code)
    end, _, errors = main(forked, tmp_path, "--workdir=run", "--max_steps=1", "--pictures_every=0", own=own)
    assert end == 0, errors
    for change, said in (
        (("dense(8), dup)", "dense(8), dup + 1)"), "of_row"),
        (('["total"]', '["whole"]'), "answers of task sum"),
    ):
        assert change[0] in code
        mine.write_text(code.replace(*change))
        end, _, errors = main(forked, tmp_path, "--workdir=run", own=own)
        assert end == 2 and said in errors.splitlines()[-1] and "Traceback" not in errors, errors


def test_a_model_answers_in_the_terms_of_each_task(trained):
    import own_problem

    bright, digit, total = own_problem.tasks()
    model = lrn_tf.load(str(trained / "model"))
    answer = model({"images": bright.x[:3], "rows": total.x[:3]}, ["bright", "digit of ten", "sum"])
    assert answer["class_name"][0] in ("no", "yes") and answer["class_name"][1] in "01234"
    assert answer["class_name"][2] == "" and answer["class"][2] == -1
    np.testing.assert_allclose(answer["probabilities"].sum(axis=1), [1, 1, 0], rtol=1e-5)
    assert answer["numbers"][2, 0] != 0 and (answer["numbers"][:2] == 0).all()
    names = [[name.split(".")[0] for name in path if name] for path in answer["path_names"]]
    assert [path[0] for path in names] == ["of_image", "of_image", "of_row"]
    assert [path[-1] for path in names] == ["out_2", "out_5", "out_1"]
    with pytest.raises(ValueError, match="need an array for each"):
        model(bright.x[:2], ["bright", "sum"])


def test_the_run_itself_answers_as_the_model_does(forked, trained, tmp_path):
    import own_problem

    model = lrn_tf.load(str(trained / "model"))
    run = lrn_tf.load(str(trained / "run"), POOL.removeprefix("--pool="))
    x = own_problem.tasks()[2].x[:4]
    np.testing.assert_allclose(model(x, ["sum"] * 4)["numbers"], run(x, ["sum"] * 4)["numbers"], rtol=1e-5)
    with pytest.raises(ValueError, match="give it with --pool"):
        lrn_tf.load(str(trained / "run"))


def test_predict(forked, trained, tmp_path):
    import own_problem

    np.savetxt(tmp_path / "rows.csv", own_problem.tasks()[2].x[:3], delimiter=",")
    given = ["--model", str(trained / "model"), "--task=sum", "--json", "rows.csv"]
    end, said, errors = forked("lrn_tf.predict", given, tmp_path)
    assert end == 0, errors
    rows = [json.loads(line) for line in said.splitlines()]
    assert [row["file"] for row in rows] == ["rows.csv:0", "rows.csv:1", "rows.csv:2"]
    assert all(set(row["numbers"]) == {"total"} for row in rows)


def test_report_and_compare(forked, trained, tmp_path):
    given = ["--workdir", str(trained / "run"), "--output=page", POOL, OWN[0]]
    end, _, errors = forked("lrn_tf.report", given, tmp_path, longest=120)
    assert end == 0, errors
    page = (tmp_path / "page" / "index.html").read_text()
    assert "R2 of sum" in page and "mean absolute error" in page and "digit of ten" in page
    end, said, errors = forked("lrn_tf.compare", [str(trained / "run"), "--output=curves"], tmp_path)
    assert end == 0, errors
    assert (tmp_path / "curves" / "curves.png").exists()


def test_soak_kills_a_run_and_finds_that_it_ends_as_if_it_had_not_been(forked, tmp_path, record_property):
    soak = HERE.parent / "tools" / "soak.py"
    # Without a router, which takes most of the time: that an LRN continues to the same end is seen above.
    method = ("--method=unrouted", "--paths=random", "--dup=2", "--depth=3", "--batch_size=32")
    given = [*OWN, *method, "--epochs=2", "--pictures_every=0", "--kills=1", "--output=soak"]
    end, said, errors = forked(soak, given, tmp_path, longest=300)
    assert end == 0, (said, errors)
    assert len(re.findall(r"^killed after", said, re.MULTILINE)) == 1
    ends = re.findall(r"^finished: (\d+) of (\d+) tensors the same .* metrics (.*)$", said, re.M)
    assert ends and all(same == of and int(of) > 10 and how == "the same" for same, of, how in ends)
    last = f"1 kills, {len(ends)} runs finished, 0 of them different from the undisturbed one"
    assert said.splitlines()[-1] == last
    record_property("kills", 1)


def test_numbers_are_all_that_is_asked(tmp_path):
    rows = np.random.default_rng(0).normal(size=(80, 3))
    given = dict(dup=1, depth=2, d_model=4, batch_size=32, minibatch_size=32, epochs=1, actor="pointer")
    model = lrn_tf.train([lrn_tf.Task("sum", rows, rows.sum(axis=1))], "mixed", **given)
    (line,) = model.epochs
    assert line.eval_accuracy is None and line.eval_r2_per_task.keys() == {"sum"}


def test_a_benchmark_by_its_name_has_its_pool(monkeypatch):
    """Where none is given, as with flags. And training leaves what draws at random as it was."""
    asked = []
    random.seed(7), np.random.seed(7)
    expected = [random.random(), np.random.random()]
    random.seed(7), np.random.seed(7)

    def draw(*given):
        random.random(), np.random.random()
        asked.append(given)
        raise ZeroDivisionError

    monkeypatch.setattr("lrn_tf.training.train.run", draw)
    with pytest.raises(ZeroDivisionError):
        lrn_tf.train("mixed_mtl")
    ((settings, source, kinds),) = asked
    assert (settings.pool, source, kinds) == ("mixed", None, None)
    assert [random.random(), np.random.random()] == expected


def test_the_cache_cannot_be_left_when_it_is_in_use():
    with pytest.raises(lrn_tf.UserError, match="cache=False comes too late"):
        lrn_tf.train("digits_mtl", cache=False)


def test_there_must_be_images_to_change(tmp_path):
    rows = lrn_tf.Task("t", np.random.default_rng(0).normal(size=(40, 3)), np.arange(40) % 2)
    with pytest.raises(lrn_tf.UserError, match="--augment=flip has no images to change"):
        lrn_tf.train([rows], "mixed", workdir=str(tmp_path / "run"), augment="flip")
    tiny = lrn_tf.Task("t", np.zeros((40, 7, 7, 1), np.uint8), np.arange(40) % 2)
    with pytest.raises(lrn_tf.UserError, match="--augment=shift has no images to change"):
        lrn_tf.train([tiny], "mixed", workdir=str(tmp_path / "run"), augment="shift")
    rng = np.random.default_rng(0)
    words = lrn_tf.Task("w", rng.integers(0, 9, (40, 3)), rng.normal(size=40))
    for setting in ("mixup", "label_smoothing"):
        with pytest.raises(lrn_tf.UserError, match=f"--{setting}=0.1 has no .*; leave it out"):
            lrn_tf.train([words], "mixed", workdir=str(tmp_path / "run"), **{setting: 0.1})
    with pytest.raises(lrn_tf.UserError, match="--core=1 has no kind of several modules; raise --dup"):
        lrn_tf.train([words], "mixed", workdir=str(tmp_path / "run"), core=1, dup=1, depth=3)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "given, said",
    [
        (dict(epoch=3), "^there is no setting 'epoch'; is it 'epochs'\\?$"),
        (dict(epochs="3"), "^--epochs is str; give a whole number$"),
        (dict(benchmark="digits_mtl"), "^benchmark is what the tasks are; give the one or the others"),
        (
            dict(method="unrouted"),
            "^method=unrouted makes no LRN; choose one of: lrn, random_route, or",
        ),
    ],
)
def test_what_train_does_not_take(given, said, tmp_path):
    with pytest.raises(lrn_tf.UserError, match=said):
        lrn_tf.train([], "mixed", workdir=tmp_path / "run", **given)


def test_from_python(tmp_path, capsys):
    import own_problem

    model = lrn_tf.train(
        own_problem.tasks(),
        own_problem.pool,
        workdir=tmp_path / "run",
        dup=np.int64(2),
        depth=3,
        d_model=8,
        actor="pointer",
        batch_size=32,
        minibatch_size=16,
        learning_rate=np.float32(1e-3),
        epochs=1,
        pictures_every=0,
    )
    assert model.epochs[-1].eval_r2_per_task.keys() == {"sum"}
    evaluation = lrn_tf.evaluate(tmp_path / "run", own_problem.tasks(), own_problem.pool)
    assert evaluation.metrics()["eval_loss"] == pytest.approx(model.epochs[-1].eval_loss, rel=1e-5)
    assert evaluation.paths.shape == (len(evaluation.task), 3) and set(evaluation.task) == {0, 1, 2}
    said = "made by python:{0}, which a run does not start .*, or in Python as {0}="
    with pytest.raises(lrn_tf.UserError, match=said.format("tasks")):
        lrn_tf.evaluate(model.workdir, pool=own_problem.pool)
    with pytest.raises(lrn_tf.UserError, match=said.format("pool")):
        lrn_tf.evaluate(model.workdir, own_problem.tasks())
    with pytest.raises(lrn_tf.UserError, match="no longer those that .* has learned: there is no task sum"):
        lrn_tf.evaluate(model.workdir, own_problem.tasks()[:2], own_problem.pool)
    assert "share output modules" not in capsys.readouterr().err
    bright = own_problem.tasks()[0]
    answers = model({"images": bright.x[:2], "rows": np.zeros((2, 3), np.float32)}, ["bright", 1]).numpy()
    np.testing.assert_allclose(answers.sum(axis=1), 1, rtol=1e-5)
    model.save(tmp_path / "model.keras")
    import keras

    again = keras.saving.load_model(tmp_path / "model.keras")
    given = {"images": bright.x[:5], "rows": np.zeros((5, 3), np.float32)}
    np.testing.assert_array_equal(again(given, [0, 1, 0, 1, 0]), model(given, [0, 1, 0, 1, 0]))
    with pytest.raises(ValueError, match="task 'dark' is unknown"):
        model(given, ["dark"] * 5)
