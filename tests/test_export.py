"""Exported models: they answer as the trainer does, where nothing of lrn_tf is installed."""

import contextlib
import dataclasses
import errno
import functools
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import types

import keras
import numpy as np
import pytest
import tensorflow as tf
from made_runs import MIXED, ONLY_NUMBERS, make_run
from tiny_run import contents

import lrn_tf
from lrn_tf.data.benchmarks import benchmark_of
from lrn_tf.data.examples import DeviceExamples
from lrn_tf.data.images import resize
from lrn_tf.data.problem import CLASSES, LABELS, NUMBERS, InputSpec, Problem, TaskSpec
from lrn_tf.errors import UserError
from lrn_tf.main import train
from lrn_tf.methods.build import build
from lrn_tf.methods.restore import restore_method
from lrn_tf.serving import export as export_module
from lrn_tf.serving import operations
from lrn_tf.serving.card import CARD
from lrn_tf.serving.export import export
from lrn_tf.serving.served import Served
from lrn_tf.settings.resolve import resolve
from lrn_tf.storage import files
from lrn_tf.storage.runs import read

pytestmark = pytest.mark.slow

METHODS = ("lrn", "routing", "cross_stitch")
# Exported in no time, where it does not matter what is exported.
QUICK = "cross_stitch"
SMALL = dict(epochs=2, examples=2560, image_size=10, pictures_every=0)
LRN = dict(dup=2, depth=3, d_model=16, actor="pointer")
DATA = benchmark_of(resolve(SMALL))
TASKS, NAMES = DATA.test.task, DATA.problem.task_names
IMAGES = DATA.test.inputs[0]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """By method, the folders of a short run and of the model that it exported."""
    made = {}

    def train_once(method):
        if method not in made:
            folder = tmp_path_factory.mktemp(method)
            made[method] = folder / "run", folder / "model"
            given = dict(method=method, workdir=str(folder / "run"), export_dir=str(folder / "model"))
            train(resolve({**SMALL, **(LRN if method == "lrn" else {}), **given}))
        return made[method]

    return train_once


@pytest.fixture(scope="module")
def load_model(trained):
    """Loads the model of a method, once."""
    return functools.cache(lambda method: lrn_tf.load(str(trained(method)[1])))


def answers(method, trained):
    """What the trainer's evaluation sees on the test set: logits, paths and accuracy."""
    run = read(str(trained(method)[0]))
    return predicted(run, DATA), run.lines[-1].eval_accuracy


def predicted(run, data):
    """What a run's method predicts of all test examples."""
    inputs, tasks, _ = DeviceExamples(data.test, data.problem).batch(tf.range(len(data.test)))
    return tf.function(restore_method(run)[0].predict, autograph=False)(inputs, tasks)


# Loads models where neither the package nor Keras can be imported, and calls them in batches of some size.
FOREIGN = """
import sys
for name in ("lrn_tf", "keras", "keras_nlp", "keras_hub", "tensorflow_datasets"):
    sys.modules[name] = None
import numpy as np, tensorflow as tf
tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})  # which takes longer
sizes = 1, 100, 1024
for folder in sys.argv[1:]:
    model, answers, given = tf.saved_model.load(folder), [], dict(np.load(folder + ".given.npz"))
    for size in sizes:
        rows = range(0, len(given["tasks"]), size) if size > 1 else range(3)
        for i in rows:
            batch = {name: tf.constant(x[i : i + size]) for name, x in given.items()}
            answer = model.signatures["serving_default"](**batch)
            answer = {name: value.numpy() for name, value in answer.items()}
            text = {name: value.astype(bytes) for name, value in answer.items() if value.dtype == object}
            answers.append((size, answer | text))
    found = {f"{name}_{size}": np.concatenate([a[name] for s, a in answers if s == size])
        for size in sizes for name in answers[0][1]}
    np.savez(folder + ".npz", **found)
"""


@pytest.fixture(scope="module")
def of_mixed(mixed_run):
    """A run on tasks of every form, with every kind of input, and its examples."""
    benchmark = benchmark_of(resolve({"benchmark": f"{mixed_run}/tasks.py:tasks"}))
    return mixed_run, benchmark, read(str(mixed_run / "run"))


@pytest.fixture(scope="module")
def mixed_model(of_mixed):
    return lrn_tf.load(str(of_mixed[0] / "model"))


def given_to(data):
    """The test examples as a model takes them; what an example does not bring is noise."""
    problem, test, rng = data.problem, data.test, np.random.default_rng(0)
    given = {}
    for number, (spec, array) in enumerate(zip(problem.inputs, test.inputs, strict=True)):
        mine = np.array(problem.input_of)[test.task] == number
        given[spec.name] = array[np.where(mine, test.row, 0)]
        if spec.dtype == "float32":
            given[spec.name][~mine] = rng.choice([np.nan, np.inf, -1e30], given[spec.name][~mine].shape)
        else:
            given[spec.name][~mine] = rng.integers(0, 255, given[spec.name][~mine].shape)
    return given


