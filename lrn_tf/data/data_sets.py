"""Data sets on disk, through TFDS: its own, of which any will do, and Mini-ImageNet by our builder."""

import contextlib
import io
import itertools
import os
import sys

import numpy as np
from absl import logging

from lrn_tf.errors import UserError

MANY = 1024  # examples that are read at once
OFFLINE = "--benchmark=digits_mtl works offline"

# Where TFDS downloads a data set from, or what it knows of it.
HOSTS = {"mnist": "https://storage.googleapis.com", "cifar100": "https://www.cs.toronto.edu"}


def folder(data_dir: str) -> str:
    """The folder of data sets that --data_dir means."""
    default = os.environ.get("TFDS_DATA_DIR") or os.path.join("~", "tensorflow_datasets")
    return os.path.expanduser(data_dir or default)


def splits(name: str, data_dir: str):
    """Features, training and test split (dicts of arrays) of a data set, downloaded if it is missing."""
    import tensorflow_datasets as tfds

    builder = _builder(name, data_dir)
    with reading(name, data_dir):
        splits = tfds.as_numpy(builder.as_dataset(split=["train", "test"], batch_size=-1))
        return builder.info.features, *splits


def pairs(name: str, data_dir: str):
    """A data set's pairs of what is given and what is asked: `tf.data` sets by split, and names of classes.

    Raises:
        UserError: TFDS has no such data set, does not say what is asked, has nothing to train on, or cannot
            read or download it. What is in the sets is read later: see `reading`.
    """
    builder = _builder(name, data_dir)
    asked = builder.info.supervised_keys
    if not asked:
        raise UserError(f"{name} does not say what is asked of its examples; give arrays to lrn_tf.Task")
    if "train" not in builder.info.splits:
        has = ", ".join(builder.info.splits)
        raise UserError(f"{name} has no split 'train' but {has}; give tf.data sets of pairs, or arrays")
    with reading(name, data_dir):
        found = {split: builder.as_dataset(split, as_supervised=True) for split in builder.info.splits}
        return found, tuple(getattr(builder.info.features[asked[1]], "names", None) or ())


def arrays(name: str, examples) -> tuple[np.ndarray, np.ndarray]:
    """What is in a `tf.data.Dataset` of pairs (x, y), for a task of that name.

    Raises:
        UserError: it is no such set.
    """
    spec = getattr(examples, "element_spec", None)
    if not isinstance(spec, tuple) or len(spec) != 2:
        raise UserError(f"{name}: {examples!r:.80} is no tf.data set of pairs (x, y); make it one")
    if examples.cardinality() == -1:  # tf.data.INFINITE_CARDINALITY
        raise UserError(f"{name}: the data set never ends; take a part of it, such as .take(1000)")
    firsts = [s.shape[:1].as_list() for s in spec if getattr(s, "shape", None) is not None and s.shape.rank]
    if len(firsts) == 2 and firsts[0] == firsts[1]:
        raise UserError(
            f"{name}: x {spec[0].shape} and y {spec[1].shape} look like a batch; give .unbatch() of it, or"
            " arrays if it is none"
        )
    # Where all have one shape many are read at once, which takes half the time.
    alike = all(hasattr(s, "shape") and s.shape.is_fully_defined() for s in spec)
    pairs = list((examples.batch(MANY) if alike else examples).as_numpy_iterator())
    if not pairs:
        raise UserError(f"{name}: the data set is empty; give one with examples")
    if alike:
        return tuple(np.concatenate(values) for values in zip(*pairs, strict=True))
    for what, values in zip("xy", zip(*pairs, strict=True), strict=True):
        if shapes := {np.shape(value) for value in values} - {np.shape(values[0])}:
            raise UserError(
                f"{name}: {what} has the shapes {np.shape(values[0])} and {min(shapes)}; make them one,"
                " such as by .map(lambda x, y: (tf.image.resize(x, (32, 32)), y))"
            )
    return tuple(np.stack(values) for values in zip(*pairs, strict=True))


def reading(name: str, data_dir: str):
    """A context in which whatever goes wrong with the files of a data set is raised as a `UserError`."""
    folder = os.path.join(data_dir, name)
    return _explained(
        f"{name} in {folder} cannot be read", "delete that folder to have it downloaded again"
    )


def _builder(name, data_dir):
    """Of a data set that is there, or has just been downloaded."""
    import tensorflow_datasets as tfds

    try:
        with reading(name, data_dir):
            builder = tfds.builder(name, data_dir=data_dir)
    except UserError as error:
        if isinstance(error.__cause__, tfds.core.DatasetNotFoundError):
            raise UserError(
                f"TensorFlow Datasets has no data set {name!r}; choose one of its names"
            ) from error
        raise
    if not builder.data_path.exists():
        _download(builder, data_dir)
    return builder


def _download(builder, data_dir):
    import requests

    name = builder.name
    call = f"import tensorflow_datasets as tfds; tfds.load('{name}', data_dir='{data_dir}')"
    with _explained(
        f"{name} is not in {builder.data_dir} and cannot be downloaded",
        f'run where there is a network: python -c "{call}"',
    ):
        _tell(f"downloading {name} to {builder.data_dir}")
        # TFDS retries for minutes before it says that there is no network.
        requests.head(HOSTS.get(name, HOSTS["mnist"]), timeout=10)
        _prepare(builder)


def mini_imagenet_jpegs(data_dir: str, classes: int, needed: int):
    """JPEG bytes (object `[n]`) of the first `classes` by wnid, each with `needed` images at least."""
    from lrn_tf.data import mini_imagenet

    folder = mini_imagenet.manual_folder(data_dir)
    built = os.path.join(data_dir, mini_imagenet.MiniImagenet.name)
    with _explained(
        f"Mini-ImageNet in {folder}, or what was built of it in {built}, cannot be read",
        "make its files readable, or delete the latter to have it rebuilt",
    ):
        files = mini_imagenet.list_images(folder)
        mini_imagenet.check_counts(folder, files, classes, needed)
        builder = mini_imagenet.MiniImagenet(data_dir=data_dir, config=mini_imagenet.config_of(files))
        if not builder.data_path.exists():
            _tell(f"building Mini-ImageNet in {built} from {folder}")
            mini_imagenet.check_images(files)
            _prepare(builder)
        return dict(itertools.islice(mini_imagenet.read_jpegs(builder), classes))


def _prepare(builder):
    try:
        builder.download_and_prepare()
    except OSError:
        # Of several processes that build at once, only the first can move the result to its place.
        if not builder.data_path.exists():
            raise


@contextlib.contextmanager
def _explained(problem, remedy):
    """Silences TFDS and raises whatever goes wrong with its data as a UserError of one line.

    TFDS lets through errors of TensorFlow, requests, protobuf, json and the file system alike.
    """
    import tensorflow_datasets as tfds

    tfds.disable_progress_bar()
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    except UserError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        raise UserError(f"{problem} ({reason}); {remedy}; {OFFLINE}") from error
    finally:
        logging.set_verbosity(verbosity)


def _tell(what):
    print(f"lrn_tf: {what}, which takes a while the first time", file=sys.stderr)
