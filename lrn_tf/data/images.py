"""What happens to an image before the network sees it."""

import io

import numpy as np
import tensorflow as tf
from PIL import Image, ImageOps, UnidentifiedImageError

from lrn_tf.errors import reason

# Images are moved by up to a side through this; smaller ones are not.
SHIFT = 8
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP")
# Pillow's modes: by channels, of grey pictures, and of those with more than a byte for each number.
MODES = {1: "L", 3: "RGB", 4: "RGBA"}
GREY, DEEP = ("1", "L", "LA", "La"), ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")


def decode(content: bytes, channels: int = 0) -> np.ndarray:
    """The picture in a file's content, one of `FORMATS`, or the first of several; turned as it was taken.

    Args:
        content: of the file.
        channels: how many are wanted, 1, 3 or 4; 0 is 1 of a grey picture and 3 of another. Transparency,
            which not all have, is left out but of 4.

    Returns:
        uint8 `[H, W, channels]`.

    Raises:
        ValueError: there is none, or it has grey of more than a byte.
    """
    if channels and channels not in MODES:
        raise ValueError(f"a picture has 1, 3 or 4 channels, and {channels} are wanted; give a .npy file")
    # Not of TensorFlow: it takes the numbers of a palette for colours, leaves a photograph on its side, and
    # crashes where a WebP moves.
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as file:
            if file.mode in DEEP:
                raise ValueError("its grey has more than 8 bits; make it 8, of which 255 is white")
            wanted = MODES[channels or (1 if file.mode in GREY else 3)]
            picture = ImageOps.exif_transpose(file)
            if "transparency" in picture.info:
                picture = picture.convert("RGBA")
            pixels = np.asarray(picture.convert(wanted))
    except UnidentifiedImageError as error:
        raise ValueError(f"its content is none of {', '.join(FORMATS)}") from error
    except Exception as error:  # what is raised depends on what is wrong with the file
        raise ValueError(reason(error)) from error
    return pixels.reshape(*pixels.shape[:2], -1)


def resize(images, size):
    """Resizes uint8 images with antialiased bilinear interpolation.

    Args:
        images: uint8 `[B, H, W, c]`.
        size: height and width of the result in pixels.

    Returns:
        uint8 `[B, *size, c]`.
    """
    resized = tf.image.resize(images, size, method="bilinear", antialias=True)
    return tf.cast(tf.clip_by_value(tf.round(resized), 0, 255), tf.uint8)


def standardise(values, mean, std):
    """Maps images, or other numbers, to zero mean and unit variance per channel.

    Args:
        values: of any type, `[B, ..., c]`; images uint8 `[B, H, W, c]`.
        mean: float32 `[c]`, of the training examples, of images in units of 0..255.
        std: float32 `[c]`, likewise.

    Returns:
        float32, of the same shape.
    """
    return (tf.cast(values, tf.float32) - mean) / std


def augment(images, kind: str, seed):
    """Images as they might have been taken as well, for training only (--augment).

    Args:
        images: `[B, H, W, c]`, of any type; anything else comes back as it is.
        kind: "none", "flip" (half of them are mirrored, left to right), "shift" (they are moved by up to an
            eighth of their sides, and mirrored at the border), or "flip_shift".
        seed: int32 `[2]`.

    Returns:
        the same shape and type.
    """
    if kind == "none" or len(images.shape) != 4:
        return images
    with tf.device("CPU:0"):  # where generators look for their seeds
        flipped, top, left = tf.unstack(tf.random.split(seed, 3, alg="philox"))
    batch, height, width, _ = images.shape
    if "flip" in kind:
        half = tf.random.stateless_uniform((batch, 1, 1, 1), flipped, alg="philox") < 0.5
        images = tf.where(half, images[:, :, ::-1], images)
    if "shift" in kind:
        images = _shift(images, 1, height // SHIFT, top)
        images = _shift(images, 2, width // SHIFT, left)
    return images


def _shift(images, axis, most, seed):
    batch, size = images.shape[0], images.shape[axis]
    with tf.device("CPU:0"):  # no GPU adds int32
        start = tf.random.stateless_uniform((batch, 1), seed, 0, 2 * most + 1, tf.int32, alg="philox")
        index = start + tf.range(size)
    edges = [[0, 0]] * 4
    edges[axis] = [most, most]
    # Row or column `start + i` of the wider image comes to i.
    return tf.gather(tf.pad(images, edges, "REFLECT"), index, axis=axis, batch_dims=1)
