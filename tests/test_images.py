"""What happens to training images at random: against all that could have happened, one by one."""

import numpy as np
import pytest
import tensorflow as tf

from lrn_tf.data.images import augment

KINDS = ("none", "flip", "flip_shift")


def images(height=16, width=17):
    return np.random.default_rng(0).integers(0, 256, (2000, height, width, 2), np.uint8)


def possible(image, kind):
    """All that an image may become, by name."""
    height, width, _ = image.shape
    down, right = (height // 8, width // 8) if kind == "flip_shift" else (0, 0)
    made = {}
    for side in ("as it is", "mirrored")[: 1 if kind == "none" else 2]:
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
    assert len(times) == {"none": 1, "flip": 2, "flip_shift": 2 * 5 * 5}[kind]
    assert all(abs(n - expected) < 5 * expected**0.5 for n in times.values())


@pytest.mark.parametrize("kind", KINDS[1:])
def test_the_seed_decides(kind):
    first, same, other = (augment(images(), kind, tf.constant([0, s])).numpy() for s in (1, 1, 2))
    np.testing.assert_array_equal(first, same)
    assert (first != other).any()
