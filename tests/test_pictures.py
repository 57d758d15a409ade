"""Pictures show the numbers that were recorded, and TensorBoard finds them."""

import dataclasses
import math
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import text_format
from made_runs import MIXED
from tensorboard.plugins.hparams import plugin_data_pb2
from tensorboard.plugins.projector import ProjectorConfig
from tiny_run import Softmax, benchmark, examples, run

from lrn_tf.data.benchmarks import Benchmark
from lrn_tf.data.examples import Examples
from lrn_tf.data.problem import CLASSES, NUMBERS, InputSpec, Problem, TaskSpec
from lrn_tf.methods.fc_network import make_trunk
from lrn_tf.modules import cost
from lrn_tf.modules.blocks import AttentionBlock, Positions, ResidualBlock
from lrn_tf.modules.built_in import paper
from lrn_tf.modules.pool import Pool, build_layer
from lrn_tf.results import path_graph, pictures, projector
from lrn_tf.results.evaluation import Evaluation

IMAGES = InputSpec("images", (2, 2, 1), "uint8", (0.0,), (1.0,))
TASKS = tuple(TaskSpec(name, "images", CLASSES, ("no", "yes")) for name in ("first", "second", "third"))
PROBLEM = Problem("fake", (IMAGES,), TASKS)
KINDS = {"in": range(0, 2), "hidden": range(2, 5), "out": range(5, 6)}
RNG = np.random.default_rng(0)
DATA = examples(40, RNG)


def recorded(paths, task=DATA.task, kinds=KINDS, predicted=None):
    ones, predicted = np.ones(len(task)), DATA.target if predicted is None else predicted
    right = (predicted == DATA.target).astype(float)
    return Evaluation(
        PROBLEM, kinds, task, DATA.target, np.eye(2)[predicted], right, 0 * ones, np.asarray(paths), ones
    )


HELD = recorded([RNG.choice([[0, 2, 5], [1, 3, 5], [0, 5, 6]]) for _ in DATA.task])


def words(figure):
    """All text in a figure."""
    import matplotlib.text

    return [x.get_text() for x in figure.findobj(matplotlib.text.Text) if x.get_text()]


def test_module_use_shows_shares_and_marks_who_is_unused():
    figure = pictures.module_use(HELD)
    axes = figure.axes[0]
    shown = np.asarray(axes.images[0].get_array())
    for k in range(3):
        for module in range(6):
            of_task = HELD.paths[HELD.task == k]
            assert shown[k, module] == pytest.approx((of_task == module).any(axis=1).mean())
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert labels == ["0", "1", "0", "1", "2\n×", "0"]
    assert set(KINDS) <= set(words(figure))


def test_path_sharing_shows_percent():
    figure = pictures.path_sharing(HELD)
    np.testing.assert_allclose(figure.axes[0].images[0].get_array(), HELD.sharing)
    assert set(words(figure)) >= {f"{100 * value:.0f}" for value in HELD.sharing.ravel()}


def test_lengths_and_confusion():
    bars = [bar.get_height() for bar in pictures.lengths(HELD).axes[0].patches]
    lengths = np.array([sum(m < 6 for m in path) for path in HELD.paths])
    assert bars == pytest.approx([100 * (lengths == n).mean() for n in (1, 2, 3)])

    predicted = RNG.integers(0, 2, len(DATA))
    held = recorded(HELD.paths, predicted=predicted)
    for k in range(3):
        mine = DATA.task == k
        counts = [
            str(((DATA.target == true) & (predicted == given) & mine).sum())
            for true in range(2)
            for given in range(2)
        ]
        assert [x.get_text() for x in pictures.confusion(held, k).axes[0].texts] == counts


def test_top_paths_name_modules_shares_and_tasks():
    said = words(pictures.top_paths(HELD, DATA))
    assert {"in.0", "in.1", "hidden.0", "hidden.1", "out.0"} <= set(said)
    networks, which = HELD.networks
    for u in range(len(networks)):
        assert any(text.startswith(f"{(which == u).mean():.1%} of all\n") for text in said)
    only = words(pictures.top_paths(HELD, DATA, most=1))
    assert sum("of all" in text for text in only) == 1


