"""Runs programs in forked copies of a process that has imported TensorFlow, which saves seconds each time.

    python tests/forked.py

For each line of JSON on stdin, [module, arguments, folder, stand_in], calls that module's `main` in the
folder as `python -m` would, and answers with a line of JSON: [exit code or None after a minute, stdout,
stderr]. With `stand_in`, what is built as a method learns nothing, which costs next to nothing.
"""

import importlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import traceback

LONGEST = 60


class Forked:
    """Starts such a process; call it with a module, arguments and a folder."""

    def __init__(self):
        # Silent: started otherwise than by our programs, TensorFlow would say much.
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
        )

    def __call__(self, module, arguments, folder, stand_in=False):
        request = json.dumps([module, arguments, str(folder), stand_in])
        self._process.stdin.write(request.encode() + b"\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self):
        self._process.communicate()


class StandIn:
    """A method that learns nothing."""

    metrics, kinds = ("train/loss", "train/accuracy"), {}

    def __init__(self, problem, settings):
        import tensorflow as tf

        self._classes = problem.num_classes
        self.weights = [tf.Variable(tf.zeros(3))]
        self.variables = {"weights": self.weights}

    def train_step(self, images, tasks, labels, seed, learning_rate):
        self.weights[0].assign_add(learning_rate * (1.0 + self.weights[0]))
        return dict.fromkeys(self.metrics, 0.5)

    def predict(self, images, tasks):
        import tensorflow as tf

        from lrn_tf.methods.method import Prediction

        logits, paths = (
            tf.zeros((tf.shape(images)[0], n), t) for n, t in ((self._classes, "float32"), (0, "int32"))
        )
        return Prediction(logits, paths, tf.zeros_like(tasks, tf.float32))


def be(module, arguments, folder, stand_in, out, err):
    """What the forked process does instead of returning."""
    code = 1
    try:
        os.dup2(out.fileno(), 1)
        os.dup2(err.fileno(), 2)
        os.chdir(folder)
        sys.argv = [f"{module}.py", *arguments]
        from lrn_tf import main, program
        from lrn_tf.methods import build

        if stand_in:
            build.build, build.describe = StandIn, lambda *_: None
        if module == "lrn_tf.main":
            main.run(main.main)
        else:
            program.run(importlib.import_module(module).main, takes="image file")
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        os._exit(code)


def wait(child):
    """The exit code, None if it had to be killed."""
    ends = time.monotonic() + LONGEST
    while time.monotonic() < ends:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(child, 9)
    os.waitpid(child, 0)
    return None


def serve():
    # Imported, but not yet used: it has no threads that a fork would lose.
    import keras  # noqa: F401
    import sklearn.datasets  # noqa: F401
    import tensorflow  # noqa: F401

    import lrn_tf.data.benchmarks
    import lrn_tf.export
    import lrn_tf.methods.build
    import lrn_tf.training.trainer  # noqa: F401

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for line in sys.stdin:
        request = json.loads(line)
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            child = os.fork()
            if not child:
                be(*request, out, err)
            code, said = wait(child), []
            for stream in (out, err):
                stream.seek(0)
                said.append(stream.read().decode(errors="backslashreplace"))
        print(json.dumps([code, *said]), flush=True)


if __name__ == "__main__":
    serve()
