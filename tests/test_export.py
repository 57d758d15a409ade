"""Exported models: they answer as the trainer does, where nothing of lrn_tf is installed."""

import functools
import json
import os
import pathlib
import shutil
import subprocess
import sys
import types

import keras
import numpy as np
import pytest
import tensorflow as tf
from made_runs import make_run

import lrn_tf
from lrn_tf import export as export_module
from lrn_tf.data.batches import DeviceExamples
from lrn_tf.data.benchmarks import load
from lrn_tf.data.images import resize
from lrn_tf.errors import UserError
from lrn_tf.export import export
from lrn_tf.main import train
from lrn_tf.restore import restore
from lrn_tf.settings import resolve
from lrn_tf.storage.runs import read

pytestmark = pytest.mark.slow

METHODS = ("lrn", "routing", "cross_stitch")
# Exported in no time, where it does not matter what is exported.
QUICK = "cross_stitch"
SMALL = dict(dup=3, depth=4, d_model=16, epochs=2, examples=6400, image_size=10)
DATA = load(resolve({name: SMALL[name] for name in ("image_size", "examples")}))
TASKS = DATA.test.task


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """By method, the folders of a short run and of the model that it exported."""
    made = {}

    def train_once(method):
        if method not in made:
            folder = tmp_path_factory.mktemp(method)
            made[method] = folder / "run", folder / "model"
            given = dict(method=method, workdir=str(folder / "run"), export_dir=str(folder / "model"))
            train(resolve({**SMALL, **given}))
        return made[method]

    return train_once


@pytest.fixture(scope="module")
def load_model(trained):
    """Loads the model of a method, once."""
    return functools.cache(lambda method: lrn_tf.load(str(trained(method)[1])))


def answers(method, trained):
    """What the trainer's evaluation sees on the test set: logits, paths and accuracy."""
    run = read(str(trained(method)[0]))
    network = restore(run)[0]._method
    examples = DeviceExamples(DATA.test, DATA.problem.mean, DATA.problem.std)
    images, tasks, _ = examples.batch(tf.range(len(DATA.test)))
    prediction = tf.function(network.predict, autograph=False)(images, tasks)
    return prediction, run.lines[-1].eval_accuracy


# Loads models where neither the package nor Keras can be imported, and calls them in batches of some size.
FOREIGN = """
import sys
for name in ("lrn_tf", "keras", "keras_nlp", "keras_hub", "tensorflow_datasets"):
    sys.modules[name] = None
import numpy as np, tensorflow as tf
given, sizes = np.load(sys.argv[1]), (1, 100, 1024)
for folder in sys.argv[2:]:
    model, answers = tf.saved_model.load(folder), []
    for size in sizes:
        rows = range(0, len(given["tasks"]), size) if size > 1 else range(3)
        for i in rows:
            batch = tf.constant(given["images"][i : i + size]), tf.constant(given["tasks"][i : i + size])
            answer = model.signatures["serving_default"](images=batch[0], tasks=batch[1])
            answer = {name: value.numpy() for name, value in answer.items()}
            text = {name: value.astype(bytes) for name, value in answer.items() if value.dtype == object}
            answers.append((size, answer | text))
    found = {f"{name}_{size}": np.concatenate([a[name] for s, a in answers if s == size])
        for size in sizes for name in answers[0][1]}
    np.savez(folder + ".npz", **found)
"""