def test_boxes_of_a_column_do_not_overlap():
    # Steep ones, too: four modules with one network each want to be where the fifth is, with eight.
    fourth = ["d.0", "d.0", "d.0", "d.1", "d.2", "d.3", "d.4", *["d.0"] * 5]
    names = [[f"a.{i % 3}", f"b.{i * 7 % 5}", f"c.{i}", fourth[i]] for i in range(12)]
    thick, middle = np.full(12, 0.28), path_graph.ROW * (np.arange(12) + 0.5)
    lanes, boxes = path_graph._lanes(names, thick, middle)
    for t in range(4):
        column = sorted((y, tall, name) for (step, name), (y, tall) in boxes.items() if step == t)
        for (y, tall, _), (below, its, _) in zip(column, column[1:], strict=False):
            assert below - its / 2 >= y + tall / 2
        assert column[0][0] - column[0][1] / 2 >= 0
        assert column[-1][0] + column[-1][1] / 2 <= path_graph.ROW * 12
        # Ribbons lie in the boxes of their modules, side by side.
        for y, tall, name in column:
            inside = sorted(lanes[i][t] for i in range(12) if names[i][t] == name)
            assert inside[0] - 0.14 >= y - tall / 2 and inside[-1] + 0.14 <= y + tall / 2
            assert np.all(np.diff(inside) >= 0.28 - 1e-9)


def test_boxes_are_pushed_apart_at_both_ends():
    rng = np.random.default_rng(1)
    for _ in range(100):
        heights = rng.uniform(0.3, 0.6, rng.integers(1, 8))
        wanted = np.sort(rng.choice([0.1, 2.5, 4.9], len(heights)) + rng.normal(0, 0.05, len(heights)))
        places = path_graph._apart(wanted, heights, 5.0)
        top, bottom = places - heights / 2, places + heights / 2
        assert top[0] >= 0 and bottom[-1] <= 5.0 and np.all(top[1:] >= bottom[:-1])


@pytest.mark.parametrize("every, steps", [(0, []), (2, [10, 15]), (9, [15])])
def test_pictures_come_every_so_often_and_after_the_last_epoch(every, steps, tmp_path):
    run(tmp_path, pictures_every=every)
    found = events(tmp_path)
    assert [step for step, _ in found.get("paths/top_paths", [])] == steps
    assert [step for step, _ in found["eval/length"]] == [5, 10, 15]


