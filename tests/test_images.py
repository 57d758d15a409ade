"""What happens to training images at random: against all that could have happened, one by one."""

import numpy as np
import pytest
import tensorflow as tf

from lrn_tf.data.images import augment, decode, resize, standardise

KINDS = ("none", "flip", "shift", "flip_shift")


def images(height=16, width=17):
    return np.random.default_rng(0).integers(0, 256, (2000, height, width, 2), np.uint8)


def possible(image, kind):
    """All that an image may become, by name."""
    height, width, _ = image.shape
    down, right = (height // 8, width // 8) if kind in ("shift", "flip_shift") else (0, 0)
    made = {}
    for side in ("as it is", "mirrored")[: 2 if kind in ("flip", "flip_shift") else 1]:
        turned = image if side == "as it is" else image[:, ::-1]
        wide = np.pad(turned, [(down, down), (right, right), (0, 0)], "reflect")
        for y in range(2 * down + 1):
            for x in range(2 * right + 1):
                made[side, y, x] = wide[y : y + height, x : x + width]
    return made


@pytest.mark.parametrize("kind", KINDS)
def test_each_image_becomes_one_of_what_it_may_become_and_all_are_as_likely(kind):
    found = augment(tf.constant(images()), kind, tf.constant([3, 4]))
    assert found.dtype == tf.uint8
    times = dict.fromkeys(possible(images()[0], kind), 0)
    for before, after in zip(images(), found.numpy(), strict=True):
        (became,) = [name for name, x in possible(before, kind).items() if np.array_equal(x, after)]
        times[became] += 1
    expected = len(images()) / len(times)
    assert len(times) == {"none": 1, "flip": 2, "shift": 5 * 5, "flip_shift": 2 * 5 * 5}[kind]
    assert all(abs(n - expected) < 5 * expected**0.5 for n in times.values())


@pytest.mark.parametrize("kind", KINDS[1:])
def test_the_seed_decides(kind):
    first, same, other = (augment(images(), kind, tf.constant([0, s])).numpy() for s in (1, 1, 2))
    np.testing.assert_array_equal(first, same)
    assert (first != other).any()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(5, 8), (5, 8, 3)])
def test_what_is_no_image_stays_as_it_is(kind, shape):
    given = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    np.testing.assert_array_equal(augment(tf.constant(given), kind, tf.constant([3, 4])), given)


@pytest.mark.parametrize("kind", KINDS)
def test_images_of_numbers_become_what_those_of_bytes_do(kind):
    given, seed = images(), tf.constant([3, 4])
    found = augment(tf.constant(given, tf.float32) / 7, kind, seed)
    np.testing.assert_array_equal(found, augment(tf.constant(given), kind, seed).numpy() / np.float32(7))


def test_resized_to_its_own_size_an_image_is_the_same():
    np.testing.assert_array_equal(resize(images(), (16, 17)), images())


def test_no_picture_has_two_channels():
    with pytest.raises(ValueError, match="a picture has 1, 3 or 4 channels, and 2 are wanted; give a .npy"):
        decode(b"", 2)


@pytest.mark.parametrize("size", [(4, 4), (8, 5), (31, 32)])
def test_resized_images_are_bytes_as_bright_as_before(size):
    given = images()[:50]
    found = resize(given, size)
    assert found.dtype == tf.uint8 and found.shape == (50, *size, 2)
    assert abs(found.numpy().mean() - given.mean()) < 3
    flat = np.full((1, 8, 8, 1), 200, np.uint8)
    assert (resize(flat, size).numpy() == 200).all()


def test_standardised_images_have_mean_zero_and_variance_one():
    given = images()
    mean, std = (
        getattr(given, of)(axis=(0, 1, 2), dtype=np.float64).astype(np.float32) for of in ("mean", "std")
    )
    found = standardise(given, mean, std).numpy()
    np.testing.assert_allclose(found.mean(axis=(0, 1, 2), dtype=np.float64), 0, atol=1e-5)
    np.testing.assert_allclose(found.std(axis=(0, 1, 2), dtype=np.float64), 1, rtol=1e-5)
