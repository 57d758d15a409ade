"""Whether a training step is ready for a GPU, by its graph: kernels, waits, launches. No GPU is needed."""

import pytest
import tensorflow as tf
from as_on_gpu import as_on_gpu

from lrn_tf.data.benchmarks import benchmark_of
from lrn_tf.methods.build import build
from lrn_tf.settings.resolve import resolve
from lrn_tf.training.step import Step


def traced_step(**given):
    """A step of training on a benchmark that needs no download."""
    settings = resolve(dict(dup=2, depth=4, d_model=16, **given))
    benchmark = benchmark_of(settings)
    step = Step(build(benchmark.problem, settings), benchmark, settings, tf.distribute.get_strategy())
    return as_on_gpu(step.trace())


STEPS = {
    "digits": dict(benchmark="digits_mtl", augment="flip_shift", mixup=0.5),
    # Several inputs, forms of answers, and heads of tasks' own.
    "mixed": dict(benchmark="mixed_mtl", heads="task", batch_size=64),
    "residual": dict(benchmark="digits_mtl", pool="residual", actor="pointer", core=1.0, imitation=5),
    "transformer": dict(benchmark="digits_mtl", pool="transformer", actor="pointer"),
}


@pytest.fixture(scope="module", params=STEPS)
def step(request):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lrn_tf.modules.fused.on_gpu", lambda: True)
        return traced_step(**STEPS[request.param])


@pytest.mark.slow
def test_every_operation_has_a_kernel_for_gpus(step):
    assert not step.missing


@pytest.mark.slow
def test_the_host_computes_with_whole_numbers_only(step):
    """No image, weight or activation is worked on there."""
    assert step.on_host
    assert {op for op, types in step.on_host if {"float32", "uint8"} & set(types)} == set()


@pytest.mark.slow
def test_a_step_waits_for_few_copies_to_the_host(step):
    assert len(step.copies) <= 3, step.copies


@pytest.mark.slow
@pytest.mark.parametrize("step", ["residual"], indirect=True)
def test_norms_and_kernels_are_a_launch_forward_and_one_backward(step):
    """Paths reach four kinds of blocks: two norms in each of two modules, two kernels for both at once."""
    assert 2 * 2 * 2 * 4 + 2 * 2 * 4 <= step.launches["XlaLaunch"] < 2 * (2 + 2) * 2 * 4
    assert step.launches["Rsqrt"] <= 1  # of a kind whose modules run at once
    assert step.launches["Sqrt"] <= 2  # each kernel would have one


# --- That the check would notice


def found(function, *arguments):
    return as_on_gpu(tf.function(function, autograph=False).get_concrete_function(*arguments))


X, WHOLE, ON = tf.TensorSpec([4, 4]), tf.TensorSpec([4], tf.int32), tf.TensorSpec([], tf.bool)


def test_what_has_no_kernel_is_found_in_branches_and_functions_too():
    images = tf.constant([[1], [2]], tf.uint8)
    inner = tf.function(lambda x: tf.gather(images, tf.cast(x[:, 0], tf.int32)), autograph=False)
    step = found(lambda on, x: tf.cond(on, lambda: inner(x), lambda: inner(x + 1)), ON, X)
    assert {op for op, _ in step.missing} == {"GatherV2"}


def test_a_variable_of_images_can_be_gathered_from():
    images = tf.Variable(tf.constant([[1], [2]], tf.uint8))
    step = found(lambda x: tf.gather(images, x), WHOLE)
    assert not step.missing and not step.copies and step.launches["ResourceGather"] == 1


def test_what_the_host_computes_is_found():
    def on_host(x):
        with tf.device("CPU:0"):
            return x + 1

    assert found(on_host, X).on_host == {("AddV2", ("float32",) * 3)}


def test_predicates_and_sizes_made_on_the_device_are_copies():
    def predicate(x):
        return tf.cond(tf.reduce_sum(x) > 0, lambda: x, lambda: 2 * x)

    def sizes(x):
        return tf.split(x, tf.cast(x[0], tf.int32), num=4)

    assert list(found(predicate, X).copies.values()) == ["StatelessIf"]
    assert found(sizes, X).copies
    with_host = found(lambda x, n: tf.split(x, n, num=4), X, WHOLE)
    assert not with_host.copies


def test_what_xla_compiles_is_one_launch():
    compiled = tf.function(lambda x: tf.reduce_sum(x * x + 1), jit_compile=True)
    assert found(lambda x: compiled(x) + 1, X).launches == {"XlaLaunch": 1, "AddV2": 1}
    branches = found(lambda on, x: tf.cond(on, lambda: x - 1, lambda: x * x * x), ON, X)
    assert branches.launches == {"Mul": 2}
