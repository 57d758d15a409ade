"""Tasks from tf.data and by names of TensorFlow Datasets."""

import pathlib
import shutil

import numpy as np
import pytest
import tensorflow as tf
from given_tasks import load

from lrn_tf.data import data_sets
from lrn_tf.data.tasks import Task
from lrn_tf.errors import UserError


def test_tasks_from_tf_data():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(30, 4)).astype(np.float32), np.arange(30) % 3
    examples = tf.data.Dataset.from_tensor_slices((x, y))
    task = Task.of("thirds", examples, answers=("a", "b", "c"), weight=2.0)
    np.testing.assert_array_equal(task.x, x)
    np.testing.assert_array_equal(task.y, y)
    assert (task.test, task.answers, task.weight) == (None, ("a", "b", "c"), 2.0)
    assert load([task]).problem.tasks[0].answers == ("a", "b", "c")
    tested = Task.of("thirds", examples.take(20), test=examples.skip(20)).test
    np.testing.assert_array_equal(tested[0], x[20:])


@pytest.mark.parametrize("count, of_one_shape", [(2500, True), (30, False)])
def test_tf_data_of_a_shape_that_is_known_and_of_any(count, of_one_shape):
    x, y = np.random.default_rng(0).normal(size=(count, 3)), np.arange(count) / 2
    examples = tf.data.Dataset.from_tensor_slices((x, y))
    if not of_one_shape:
        given = (tf.TensorSpec([None], tf.float64), tf.TensorSpec([], tf.float64))
        examples = tf.data.Dataset.from_generator(lambda: zip(x, y, strict=True), output_signature=given)
    task = Task.of("all", examples)
    np.testing.assert_array_equal(task.x, x)
    np.testing.assert_array_equal(task.y, y)


@pytest.mark.parametrize(
    "examples, said",
    [
        (np.zeros(3), "t: array.* is no tf.data set of pairs"),
        (tf.data.Dataset.range(3), "t: <.* is no tf.data set of pairs"),
        (
            tf.data.Dataset.from_tensor_slices((np.zeros(3), np.zeros(3))).repeat(),
            "never ends; take a part",
        ),
        (tf.data.Dataset.from_tensor_slices((np.zeros(0), np.zeros(0))), "the data set is empty"),
        (
            tf.data.Dataset.from_tensor_slices((np.zeros((9, 2)), np.zeros(9))).batch(4),
            r"x \(None, 2\) and y \(None,\) look like a batch; give .unbatch\(\)",
        ),
        (
            tf.data.Dataset.from_tensor_slices((np.zeros((9, 2)), np.zeros(9))).batch(
                4, drop_remainder=True
            ),
            r"x \(4, 2\) and y \(4,\) look like a batch",
        ),
        (
            tf.data.Dataset.range(1, 4).map(lambda n: (tf.zeros(n), 0)),
            r"x has the shapes \(1,\) and \(2,\); make them one",
        ),
    ],
)
def test_what_is_no_data_set_of_pairs(examples, said):
    with pytest.raises(UserError, match=said) as caught:
        Task.of("t", examples)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_tasks_by_names_of_tfds():
    try:
        _, train, test = data_sets.splits("mnist", data_sets.folder(""))
    except UserError as error:
        pytest.skip(str(error))
    task = Task.of("digit", "mnist")
    assert task.answers == tuple("0123456789")
    for (x, y), split in (((task.x, task.y), train), (task.test, test)):
        assert sorted(zip(x.sum((1, 2, 3)).tolist(), y.tolist(), strict=True)) == sorted(
            zip(split["image"].sum((1, 2, 3)).tolist(), split["label"].tolist(), strict=True)
        )


@pytest.mark.slow
def test_a_data_set_whose_files_are_damaged(tmp_path):
    folder = pathlib.Path(data_sets.folder("")) / "mnist"
    if not folder.exists():
        pytest.skip(f"no {folder}")
    shutil.copytree(folder, tmp_path / "mnist")
    for file in (tmp_path / "mnist").rglob("*tfrecord*"):
        file.chmod(0o600)
        file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(UserError, match="mnist in .* cannot be read .*; delete that folder"):
        Task.of("digit", "mnist", data_dir=str(tmp_path))


def test_no_such_name_of_tfds(tmp_path):
    with pytest.raises(UserError, match="TensorFlow Datasets has no data set 'no_such_thing'"):
        Task.of("digit", "no_such_thing", data_dir=str(tmp_path))
