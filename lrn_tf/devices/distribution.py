"""Where a run computes: on one device, on all of a machine, or on several machines (`tf.distribute`)."""

import contextlib
import json
import os

import tensorflow as tf

from lrn_tf.errors import UserError
from lrn_tf.settings.table import Settings

# What TensorFlow raises in a worker while others are gone.
LOST = (
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.InternalError,
    tf.errors.UnavailableError,
)
EXAMPLE = '{"cluster": {"worker": ["host1:12345", "host2:12345"]}, "task": {"type": "worker", "index": 0}}'


def make_strategy(distribute: str) -> tf.distribute.Strategy:
    """The strategy for a value of --distribute. Several workers wait for each other here.

    To be called before TensorFlow starts its devices.

    Raises:
        UserError: TF_CONFIG does not say which workers there are.
    """
    if distribute == "mirrored":
        devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
        return tf.distribute.MirroredStrategy([device.name for device in devices])
    if distribute == "multi_worker":
        check_tf_config(os.environ.get("TF_CONFIG", ""))
        return tf.distribute.MultiWorkerMirroredStrategy()
    return tf.distribute.get_strategy()


def check_tf_config(text: str) -> None:
    """Sees that TensorFlow will understand the environment variable.

    Raises:
        UserError: it is missing, no JSON, or has no workers or no task of theirs.
    """
    advice = f"--distribute=multi_worker needs TF_CONFIG in the environment, such as {EXAMPLE}"
    if not text:
        raise UserError(f"TF_CONFIG is missing; {advice}")
    try:
        config = json.loads(text)
        workers, task = config["cluster"]["worker"], config["task"]
        known = task["type"] == "worker" and 0 <= int(task["index"]) < len(workers)
        known = known and all(isinstance(address, str) and ":" in address for address in workers)
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"TF_CONFIG={text} cannot be understood; {advice}") from error
    if not known:
        raise UserError(f"TF_CONFIG={text} does not name this task among its workers; {advice}")


def workers(strategy: tf.distribute.Strategy) -> tuple[int, int]:
    """The number of this worker, counted from 0, and how many there are."""
    resolver = strategy.cluster_resolver
    if resolver is None:
        return 0, 1
    return resolver.task_id, resolver.cluster_spec().num_tasks("worker")


def describe(strategy: tf.distribute.Strategy) -> str:
    """What there is to say after the device's name; nothing of a single device."""
    (worker, count), replicas = workers(strategy), strategy.num_replicas_in_sync
    text = f", {replicas} share each batch" if replicas > 1 else ""
    return text + (f", worker {worker} of {count}" if count > 1 else "")


@contextlib.contextmanager
def building(strategy: tf.distribute.Strategy):
    """Within it, variables are made on all devices of the strategy."""

    def alike(create, **kwargs):
        # All replicas change a variable alike, so that any one's change will do.
        return create(**{**kwargs, "aggregation": tf.VariableAggregation.ONLY_FIRST_REPLICA})

    with strategy.scope(), tf.variable_creator_scope(alike):
        yield


def check_parts(settings: Settings, strategy: tf.distribute.Strategy) -> None:
    """Sees that a batch can be shared out.

    Raises:
        UserError: the number of replicas does not divide it.
    """
    replicas = strategy.num_replicas_in_sync
    names = ("batch_size", "minibatch_size") if settings.method == "lrn" else ("batch_size",)
    for name in names:
        if (size := getattr(settings, name)) % replicas:
            raise UserError(
                f"--{name}={size} cannot be shared by {replicas} devices; choose a multiple of {replicas}"
            )


@contextlib.contextmanager
def losing_workers(count: int):
    """Within it, the loss of one of several workers is a `UserError`."""
    try:
        yield
    except LOST as error:
        if count == 1:
            raise
        raise UserError(
            f"one of the {count} workers was lost; start all of them again with the same command: the run"
            " continues from the last checkpoint"
        ) from error
