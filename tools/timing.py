"""How long a call takes on the device."""

import statistics
import time

import tensorflow as tf


def milliseconds(run, steps: int) -> float:
    """The median time of so many calls, each with another number, after three that are not counted."""
    times = []
    for i in range(3 + steps):
        start = time.perf_counter()
        tf.nest.flatten(run(tf.constant(i)))[0].numpy()  # reading a result waits for the device
        times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times[3:])
