"""Image files of every kind, for all that reads them: read, or named."""

import io
import json
import os
import pathlib
import shutil
import stat

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from PIL import Image
from wild import wild

from lrn_tf.data import benchmarks, data_sets, image_folder, mini_imagenet
from lrn_tf.errors import UserError


def encoded(size, mode="RGB", kind="JPEG", **options):
    pixels = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3)).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(out, kind, **options)
    return out.getvalue()


WHOLE = encoded((84, 84))
# By name: what the file holds.
CONTENTS = {
    "good": WHOLE,
    "grey": encoded((84, 84), "L"),
    "cmyk": encoded((84, 84), "CMYK"),
    "progressive": encoded((84, 84), progressive=True),
    "png": encoded((84, 84), kind="PNG"),
    "png with alpha": encoded((84, 84), "RGBA", "PNG"),
    "png of 16 bits": encoded((84, 84), "I;16", "PNG"),
    "gif": encoded((84, 84), kind="GIF"),
    "bmp": encoded((84, 84), kind="BMP"),
    "webp": encoded((84, 84), kind="WEBP"),
    "moving webp": encoded(
        (84, 84), kind="WEBP", save_all=True, append_images=[Image.new("RGB", (84, 84))]
    ),
    "tiff": encoded((84, 84), kind="TIFF"),
    "wrong size": encoded((83, 84)),
    "one pixel": encoded((1, 1)),
    "wide": encoded((3000, 1)),
    "cut": WHOLE[: len(WHOLE) // 2],
    "cut at its end": WHOLE[:-2],
    "header only": WHOLE[:20],
    "empty": b"",
    "text": b"no image at all\n",
    "zeros": bytes(4000),
    "svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    # It says that it is 65,500 pixels wide and high.
    "huge": WHOLE.replace(b"\x00\x54\x00\x54", b"\xff\xdc\xff\xdc", 1),
}
# Or what is no file.
THINGS = ("folder", "loop", "broken link", "pipe", "link to a pipe", "socket", "device", "unreadable name")
STEMS = ["0", "a b", "ü", "new\nline", "-x", "%s", "'", "x" * 200, ".hidden", "日本", "²", "\udcff\udc80"]
ENDINGS = [".jpg", ".jpeg", ".JPG", ".png", "", ".txt"]
FILES = st.tuples(
    st.sampled_from(["good"] * 3 + list(CONTENTS) + list(THINGS)),
    st.sampled_from(STEMS),
    st.sampled_from([".jpg", ".jpg", *ENDINGS]),
)


def put(folder, what, stem, ending):
    """Makes the file, or whatever it is, in the folder; returns its path."""
    path = folder / f"{stem}{ending}"
    if what == "unreadable name":  # no UTF-8
        path = folder / os.fsdecode(b"\xff" + os.fsencode(path.name))
    if os.path.lexists(path):
        return path
    if what == "folder":
        path.mkdir()
    elif what == "loop":
        path.symlink_to(path.name)
    elif what == "broken link":
        path.symlink_to("nowhere")
    elif what == "pipe":
        os.mkfifo(path)
    elif what == "link to a pipe":
        if not (folder / "a pipe").exists():
            os.mkfifo(folder / "a pipe")
        path.symlink_to("a pipe")
    elif what == "socket":
        os.mknod(path, stat.S_IFSOCK | 0o600)
    elif what == "device":
        path.symlink_to("/dev/zero")
    else:
        path.write_bytes(CONTENTS.get(what, WHOLE))
    return path


CLASSES = st.lists(
    st.tuples(
        st.sampled_from(["n00000001", "n00000002", "n00000003", "n1", "other", "n0000000x"]),
        st.lists(FILES, max_size=2),
        st.booleans(),
    ),
    max_size=4,
)


@pytest.fixture
def tree(tmp_path):
    """Makes a folder of class folders anew: name, files, and whether there are good images besides."""

    def make(classes):
        shutil.rmtree(tmp_path / "data", ignore_errors=True)
        folder = mini_imagenet.manual_folder(tmp_path / "data")
        folder.mkdir(parents=True)
        for name, files, filled in classes:
            (folder / name).mkdir(exist_ok=True)
            for what, stem, ending in files:
                put(folder / name, what, stem, ending)
            for i in range(2 * filled):
                (folder / name / f"good {i}.jpg").write_bytes(WHOLE)
        return tmp_path / "data"

    return make


GOOD = [("n00000001", [], True), ("n00000002", [], True)]


@pytest.mark.slow
def test_any_folder_of_images(tree, record_property, monkeypatch):
    """Two classes of two images are asked for."""
    tried, loaded = [], []

    @wild(60)
    @hypothesis.given(CLASSES, st.booleans())
    @hypothesis.example([], False)
    @hypothesis.example([], True)
    def try_one(classes, complete):
        classes = [*GOOD, *classes] if complete else classes
        folder = tree(classes)
        before = names(folder)
        tried.append(classes)
        try:
            found = data_sets.mini_imagenet_jpegs(str(folder), 2, 2)
        except UserError as error:
            said = str(error)
            assert "\n" not in said and str(folder) in said and len(said) < 1000, said
            # Nothing half-built is left.
            assert names(folder) == before
            return
        loaded.append(classes)
        assert list(found) == sorted({name for name, *_ in classes if name[1:].isdigit()} - {"n1"})[:2]
        for jpegs in found.values():
            assert len(jpegs) >= 2 and mini_imagenet.decode(jpegs).shape == (len(jpegs), 84, 84, 3)

    try_one()
    record_property("image folders", len(tried))
    record_property("image folders that loaded", len(loaded))
    assert 1 < len(loaded) < len(tried)


PICTURES = st.lists(
    st.tuples(
        st.sampled_from([0] * 6 + ["", "train", "test", "val", ".hidden"]),
        st.sampled_from(["task"] * 4 + ["ü", "new\nline", "\udcff", ".hidden"]),
        st.sampled_from([*"ababab", "c", "train", " "]),
        st.lists(FILES, max_size=3),
        st.integers(0, 2),
    ),
    max_size=3,
)


@pytest.mark.slow
def test_any_folder_of_pictures(tmp_path, record_property):
    """Of what lies where pictures of tasks and classes should, each file is an example or is left out."""
    tried, loaded = [], []

    @wild(100)
    @hypothesis.given(st.sampled_from([[], [""], ["train", "test"]]), PICTURES, st.sampled_from([0, 8, 8]))
    def try_one(splits, classes, size):
        folder = tmp_path / "pictures"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        good_ones = [(split, "task", cls, [], 20) for split in splits for cls in "ab"]
        for split, task, cls, files, good in [*good_ones, *classes]:
            of_class = folder / (split or (splits or [""])[0]) / task / cls
            of_class.mkdir(parents=True, exist_ok=True)
            for what, stem, ending in files:
                put(of_class, what, stem, ending)
            for i in range(good):
                (of_class / f"good {i}.jpg").write_bytes(WHOLE)
        tried.append(splits)
        try:
            found = benchmarks.load(image_folder.source(str(folder)), benchmarks.Choice(image_size=size))
        except UserError as error:
            assert str(error).isprintable() and len(str(error)) < 1000, error
            return
        loaded.append(splits)
        assert all(note.isprintable() for note in found.notes)
        (given,) = found.problem.inputs
        count = len(found.train) + len(found.test)
        assert given.shape == ((size, size, 3) if size else (84, 84, 3))
        for part in (found.train, found.test):
            assert part.inputs[0].shape == (len(part), *given.shape) and part.inputs[0].dtype == np.uint8
        said = int(found.notes[0].split(" classes and ")[1].split(" pictures")[0])
        assert said - count == sum("left out" in note and "no picture" not in note for note in found.notes)

    try_one()
    record_property("image folders", len(tried))
    record_property("image folders that loaded", len(loaded))
    assert 20 < len(loaded) < len(tried) - 20


def names(folder):
    return sorted(os.fsencode(path) for path in folder.rglob("*"))


@pytest.mark.slow
def test_any_image_files_at_all_are_classified_or_named(exported, forked, tmp_path, record_property):
    """Each kind once; a grey network is asked about images in colour and of any size."""
    files = [
        put(tmp_path, what, f"{i} {STEMS[i % len(STEMS)]}", ".jpg")
        for i, what in enumerate([*CONTENTS, *THINGS])
    ]
    # And what has no end, or gives nothing unless somebody else does.
    files += [pathlib.Path("/dev") / name for name in ("zero", "null", "tty", "full")]
    files += [tmp_path / "missing", tmp_path / "missing/x", pathlib.Path("")]
    code, out, err = forked(
        "lrn_tf.predict",
        [f"--model={exported / 'model'}", "--task=3", "--json", *map(str, files)],
        tmp_path,
    )
    assert code == 1 and "Traceback" not in err, err
    rows = [json.loads(line) for line in out.splitlines()]
    left_out = [line for line in err.splitlines() if line.startswith("left out ")]
    assert len(rows) + len(left_out) == len(files), err
    assert "{{" not in err and "[Op" not in err
    assert len(rows) >= 10 and all(0.5 <= row["probability"] <= 1 for row in rows)
    record_property("image files", len(files))
