"""Mini-ImageNet (Vinyals et al. 2016) as a TensorFlow dataset, built from folders of JPEG files."""

import concurrent.futures
import dataclasses
import hashlib
import pathlib
from collections.abc import Iterator

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from lrn_tf.errors import UserError

SIDE = 84


def manual_folder(data_dir: str) -> pathlib.Path:
    """Where the class folders `<wnid>/*.jpg` are looked for: in TFDS's folder for manual downloads."""
    return pathlib.Path(data_dir, "downloads", "manual", "mini_imagenet")


def list_images(folder: pathlib.Path) -> dict[str, list[pathlib.Path]]:
    """The JPEG files of every class folder, classes by wnid ("n01532829") and files in sorted order."""
    return {
        child.name: sorted(path for path in child.iterdir() if _may_be_image(path))
        for child in sorted(folder.glob("n" + 8 * "[0-9]"))
    }


def _may_be_image(path):
    # A pipe would be waited for.
    return path.suffix.lower() in (".jpg", ".jpeg") and not path.is_fifo()


def check_counts(folder: pathlib.Path, files: dict, classes: int, images: int) -> None:
    """Checks what `list_images` found in `folder`.

    Raises:
        UserError: there are fewer classes, or in one of the first `classes` fewer images, than asked for.
    """
    if len(files) < classes:
        raise UserError(
            f"{folder} holds {len(files)} classes of Mini-ImageNet and {classes} are needed; put one folder"
            f" per class there, <wnid>/*.jpg with images of {SIDE}x{SIDE} pixels, or use"
            " --benchmark=digits_mtl, which works offline"
        )
    for wnid, paths in list(files.items())[:classes]:
        if len(paths) < images:
            raise UserError(
                f"class {wnid} in {folder} has {len(paths)} images and {images} of each class are needed;"
                " add the missing ones"
            )


def check_images(files: dict[str, list[pathlib.Path]]) -> None:
    """Decodes every image once.

    Raises:
        UserError: a file is no JPEG image of 84x84 pixels; the message names it.
    """
    with concurrent.futures.ThreadPoolExecutor() as pool:
        for _ in pool.map(_check_image, (path for paths in files.values() for path in paths)):
            pass


@dataclasses.dataclass(eq=False)
class MiniImagenetConfig(tfds.core.BuilderConfig):
    """Which classes there are; the name stands for one state of their folders."""

    wnids: tuple[str, ...] = ()


def config_of(files: dict[str, list[pathlib.Path]]) -> MiniImagenetConfig:
    """The config of these files, named after the name, size and modification time of each.

    So changed folders are another config, and what was built of their earlier state is never read.
    """
    state = hashlib.sha256()
    for wnid, paths in files.items():
        for path in paths:
            status = path.stat()
            state.update(f"{wnid}/{path.name} {status.st_size} {status.st_mtime_ns}\n".encode())
    return MiniImagenetConfig(name=state.hexdigest()[:16], wnids=tuple(files))


class MiniImagenet(tfds.core.GeneratorBasedBuilder):
    """All images of the class folders in one split, "train"; JPEG bytes are stored as they are.

    Needs a config: `MiniImagenet(data_dir=..., config=config_of(files))`. What was built of an earlier
    state of the folders stays on disk, beside the new one, until it is deleted.
    """

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = "Put a folder of images per class there: mini_imagenet/<wnid>/*.jpg"

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            description="Mini-ImageNet: 84x84 colour images of ImageNet classes, 600 per class.",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(SIDE, SIDE, 3), encoding_format="jpeg"),
                    "label": tfds.features.ClassLabel(names=self.builder_config.wnids),
                    "file": tfds.features.Text(),
                }
            ),
            homepage="https://arxiv.org/abs/1606.04080",
        )

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(dl_manager.manual_dir / "mini_imagenet")}

    def _generate_examples(self, folder):
        for wnid, paths in list_images(pathlib.Path(folder)).items():
            for path in paths:
                file = f"{wnid}/{path.name}"
                yield file, {"image": path, "label": wnid, "file": file}


def read_jpegs(builder: MiniImagenet) -> Iterator[tuple[str, np.ndarray]]:
    """Yields every class's wnid and images: JPEG bytes, object `[n]`, in the order of the files' names."""
    undecoded = {"image": tfds.decode.SkipDecoding()}
    data = tfds.as_numpy(builder.as_dataset(split="train", decoders=undecoded, batch_size=-1))
    order = np.argsort(data["file"])
    jpegs, labels = data["image"][order], data["label"][order]
    for label, wnid in enumerate(builder.builder_config.wnids):
        yield wnid, jpegs[labels == label]


def decode(jpegs: np.ndarray) -> np.ndarray:
    """Decodes JPEG bytes, object `[n]`, to images, uint8 `[n, 84, 84, 3]`."""
    images = np.empty((len(jpegs), SIDE, SIDE, 3), np.uint8)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        for row, image in enumerate(pool.map(_decode_jpeg, jpegs)):
            images[row] = image
    return images


def _check_image(path):
    try:
        shape = _decode_jpeg(path.read_bytes()).shape
    except (OSError, tf.errors.OpError) as error:
        raise UserError(f"{path} cannot be read as a JPEG image; replace or remove it") from error
    if shape != (SIDE, SIDE, 3):
        size = "x".join(map(str, shape[:2]))
        raise UserError(f"{path} has {size} pixels; Mini-ImageNet's images have {SIDE}x{SIDE}, resize it")


def _decode_jpeg(jpeg):
    return tf.io.decode_jpeg(jpeg, channels=3).numpy()
