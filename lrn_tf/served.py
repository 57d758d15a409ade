"""A trained network as it is served: from raw images to named classes, preprocessing inside."""

import tensorflow as tf

from lrn_tf.data.benchmarks import Problem
from lrn_tf.data.images import resize, standardise
from lrn_tf.methods.method import Method
from lrn_tf.modules.pool import module_names


class Served(tf.Module):
    """What an exported model does; a SavedModel is made of it, with its functions as signatures.

    Args of all functions: images uint8 `[B, h, w, c]` of any size, which is changed to the network's as
    in training; tasks int32 `[B]`, their numbers, or task_names string `[B]`.

    Attributes:
        functions: by name of signature.
    """

    def __init__(self, method: Method, problem: Problem):
        super().__init__()
        self._method = method
        self._problem = problem
        # The number past the last module adds none.
        self._modules = tf.constant([*module_names(method.kinds), ""])
        self._tasks = tf.constant(problem.tasks)
        self._classes = tf.constant(problem.classes)  # (K, C)

        images = tf.TensorSpec((None, None, None, problem.image_shape[2]), tf.uint8, "images")
        tasks = tf.TensorSpec((None,), tf.int32, "tasks")
        names = tf.TensorSpec((None,), tf.string, "task_names")
        self.functions = {
            "serving_default": self._function(self.classify, images, tasks),
            "by_task_name": self._function(self.classify_by_name, images, names),
        }
        if method.kinds:
            self.functions["routes"] = self._function(self.routes, images, tasks)
        if hasattr(method, "follow"):
            depth = self.functions["routes"].structured_outputs["path"].shape[1]
            paths = tf.TensorSpec((None, depth), tf.int32, "path")
            self.functions["forward_path"] = self._function(self.forward_path, images, paths)
        # What the functions use, and nothing of the optimizer's, is saved with them.
        self.used = list({id(v): v for f in self.functions.values() for v in f.variables}.values())

    @property
    def interface(self) -> dict[str, tuple[dict, dict]]:
        """What each function takes and what it returns, as specs by name."""
        return {
            name: ({spec.name: spec for spec in f.structured_input_signature[0]}, f.structured_outputs)
            for name, f in self.functions.items()
        }

    def classify(self, images, tasks):
        """Classes and routes.

        Returns:
            dict of probabilities float32 `[B, C]`, class int32 `[B]`, class_name string `[B]` and, from a
            network that routes, what `routes` returns.
        """
        prediction = self._predict(images, tasks)
        answer = self._classes_of(prediction.logits)
        names = tf.gather_nd(self._classes, tf.stack([tasks, answer["class"]], axis=1))
        route = self._route_of(prediction) if self._method.kinds else {}
        return {**answer, "class_name": names, **route}

    def classify_by_name(self, images, task_names):
        """`classify` for tasks given by name."""
        same = task_names[:, None] == self._tasks
        unknown = tf.boolean_mask(task_names, ~tf.reduce_any(same, axis=1))
        known = tf.debugging.Assert(
            tf.equal(tf.size(unknown), 0), ["unknown task names", unknown, "known are", self._tasks]
        )
        with tf.control_dependencies([known]):
            return self.classify(images, tf.argmax(same, axis=1, output_type=tf.int32))

    def routes(self, images, tasks):
        """Routes only.

        Returns:
            dict of path int32 `[B, T]`, path_names string `[B, T]`, empty where a step adds no module, and
            confidence float32 `[B]`, the probability that the router gives to the path.
        """
        return self._route_of(self._predict(images, tasks))

    def forward_path(self, images, path):
        """Classes by networks of the caller's: path int32 `[B, T]`, as `routes` returns them.

        Returns:
            dict of probabilities float32 `[B, C]` and class int32 `[B]`.
        """
        return self._classes_of(self._method.follow(self._prepare(images), path))

    def _predict(self, images, tasks):
        known = tf.debugging.Assert(
            tf.reduce_all((tasks >= 0) & (tasks < self._problem.num_tasks)),
            ["tasks are numbered from 0 to", self._problem.num_tasks - 1, "given are", tasks],
        )
        with tf.control_dependencies([known]):
            return self._method.predict(self._prepare(images), tf.identity(tasks))

    def _prepare(self, images):
        height, width, _ = self._problem.image_shape
        # Resizing to the size that they have changes nothing.
        images = tf.ensure_shape(resize(images, (height, width)), (None, *self._problem.image_shape))
        return standardise(images, tf.constant(self._problem.mean), tf.constant(self._problem.std))

    def _classes_of(self, logits):
        classes = tf.argmax(logits, axis=1, output_type=tf.int32)
        return {"probabilities": tf.nn.softmax(logits), "class": classes}

    def _route_of(self, prediction):
        return {
            "path": prediction.paths,
            "path_names": tf.gather(self._modules, prediction.paths),
            "confidence": tf.exp(prediction.log_policy),
        }

    @staticmethod
    def _function(python_function, *signature):
        # Traced anew: a method's own functions may be compiled for one size of batch.
        return tf.function(python_function, autograph=False).get_concrete_function(*signature)