@pytest.fixture(scope="module")
def answers_elsewhere(trained, of_mixed, tmp_path_factory):
    """By method, what its model answers in another process, which knows nothing of lrn_tf."""
    folder = tmp_path_factory.mktemp("elsewhere")
    for method in METHODS:
        np.savez(folder / f"{method}.given.npz", images=IMAGES[DATA.test.row], tasks=TASKS)
        (folder / method).symlink_to(trained(method)[1])
    mixed_folder, data, _ = of_mixed
    np.savez(folder / "mixed.given.npz", **given_to(data), tasks=data.test.task)
    (folder / "mixed").symlink_to(mixed_folder / "model")
    names = [*METHODS, "mixed"]
    done = subprocess.run(
        [sys.executable, "-I", "-c", FOREIGN, *(str(folder / name) for name in names)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return {name: dict(np.load(folder / f"{name}.npz")) for name in names}


@pytest.mark.parametrize("method", METHODS)
def test_a_model_answers_as_the_trainer_does_where_nothing_is_installed(method, trained, answers_elsewhere):
    expected, accuracy = answers(method, trained)
    found = answers_elsewhere[method]
    probabilities = tf.nn.softmax(expected.logits).numpy()
    classes = expected.logits.numpy().argmax(axis=1)
    for size in (1, 100, 1024):
        count = len(found[f"class_{size}"])
        assert count == (3 if size == 1 else len(TASKS))
        np.testing.assert_allclose(found[f"probabilities_{size}"], probabilities[:count], atol=1e-5)
        np.testing.assert_array_equal(found[f"class_{size}"], classes[:count])
        names = [DATA.problem.answers[k][c].encode() for k, c in zip(TASKS, classes[:count], strict=False)]
        assert found[f"class_name_{size}"].tolist() == names
        if method != "cross_stitch":
            np.testing.assert_array_equal(found[f"path_{size}"], expected.paths[:count])
            confidence = np.exp(expected.log_policy[:count])
            np.testing.assert_allclose(found[f"confidence_{size}"], confidence, rtol=1e-3)
    right = found["class_1024"] == DATA.test.target
    assert right.mean() == pytest.approx(accuracy, abs=1e-9)


def by_form(data, logits):
    """What a model answers, by hand: of each form what there is to say, and 0 or nothing for the others."""
    size, width = logits.shape
    found = {name: np.zeros((size, width)) for name in ("probabilities", "numbers", "labels")}
    found |= {"class": np.full(size, -1), "class_name": np.full(size, b"", object)}
    for i, k in enumerate(data.test.task):
        task, x = data.problem.tasks[k], logits[i, : data.problem.tasks[k].width].astype(np.float64)
        if task.form == CLASSES:
            found["probabilities"][i, : task.width] = np.exp(x) / np.exp(x).sum()
            found["class"][i], found["class_name"][i] = x.argmax(), task.answers[x.argmax()].encode()
        elif task.form == NUMBERS:
            found["numbers"][i, : task.width] = x * task.std + task.mean
        else:
            found["labels"][i, : task.width] = 1 / (1 + np.exp(-x))
    return found


def test_a_model_of_several_inputs_answers_as_the_method_does(of_mixed, answers_elsewhere):
    """Also where rows of inputs that an example does not bring are no numbers, or no tokens."""
    _, data, run = of_mixed
    prediction, found = predicted(run, data), answers_elsewhere["mixed"]
    assert {task.form for task in data.problem.tasks} == {CLASSES, NUMBERS, LABELS}
    expected = by_form(data, prediction.logits.numpy())
    for size in (1, 100, 1024):
        count = 3 if size == 1 else len(data.test)
        for name in ("probabilities", "numbers", "labels"):
            np.testing.assert_allclose(
                found[f"{name}_{size}"], expected[name][:count], rtol=1e-4, atol=1e-4, err_msg=name
            )
        for name in ("class", "class_name"):
            assert found[f"{name}_{size}"].tolist() == expected[name][:count].tolist()
        np.testing.assert_array_equal(found[f"path_{size}"], prediction.paths[:count])
    rated = np.isin(data.test.task, [k for k, t in enumerate(data.problem.tasks) if t.form == CLASSES])
    last = run.lines[-1].eval_accuracy_per_task
    for k in np.unique(data.test.task[rated]):
        mine = data.test.task == k
        right = (found["class_1024"][mine] == data.test.target[mine, 0]).mean()
        assert right == pytest.approx(last[data.problem.task_names[k]])


def assert_alike(found, expected):
    """Answers by name: numbers but for rounding, all else exactly."""
    assert found.keys() == expected.keys()
    for name, values in found.items():
        if values.dtype.kind == "f":
            np.testing.assert_allclose(values, expected[name], rtol=1e-4, atol=1e-4)
        else:
            np.testing.assert_array_equal(values, expected[name])


def test_a_model_of_several_inputs_in_python(of_mixed, mixed_model, answers_elsewhere):
    _, data, _ = of_mixed
    elsewhere, names = answers_elsewhere["mixed"], data.problem.task_names
    given, tasks = given_to(data), [names[k] for k in data.test.task]
    answer = mixed_model(given, tasks)
    for name in ("probabilities", "numbers", "labels", "path"):
        np.testing.assert_allclose(answer[name], elsewhere[f"{name}_1024"], rtol=1e-4, atol=1e-4)
    # Of one input only, it need not be named, nor need the others be there.
    for k, task in enumerate(data.problem.tasks):
        mine = data.test.task == k
        assert mixed_model.input_of(task.name).name == task.input
        array = given[task.input][mine]
        for inputs in (array, {task.input: array}):
            alone = mixed_model(inputs, [task.name] * len(array))
            assert_alike(alone, {name: values[mine] for name, values in answer.items()})
    # However many are answered at once.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lrn_tf.serving.model.MANY", 7)
        assert_alike(mixed_model(given, tasks), answer)
    run = lrn_tf.load(str(of_mixed[0] / "run"))
    np.testing.assert_allclose(run(given, tasks)["numbers"], answer["numbers"], rtol=1e-4, atol=1e-4)


def test_what_no_example_can_be_is_refused(mixed_model):
    images, rows = np.zeros((2, 6, 5, 1), np.uint8), np.zeros((2, 3), np.float32)
    tokens = np.zeros((2, 4), np.int32)
    wrong = [
        (images, ["light", "sums"], "tasks with the inputs images, rows need an array for each"),
        ({"images": images}, ["light", "sums"], "rows is missing, which one of the tasks needs"),
        ({"image": images}, ["light"] * 2, "input 'image' is unknown; known are images, rows, tokens"),
        (rows * np.nan, ["sums"] * 2, "rows has NaN or infinite numbers; mend or drop them"),
        (rows[:, :2], ["sums"] * 2, r"rows must be float32 \[B, 3\], given float32 \[2, 2\]"),
        (tokens, ["sums"] * 2, r"rows must be float32 \[B, 3\], given int32 \[2, 4\]"),
        (tokens + 9, ["words"] * 2, "tokens has tokens beyond those in training, 0 to 8"),
        (tokens - 1, ["words"] * 2, "tokens has tokens beyond those in training, 0 to 8"),
        (
            tokens.astype(np.int64) + 2**32,
            ["words"] * 2,
            "tokens has tokens beyond those in training, 0 to 8",
        ),
        (rows.astype(float) + 1e300, ["sums"] * 2, "rows has NaN or infinite numbers; mend or drop them"),
        (tokens.astype(float), ["words"] * 2, r"tokens must be int32 \[B, 4\], given float64"),
        (rows, ["sums"], "each example needs a task, given are 2 rows and 1 tasks"),
        (rows, [1, 4], "task 4 is unknown; known are light, sums, words, sign"),
        (rows, [1.0, 1.0], "task 1.0 is unknown; known are light, sums, words, sign"),
        (rows, [True, True], "task True is unknown; known are light, sums, words, sign"),
        (images[:, :0], ["light"] * 2, "images must be uint8"),
        (rows[:0], [], "there are no examples; give one at least"),
        (images[..., 0], [0, 0], r"images must be uint8 \[B, h, w, 1\], given uint8 \[2, 6, 5\]"),
    ]
    for inputs, tasks, said in wrong:
        with pytest.raises(ValueError, match=said):
            mixed_model(inputs, tasks)
    assert mixed_model(rows.astype(np.float64), [1, 3])["numbers"].shape == (2, 3)
    for other in (np.int64, np.uint8):
        assert mixed_model(tokens.astype(other), ["words"] * 2)["labels"].shape == (2, 3)


def test_paths_of_other_inputs_are_refused(of_mixed, mixed_model):
    """A path is one of a task: of its input, and to its label space."""
    _, data, run = of_mixed
    given, tasks = given_to(data), data.test.task
    rows = [int(np.flatnonzero(tasks == k)[0]) for k in range(4)]
    some = {name: tf.constant(np.nan_to_num(x[rows])) for name, x in given.items()}
    some["tokens"] = tf.constant(np.minimum(some["tokens"], 8))
    paths = mixed_model.signatures["routes"](**some, tasks=tf.range(4))["path"].numpy()
    follow = functools.partial(mixed_model.signatures["forward_path"], **some, tasks=tf.range(4))
    np.testing.assert_allclose(
        follow(path=tf.constant(paths))["numbers"],
        mixed_model({name: x.numpy() for name, x in some.items()}, range(4))["numbers"],
        rtol=1e-4,
        atol=1e-4,
    )
    for of in ([1, 0, 2, 3], [0, 3, 2, 1], [2, 1, 0, 3]):
        with pytest.raises(tf.errors.InvalidArgumentError, match="no network for its task"):
            follow(path=tf.constant(paths[of]))


def test_names_of_a_path_are_those_of_its_modules(load_model):
    model = load_model("lrn")
    answer = model(IMAGES[:20], TASKS[:20])
    names = [
        f"{kind}.{i}"
        for kind in ("conv_in", "conv", "flat_fc", "fc", "flat_out", "fc_out")
        for i in range(LRN["dup"])
    ]
    names = np.array([*names, ""])
    np.testing.assert_array_equal(answer["path_names"], names[answer["path"]])


@pytest.mark.parametrize("method", METHODS)
def test_a_run_and_its_export_load_alike(method, trained, load_model):
    run, model = lrn_tf.load(str(trained(method)[0])), load_model(method)
    assert run.tasks == model.tasks == list(NAMES)
    assert run.problem == model.problem == DATA.problem
    images = IMAGES[:50]
    by_number = model(images, TASKS[:50])
    for other in (run(images, TASKS[:50]), model({"images": images}, [NAMES[k] for k in TASKS[:50]])):
        assert other.keys() == by_number.keys()
        for name, values in other.items():
            if values.dtype.kind == "f":
                np.testing.assert_allclose(values, by_number[name], atol=1e-6)
            else:
                np.testing.assert_array_equal(values, by_number[name])


@pytest.mark.parametrize("size", [(8, 8), (30, 17), (64, 64)])
def test_images_of_any_size_are_resized_inside(size, load_model):
    model = load_model("lrn")
    images = np.random.default_rng(0).integers(0, 256, (9, *size, 1)).astype(np.uint8)
    before = resize(images, (10, 10)).numpy()
    for name, values in model(images, TASKS[:9]).items():
        np.testing.assert_array_equal(values, model(before, TASKS[:9])[name])
    # And what has the network's size is left alone.
    np.testing.assert_array_equal(resize(before, (10, 10)), before)


def test_signatures_for_names_routes_and_paths(load_model):
    model = load_model("lrn").signatures
    images, tasks = tf.constant(IMAGES[:40]), tf.constant(TASKS[:40])
    plain = model["serving_default"](images=images, tasks=tasks)
    named = model["by_task_name"](images=images, task_names=tf.gather(list(NAMES), tasks))
    for name, value in plain.items():
        np.testing.assert_array_equal(named[name], value)
    routes = model["routes"](images=images, tasks=tasks)
    assert set(routes) == {"path", "path_names", "confidence"}
    np.testing.assert_array_equal(routes["path"], plain["path"])
    followed = model["forward_path"](images=images, tasks=tasks, path=routes["path"])
    np.testing.assert_allclose(followed["probabilities"], plain["probabilities"], atol=1e-6)
    # Networks that begin with another module give other answers.
    path = routes["path"].numpy()
    path[:, 0] = (path[:, 0] + 1) % LRN["dup"]
    other = model["forward_path"](images=images, tasks=tasks, path=tf.constant(path))
    assert np.abs(other["probabilities"] - plain["probabilities"]).max() > 1e-3


def test_a_block_of_each_layer_can_be_chosen_in_a_routing_network(load_model):
    model = load_model("routing").signatures
    images, tasks = tf.constant(IMAGES[:40]), tf.constant(TASKS[:40])
    plain = model["serving_default"](images=images, tasks=tasks)
    followed = model["forward_path"](images=images, tasks=tasks, path=plain["path"])
    np.testing.assert_allclose(followed["probabilities"], plain["probabilities"], atol=1e-6)
    with pytest.raises(tf.errors.InvalidArgumentError, match="not one block of each layer"):
        model["forward_path"](images=images[:1], tasks=tasks[:1], path=[[0, 1, 2]])


@pytest.mark.parametrize(
    "path",
    [[0, 0, 0], [0, 0, 8], [0, 4, 12], [12, 0, 8], [0, 8, 4], [-1, 8, 12], [0, 99, 12]],
)
def test_a_path_that_is_no_network_is_refused(path, load_model):
    model = load_model("lrn").signatures
    legal = [0, 8, 12]  # conv_in, flat_out
    images, tasks = tf.constant(IMAGES[:2]), tf.constant([3, 4])
    model["forward_path"](images=images, tasks=tasks, path=[legal, legal])
    with pytest.raises(tf.errors.InvalidArgumentError, match="no network for its task"):
        model["forward_path"](images=images, tasks=tasks, path=[legal, path])
    for wrong in (-1, 10):
        with pytest.raises(tf.errors.InvalidArgumentError, match="tasks are numbered from 0 to"):
            model["forward_path"](images=images, tasks=[3, wrong], path=[legal, legal])


def test_unknown_tasks_are_refused(load_model):
    model = load_model("lrn")
    images = IMAGES[:1]
    for task in (-1, 10, "digit x"):
        with pytest.raises(ValueError, match=f"task {task!r} is unknown; known are digit 0, digit 1"):
            model(images, [task])
    with pytest.raises(tf.errors.InvalidArgumentError, match="unknown task names"):
        model.signatures["by_task_name"](images=tf.constant(images), task_names=tf.constant(["x"]))
    with pytest.raises(tf.errors.InvalidArgumentError, match="tasks are numbered from 0 to"):
        model.signatures["serving_default"](images=tf.constant(images), tasks=tf.constant([10]))
    with pytest.raises(ValueError, match="each example needs a task, given are 1 images and 2 tasks"):
        model(images, [0, 1])
    with pytest.raises(ValueError, match=r"each example needs a task, given is '3'; give a list"):
        model(images, "3")
    for wrong in (images.astype(np.float32), images[0], np.repeat(images, 3, axis=3)):
        with pytest.raises(ValueError, match=r"images must be uint8 \[B, h, w, 1\], given"):
            model(wrong, [0])


def test_saved_model_cli_shows_and_runs_it(trained, load_model, forked, tmp_path):
    folder = str(trained("lrn")[1])
    cli = shutil.which("saved_model_cli", path=os.path.dirname(sys.executable))

    def call(*arguments):
        code, out, err = forked(cli, arguments, tmp_path)
        assert code == 0, err[-2000:]
        return out

    shown = call("show", "--dir", folder, "--tag_set", "serve", "--signature_def", "serving_default")
    for line in (
        "inputs['images'] tensor_info",
        "dtype: DT_UINT8",
        "shape: (-1, -1, -1, 1)",
        "outputs['class_name']",
    ):
        assert line in shown
    np.savez(tmp_path / "in.npz", images=IMAGES[:5], tasks=TASKS[:5])
    inputs = f"images={tmp_path}/in.npz[images];tasks={tmp_path}/in.npz[tasks]"
    options = ("--tag_set", "serve", "--signature_def", "serving_default", "--inputs", inputs)
    call("run", "--dir", folder, *options, "--outdir", str(tmp_path / "out"))
    answer = load_model("lrn")(IMAGES[:5], TASKS[:5])
    np.testing.assert_array_equal(np.load(tmp_path / "out" / "path.npy"), answer["path"])
    np.testing.assert_allclose(
        np.load(tmp_path / "out" / "probabilities.npy"), answer["probabilities"], atol=1e-6
    )


def test_the_card_says_what_the_model_is(trained):
    run, model = trained("lrn")
    card = json.loads((model / "lrn_tf.json").read_text())
    last = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    assert card["results"]["eval_accuracy"] == last["eval_accuracy"]
    text = (model / "README.md").read_text()
    accuracy = f"**Accuracy {last['eval_accuracy']:.2%}** on 3,590 test examples"
    assert f"{accuracy}, measured after 40 steps, epoch 2;" in text
    assert "| 3 | digit 3 |" in text and "- **dup 2**" in text and "- batch_size 128" in text
    assert "| `forward_path` | images uint8 [B, any, any, 1], path int32 [B, 3], tasks int32 [B] |" in text
    assert (
        "- `images`: images, uint8 of any size with 1 channel, 0 to 255; they are resized to 10x10" in text
    )
    called = {}
    exec(text.split("```python\n")[1].split("```")[0].replace("this folder", str(model)), called)
    assert called["answer"]["probabilities"].shape == (2, 2)
    # Weights only: nothing of the optimizer's.
    saved = sum(path.stat().st_size for path in (model / "variables").iterdir())
    assert saved < 1.2 * 4 * card["about"]["parameters"] + 1e5


def test_the_card_of_weights_that_were_never_evaluated(trained):
    run = read(str(trained("lrn")[0]))
    card = export_module.describe(run, 300)
    assert (card["step"], card["results"]["step"]) == (300, 40)
    earlier = export_module.describe(run, 20)
    assert earlier["results"]["eval_accuracy"] == run.lines[0].eval_accuracy


def test_the_card_of_a_run_with_validation(tmp_path):
    pictures = "/home/me/pictures"  # as preset as any benchmark
    given = dict(validation=0.1, init_from="/home/me/runs/a", data_dir="/home/me/data", benchmark=pictures)
    run = make_run(tmp_path / "run", [0.5], **given)
    card = export_module.describe(read(run), 10)
    assert (card["results"]["split"], card["results"]["eval_accuracy"]) == ("validation", 0.5)
    text = export_module.readme(card, types.SimpleNamespace(interface={}))
    assert "**Accuracy 50.00%** on 9 held-out training examples, measured after 10 steps, epoch 1" in text
    assert "- **init_from a**" in text and "- **benchmark pictures**" in text
    assert "/home/me" not in text + json.dumps(card)


def test_the_card_of_tasks_of_any_form(tmp_path):
    tasks = (*MIXED.tasks, TaskSpec("a|b\n\x1b", "rows", CLASSES, ("x|y", "z")))
    odd = dataclasses.replace(MIXED, tasks=tasks)
    card = export_module.describe(read(make_run(tmp_path / "run", [0.5], problem=odd)), 10)
    text = export_module.readme(card, types.SimpleNamespace(interface={}))
    for line in (
        "| 0 | left | images | accuracy 50.0% | no, yes, perhaps |",
        "| 1 | size | rows | mean absolute error 1.75, R2 -0.50 | height, width |",
        "| 2 | topics | tokens | 25.0% of labels right | art, sports, politics |",
        r"| 3 | a\|b\n\x1b | rows | accuracy 25.0% | x\|y, z |",
        "- `images`: images, uint8 of any size with 1 channel, 0 to 255; they are resized to 4x4 and"
        " standardised inside.",
        "- `rows`: float32 3, standardised inside.",
        "- `tokens`: tokens, int32 from 0 to 10, 6 of them.",
        '    tokens=tf.zeros([2, 6], "int32"),',
        "    task_names=tf.constant(['left', 'size']),",
    ):
        assert line in text.splitlines()
    card = export_module.describe(read(make_run(tmp_path / "other", [None], problem=ONLY_NUMBERS)), 10)
    assert card["results"]["eval_accuracy"] is None
    assert "**Loss 1.250** on 9 test examples" in export_module.readme(
        card, types.SimpleNamespace(interface={})
    )


def test_loading_leaves_keras_as_it_was(trained):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        lrn_tf.load(str(trained("lrn")[0]))
        assert keras.config.dtype_policy().name == "mixed_bfloat16"
    finally:
        keras.config.set_dtype_policy("float32")


def test_a_link_to_a_model_stays_a_link(trained, tmp_path):
    shutil.copytree(trained("routing")[1], tmp_path / "model")
    (tmp_path / "current").symlink_to("model")
    export(str(trained(QUICK)[0]), str(tmp_path / "current"))
    assert (tmp_path / "current").is_symlink()
    assert json.loads((tmp_path / "model" / "lrn_tf.json").read_text())["settings"]["method"] == QUICK
    assert sorted(path.name for path in tmp_path.iterdir()) == ["current", "model"]


@pytest.mark.parametrize("moment", ["save", "describe", "readme", "CDLL"])
def test_a_kill_leaves_the_old_model(moment, trained, tmp_path, monkeypatch):
    run, model = trained(QUICK)
    shutil.copytree(model, tmp_path / "model")
    before = contents(tmp_path / "model")

    def killed(*_, **__):
        raise KeyboardInterrupt

    where = {"save": tf.saved_model, "CDLL": export_module.ctypes}.get(moment, export_module)
    monkeypatch.setattr(where, moment, killed)
    monkeypatch.setattr(shutil, "rmtree", lambda *_, **__: None)  # the dead do not tidy up
    with pytest.raises(KeyboardInterrupt):
        export(str(run), str(tmp_path / "model"))
    assert contents(tmp_path / "model") == before


def test_a_new_model_replaces_the_old_in_one_step(trained, tmp_path):
    shutil.copytree(trained("routing")[1], tmp_path / "model")
    export(str(trained(QUICK)[0]), str(tmp_path / "model"))
    assert json.loads((tmp_path / "model" / "lrn_tf.json").read_text())["settings"]["method"] == QUICK
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("fails", [False, True])
def test_without_such_a_step_it_is_replaced_in_two(fails, trained, tmp_path, monkeypatch):
    """As on macOS. What is there comes back if the second one fails."""
    shutil.copytree(trained("routing")[1], tmp_path / "model")
    before, rename = contents(tmp_path / "model"), os.rename
    monkeypatch.setattr(export_module.ctypes, "CDLL", lambda *_, **__: None)

    def rename_or_fail(source, target):
        if fails and target == tmp_path / "model" and source.name == "model":
            raise OSError(errno.ENOSPC, "No space left on device")
        rename(source, target)

    monkeypatch.setattr(os, "rename", rename_or_fail)
    with pytest.raises(UserError, match="No space left") if fails else contextlib.nullcontext():
        export(str(trained(QUICK)[0]), str(tmp_path / "model"))
    if fails:
        assert contents(tmp_path / "model") == before
    else:
        held = json.loads((tmp_path / "model" / "lrn_tf.json").read_text())
        assert held["settings"]["method"] == QUICK
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_model_that_will_not_be_loaded_is_said_to_be_such(trained, tmp_path, monkeypatch, capsys):
    """As one with a layer of the user's that we do not know; TensorFlow itself runs it."""
    monkeypatch.setattr(operations, "COMPUTING", operations.COMPUTING - {"Conv2D"})
    export(str(trained(QUICK)[0]), str(tmp_path / "model"))
    said = (
        f"{tmp_path / 'model'} holds the operation Conv2D, so lrn_tf.load will refuse it; TensorFlow will"
    )
    assert said in capsys.readouterr().err
    with pytest.raises(UserError, match="holds the operation Conv2D"):
        lrn_tf.load(str(tmp_path / "model"))
    assert "serving_default" in tf.saved_model.load(str(tmp_path / "model")).signatures


def test_what_is_no_model_is_not_replaced(trained, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "thesis.tex").write_text("years of work")
    (tmp_path / "file").write_text("more")
    for name in ("folder", "file"):
        with pytest.raises(UserError, match=f"{name} exists and is no exported model"):
            export(str(trained("lrn")[0]), str(tmp_path / name))
    assert (tmp_path / "folder" / "thesis.tex").exists()


def test_where_versions_lie_one_is_asked_for(trained, tmp_path):
    for version in ("2", "10", "old"):
        shutil.copytree(trained(QUICK)[1], tmp_path / "served" / version)
    with pytest.raises(UserError, match="give another folder to export to, such as .*/served/11$"):
        export(str(trained(QUICK)[0]), str(tmp_path / "served"))
    with pytest.raises(UserError, match="no lrn_tf.json and no config.json; .* such as .*/served/10$"):
        lrn_tf.load(str(tmp_path / "served"))


@pytest.fixture
def program(forked, tmp_path):
    """Runs one of our programs, as `subprocess.run` does."""
    return lambda name, *arguments: subprocess.CompletedProcess(
        name, *forked(f"lrn_tf.{name}", arguments, tmp_path)
    )


def test_numbers_are_read_from_csv_and_npy(of_mixed, mixed_model, program, tmp_path):
    folder, data, _ = of_mixed
    given, model = given_to(data), f"--model={folder / 'model'}"
    rows = given["rows"][data.test.task == 1][:3]
    (tmp_path / "rows.csv").write_text("".join(",".join(map(repr, row)) + "\n" for row in rows.tolist()))
    # As spreadsheets have it: with a mark that it is UTF-8, and with names of columns.
    (tmp_path / "one.csv").write_text("\ufeffheight,width,depth\n\n1, 2.5,-3e-1\n\n")
    np.save(tmp_path / "rows.npy", rows)
    np.save(tmp_path / "row.npy", rows[0].astype(np.float64))
    names = ["rows.csv", "one.csv", "rows.npy", "row.npy"]
    expected = mixed_model(rows, ["sums"] * 3)["numbers"]
    other = mixed_model(np.array([[1, 2.5, -0.3]], np.float32), ["sums"])["numbers"]
    expected = [*expected, *other, *expected, expected[0]]

    done = program("predict", model, "--task=sums", "--json", *names)
    assert (done.returncode, done.stderr) == (0, "")
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["file"] for row in found] == [
        *(f"rows.csv:{i}" for i in range(3)),
        "one.csv",
        *(f"rows.npy:{i}" for i in range(3)),
        "row.npy",
    ]
    for row, numbers in zip(found, expected, strict=True):
        assert list(row["numbers"]) == ["sum", "hundredfold"] and row["task"] == "sums"
        np.testing.assert_allclose(list(row["numbers"].values()), numbers[:2], rtol=1e-4)
        assert row["path"][0] == "rows_in.0" and 0 < row["confidence"] <= 1

    done = program("predict", model, "one.csv")
    assert done.returncode == 2 and "--task is missing, and tasks take different inputs" in done.stderr
    done = program("predict", model, "--task=1", "one.csv", "row.npy")
    tables = [line.split() for line in done.stdout.splitlines()]
    assert [line[:2] for line in tables] == [["one.csv", "sum"], ["row.npy", "sum"]]
    assert float(tables[0][2].rstrip(",")) == pytest.approx(other[0, 0], rel=1e-4)


def test_tokens_and_images_are_read_from_files(of_mixed, mixed_model, program, tmp_path):
    folder, data, _ = of_mixed
    given, model = given_to(data), f"--model={folder / 'model'}"
    words = given["tokens"][data.test.task == 2][:2]
    (tmp_path / "words.csv").write_text("\n".join(",".join(map(str, row)) for row in words.tolist()))
    labels = mixed_model(words, ["words"] * 2)["labels"]
    done = program("predict", model, "--task=words", "words.csv")
    for line, values in zip(done.stdout.splitlines(), labels, strict=True):
        assert line.split("  ")[1] == ", ".join(f"{i} {value:.1%}" for i, value in enumerate(values))
    images = given["images"][data.test.task == 0][:2]
    np.save(tmp_path / "images.npy", images)
    np.save(tmp_path / "floats.npy", images.astype(float))
    expected = mixed_model(images, ["light"] * 2)
    for name in ("images.npy", "floats.npy"):
        done = program("predict", model, "--task=light", "--json", name)
        found = [json.loads(line) for line in done.stdout.splitlines()]
        assert [row["class"] for row in found] == expected["class_name"].tolist()
        for row, probabilities in zip(found, expected["probabilities"], strict=True):
            assert list(row["probabilities"]) == ["dark", "light"]
            np.testing.assert_allclose(list(row["probabilities"].values()), probabilities[:2], rtol=1e-4)


def odd_files(folder):
    """Files that hold no examples of three numbers, and what is said of them."""
    np.save(folder / "wide.npy", np.zeros((2, 4)))
    np.save(folder / "deep.npy", np.zeros((2, 3, 3)))
    np.save(folder / "nothing.npy", np.zeros((0, 3)))
    np.save(folder / "single.npy", np.zeros(()))
    np.save(folder / "huge.npy", np.full(3, 1e300))
    np.save(folder / "text.npy", np.array(["a", "b", "c"]))
    np.save(folder / "objects.npy", np.array([None, {}, 3], object), allow_pickle=True)
    np.savez(folder / "zip.npz", np.zeros(3))
    (folder / "zip.npz").rename(folder / "zip.npy")
    with (folder / "large.npy").open("wb") as file:
        header = {"descr": "<f8", "fortran_order": False, "shape": (1 << 50, 3)}
        np.lib.format.write_array_header_1_0(file, header)
    (folder / "cut.npy").write_bytes((folder / "wide.npy").read_bytes()[:-1])
    (folder / "empty.csv").write_text("\n \n")
    (folder / "word.csv").write_text("1,2,3\n1,a,3\n")
    (folder / "ragged.csv").write_text("1,2,3\n1,2\n")
    (folder / "nan.csv").write_text("1,nan,3\n")
    (folder / "binary.csv").write_bytes(b"\xff\xfe\0")
    (folder / "folder").mkdir()
    os.mkfifo(folder / "pipe.csv")
    os.mkfifo(folder / "pipe.npy")
    return {
        "wide.npy": "rows must be float32 [B, 3], given float32 [2, 4]",
        "deep.npy": "it has the shape [2, 3, 3], an example has [3]",
        "nothing.npy": "it has the shape [0, 3], an example has [3]",
        "single.npy": "it has the shape [], an example has [3]",
        "huge.npy": "rows has NaN or infinite numbers",
        "text.npy": "rows must be float32 [B, 3], given <U1 [1, 3]",
        "objects.npy": "Object arrays cannot be loaded",
        "zip.npy": "",
        "large.npy": "",
        "cut.npy": "",
        "empty.csv": "it has the shape [0, 0]",
        "word.csv": "could not convert string 'a'",
        "ragged.csv": "number of columns changed",
        "nan.csv": "rows has NaN or infinite numbers",
        "binary.csv": "",
        "folder": "no file but a folder, a pipe or a device",
        "pipe.csv": "no file but a folder, a pipe or a device",
        "pipe.npy": "no file but a folder, a pipe or a device",
        "/dev/zero": "no file but a folder, a pipe or a device",
        "missing.csv": "there is no such file",
        "http://localhost:1/x.csv": "there is no such file",
    }


def test_files_without_examples_are_named_in_a_line_each(of_mixed, program, tmp_path):
    files = odd_files(tmp_path)
    (tmp_path / "good.csv").write_text("1,2,3\n")
    done = program("predict", f"--model={of_mixed[0] / 'model'}", "--task=sums", *files, "good.csv")
    assert done.returncode == 1 and len(done.stdout.splitlines()) == 1
    assert done.stdout.startswith("good.csv")
    lines = done.stderr.splitlines()
    assert len(lines) == len(files), done.stderr
    for line, (file, said) in zip(lines, files.items(), strict=True):
        assert line.startswith(f"left out {file}: ") and said in line


@pytest.mark.parametrize("task, shape", [("light", (1, 6, 5, 1)), ("words", (1, 4))])
def test_no_number_becomes_another_on_the_way(of_mixed, program, tmp_path, task, shape):
    """As 256 would be 0 in a byte, or a half no token."""
    files = []
    for i, value in enumerate((256, -1, 0.5, np.nan)):
        files.append(f"{i}.npy")
        array = np.resize([value, 0, 0, 0], shape)
        np.save(tmp_path / files[-1], array.astype(float) if task == "light" else array)
    done = program("predict", f"--model={of_mixed[0] / 'model'}", f"--task={task}", *files)
    assert done.returncode == 1 and not done.stdout
    said = done.stderr.splitlines()
    assert [line.split(": ")[0] for line in said] == [f"left out {file}" for file in files]


def test_grey_pictures_without_their_channel(of_mixed, program, tmp_path):
    np.save(tmp_path / "image.npy", np.zeros((3, 6, 5), np.uint8))
    done = program("predict", f"--model={of_mixed[0] / 'model'}", "--task=light", "image.npy")
    assert "left out image.npy: it has the shape [3, 6, 5], an example has [h, w, " in done.stderr


ODD = "\x1b[2J\n\u202e|$x$"


@pytest.fixture(scope="module")
def odd_model(tmp_path_factory):
    """A model, untrained, whose tasks and answers have names that move a terminal's cursor."""
    folder = tmp_path_factory.mktemp("odd") / "model"
    given = InputSpec("images", (4, 4, 1), "uint8", (0.0,), (1.0,))
    tasks = [
        TaskSpec(f"{form} {ODD}", "images", form, (f"a {ODD}", f"b {ODD}"), *moments)
        for form, moments in ((CLASSES, ()), (NUMBERS, ((0.0, 1.0), (1.0, 1.0))), (LABELS, ()))
    ]
    problem = Problem(f"odd {ODD}", (given,), tuple(tasks))
    served = Served(build(problem, resolve({"method": "shared"})), problem)
    tf.saved_model.save(served, str(folder), signatures=served.functions)
    card = {"about": {"problem": dataclasses.asdict(problem)}, "files": files.checksums(folder)}
    (folder / CARD).write_text(json.dumps(files.seal(card)))
    return folder


@pytest.mark.parametrize("task", [0, 1, 2])
def test_what_a_stranger_calls_things_is_printed_escaped(odd_model, program, tmp_path, task):
    name = "im\x1b[31m\n.png"
    keras.utils.save_img(tmp_path / name, np.zeros((4, 4, 1)), scale=False)
    done = program("predict", f"--model={odd_model}", f"--task={task}", name, "no\x1b.png")
    (line,), (complaint,) = done.stdout.splitlines(), done.stderr.splitlines()
    assert done.returncode == 1 and line.isprintable() and complaint.isprintable()
    assert line.startswith(r"im\x1b[31m\n.png") and r"\x1b[2J\n\u202e|$x$" in line
    assert complaint.startswith(r"left out no\x1b.png: ")
    # For programs, all is there: in a form that is ASCII.
    done = program("predict", f"--model={odd_model}", f"--task={task}", "--json", name)
    found = json.loads(done.stdout)
    assert done.stdout.isascii() and found["file"] == name and found["task"].endswith(ODD)
    assert ODD in str(found.get("class", "")) or all(of.endswith(ODD) for of in (*found.values(),)[2])
    done = program("predict", f"--model={odd_model}", "--task=none", name)
    assert done.returncode == 2 and done.stderr.removesuffix("\n").isprintable()
    assert r"choose one of: classes \x1b[2J \u202e" in done.stderr


@pytest.mark.parametrize(
    "change, said",
    [
        (lambda p: p["inputs"][1].update(name="lines"), "its problem has other inputs than its tasks"),
        (lambda p: rename_input(p, 1, "lines"), "its graph takes other inputs than its tasks have"),
        (lambda p: p["inputs"][2].update(dtype="float32"), "its input 'tokens' has no mean and std"),
        (lambda p: p["tasks"].pop(2), "its problem has other inputs than its tasks"),
        (lambda p: p["tasks"].clear(), "its problem has no tasks"),
        (lambda p: p["tasks"][0].update(form="poems"), "its task 'light' has no form"),
        (lambda p: p.update(heads="none"), "its problem has heads 'none'"),
        (lambda p: p.pop("inputs"), "problem has no 'inputs'"),
    ],
)
def test_a_card_that_does_not_go_with_its_graph_is_refused(of_mixed, tmp_path, change, said):
    """Sealed as a stranger can."""
    shutil.copytree(of_mixed[0] / "model", tmp_path / "model")
    card = files.unseal(json.loads((tmp_path / "model" / CARD).read_text()))
    change(card["about"]["problem"])
    (tmp_path / "model" / CARD).write_text(json.dumps(files.seal(card)))
    with pytest.raises(UserError, match=f"cannot be read as an exported model .{said}") as caught:
        lrn_tf.load(str(tmp_path / "model"))
    assert "\n" not in str(caught.value)


def rename_input(problem, number, name):
    before = problem["inputs"][number]["name"]
    problem["inputs"][number]["name"] = name
    for task in problem["tasks"]:
        task["input"] = name if task["input"] == before else task["input"]


def test_a_graph_that_returns_less_is_refused(odd_model, tmp_path):
    shutil.copytree(odd_model, tmp_path / "model")
    take = tf.function(lambda images, tasks: {"class": tasks}, autograph=False).get_concrete_function(
        tf.TensorSpec((None, None, None, 1), tf.uint8, "images"), tf.TensorSpec((None,), tf.int32, "tasks")
    )
    tf.saved_model.save(tf.Module(), str(tmp_path / "model"), signatures={"serving_default": take})
    card = files.unseal(json.loads((tmp_path / "model" / CARD).read_text()))
    (tmp_path / "model" / CARD).unlink()
    card["files"] = files.checksums(tmp_path / "model")
    (tmp_path / "model" / CARD).write_text(json.dumps(files.seal(card)))
    with pytest.raises(UserError, match="its graph does not return what its tasks ask for"):
        lrn_tf.load(str(tmp_path / "model"))


def test_files_are_classified_and_unreadable_ones_named(trained, load_model, program, tmp_path):
    rows = [3, 500]
    for row in rows:
        keras.utils.save_img(tmp_path / f"{row}.png", IMAGES[DATA.test.row[row]], scale=False)
    (tmp_path / "broken.png").write_bytes(b"\x89PNG nothing")
    files = [str(tmp_path / name) for name in ("3.png", "broken.png", "missing.png", "500.png")]
    model = str(trained("lrn")[1])
    expected = load_model("lrn")(IMAGES[DATA.test.row[rows]], ["digit 7"] * 2)

    done = program("predict", f"--model={model}", "--task=digit 7", "--json", *files)
    assert done.returncode == 1
    said = done.stderr.splitlines()
    assert len(said) == 2 and all(
        f"left out {file}: " in line for file, line in zip(files[1:3], said, strict=True)
    )
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["file"] for row in found] == [files[0], files[3]]
    for i, row in enumerate(found):
        assert row["class"] == expected["class_name"][i] and row["task"] == "digit 7"
        assert row["probability"] == pytest.approx(expected["probabilities"][i].max(), abs=1e-5)
        assert row["path"] == [name for name in expected["path_names"][i] if name]

    # Without a task all of them answer, each as it does alone.
    done = program("predict", f"--model={model}", *files[:1], "--json")
    every = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["task"] for row in every] == load_model("lrn").tasks and every[7] == found[0]
    done = program("predict", f"--model={model}", *files[:1])
    lines = done.stdout.splitlines()
    named = [re.match(r"(\S+)  (digit \d)  .*[\d.]+%  ", line).groups() for line in lines]
    assert named == [(files[0], task) for task in load_model("lrn").tasks]

    # A start of Python's own: nothing but the answer is said.
    command = [sys.executable, "-m", "lrn_tf.predict", f"--model={model}", "--task=7", files[0]]
    environment = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    table = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert table.returncode == 0 and not table.stderr
    assert table.stdout.split()[0] == files[0] and table.stdout.split()[-1].startswith(
        ("fc_out", "flat_out")
    )


