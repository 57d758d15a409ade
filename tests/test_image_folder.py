"""A folder of pictures as tasks, against what was written there; and every way in which it may be wrong."""

import io
import os
import pathlib
import re

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from lrn_tf import predict
from lrn_tf.data import benchmarks, image_folder
from lrn_tf.data.benchmarks import Choice
from lrn_tf.data.problem import InputSpec
from lrn_tf.errors import UserError
from lrn_tf.settings.resolve import resolve

SIDE = 12


def pixels(seed, height=SIDE, width=SIDE, channels=3):
    """A picture that no other seed has."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)


def encoded(image, kind="PNG", mode=None, **options):
    out = io.BytesIO()
    picture = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
    (picture.convert(mode) if mode else picture).save(out, kind, **options)
    return out.getvalue()


def put(path, image, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(image if isinstance(image, bytes) else encoded(image, **options))


def fill(folder, tasks, start=0, channels=3):
    """Writes so many PNGs for each task and class; returns task, class and pixels by path."""
    made = {}
    for task, classes in tasks.items():
        for cls, count in classes.items():
            for i in range(count):
                path = folder / task / cls / f"{i}.png"
                image = pixels(start + len(made), channels=channels)
                put(path, image)
                made[path] = task, cls, image
    return made


FRUIT = {"fruit": {"apple": 10, "pear": 5, "plum": 1}, "colour": {"green": 6, "red": 8}}


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "pictures"


def load(folder, **choice):
    return benchmarks.load(image_folder.source(str(folder)), Choice(**choice))


def refused(folder, **choice):
    """The one line with which a folder is refused."""
    with pytest.raises(UserError) as error:
        load(folder, **choice)
    said = str(error.value)
    assert said.isprintable() and str(folder) in said, said
    return said


def found(benchmark, part):
    """Task, class and bytes of the picture of each example, sorted."""
    problem = benchmark.problem
    return sorted(
        (problem.task_names[k], problem.answers[k][label], part.inputs[0][row].tobytes())
        for k, label, row in zip(part.task, part.target, part.row, strict=True)
    )


def expected(made):
    return sorted((task, cls, image.tobytes()) for task, cls, image in made.values())


# What is there


def test_tasks_are_folders_and_classes_are_folders_in_them(folder):
    made = fill(folder, FRUIT)
    benchmark = load(folder)
    problem = benchmark.problem
    assert problem.name == benchmark.name == "pictures"
    assert [(t.name, t.form, t.answers) for t in problem.tasks] == [
        ("colour", "classes", ("green", "red")),
        ("fruit", "classes", ("apple", "pear", "plum")),
    ]
    (given,) = problem.inputs
    assert (given.name, given.shape, given.is_image) == ("images", (SIDE, SIDE, 3), True)
    train, test = found(benchmark, benchmark.train), found(benchmark, benchmark.test)
    assert sorted(train + test) == expected(made)
    # A fifth of each class; of a single picture none.
    counts = {cls: sum(c == cls for _, c, _ in test) for c in FRUIT.values() for cls in c}
    assert counts == {"apple": 2, "pear": 1, "plum": 0, "green": 1, "red": 2}
    assert benchmark.notes == (
        "found 2 tasks with 5 classes and 30 pictures; a random 20% of each class held out for the test",
    )
    exact = np.stack([image for *_, image in made.values() if image.tobytes() in {i for *_, i in train}])
    np.testing.assert_allclose(given.mean, exact.mean(axis=(0, 1, 2)), rtol=1e-6)


def test_the_seed_decides_what_is_held_out(folder):
    fill(folder, FRUIT)
    first, again, other = (found(b := load(folder, seed=s), b.test) for s in (1, 1, 2))
    assert first == again != other


def test_with_a_test_of_its_own(folder):
    train = fill(folder / "train", FRUIT)
    test = fill(
        folder / "test",
        {"fruit": dict.fromkeys(("plum", "pear", "apple"), 1), "colour": {"red": 2, "green": 3}},
        500,
    )
    benchmark = load(folder)
    assert found(benchmark, benchmark.train) == expected(train)
    assert found(benchmark, benchmark.test) == expected(test)
    assert benchmark.problem.task_names == ("colour", "fruit")
    assert benchmark.notes == ("found 2 tasks with 5 classes and 38 pictures; train/ and test/",)


def test_tasks_and_classes_may_be_called_alike(folder):
    """Also as the folders of a split, which are something else below the tasks."""
    made = fill(folder, {"a": {"a": 5, "test": 5}, "b": {"train": 5, "test": 5}})
    benchmark = load(folder)
    assert sorted(found(benchmark, benchmark.train) + found(benchmark, benchmark.test)) == expected(made)


def test_a_folder_is_a_benchmark_by_its_path(folder, monkeypatch):
    fill(folder, FRUIT)
    monkeypatch.chdir(folder.parent)
    for path in (str(folder), "pictures", "./pictures/"):
        asked = resolve({"benchmark": path, "validation": 0.2, "heads": "task", "image_size": 6})
        benchmark = benchmarks.benchmark_of(asked)
        assert benchmark.name == "pictures" and benchmark.problem.heads == "task"
        assert benchmark.problem.inputs[0].shape == (6, 6, 3)
        # Of 24 that are trained on.
        assert [len(benchmark.train), len(benchmark.test)] == [19, 5]


def test_files_are_read_in_order_whatever_wrote_them_first(folder, tmp_path):
    made = fill(folder, FRUIT)
    other = tmp_path / "again" / "pictures"
    for path in reversed(made):
        put(other / path.relative_to(folder), path.read_bytes())
    one, two = load(folder), load(other)
    for a, b in zip((one.train, one.test), (two.train, two.test), strict=True):
        np.testing.assert_array_equal(a.inputs[0], b.inputs[0])
        np.testing.assert_array_equal(a.target, b.target)


# Kinds of pictures


def one_class_of(folder, pictures):
    """A task whose class "b" has these pictures, by name of file; returns the benchmark."""
    for i in range(2):
        put(folder / "task" / "a" / f"{i}.png", pixels(900 + i))
    for name, content in pictures.items():
        put(folder / "task" / "b" / name, content)


def shown(folder, **choice):
    """The pictures of class "b", by bytes."""
    benchmark = load(folder, **choice)
    return [
        part.inputs[0][row]
        for part in (benchmark.train, benchmark.test)
        for row, label in zip(part.row, part.target, strict=True)
        if label == 1
    ]


def moving(image, kind, **options):
    """The picture, and then others."""
    out = io.BytesIO()
    others = [Image.fromarray(255 - image), Image.fromarray(image // 2)]
    Image.fromarray(image).save(out, kind, save_all=True, append_images=others, **options)
    return out.getvalue()


GREY = pixels(3, channels=1)
COLOUR = pixels(4)
RED = np.full_like(COLOUR, (204, 51, 0))  # which Pillow's palette has
ON_ITS_SIDE = Image.Exif()
ON_ITS_SIDE[0x0112] = 6  # to be turned to the right


@pytest.mark.parametrize(
    "name, content, becomes",
    [
        ("a.png", encoded(COLOUR), COLOUR),
        ("A.PNG", encoded(COLOUR), COLOUR),
        ("a.bmp", encoded(COLOUR, "BMP"), COLOUR),
        ("grey.bmp", encoded(GREY, "BMP"), np.repeat(GREY, 3, 2)),
        ("a.gif", encoded(np.repeat(GREY, 3, 2), "GIF"), np.repeat(GREY, 3, 2)),
        ("a.webp", encoded(COLOUR, "WEBP", lossless=True), COLOUR),
        ("grey.png", encoded(GREY), np.repeat(GREY, 3, 2)),
        ("grey.jpg", encoded(np.full_like(GREY, 77), "JPEG"), np.full_like(COLOUR, 77)),
        ("a.jpeg", encoded(np.full_like(COLOUR, 99), "JPEG"), np.full_like(COLOUR, 99)),
        ("cmyk.jpg", encoded(np.full_like(COLOUR, 0), "JPEG", "CMYK"), np.full_like(COLOUR, 0)),
        ("palette.png", encoded(np.full_like(COLOUR, 0), mode="P"), np.full_like(COLOUR, 0)),
        ("palette.bmp", encoded(RED, "BMP", "P"), RED),
        ("alpha.png", encoded(COLOUR, mode="RGBA"), COLOUR),
        ("no red.png", encoded(RED, mode="P", transparency=bytes(256)), RED),
        ("on its side.png", encoded(COLOUR, exif=ON_ITS_SIDE), np.rot90(COLOUR, -1)),
        ("moving.webp", moving(COLOUR, "WEBP", lossless=True), COLOUR),
        ("grey alpha.png", encoded(GREY, mode="LA"), np.repeat(GREY, 3, 2)),
        # What its ending says is not believed.
        ("png.jpg", encoded(COLOUR), COLOUR),
        ("ü '\n%s.png", encoded(COLOUR), COLOUR),
    ],
)
def test_pictures_of_any_kind(folder, name, content, becomes):
    """The same when a trained network is asked about them, also one that knows no colours."""
    one_class_of(folder, {name: content})
    (image,) = shown(folder)
    np.testing.assert_array_equal(image, becomes)
    file = str(folder / "task" / "b" / name)
    colour, grey = (InputSpec("image", (SIDE, SIDE, c), "uint8", (0.0,) * c, (1.0,) * c) for c in (3, 1))
    np.testing.assert_array_equal(predict.examples(file, colour)[0], becomes)
    luminance = np.asarray(Image.fromarray(becomes).convert("L"), int)
    assert np.abs(predict.examples(file, grey)[0, ..., 0] - luminance).max() <= 1


def test_splits_in_capitals_are_no_tasks(folder):
    for split in ("Train", "Test"):
        fill(folder / split, FRUIT)
    assert refused(folder) == f"{folder}/Train would be a task; call it train/, or otherwise"


def test_the_first_picture_of_an_animation(folder):
    one_class_of(folder, {"a.gif": moving(np.full((SIDE, SIDE, 3), 50, np.uint8), "GIF")})
    assert (shown(folder)[0] == 50).all()


def test_grey_of_more_than_a_byte_is_left_out_and_said(folder):
    deep = io.BytesIO()
    Image.fromarray(np.full((SIDE, SIDE), 3000, np.uint16)).save(deep, "PNG")
    fill(folder, FRUIT)
    put(folder / "fruit" / "apple" / "deep.png", deep.getvalue())
    (note,) = [note for note in load(folder).notes if "deep.png" in note]
    assert "more than 8 bits; make it 8" in note


def test_all_grey_stays_grey(folder):
    made = fill(folder, FRUIT, channels=1)
    benchmark = load(folder)
    assert benchmark.problem.inputs[0].shape == (SIDE, SIDE, 1)
    assert sorted(found(benchmark, benchmark.train) + found(benchmark, benchmark.test)) == expected(made)


def test_one_in_colour_makes_all_three_channels(folder):
    made = fill(folder, FRUIT, channels=1)
    path = next(iter(made))
    put(path, COLOUR)
    benchmark = load(folder)
    assert benchmark.problem.inputs[0].shape == (SIDE, SIDE, 3)
    made = {p: (*of, COLOUR if p == path else np.repeat(image, 3, 2)) for p, (*of, image) in made.items()}
    assert sorted(found(benchmark, benchmark.train) + found(benchmark, benchmark.test)) == expected(made)


def test_colour_beside_grey_changes_nobody_elses_part(folder):
    """A run that starts from one on the grey ones shall not be tested on what that has learned."""
    fill(folder, FRUIT, channels=1)
    grey = load(folder)
    put(folder / "colour" / "red" / "more.png", COLOUR)
    both = load(folder)

    def fruit(benchmark):
        held_out = [e for e in found(benchmark, benchmark.test) if e[0] == "fruit"]
        return [
            (*of, np.frombuffer(image, np.uint8)[:: len(image) // SIDE**2].tobytes())
            for *of, image in held_out
        ]

    assert fruit(grey) == fruit(both) != []


def test_colour_in_the_test_makes_the_training_three_channels(folder):
    fill(folder / "train", FRUIT, channels=1)
    fill(folder / "test", FRUIT, 500)
    benchmark = load(folder)
    for part in (benchmark.train, benchmark.test):
        assert part.inputs[0].shape == (30, SIDE, SIDE, 3)
    assert (np.ptp(benchmark.train.inputs[0], axis=3) == 0).all()


# Sizes


def sized(folder):
    """Pictures of four sizes, of which two are one; by path."""
    made = fill(folder, {"task": {"a": 2, "b": 1}})
    for i, (height, width) in enumerate([(20, 12), (12, 20), (20, 12), (9, 30)]):
        image = pixels(50 + i, height, width)
        put(folder / "task" / "b" / f"big {i}.png", image)
        made[folder / "task" / "b" / f"big {i}.png"] = "task", "b", image
    return made


def test_different_sizes_need_a_size(folder):
    sized(folder)
    said = refused(folder)
    assert (
        said == f"pictures in {folder} have 4 sizes (12x12, 20x12, 12x20, ..); give --image_size=N for NxN"
    )


def test_two_sizes_are_both_named(folder):
    one_class_of(folder, {"a.png": pixels(1, 9, 8)})
    assert refused(folder) == (
        f"pictures in {folder} have 2 sizes (12x12, 9x8); give --image_size=N for NxN"
    )


@pytest.mark.parametrize("size", [8, 12, 24])
def test_different_sizes_become_one(folder, size):
    made = sized(folder)
    benchmark = load(folder, image_size=size)
    assert benchmark.problem.inputs[0].shape == (size, size, 3)
    ours = np.concatenate([benchmark.train.inputs[0], benchmark.test.inputs[0]]).astype(int)
    theirs = [
        tf.image.resize(image, (size, size), antialias=True).numpy().round() for *_, image in made.values()
    ]
    for image in theirs:
        distance = np.abs(ours - image).max(axis=(1, 2, 3))
        assert (distance <= 1).sum() == 1
    assert len(ours) == len(theirs)


def test_a_size_that_all_have_changes_nothing(folder):
    fill(folder, FRUIT)
    one, other = load(folder), load(folder, image_size=SIDE)
    np.testing.assert_array_equal(one.train.inputs[0], other.train.inputs[0])


# What cannot be read

BROKEN = {
    "text": b"no image at all\n",
    "empty": b"",
    "cut": encoded(COLOUR)[:100],
    "header only": encoded(COLOUR, "JPEG")[:20],
}


@pytest.mark.parametrize("broken", BROKEN)
def test_unreadable_pictures_are_named_and_left_out(folder, broken):
    made = fill(folder, FRUIT)
    bad = [folder / "fruit" / "apple" / "3.png", folder / "colour" / "red" / "bad.jpg"]
    for path in bad:
        put(path, BROKEN[broken])
        made.pop(path, None)
    benchmark = load(folder)
    assert sorted(found(benchmark, benchmark.train) + found(benchmark, benchmark.test)) == expected(made)
    first, *notes = benchmark.notes
    assert first.startswith("found 2 tasks with 5 classes and 31 pictures; ")
    assert len(notes) == 2
    for path, note in zip(sorted(bad), notes, strict=True):
        assert re.fullmatch(rf"left out {path} \(.+\)", note) and note.isprintable() and "{{" not in note


def test_many_unreadable_pictures_are_counted(folder):
    fill(folder, {"task": {"a": 100, "b": 20}})
    for i in range(8):
        put(folder / "task" / "a" / f"bad {i}.png", b"")
    *_, last = notes = load(folder).notes
    assert len(notes) == 7 and last == "left out 3 more that cannot be read"
    assert all(f"bad {i}.png (" in note for i, note in enumerate(notes[1:6]))


def test_too_many_unreadable_pictures_are_refused(folder):
    fill(folder, {"task": {"a": 15, "b": 3}})
    put(folder / "task" / "a" / "bad.png", b"")
    put(folder / "task" / "b" / "bad.png", b"")
    assert len(load(folder).notes) == 3
    fill(folder, {"task": {"a": 23, "b": 3}})
    put(folder / "task" / "b" / "worse.png", b"")
    said = refused(folder)
    assert said.startswith(
        f"3 of 29 pictures in {folder} cannot be read, such as {folder}/task/a/bad.png ("
    )
    assert said.endswith("); mend or remove them")


@pytest.mark.parametrize("split", ["", "train", "test"])
def test_a_class_of_which_no_picture_can_be_read(folder, split):
    for name in (split,) if not split else ("train", "test"):
        fill(folder / name, {"task": {"a": 30, "b": 1}})
    put(folder / split / "task" / "b" / "0.png", b"")
    with pytest.raises(
        UserError, match="^none of the pictures of task/b can be read; mend or remove them$"
    ):
        load(folder)


def test_what_is_no_picture_is_left_out(folder):
    made = fill(folder, FRUIT)
    apple = folder / "fruit" / "apple"
    put(apple / ".hidden.png", b"")
    put(apple / ".DS_Store", b"")
    put(folder / ".git" / "x" / "1.png", b"")
    put(folder / "fruit" / ".cache" / "1.png", b"")
    os.mkfifo(apple / "pipe.png")
    (apple / "loop.png").symlink_to("loop.png")
    (apple / "broken.png").symlink_to("nowhere")
    (apple / "device.png").symlink_to("/dev/null")
    (apple / "folder.png").mkdir()
    benchmark = load(folder)
    assert sorted(found(benchmark, benchmark.train) + found(benchmark, benchmark.test)) == expected(made)
    assert len(benchmark.notes) == 1


def test_files_that_are_not_looked_at_are_said(folder):
    fill(folder, FRUIT)
    for path in ("labels.csv", "fruit/1.png", "fruit/apple/notes.txt", "fruit/apple/more/1.png"):
        put(folder / path, b"")
    _, note = load(folder).notes
    assert note == f"left out {folder}/fruit/1.png and 3 more (no picture in the folder of a class)"


def test_a_third_folder_beside_train_and_test_is_said(folder):
    for name in ("train", "test"):
        fill(folder / name, FRUIT)
    put(folder / "val" / "fruit" / "apple" / "0.png", COLOUR)
    benchmark = load(folder)
    assert len(benchmark.train) == len(benchmark.test) == 30
    assert benchmark.notes[1:] == (
        f"left out {folder}/val/fruit/apple/0.png (no picture in the folder of a class)",
    )


def test_links_are_followed(folder, tmp_path):
    made = fill(tmp_path / "elsewhere", FRUIT)
    folder.symlink_to(tmp_path / "elsewhere")
    benchmark = load(folder)
    assert benchmark.name == "pictures" and len(benchmark.train) + len(benchmark.test) == len(made)


# What is no such folder


def test_a_folder_without_tasks(folder):
    folder.mkdir()
    said = f"{folder} has no folders; put pictures there, such as {folder}/fruit/apple/1.png"
    assert refused(folder) == said
    put(folder / "1.png", COLOUR)
    put(folder / ".hidden" / "a" / "1.png", COLOUR)
    assert refused(folder) == said


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_split_without_tasks(folder, split):
    for name in ("train", "test"):
        fill(folder / name, FRUIT if name != split else {})
        (folder / name).mkdir(parents=True, exist_ok=True)
    assert refused(folder).startswith(f"{folder}/{split} has no folders; put pictures there, such as ")


def test_classes_without_a_task_above_them(folder):
    for i in range(3):
        put(folder / "apple" / f"{i}.png", COLOUR)
    assert refused(folder) == (
        f"{folder}/apple has 0 folders of classes; give two at least, with pictures of a class each"
    )


def test_a_single_class(folder):
    fill(folder, {**FRUIT, "size": {"small": 3}})
    assert refused(folder) == (
        f"{folder}/size has 1 folders of classes; give two at least, with pictures of a class each"
    )


def test_an_empty_class(folder):
    fill(folder, FRUIT)
    put(folder / "colour" / "blue" / "notes.txt", b"")
    assert refused(folder) == (
        f"{folder}/colour/blue has no pictures (.png, .jpg, .jpeg, .bmp, .gif, .webp); add some"
    )


@pytest.mark.parametrize("there, missing", [("train", "test"), ("test", "train")])
def test_one_split_without_the_other(folder, there, missing):
    fill(folder / there, FRUIT)
    assert refused(folder) == f"{folder} has {there}/ but no {missing}/; give both or none of them"


@pytest.mark.parametrize("there, missing", [("train", "test"), ("test", "train")])
@pytest.mark.parametrize("more", ["fruit/quince", "size/large"])
def test_train_and_test_differ(folder, there, missing, more):
    for name in ("train", "test"):
        fill(folder / name, FRUIT)
    put(folder / there / more / "0.png", COLOUR)
    put(folder / there / pathlib.Path(more).parent / "rest" / "0.png", COLOUR)
    assert refused(folder) == (
        f"{folder}/{there}/{more} has no counterpart in {missing}/; give both the same tasks and classes"
    )


def test_too_few_pictures_to_hold_some_out(folder):
    fill(folder, {"task": {"a": 1, "b": 1}})
    with pytest.raises(UserError, match="^task has too few examples to hold some out; give more"):
        load(folder)


@pytest.mark.parametrize("name", ["new\nline", "\udcff"])
def test_names_that_cannot_be_printed(folder, name):
    fill(folder, {name: {"a": 3, "b": 3}})
    with pytest.raises(UserError, match="^pictures: task 0 is called '.*'; give it a name") as error:
        load(folder)
    assert str(error.value).isprintable()
    fill(folder.parent / "other", {"task": {name: 3, "b": 3}})
    with pytest.raises(UserError, match="^task: an answer is called '.*'; give it one line") as error:
        load(folder.parent / "other")
    assert str(error.value).isprintable()
    (folder.parent / "third" / "task" / name).mkdir(parents=True)
    (folder.parent / "third" / "task" / "b").mkdir()
    with pytest.raises(UserError, match="has no pictures") as error:
        load(folder.parent / "third")
    assert str(error.value).isprintable()


def test_a_folder_that_is_not_there(folder):
    assert refused(folder) == f"{folder} cannot be read (No such file or directory); mend that"


def test_a_folder_that_may_not_be_read(folder, monkeypatch):
    fill(folder, FRUIT)
    real = os.listdir
    wrong = folder / "fruit" / "apple"

    def listdir(path):
        if str(path) == str(wrong):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "listdir", listdir)
    assert refused(folder) == f"{wrong} cannot be read (Permission denied); mend that"
