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
from tensorboard.plugins.hparams import plugin_data_pb2
from tensorboard.plugins.projector import ProjectorConfig
from tiny_run import Softmax, benchmark, examples, run

from lrn_tf.methods.fc_network import make_trunk
from lrn_tf.modules.pool import build_layer
from lrn_tf.modules.pools import paper
from lrn_tf.results import compute, path_graph, pictures, projector
from lrn_tf.results.evaluation import Evaluation

TASKS = ("first", "second", "third")
KINDS = {"in": range(0, 2), "hidden": range(2, 5), "out": range(5, 6)}
RNG = np.random.default_rng(0)
DATA = examples(40, RNG)


def recorded(paths, task=DATA.task, kinds=KINDS, predicted=None):
    n = len(task)
    ones = np.ones(n)
    predicted = DATA.label if predicted is None else predicted
    return Evaluation(
        len(TASKS), kinds, task, DATA.label, predicted, ones, 0 * ones, np.asarray(paths), ones
    )


HELD = recorded([RNG.choice([[0, 2, 5], [1, 3, 5], [0, 5, 6]]) for _ in DATA.task])


def words(figure):
    """All text in a figure."""
    import matplotlib.text

    return [x.get_text() for x in figure.findobj(matplotlib.text.Text) if x.get_text()]


def test_module_use_shows_shares_and_marks_who_is_unused():
    figure = pictures.module_use(HELD, TASKS)
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
    figure = pictures.path_sharing(HELD, TASKS)
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
            str(((DATA.label == true) & (predicted == given) & mine).sum())
            for true in range(2)
            for given in range(2)
        ]
        assert [x.get_text() for x in pictures.confusion(held, k, ("no", "yes")).axes[0].texts] == counts


def test_top_paths_name_modules_shares_and_tasks():
    said = words(pictures.top_paths(HELD, TASKS, DATA))
    assert {"in.0", "in.1", "hidden.0", "hidden.1", "out.0"} <= set(said)
    networks, which = HELD.networks
    for u in range(len(networks)):
        assert any(text.startswith(f"{(which == u).mean():.1%} of all\n") for text in said)
    only = words(pictures.top_paths(HELD, TASKS, DATA, most=1))
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


@pytest.mark.parametrize("modules", [6, 60, 240])
def test_any_number_of_modules_and_images_of_any_kind(modules):
    kinds = {"in": range(modules // 2), "a longer name": range(modules // 2, modules)}
    coloured = dataclasses.replace(DATA, images=np.repeat(DATA.images, 3, axis=3))
    for figure in pictures.of_paths(recorded(HELD.paths, kinds=kinds), TASKS, coloured).values():
        shown = pictures.pixels(figure)
        assert shown.dtype == np.uint8 and shown.ndim == 3 and shown.shape[2] == 3
        assert shown.std() > 0


def test_a_method_without_paths_has_no_pictures():
    assert pictures.of_paths(recorded(np.zeros((40, 0), int), kinds={}), TASKS, DATA) == {}


def products(layer, shape):
    """Multiply-adds by hand: each weight of a kernel once for each place of its layer's output."""
    total = 0
    for inner in layer.layers:
        if isinstance(inner, keras.Sequential):
            total += products(inner, shape)
        elif isinstance(inner, (keras.layers.Dense, keras.layers.Conv2D)):
            places = inner.compute_output_shape((1, *shape))[1:-1]
            total += math.prod(inner.kernel.shape) * math.prod(places)
        shape = inner.compute_output_shape((1, *shape))[1:]
    return total


def test_multiply_adds_are_those_of_the_kernels(any_pool):
    found = compute.of_kinds(any_pool)
    assert found.tolist() == [products(build_layer(kind), kind.input) for kind in any_pool.kinds]


def test_multiply_adds_by_hand():
    conv_in, conv, flat_fc, fc, flat_out, fc_out = compute.of_kinds(paper((8, 6, 3), 5, 2))
    assert (conv_in, conv) == (48 * 9 * 3 * 32, 48 * 9 * 32 * 32)
    assert (flat_fc, fc, flat_out, fc_out) == (48 * 32 * 256, 256 * 256, 48 * 32 * 5, 256 * 5)
    by_hand = 9 * (64 * 1 * 32 + 16 * 32 * 32 + 4 * 32 * 32 + 1 * 32 * 32)
    assert compute.multiply_adds(make_trunk((8, 8, 1)), (8, 8, 1)) == by_hand


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
    assert metrics == ["eval/accuracy", "eval/unused_modules"] and set(metrics) <= set(found)
    assert {info.name for info in data.experiment.hparam_infos} == set(given)


class Embedded(Softmax):
    def embeddings(self, images):
        rng = np.random.default_rng(0)
        sizes = {"module": 6, "task": 3, "image": images.shape[0]}
        return {name: tf.constant(rng.normal(size=(size, 5))) for name, size in sizes.items()}


def test_the_projector_finds_points_names_and_images(tmp_path):
    data = benchmark()
    method = Embedded(data)
    projector.write(tmp_path, method, data)
    text = (tmp_path / "projector_config.pbtxt").read_text()
    config = text_format.Parse(text, ProjectorConfig())
    assert [held.tensor_name for held in config.embeddings] == ["module", "task", "image"]
    for held in config.embeddings:
        points = np.loadtxt(tmp_path / held.tensor_path, delimiter="\t")
        expected = method.embeddings(np.zeros(30))[held.tensor_name]
        np.testing.assert_allclose(points, expected, rtol=1e-5)
        names = (tmp_path / held.metadata_path).read_text().splitlines()
        # TensorBoard takes the first line for a header where there are several columns.
        assert len(names) == len(points) + 1 and all(line.count("\t") == 1 for line in names)
    assert names[1:] == [
        f"{data.classes[k][c]}\t{data.tasks[k]}"
        for k, c in zip(data.test.task, data.test.label, strict=True)
    ]
    sprite = tf.io.decode_png((tmp_path / held.sprite.image_path).read_bytes()).numpy()
    side = held.sprite.single_image_dim[0]
    assert sprite.shape == (6 * side, 6 * side, 1)  # 30 images in rows of 6
    row, column = divmod(13, 6)
    corner = sprite[row * side, column * side, 0]
    assert corner == data.test.images[data.test.image[13], 0, 0, 0]


def test_matplotlib_is_imported_when_something_is_drawn():
    modules = "lrn_tf.training.trainer, lrn_tf.results.pictures, lrn_tf.results.page, lrn_tf.report"
    code = f"import sys; sys.modules['matplotlib'] = None; import {modules}"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)