@pytest.mark.parametrize(
    "name, arguments, said",
    [
        ("export", ("--workdir=/nowhere", "--output=x"), "/nowhere has no config.json; give the folder"),
        ("export", ("--workdir=x",), "--output is missing; see --help"),
        ("export", ("--workdir=x\udcff", "--output=y"), "--workdir=x\\udcff is not UTF-8; give one"),
        ("export", ("--workdir=x", "--output=y\udcff"), "--output=y\\udcff is not UTF-8; give one"),
        ("predict", ("a.png",), "--model is missing; give the folder of an exported model or of a run"),
        (
            "predict",
            ("--model=/nowhere", "--task=0", "a.png"),
            "/nowhere has no lrn_tf.json and no config.json",
        ),
        ("predict", ("--model=x",), "no file is given; name one or more, see --help"),
    ],
)
def test_bad_input_is_one_line(name, arguments, said, program):
    done = program(name, *arguments)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1 and done.stderr.startswith(f"lrn_tf: {said}")


def test_a_damaged_model_is_named(trained, program, tmp_path):
    shutil.copytree(trained("lrn")[1], tmp_path / "model")
    graph = pathlib.Path(tmp_path / "model" / "saved_model.pb")
    graph.write_bytes(graph.read_bytes()[:1000])
    with pytest.raises(UserError, match="model cannot be read as an exported model"):
        lrn_tf.load(str(tmp_path / "model"))
    done = program("predict", f"--model={trained('lrn')[1]}", "--task=eleven", "a.png")
    assert done.returncode == 2 and "--task=eleven is unknown; choose one of: digit 0" in done.stderr
