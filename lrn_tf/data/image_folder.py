"""A folder of pictures as tasks: `TASK/CLASS/*.png`, or `train/TASK/CLASS/*` beside `test/TASK/CLASS/*`."""

import collections
import concurrent.futures
import dataclasses
import functools
import pathlib
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from lrn_tf.data.images import decode, resize
from lrn_tf.data.tasks import Task
from lrn_tf.data.together import TEST, Drawn, together
from lrn_tf.errors import UserError, printable, reason

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp")
SPLITS = ("train", "test")
# Of the pictures, more than this share may not be unreadable.
MOST_UNREADABLE = 0.1
# How many files that were left out are named.
NAMED = 5


def source(folder: str) -> Callable[..., Drawn]:
    """What draws the tasks in a folder, for `lrn_tf.data.benchmarks.load`."""
    return functools.partial(_draw, pathlib.Path(folder))


def _draw(folder, choice):
    try:
        splits = {name: _list(folder / name) for name in SPLITS if (folder / name).is_dir()}
        splits = splits or {"": _list(folder)}
        _check(folder, splits)
        paths = [
            path
            for tasks in splits.values()
            for classes in tasks.values()
            for files in classes.values()
            for path in files
        ]
        others = _others(folder, paths)
    except OSError as error:
        where = _shown(error.filename or folder)
        raise UserError(f"{where} cannot be read ({reason(error)}); mend that") from error
    pictures, notes = _read(folder, paths, choice.image_size)
    tasks = []
    for name, classes in next(iter(splits.values())).items():
        (x, y), *test = (_examples(name, of_task[name], pictures) for of_task in splits.values())
        tasks.append(Task(name, x, y, test[0] if test else None, tuple(classes)))
    drawn = together(folder.absolute().name, tasks, choice.seed)
    return dataclasses.replace(drawn, notes=(_found(splits, len(paths)), *others, *notes))


def _list(folder):
    """The files that may be pictures, by name of task and class."""
    return {task.name: {cls.name: _files(cls) for cls in _folders(task)} for task in _folders(folder)}


def _folders(folder):
    return [path for path in sorted(folder.iterdir()) if path.is_dir() and not path.name.startswith(".")]


def _files(folder):
    # A pipe would be waited for.
    return [
        path
        for path in sorted(folder.iterdir())
        if path.suffix.lower() in ENDINGS and path.is_file() and not path.name.startswith(".")
    ]


def _others(folder, paths):
    """A line on files that are neither hidden nor pictures of a class, if there are any."""
    known = set(paths)
    found = sorted(path for path in folder.rglob("*") if path not in known and path.is_file())
    found = [path for path in found if not any(p.startswith(".") for p in path.relative_to(folder).parts)]
    if not found:
        return []
    more = f" and {len(found) - 1:,} more" if len(found) > 1 else ""
    return [f"left out {_shown(found[0])}{more} (no picture in the folder of a class)"]


def _shown(path):
    return printable(str(path))


def _check(folder, splits):
    """Sees that there are tasks, and that both splits have the same."""
    for name in SPLITS:
        if odd := [task for task in splits.get("", ()) if task.lower() == name]:
            raise UserError(f"{_shown(folder / odd[0])} would be a task; call it {name}/, or otherwise")
    if len(splits) == 1 and "" not in splits:
        (there,) = splits
        (missing,) = set(SPLITS) - {there}
        raise UserError(f"{_shown(folder)} has {there}/ but no {missing}/; give both or none of them")
    for split, tasks in splits.items():
        if not tasks:
            where = _shown(folder / split)
            raise UserError(
                f"{where} has no folders; put pictures there, such as {where}/fruit/apple/1.png"
            )
        for task, classes in tasks.items():
            where = folder / split / task
            if len(classes) < 2:
                raise UserError(
                    f"{_shown(where)} has {len(classes)} folders of classes; give two at least, with"
                    " pictures of a class each"
                )
            for cls, files in classes.items():
                if not files:
                    raise UserError(
                        f"{_shown(where / cls)} has no pictures ({', '.join(ENDINGS)}); add some"
                    )
    first, *others = splits.values()
    for other in others:
        for task in {**first, **other}:
            differing = {*first.get(task, ())} ^ {*other.get(task, ())}
            if differing:
                cls = min(differing)
                there, missing = SPLITS if cls in first.get(task, ()) else SPLITS[::-1]
                raise UserError(
                    f"{_shown(folder / there / task / cls)} has no counterpart in {missing}/; give both the"
                    " same tasks and classes"
                )


def _read(folder, paths, size):
    """Every readable picture by its path, uint8 `[H, W, c]` of one shape, and what there is to say."""
    # Resized at once: as they are, they may be more than memory holds.
    with concurrent.futures.ThreadPoolExecutor() as threads:
        decoded = list(threads.map(functools.partial(_decode, size=size), paths))
    found = {path: image for path, image in zip(paths, decoded, strict=True) if not isinstance(image, str)}
    wrong = [
        f"{_shown(path)} ({printable(why)})"
        for path, why in zip(paths, decoded, strict=True)
        if isinstance(why, str)
    ]
    if len(wrong) > MOST_UNREADABLE * len(paths):
        raise UserError(
            f"{len(wrong)} of {len(paths)} pictures in {_shown(folder)} cannot be read, such as {wrong[0]};"
            " mend or remove them"
        )
    notes = [f"left out {what}" for what in wrong[:NAMED]]
    if len(wrong) > NAMED:
        notes.append(f"left out {len(wrong) - NAMED} more that cannot be read")
    sizes = collections.Counter(image.shape[:2] for image in found.values())
    if len(sizes) > 1:
        shown = ", ".join(f"{h}x{w}" for (h, w), _ in sizes.most_common(3)) + ", .." * (len(sizes) > 3)
        raise UserError(
            f"pictures in {_shown(folder)} have {len(sizes)} sizes ({shown}); give --image_size=N for NxN"
        )
    if {image.shape[2] for image in found.values()} == {1, 3}:
        found = {path: np.broadcast_to(image, (*image.shape[:2], 3)) for path, image in found.items()}
    return found, notes


def _decode(path, size):
    """A picture, of this size unless it is 0, or why it is none."""
    try:
        image = decode(path.read_bytes())
        if size:
            with tf.device("CPU:0"):
                image = resize(image[None], (size, size))[0].numpy()
        return image
    except (OSError, ValueError) as error:
        return reason(error)


def _examples(task, classes, pictures):
    """The readable pictures of a task in one split, and their classes."""
    images, labels = [], []
    for label, (cls, files) in enumerate(classes.items()):
        # Taken out, so that none is held twice.
        readable = [pictures.pop(path) for path in files if path in pictures]
        if not readable:
            where = printable(f"{task}/{cls}")
            raise UserError(f"none of the pictures of {where} can be read; mend or remove them")
        images += readable
        labels += [label] * len(readable)
    return np.stack(images), np.array(labels)


def _found(splits, count):
    tasks = next(iter(splits.values()))
    classes = sum(len(of_task) for of_task in tasks.values())
    how = (
        "train/ and test/"
        if len(splits) > 1
        else f"a random {TEST:.0%} of each class held out for the test"
    )
    return f"found {len(tasks)} tasks with {classes} classes and {count:,} pictures; {how}"
