"""What several tests share. TensorFlow is imported where it is needed, not before workers are started."""

import atexit
import fcntl
import gc
import os
import shutil
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# As `import lrn_tf` does, which comes after that of Keras here.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
# What XLA has compiled for one process of a session, the others need not compile again: it is most of the
# time that a short run of an LRN takes. Parallel workers inherit the variable, and share the folder.
# Nor is it optimised: that takes longer than all that is computed here. (Emitters that fuse make code that
# takes three times as long to compile; each of several parts that a program is split into costs time, too.)
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
    " --xla_cpu_parallel_codegen_split_count=1",
)
# Programs that tests start keep what Python has made of their modules, whatever this one does.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# Two workers on two cores: threads that an operation is shared between only wait for each other.
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
if "TF_XLA_FLAGS" not in os.environ:
    compiled = tempfile.mkdtemp(prefix="lrn_tf_compiled_")
    atexit.register(shutil.rmtree, compiled, ignore_errors=True)
    os.environ["TF_XLA_FLAGS"] = (
        f"--tf_xla_persistent_cache_directory={compiled} --tf_xla_persistent_cache_read_only=false"
    )

import pytest
from forked import Forked, look_for_garbage_less, run_graphs_as_traced

from lrn_tf.main import train
from lrn_tf.settings.resolve import resolve


@pytest.fixture(scope="session", autouse=True)
def unoptimised():
    """Graphs run as they are traced: to optimise one takes longer than to run it the few times we do.

    Programs that tests start as a user does, not forked, optimise theirs.
    """
    run_graphs_as_traced()


@pytest.fixture(scope="session")
def rules():
    from small_pools import Rules

    return Rules


# Those of small_pools.py.
POOLS = [
    *("dead_end", "lost_input", "cycle", "cycle_reversed", "uneven", "same_signature", "class_signature"),
    *("long_chain", "two_widths", "heads_by_task", "two_inputs", "same_shape", "tokens"),
    *("paper_1", "paper_2", "paper_3", "residual_1", "residual_2", "transformer_2", "mixed_2"),
]


@pytest.fixture(params=POOLS)
def any_pool(request, named_pool):
    return named_pool(request.param)


@pytest.fixture(scope="session")
def named_pool():
    """Makes one of the small pools by its name."""
    import small_pools

    assert list(small_pools.POOLS) == POOLS
    return lambda name: small_pools.POOLS[name]()


@pytest.fixture(scope="session")
def forked():
    """Runs programs as Python does, but without a start of Python's."""
    process = Forked()
    yield process
    process.close()


@pytest.fixture(scope="session")
def once(tmp_path_factory):
    """Has a folder filled by the first of several workers that wants it; nobody may change it then."""
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent

    def filled(name, fill):
        folder, whole = root / name, root / f"{name}.whole"
        with open(root / f"{name}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not whole.exists():
                shutil.rmtree(folder, ignore_errors=True)  # of a worker that failed at it
                folder.mkdir()
                fill(folder)
                whole.touch()
        return folder

    return filled


@pytest.fixture(scope="session")
def exported(once):
    """The folder of a real run of one step, "run", and of its exported model, "model"."""

    def fill(folder):
        given = dict(method="task_head", max_steps=1, examples=128, workdir=str(folder / "run"))
        train(resolve({**given, "export_dir": str(folder / "model")}))

    return once("exported", fill)


def pytest_collection():
    """What is imported stays: to look through it for garbage again and again takes a tenth of the time."""
    gc.disable()


def pytest_collection_finish():
    look_for_garbage_less()


def pytest_collection_modifyitems(items):
    """Files with slow tests come first, so that at the end none of them keeps one worker busy alone."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


# What tests count beside passing, such as kills; `record_property("kills", 3)` adds to it.
COUNTED = (
    "kills",
    "corruptions",
    "full disks",
    "flag sets",
    "flag sets that ran",
    "image folders",
    "image folders that loaded",
    "image files",
)


def pytest_terminal_summary(terminalreporter):
    """Their sums over the session. They travel with the reports, so that parallel workers count as well."""
    sums = dict.fromkeys(COUNTED, 0)
    for report in terminalreporter.getreports("passed"):
        for name, count in report.user_properties if report.when == "call" else ():
            if name in sums:
                sums[name] += count
    if any(sums.values()):
        terminalreporter.write_sep("=", "what was tried")
        terminalreporter.write_line(
            ", ".join(f"{name}: {count:,}" for name, count in sums.items() if count)
        )


@pytest.fixture(scope="session")
def digits_run(once):
    """The folder of two short epochs of a routing network on digits, with all that TensorBoard shows."""

    def fill(folder):
        given = dict(method="routing", examples=1280, epochs=2, pictures_every=2)
        train(resolve({**given, "workdir": str(folder / "run")}))

    return once("digits", fill) / "run"


@pytest.fixture(scope="session")
def mixed_run(once):
    """A folder with what `mixed_run.train_mixed` writes."""
    from mixed_run import train_mixed

    return once("mixed", train_mixed)
