"""Data sets on disk: MNIST and CIFAR-100 through TFDS, Mini-ImageNet through our builder for it."""

import contextlib
import io
import itertools
import os
import sys

from absl import logging

from lrn_tf.errors import UserError

OFFLINE = "--benchmark=digits_mtl works offline"

# Where TFDS downloads a data set from.
HOSTS = {"mnist": "https://storage.googleapis.com", "cifar100": "https://www.cs.toronto.edu"}


def folder(data_dir: str) -> str:
    """The folder of data sets that --data_dir means."""
    default = os.environ.get("TFDS_DATA_DIR") or os.path.join("~", "tensorflow_datasets")
    return os.path.expanduser(data_dir or default)


def splits(name: str, data_dir: str):
    """Features, training and test split (dicts of arrays) of a data set, downloaded if it is missing."""
    import tensorflow_datasets as tfds

    folder = os.path.join(data_dir, name)
    unreadable = f"{name} in {folder} cannot be read", "delete that folder to have it downloaded again"
    with _explained(*unreadable):
        builder = tfds.builder(name, data_dir=data_dir)
    if not builder.data_path.exists():
        _download(builder, data_dir)
    with _explained(*unreadable):
        splits = tfds.as_numpy(builder.as_dataset(split=["train", "test"], batch_size=-1))
        return builder.info.features, *splits


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
        requests.head(HOSTS[name], timeout=10)
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