@pytest.fixture(scope="module")
def answers_elsewhere(trained, tmp_path_factory):
    """By method, what its model answers in another process, which knows nothing of lrn_tf."""
    folder = tmp_path_factory.mktemp("elsewhere")
    np.savez(folder / "given.npz", images=DATA.test.images[DATA.test.image], tasks=TASKS)
    for method in METHODS:
        (folder / method).symlink_to(trained(method)[1])
    models = [str(folder / method) for method in METHODS]
    done = subprocess.run(
        [sys.executable, "-I", "-c", FOREIGN, str(folder / "given.npz"), *models],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return {method: dict(np.load(folder / f"{method}.npz")) for method in METHODS}


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
        names = [DATA.classes[k][c].encode() for k, c in zip(TASKS, classes[:count], strict=False)]
        assert found[f"class_name_{size}"].tolist() == names
        if method != "cross_stitch":
            np.testing.assert_array_equal(found[f"path_{size}"], expected.paths[:count])
            confidence = np.exp(expected.log_policy[:count])
            np.testing.assert_allclose(found[f"confidence_{size}"], confidence, rtol=1e-3)
    right = found["class_1024"] == DATA.test.label
    assert right.mean() == pytest.approx(accuracy, abs=1e-9)


def test_names_of_a_path_are_those_of_its_modules(load_model):
    model = load_model("lrn")
    answer = model(DATA.test.images[:20], TASKS[:20])
    names = [
        f"{kind}.{i}"
        for kind in ("conv_in", "conv", "flat_fc", "fc", "flat_out", "fc_out")
        for i in range(3)
    ]
    names = np.array([*names, ""])
    np.testing.assert_array_equal(answer["path_names"], names[answer["path"]])


@pytest.mark.parametrize("method", METHODS)
def test_a_run_and_its_export_load_alike(method, trained, load_model):
    run, model = lrn_tf.load(str(trained(method)[0])), load_model(method)
    assert run.tasks == model.tasks == list(DATA.tasks)
    assert model.classes == [list(names) for names in DATA.classes]
    images = DATA.test.images[:50]
    by_number = model(images, TASKS[:50])
    for other in (run(images, TASKS[:50]), model(images, [DATA.tasks[k] for k in TASKS[:50]])):
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
    images, tasks = tf.constant(DATA.test.images[:40]), tf.constant(TASKS[:40])
    plain = model["serving_default"](images=images, tasks=tasks)
    named = model["by_task_name"](images=images, task_names=tf.gather(list(DATA.tasks), tasks))
    for name, value in plain.items():
        np.testing.assert_array_equal(named[name], value)
    routes = model["routes"](images=images, tasks=tasks)
    assert set(routes) == {"path", "path_names", "confidence"}
    np.testing.assert_array_equal(routes["path"], plain["path"])
    followed = model["forward_path"](images=images, path=routes["path"])
    np.testing.assert_allclose(followed["probabilities"], plain["probabilities"], atol=1e-6)
    # Networks that begin with another module give other answers.
    path = routes["path"].numpy()
    path[:, 0] = (path[:, 0] + 1) % SMALL["dup"]
    other = model["forward_path"](images=images, path=tf.constant(path))
    assert np.abs(other["probabilities"] - plain["probabilities"]).max() > 1e-3


def test_a_block_of_each_layer_can_be_chosen_in_a_routing_network(load_model):
    model = load_model("routing").signatures
    images, tasks = tf.constant(DATA.test.images[:40]), tf.constant(TASKS[:40])
    plain = model["serving_default"](images=images, tasks=tasks)
    followed = model["forward_path"](images=images, path=plain["path"])
    np.testing.assert_allclose(followed["probabilities"], plain["probabilities"], atol=1e-6)
    with pytest.raises(tf.errors.InvalidArgumentError, match="not one block of each layer"):
        model["forward_path"](images=images[:1], path=[[0, 1, 2]])


@pytest.mark.parametrize(
    "path",
    [[0, 0, 0, 0], [0, 6, 18, 18], [18, 0, 12, 18], [0, 12, 6, 18], [-1, 12, 18, 18], [0, 99, 18, 18]],
)
def test_a_path_that_is_no_network_is_refused(path, load_model):
    model = load_model("lrn").signatures
    legal = [0, 12, 18, 18]  # conv_in, flat_out
    images = tf.constant(DATA.test.images[:2])
    model["forward_path"](images=images, path=[legal, legal])
    with pytest.raises(tf.errors.InvalidArgumentError, match="no network of this pool"):
        model["forward_path"](images=images, path=[legal, path])


def test_unknown_tasks_are_refused(load_model):
    model = load_model("lrn")
    images = DATA.test.images[:1]
    for task in (-1, 10, "digit x"):
        with pytest.raises(ValueError, match=f"task {task!r} is unknown; known are digit 0, digit 1"):
            model(images, [task])
    with pytest.raises(tf.errors.InvalidArgumentError, match="unknown task names"):
        model.signatures["by_task_name"](images=tf.constant(images), task_names=tf.constant(["x"]))
    with pytest.raises(tf.errors.InvalidArgumentError, match="tasks are numbered from 0 to"):
        model.signatures["serving_default"](images=tf.constant(images), tasks=tf.constant([10]))
    with pytest.raises(ValueError, match="each image needs a task, given are 1 and 2"):
        model(images, [0, 1])
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
    np.savez(tmp_path / "in.npz", images=DATA.test.images[:5], tasks=TASKS[:5])
    inputs = f"images={tmp_path}/in.npz[images];tasks={tmp_path}/in.npz[tasks]"
    options = ("--tag_set", "serve", "--signature_def", "serving_default", "--inputs", inputs)
    call("run", "--dir", folder, *options, "--outdir", str(tmp_path / "out"))
    answer = load_model("lrn")(DATA.test.images[:5], TASKS[:5])
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
    accuracy = f"**Accuracy {last['eval_accuracy']:.2%}** on 3,590 examples (test images)"
    assert f"{accuracy}, measured after 100 steps, epoch 2;" in text
    assert "| 3 | digit 3 |" in text and "- **dup 3**" in text and "- batch_size 128" in text
    assert "| `forward_path` | images uint8 [B, any, any, 1], path int32 [B, 4] |" in text
    # Weights only: nothing of the optimizer's.
    saved = sum(path.stat().st_size for path in (model / "variables").iterdir())
    assert saved < 1.2 * 4 * card["about"]["parameters"] + 1e5


def test_the_card_of_weights_that_were_never_evaluated(trained):
    run = read(str(trained("lrn")[0]))
    card = export_module.describe(run, 300)
    assert (card["step"], card["results"]["step"]) == (300, 100)
    earlier = export_module.describe(run, 50)
    assert earlier["results"]["eval_accuracy"] == run.lines[0].eval_accuracy


def test_the_card_of_a_run_with_validation(tmp_path):
    card = export_module.describe(read(make_run(tmp_path / "run", [0.5], validation=0.1)), 10)
    assert (card["results"]["split"], card["results"]["eval_accuracy"]) == ("validation", 0.5)
    text = export_module.readme(card, types.SimpleNamespace(interface={}))
    assert "**Accuracy 50.00%** on 9 examples (held-out training images), measured after 10 steps" in text


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


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


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


def test_what_is_no_model_is_not_replaced(trained, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "thesis.tex").write_text("years of work")
    (tmp_path / "file").write_text("more")
    for name in ("folder", "file"):
        with pytest.raises(UserError, match=f"{name} exists and is no exported model"):
            export(str(trained("lrn")[0]), str(tmp_path / name))
    assert (tmp_path / "folder" / "thesis.tex").exists()


@pytest.fixture
def program(forked, tmp_path):
    """Runs one of our programs, as `subprocess.run` does."""
    return lambda name, *arguments: subprocess.CompletedProcess(
        name, *forked(f"lrn_tf.{name}", arguments, tmp_path)
    )


def test_files_are_classified_and_unreadable_ones_named(trained, load_model, program, tmp_path):
    rows = [3, 500]
    for row in rows:
        keras.utils.save_img(tmp_path / f"{row}.png", DATA.test.images[DATA.test.image[row]], scale=False)
    (tmp_path / "broken.png").write_bytes(b"\x89PNG nothing")
    files = [str(tmp_path / name) for name in ("3.png", "broken.png", "missing.png", "500.png")]
    model = str(trained("lrn")[1])
    expected = load_model("lrn")(DATA.test.images[DATA.test.image[rows]], ["digit 7"] * 2)

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
        ("predict", ("--model=/nowhere", "--task=0", "a.png"), "/nowhere has no config.json"),
        ("predict", ("--model=x",), "no image file is given; name one or more, see --help"),
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
