"""What happens to an image before the network sees it, in training and in an exported model alike."""

import tensorflow as tf


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


def standardise(images, mean, std):
    """Maps uint8 images to zero mean and unit variance per channel.

    Args:
        images: uint8 `[B, H, W, c]`.
        mean: float32 `[c]`, of the training images in units of 0..255.
        std: float32 `[c]`, likewise.

    Returns:
        float32 `[B, H, W, c]`.
    """
    return (tf.cast(images, tf.float32) - mean) / std
