"""Runs programs in forked copies of a process that has imported TensorFlow, which saves seconds each time.

    python tests/forked.py

Answers each line of JSON on stdin with one on stdout. A request is what `be` takes, and gets the id of the
process that does it; or it is such an id, and gets its exit code, or null while it runs. The fixture
`forked` is a `Forked`, which speaks this.
"""

import functools
import gc
import json
import math
import os
import pathlib
import resource
import runpy
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import types

LONGEST = 60
TOOLS = str(pathlib.Path(__file__).resolve().parents[1] / "tools")


class Process:
    """One that runs a program; used as one of `subprocess`."""

    def __init__(self, ask, pid):
        self._ask, self.pid, self.returncode = ask, pid, None

    def poll(self):
        if self.returncode is None:
            self.returncode = self._ask(self.pid)
        return self.returncode

    def wait(self, timeout=None):
        ends = time.monotonic() + (math.inf if timeout is None else timeout)
        while self.poll() is None:
            if time.monotonic() > ends:
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout)
            time.sleep(0.005)
        return self.returncode

    def send_signal(self, number):
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self):
        self.send_signal(signal.SIGKILL)

    def terminate(self):
        self.send_signal(signal.SIGTERM)


class Forked:
    """Starts the process that is forked, and programs in copies of it."""

    def __init__(self):
        # Silent: started otherwise than by our programs, TensorFlow would say much.
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
        )
        self._lock = threading.Lock()

    def _ask(self, request):
        with self._lock:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
            return json.loads(self._process.stdout.readline())

    def start(self, program, arguments, folder, out, err, **options):
        """Starts a program, which appends what it says to two files; see `be`."""
        pid = self._ask([str(program), list(arguments), str(folder), str(out), str(err), options])
        return Process(self._ask, pid)

    def __call__(self, program, arguments, folder, longest=LONGEST, **options):
        """Runs a program: its exit code (None if it had to be killed), stdout and stderr; see `be`."""
        with tempfile.TemporaryDirectory() as said:
            files = [pathlib.Path(said, name) for name in ("out", "err")]
            process = self.start(program, arguments, folder, *files, **options)
            try:
                code = process.wait(longest)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(LONGEST)
                code = None
            return code, *(file.read_text(errors="backslashreplace") for file in files)

    def close(self):
        self._process.communicate()


class StandIn:
    """A method that learns nothing. Of so many modules, if any, it always uses the first."""

    metrics = ("train/loss", "train/accuracy")
    pool = trunk = None

    def __init__(self, modules, problem, settings, kinds=None):
        import tensorflow as tf

        self.kinds = {"module": range(modules)} if modules else {}
        self._width = problem.width
        self.weights = [tf.Variable(tf.zeros(3))]
        self.variables = {"weights": self.weights}

    def train_step(self, inputs, tasks, targets, seed, learning_rate):
        self.weights[0].assign_add(learning_rate * (1.0 + self.weights[0]))
        return dict.fromkeys(self.metrics, 0.5)

    def predict(self, inputs, tasks):
        import tensorflow as tf

        from lrn_tf.methods.method import Prediction

        batch = tf.shape(tasks)[0]
        paths = tf.zeros((batch, len(self.kinds)), tf.int32)
        return Prediction(tf.zeros((batch, self._width)), paths, tf.zeros(batch))


def be(program, arguments, folder, out, err, options):
    """What a forked process does instead of returning: what Python would do with a program.

    Args:
        program: the absolute path of a script, or the name of a module.
        arguments: what comes after it.
        folder: where.
        out, err: the files that it appends to, by path or descriptor.
        options: "devices", as how many the CPU is to appear; "stand_in", the
            number of modules of a `StandIn`, which is built instead of a method and costs next to nothing;
            "data", the benchmark whose data all benchmarks have; "optimised", to run graphs as a user's
            program does.
    """
    code = 1
    try:
        for said, number in ((out, 1), (err, 2)):
            to = said if isinstance(said, int) else os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(to, number)
        os.chdir(folder)
        sys.argv = [program, *arguments]
        if "devices" in options:
            look_like(options["devices"])
        if "optimised" in options:
            run_graphs_as_traced(False)
        sys.path.append(TOOLS)
        import grid

        from lrn_tf.data import benchmarks
        from lrn_tf.training import train

        if "stand_in" in options:
            train.build = functools.partial(StandIn, options["stand_in"])
            train.describe = lambda *_: None
        if "data" in options:
            benchmarks.LOADERS = dict.fromkeys(benchmarks.LOADERS, benchmarks.LOADERS[options["data"]])
        grid.subprocess = types.SimpleNamespace(Popen=popen, STDOUT=subprocess.STDOUT)
        if os.path.isabs(program):
            sys.path.insert(0, os.path.dirname(program))
            runpy.run_path(program, run_name="__main__")
        else:
            sys.modules.pop(program, None)
            runpy.run_module(program, run_name="__main__")
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        os._exit(code)


def look_like(count):
    """Makes the CPU look like so many devices."""
    import tensorflow as tf

    (cpu,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * count)


def popen(command, stdout, stderr):
    """What `grid` has of `subprocess`: trains in a forked process too."""
    from absl import flags

    python, _, program, *arguments = command
    assert (python, program, stderr) == (sys.executable, "lrn_tf.main", subprocess.STDOUT)
    pid = os.fork()
    if not pid:
        for name in set(flags.FLAGS) - OF_ABSL:  # those of the program that trains
            delattr(flags.FLAGS, name)
        flags.FLAGS.unparse_flags()
        be(program, arguments, ".", stdout.fileno(), stdout.fileno(), {})
    return Process(exit_code, pid)


def exit_code(child):
    """Of a process that was forked here; None while it runs."""
    pid, status = os.waitpid(child, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if pid else None


def run_graphs_as_traced(so=True):
    """Switches TensorFlow's optimisation of graphs off, in this process and those forked from it."""
    import tensorflow as tf

    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": so})


def look_for_garbage_less():
    """After imports: these are no garbage, and to look through them would write to what copies share."""
    gc.freeze()
    # What comes then is collected, but not as often as it would be: a graph is many small objects.
    gc.set_threshold(20_000, 10, 10)
    gc.enable()


def serve():
    gc.disable()
    # Imported, but not yet used: it has no threads that a fork would lose.
    import keras  # noqa: F401
    import sklearn.datasets  # noqa: F401
    import tensorflow  # noqa: F401
    from absl import flags, logging

    import lrn_tf.data.benchmarks
    import lrn_tf.serving.export
    import lrn_tf.training.train  # noqa: F401

    global OF_ABSL
    OF_ABSL = set(flags.FLAGS)
    run_graphs_as_traced()
    logging.set_verbosity(logging.ERROR)  # as `lrn_tf.devices.start` does
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    look_for_garbage_less()
    for line in sys.stdin:
        request = json.loads(line)
        if isinstance(request, int):
            answer = exit_code(request)
        else:
            answer = os.fork()
            if not answer:
                be(*request)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    serve()
