"""Mini-ImageNet (Vinyals et al. 2016) as a TensorFlow dataset, built from a folder of JPEG files per class."""

import concurrent.futures
import dataclasses
import hashlib
import pathlib

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
        child.name: sorted(path for path in child.iterdir() if path.suffix.lower() in (".jpg", ".jpeg"))
        for child in sorted(folder.glob("n" + 8 * "[0-9]"))
    }


def check_images(files: dict[str, list[pathlib.Path]]) -> None:
    """Decodes every image once.

    Raises:
        UserError: a file is no JPEG image of 84x84 pixels; the message names it.
    """
    with concurrent.futures.ThreadPoolExecutor() as pool:
        for _ in pool.map(_check_image, (path for paths in files.values() for path in paths)):
            pass


def decode(jpegs: np.ndarray) -> np.ndarray:
    """Decodes JPEG images `[n]` of 84x84 pixels, given as bytes, to uint8 `[n, 84, 84, 3]`."""
    images = np.empty((len(jpegs), SIDE, SIDE, 3), np.uint8)

    def decode_row(row):
        images[row] = _decode_jpeg(jpegs[row])

    with concurrent.futures.ThreadPoolExecutor() as pool:
        for _ in pool.map(decode_row, range(len(jpegs))):
            pass
    return images


@dataclasses.dataclass(eq=False)
class MiniImagenetConfig(tfds.core.BuilderConfig):
    """One state of the class folders; a changed folder is another config, so no stale copy is ever read."""

    wnids: tuple[str, ...] = ()

    @classmethod
    def of(cls, files: dict[str, list[pathlib.Path]]) -> "MiniImagenetConfig":
        """The config that is named after the name, size and modification time of every file."""
        state = hashlib.sha256()
        for wnid, paths in files.items():
            for path in paths:
                status = path.stat()
                state.update(f"{wnid}/{path.name} {status.st_size} {status.st_mtime_ns}\n".encode())
        return cls(name=state.hexdigest()[:16], wnids=tuple(files))


class MiniImagenet(tfds.core.GeneratorBasedBuilder):
    """All images of the class folders in one split, "train"; JPEG bytes are stored as they are.

    Takes a `MiniImagenetConfig` of these folders: `MiniImagenet(data_dir=..., config=...)`. What was
    built of an earlier state of the folders stays on disk, beside the new config, until it is deleted.
    """

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Put one folder per class into manual_dir: mini_imagenet/<wnid>/*.jpg, 84x84."
    )

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
