"""Mini-ImageNet from folders of its classes: how its copy is built, and what is refused."""

import shutil

import numpy as np
import pytest
import tensorflow as tf
from named_benchmarks import counts, damage, expected_counts, load, refused

from lrn_tf.data import benchmarks, mini_imagenet

WNIDS = [f"n{number:08d}" for number in range(50)]
IMAGES = 52


def jpeg(value, size=84):
    return tf.io.encode_jpeg(np.full((size, size, 3), value, np.uint8)).numpy()


@pytest.fixture
def fake(tmp_path):
    """Class folders, each of just enough images for --examples_per=label, all of one grey per class."""
    return made(tmp_path, IMAGES)


@pytest.fixture
def few(tmp_path, monkeypatch):
    """The same where two images of a class are held out, not 50."""
    monkeypatch.setitem(benchmarks.MIN_PER_CLASS, "label", (800, 2))
    return made(tmp_path, 4)


def made(tmp_path, images):
    for number, wnid in enumerate(WNIDS):
        folder = mini_imagenet.manual_folder(tmp_path) / wnid
        folder.mkdir(parents=True)
        grey = jpeg(number)
        for image in range(images):
            (folder / f"{image}.jpg").write_bytes(grey)
    return mini_imagenet.manual_folder(tmp_path)


def load_fake(fake):
    return load("min_mtl", examples_per="label", data_dir=str(fake.parents[2]))


def refused_fake(fake, examples_per="label"):
    return refused("min_mtl", examples_per=examples_per, data_dir=str(fake.parents[2]))


@pytest.mark.slow
def test_class_folders_are_built_once_and_quietly(fake, capsys):
    train = load_fake(fake).train
    assert counts(train) == expected_counts(10, 5, IMAGES - 50)
    np.testing.assert_array_equal(train.inputs[0][train.row, 0, 0, 0], train.task * 5 + train.target)
    output = capsys.readouterr()
    assert output.out == "" and len(output.err.splitlines()) == 1 and "building" in output.err
    load_fake(fake)
    assert capsys.readouterr() == ("", "")


@pytest.mark.slow
def test_per_label_takes_at_most_800_training_images(fake):
    grey = jpeg(11)
    for image in range(IMAGES, 860):
        (fake / WNIDS[11] / f"{image}.jpg").write_bytes(grey)
    benchmark = load_fake(fake)
    assert counts(benchmark.train) == expected_counts(10, 5, IMAGES - 50) | {(2, 1): 800}
    assert counts(benchmark.test) == expected_counts(10, 5, 50)


@pytest.mark.slow
def test_changed_class_folders_are_rebuilt(few):
    load_fake(few)
    for path in (few / WNIDS[7]).iterdir():
        path.write_bytes(jpeg(207))
    (replaced,) = load_fake(few).train.inputs
    assert 207 in replaced and 7 not in replaced
    (few / WNIDS[8] / "more.JPEG").write_bytes(jpeg(8))
    assert counts(load_fake(few).train)[1, 3] == 4 - 2 + 1


def test_missing_class_folders(fake, tmp_path):
    message = refused("min_mtl", data_dir=str(tmp_path / "elsewhere"))
    assert f"{tmp_path}/elsewhere/downloads/manual/mini_imagenet holds 0 classes" in message
    assert "<wnid>/*.jpg" in message and "digits_mtl" in message
    shutil.rmtree(fake / WNIDS[0])
    assert f"{fake} holds 49 classes of Mini-ImageNet and 50 are needed" in refused_fake(fake)


def test_too_few_images_in_a_class(fake):
    message = refused_fake(fake, examples_per="task")
    assert f"class {WNIDS[0]} in {fake} has {IMAGES} images and 170 of each class are needed" in message
    (fake / WNIDS[3] / "5.jpg").unlink()
    assert f"class {WNIDS[3]} in {fake} has 51 images and 52 " in refused_fake(fake)


@pytest.mark.slow
def test_a_bad_image_is_named_and_leaves_nothing_behind(few):
    bad = few / WNIDS[49] / "3.jpg"
    good = bad.read_bytes()
    for content, problem in (
        (jpeg(1, size=80), "has 80x80 pixels"),
        (jpeg(1)[:300], "cannot be read as a JPEG image"),
        (b"", "cannot be read as a JPEG image"),
        (b"no image", "cannot be read as a JPEG image"),
    ):
        bad.write_bytes(content)
        assert f"{bad} {problem}" in refused_fake(few)
        assert [path.name for path in few.parents[2].iterdir()] == ["downloads"]
    bad.write_bytes(good)
    assert len(load_fake(few).test) == 50 * 2


def test_a_class_folder_that_is_a_file(fake):
    shutil.rmtree(fake / WNIDS[5])
    (fake / WNIDS[5]).write_text("")
    assert "NotADirectoryError" in refused_fake(fake)


@pytest.mark.slow
def test_a_corrupt_copy_of_the_class_folders(few):
    load_fake(few)
    built = few.parents[2] / "mini_imagenet"
    (records,) = built.rglob("*.tfrecord*")
    damage(records)
    message = refused_fake(few)
    assert str(built) in message and "delete" in message
    shutil.rmtree(built)
    load_fake(few)


@pytest.mark.slow
def test_two_processes_may_build_at_once(fake, monkeypatch):
    builder = mini_imagenet.MiniImagenet
    generate = builder._generate_examples

    def while_another_builds(self, folder):
        monkeypatch.undo()
        load_fake(fake)
        return generate(self, folder)

    monkeypatch.setattr(builder, "_generate_examples", while_another_builds)
    assert len(load_fake(fake).test) == 50 * 50
    assert builder._generate_examples is generate