@pytest.mark.parametrize("modules", [6, 60, pytest.param(240, marks=pytest.mark.slow)])
def test_any_number_of_modules_and_images_of_any_kind(modules):
    kinds = {"in": range(modules // 2), "a longer name": range(modules // 2, modules)}
    coloured = dataclasses.replace(DATA, inputs=(np.repeat(DATA.inputs[0], 3, axis=3),))
    for figure in pictures.of_paths(recorded(HELD.paths, kinds=kinds), coloured).values():
        shown = pictures.pixels(figure)
        assert shown.dtype == np.uint8 and shown.ndim == 3 and shown.shape[2] == 3
        assert shown.std() > 0


def test_a_method_without_paths_has_no_pictures():
    assert pictures.of_paths(recorded(np.zeros((40, 0), int), kinds={}), DATA) == {}


MANY = 300


def test_many_tasks_are_drawn_in_time():
    """Without a number in each of 90,000 cells, and no larger than 48 inches and their names."""
    tasks = tuple(TaskSpec(f"task of its own {k}", "images", CLASSES, ("no", "yes")) for k in range(MANY))
    k, zeros = np.arange(MANY), np.zeros(MANY)
    held = Evaluation(
        Problem("fake", (IMAGES,), tasks),
        KINDS,
        k,
        0 * k,
        np.ones((MANY, 2)),
        zeros,
        zeros,
        0 * k[:, None] + [0, 2, 5],
        zeros,
    )
    sharing, use = pictures.path_sharing(held), pictures.module_use(held)
    assert not [x for x in sharing.axes[0].texts if x.get_text() == "100"]
    for figure in (sharing, use):
        assert max(figure.get_size_inches()) < 60
        named = [x.get_text() for x in figure.axes[0].get_yticklabels()]
        assert named[0] == "task of its own 0" and 50 < len(named) <= MANY


def test_a_task_of_many_classes_is_drawn_in_time():
    """Without a number in each of 90,000 cells, and no wider than a page."""
    task = TaskSpec("many", "images", CLASSES, tuple(f"class {i}" for i in range(MANY)))
    label, zeros = np.arange(MANY), np.zeros(MANY)
    held = Evaluation(
        Problem("fake", (IMAGES,), (task,)),
        {},
        label * 0,
        label,
        np.eye(MANY)[label],
        zeros + 1,
        zeros,
        np.zeros((MANY, 0), int),
        zeros,
    )
    figure = pictures.confusion(held, 0)
    assert not figure.axes[0].texts and max(figure.get_size_inches()) < 15
    labels = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert 50 < len(labels) <= 80 and labels[:2] == ["class 0", "class 4"]
    np.testing.assert_array_equal(figure.axes[0].images[0].get_array(), np.eye(MANY))


def test_predictions_stand_beside_the_truth():
    target, answers = np.random.default_rng(2).normal(size=(2, 40, 2)).astype(np.float32)
    tasks = (TASKS[0], dataclasses.replace(MIXED.tasks[1], name="second", input="images"), TASKS[2])
    problem, nothing = Problem("fake", (IMAGES,), tasks), np.zeros(40)
    held = Evaluation(problem, KINDS, DATA.task, target, answers, nothing, nothing, HELD.paths, nothing)
    figure = pictures.predictions(held, 1)
    mine = DATA.task == 1
    assert [axes.get_xlabel() for axes in figure.axes] == ["height, true", "width, true"]
    for d, axes in enumerate(figure.axes):
        points, diagonal = axes.lines
        np.testing.assert_array_equal(points.get_xdata(), target[mine, d])
        np.testing.assert_array_equal(points.get_ydata(), answers[mine, d])
        assert diagonal.get_slope() == 1
        x, y = diagonal.get_xy1()
        assert x == y
    many = dataclasses.replace(tasks[1], answers=tuple(f"{i}" for i in range(30)))
    wide = np.random.default_rng(2).normal(size=(40, 30))
    of_many = dataclasses.replace(
        held, problem=Problem("fake", (IMAGES,), (TASKS[0], many, TASKS[2])), target=wide, answers=-wide
    )
    figure = pictures.predictions(of_many, 1)
    assert len(figure.axes) == 12 and max(figure.get_size_inches()) < 12
    assert figure.axes[11].get_xlabel() == "11, true"
    none = dataclasses.replace(held, task=np.zeros(40, int))
    assert pictures.pixels(pictures.predictions(none, 1)).std() > 0


ODD_NAMES = ("$x^$", "$\\frac$", "a_b", "50 $", " ", "ä" * 300, "一", "a\nb", "%s{}<&>")


@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_name_is_no_formula(name):
    """Of a task, its answers, or a kind, which are the user's."""
    numbers = TaskSpec("numbers", "images", NUMBERS, (name,), (0.0,), (1.0,))
    tasks = (TaskSpec(name, "images", CLASSES, ("no", name)), numbers, TASKS[2])
    held = dataclasses.replace(
        recorded(HELD.paths, kinds={"in": range(0, 2), name: range(2, 6)}),
        problem=Problem(name, (IMAGES,), tasks),
        target=np.stack([DATA.target, DATA.target], axis=1),
    )
    drawn = [
        *pictures.of_paths(held, DATA).values(),
        pictures.confusion(held, 0),
        pictures.predictions(held, 1),
    ]
    for figure in drawn:
        assert pictures.pixels(figure).std() > 0


def products(layer, shape):
    """Multiply-adds by hand: each weight of a kernel once for each place of its layer's output."""
    total = 0
    for inner in layer.layers:
        after = shape if isinstance(inner, Positions) else inner.compute_output_shape((1, *shape))[1:]
        places, width = math.prod(after[:-1]), after[-1]
        if isinstance(inner, keras.Sequential):
            total += products(inner, shape)
        elif isinstance(inner, ResidualBlock):
            shortcut = width * (after != shape)
            total += places * shape[-1] * (9 * width + shortcut) + places * 9 * width**2
        elif isinstance(inner, AttentionBlock):
            # Four matrices of the attention and two layers; all pairs of places, twice.
            total += places * width**2 * (4 + 2 * inner.expansion) + 2 * places**2 * width
        elif hasattr(inner, "kernel"):
            total += math.prod(inner.kernel.shape) * places
        shape = after
    return total


def test_multiply_adds_are_those_of_the_kernels(any_pool):
    found = cost.of_kinds(any_pool)
    expected = [
        products(build_layer(kind, any_pool.takes_tokens(k)), kind.input)
        for k, kind in enumerate(any_pool.kinds)
    ]
    assert found.tolist() == expected


@pytest.mark.parametrize(
    "equation, shapes, count",
    [
        ("bi,ij->bj", [(1, 5), (5, 7)], 5 * 7),
        ("b...i,ij->b...j", [(1, 3, 4, 5), (5, 7)], 3 * 4 * 5 * 7),
        ("bti,bsi->bts", [(1, 6, 5), (1, 6, 5)], 6 * 6 * 5),
    ],
)
def test_multiply_adds_of_a_sum_over_indices(equation, shapes, count):
    first, second = shapes

    class Product(keras.layers.Layer):
        def call(self, x):
            return tf.raw_ops.Einsum(inputs=[x, tf.ones(second)], equation=equation)

    assert cost.multiply_adds(Product(), first[1:]) == count


@pytest.mark.parametrize("bidirectional", [False, True])
def test_multiply_adds_of_a_recurrent_layer_are_those_of_all_steps(bidirectional):
    steps, given, units = 10, 8, 16
    layer = keras.layers.LSTM(units)
    if bidirectional:
        layer = keras.layers.Bidirectional(layer)
    layer.build((None, steps, given))
    count = steps * (given + units) * 4 * units
    assert cost.multiply_adds(layer, (steps, given)) == count * (1 + bidirectional)


def test_multiply_adds_by_hand():
    image = InputSpec("images", (8, 6, 3), "uint8", (0.0,) * 3, (1.0,) * 3)
    tasks = [TaskSpec(name, "images", CLASSES, tuple("abcde")) for name in ("one", "two")]
    five = Problem("fake", (image,), tuple(tasks))
    conv_in, conv, flat_fc, fc, flat_out, fc_out = cost.of_kinds(Pool.of(paper(five, 2), five))
    assert (conv_in, conv) == (48 * 9 * 3 * 32, 48 * 9 * 32 * 32)
    assert (flat_fc, fc, flat_out, fc_out) == (48 * 32 * 256, 256 * 256, 48 * 32 * 5, 256 * 5)
    by_hand = 9 * (64 * 1 * 32 + 16 * 32 * 32 + 4 * 32 * 32 + 1 * 32 * 32)
    square = dataclasses.replace(IMAGES, shape=(8, 8, 1))
    assert cost.multiply_adds(make_trunk(Problem("fake", (square,), TASKS)), (8, 8, 1)) == by_hand


def events(folder):
    """What is in the event files: (step, value) by tag."""
    found = {}
    for path in sorted(folder.glob("events*")):
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            for value in event.summary.value:
                found.setdefault(value.tag, []).append((event.step, value))
    return found


def test_tensorboard_has_pictures_and_lengths(digits_run):
    found = events(digits_run)
    for name in ("module_use", "path_sharing", "top_paths"):
        ((step, value),) = found[f"paths/{name}"]
        assert step == 20 and value.metadata.plugin_data.plugin_name == "images"
        width, height, png = tf.make_ndarray(value.tensor)
        image = tf.io.decode_png(png).numpy()
        assert image.shape == (int(height), int(width), 3) and image.std() > 0
    assert [step for step, _ in found["eval/length"]] == [10, 20]
    for _, value in found["eval/length"]:
        buckets = tf.make_ndarray(value.tensor)  # left, right, count
        assert value.metadata.plugin_data.plugin_name == "histograms"
        assert buckets[:, 2].sum() == 3590


def test_hparams_are_the_settings(digits_run):
    found = events(digits_run)
    ((_, value),) = found["_hparams_/session_start_info"]
    data = plugin_data_pb2.HParamsPluginData.FromString(value.metadata.plugin_data.content)
    given = data.session_start_info.hparams
    assert given["method"].string_value == "routing" and given["examples"].number_value == 1280
    assert "workdir" not in given and "epochs" in given
    ((_, value),) = found["_hparams_/experiment"]
    data = plugin_data_pb2.HParamsPluginData.FromString(value.metadata.plugin_data.content)
    metrics = [info.name.tag for info in data.experiment.metric_infos]
    assert metrics == ["eval/accuracy", "eval/loss", "eval/unused_modules"] and set(metrics) <= set(found)
    assert {info.name for info in data.experiment.hparam_infos} == set(given)


class Embedded(Softmax):
    def embeddings(self, inputs, tasks):
        rng = np.random.default_rng(0)
        sizes = {"module": 6, "task": 3, "example": tasks.shape[0]}
        return {name: tf.constant(rng.normal(size=(size, 5))) for name, size in sizes.items()}


def test_the_projector_finds_points_names_and_images(tmp_path):
    data = benchmark()
    method = Embedded(data)
    projector.write(tmp_path, method, data)
    text = (tmp_path / "projector_config.pbtxt").read_text()
    config = text_format.Parse(text, ProjectorConfig())
    assert [held.tensor_name for held in config.embeddings] == ["module", "task", "example"]
    for held in config.embeddings:
        points = np.loadtxt(tmp_path / held.tensor_path, delimiter="\t")
        expected = method.embeddings(None, np.zeros(30))[held.tensor_name]
        np.testing.assert_allclose(points, expected, rtol=1e-5)
        names = (tmp_path / held.metadata_path).read_text().splitlines()
        # TensorBoard takes the first line for a header where there are several columns.
        assert len(names) == len(points) + 1 and all(line.count("\t") == 1 for line in names)
    tasks = data.problem.tasks
    assert names[1:] == [
        f"{tasks[k].answers[c]}\t{tasks[k].name}"
        for k, c in zip(data.test.task, data.test.target, strict=True)
    ]
    sprite = tf.io.decode_png((tmp_path / held.sprite.image_path).read_bytes()).numpy()
    side = held.sprite.single_image_dim[0]
    assert sprite.shape == (6 * side, 6 * side, 1)  # 30 images in rows of 6
    row, column = divmod(13, 6)
    corner = sprite[row * side, column * side, 0]
    assert corner == data.test.inputs[0][data.test.row[13], 0, 0, 0]


def test_the_projector_takes_examples_of_any_kind(tmp_path):
    """Images of two sizes are shown; where an example is no image, none is."""
    large = InputSpec("large", (5, 4, 3), "uint8", (0.0,) * 3, (1.0,) * 3)
    tasks = (TASKS[0], dataclasses.replace(TASKS[1], input="large"))
    arrays = np.full((3, 2, 2, 1), 7, np.uint8), np.full((3, 5, 4, 3), [9, 99, 199], np.uint8)
    row, task = np.array([0, 1, 2, 0, 1, 2]), np.array([0, 0, 0, 1, 1, 1])
    both = Examples(row, task, task, arrays)
    data = Benchmark(Problem("fake", (IMAGES, large), tasks), both, both)
    projector.write(tmp_path, Embedded(benchmark()), data)
    (file,) = tmp_path.glob("*/example.png")
    sprite = tf.io.decode_png(file.read_bytes()).numpy()
    side = projector.SIDE
    assert sprite.shape == (3 * side, 3 * side, 3)
    assert sprite[::side, ::side].tolist() == [[[7] * 3] * 3, [[9, 99, 199]] * 3, [[0] * 3] * 3]

    rng, file = np.random.default_rng(0), file.unlink()
    target = np.array([[2, 0, 0], [0.125, -3, 0], [1, 0, 1], [0, 0, 0]], np.float32)
    arrays = [rng.normal(size=(2, *given.shape)).astype(given.dtype) for given in MIXED.inputs]
    every = Examples(np.array([0, 0, 0, 1]), np.array([0, 1, 2, 2]), target, tuple(arrays))
    projector.write(tmp_path, Embedded(benchmark()), Benchmark(MIXED, every, every))
    assert not list(tmp_path.glob("*/*.png")) and "sprite" not in (
        (tmp_path / "projector_config.pbtxt").read_text()
    )
    (names,) = tmp_path.glob("*/example_names.tsv")
    said = ["target\ttask", "perhaps\tleft", "0.125, -3\tsize", "art, politics\ttopics", "none\ttopics"]
    assert names.read_text().splitlines() == said


@pytest.mark.slow
def test_matplotlib_is_imported_when_something_is_drawn():
    modules = "lrn_tf.training.trainer, lrn_tf.results.pictures, lrn_tf.results.page, lrn_tf.report"
    code = f"import sys; sys.modules['matplotlib'] = None; import {modules}"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)
