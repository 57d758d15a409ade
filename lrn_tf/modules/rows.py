"""Rows that move between buffers without a copy of what stays, and groups of rows with room to grow.

Each row of a buffer is taken at most once after it was put, so gradients never add up: what `take` hands
back overwrites, and the stale rows of a gradient that `put` lets through are always among those overwritten
(or belong to no module).
"""

import numpy as np
import tensorflow as tf

from lrn_tf.modules import fused

# To which sizes groups of examples are padded on GPUs: two to each doubling, and none below 16.
ROOMS = np.array([0, *(step << power for power in range(2, 28) for step in (4, 6))], np.int32)


@tf.custom_gradient
def take(buffer, rows):
    """Rows of a buffer, and the buffer without them (they stay in place, stale)."""

    def gradient(d_taken, d_rest):
        return replace(d_rest, rows, d_taken), None

    return (tf.gather(buffer, rows), tf.identity(buffer)), gradient


def recurring(sizes):
    """The sizes of groups rounded up, by a half at most if they are not small; int32 `[M]`.

    A convolution whose shape cuDNN has not seen takes 0.05 s on a GPU, in bfloat16 0.6 s and more, and a
    norm is compiled anew. The GPU is idle for most of a step, so that what is padded costs less.
    """
    return tf.gather(ROOMS, tf.searchsorted(ROOMS, sizes))


def pad(rows, sizes, room):
    """Where rows sorted by module go when groups are padded.

    Args:
        rows: int32 `[R]`.
        sizes: int32 `[M]`, how many rows each module has.
        room: int32 `[M]`, to how many they are padded.

    Returns:
        slots: int32 `[R]`, places among the sum of all room, S.
        rows_of_slots: int32 `[S]`, the rows there. Padding is one of them too: of what has not come by
            these modules' way a layer might make NaN, whose gradient is not 0.
    """
    starts, ends = tf.cumsum(room, exclusive=True), tf.cumsum(sizes)
    place = tf.range(tf.size(rows))
    module = tf.searchsorted(ends, place, side="right")  # (R,)
    slots = place + tf.gather(starts - (ends - sizes), module)
    padding = tf.fill([tf.reduce_sum(room)], tf.reduce_min(rows))
    return slots, tf.tensor_scatter_nd_update(padding, slots[:, None], rows)


@tf.custom_gradient
def take_padded(buffer, rows, slots, rows_of_slots):
    """`take`, with the rows in their slots; what is between them is some row of the buffer."""

    def gradient(d_taken, d_rest):
        return replace(d_rest, rows, tf.gather(d_taken, slots)), None, None, None

    return (tf.gather(buffer, rows_of_slots), tf.identity(buffer)), gradient


@tf.custom_gradient
def pick(padded, slots):
    """The rows in the slots; `take_padded` the other way round."""
    return tf.gather(padded, slots), lambda gradient: (spread(slots, gradient, tf.shape(padded)[0]), None)


@tf.custom_gradient
def put(buffer, rows, values):
    """The buffer with some rows replaced."""

    def gradient(d_buffer):
        return d_buffer, None, tf.gather(d_buffer, rows)

    return replace(buffer, rows, values), gradient


@tf.custom_gradient
def spread(rows, values, count):
    """A new buffer with `count` rows, some of them filled, the others 0."""
    shape = tf.concat([[count], tf.shape(values)[1:]], axis=0)
    if fused.on_gpu():
        new = replace(tf.zeros(shape, values.dtype), rows, values)
    else:
        new = tf.scatter_nd(rows[:, None], values, shape)
    return new, lambda gradient: (None, tf.gather(gradient, rows), None)


def replace(buffer, rows, values):
    """A buffer with some rows replaced by values; `rows` are in host memory."""
    if not fused.on_gpu():
        return tf.tensor_scatter_nd_update(buffer, rows[:, None], values)
    # GPUs scatter a row in one thread, number by number, which is 1.6 ms for 128 images of 32x32x32; they
    # stitch in as many threads as there are numbers.
    shape = tf.shape(buffer)  # not there, or the buffer would be copied
    with tf.device("CPU:0"):
        every = tf.range(shape[0])
    return tf.ensure_shape(tf.dynamic_stitch([every, rows], [buffer, values]), buffer.shape)
