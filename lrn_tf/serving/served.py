"""A trained network as it is served: from what examples bring to named answers, preprocessing inside."""

import tensorflow as tf

from lrn_tf.data.examples import prepare_all
from lrn_tf.data.problem import CLASSES, LABELS, NUMBERS, InputSpec, Problem
from lrn_tf.learning.objectives import Objectives
from lrn_tf.methods.method import Method
from lrn_tf.modules.pool import module_names


class Served(tf.Module):
    """What an exported model does; a SavedModel is made of it, with its functions as signatures.

    Args of all functions, by name: what examples bring, for each input of the problem an array `[B,
    *shape]` by its name, in which rows of examples with another input are any; images uint8 of any size,
    which is changed to the network's as in training. And tasks int32 `[B]`, their numbers, or task_names
    string `[B]`.

    Attributes:
        functions: by name of signature.
    """

    def __init__(self, method: Method, problem: Problem):
        super().__init__()
        self._method = method
        self._problem = problem
        self._objectives = Objectives(problem)
        # The number past the last module adds none.
        self._modules = tf.constant([*module_names(method.kinds), ""])
        self._tasks = tf.constant(problem.task_names)
        filled = [[*task.answers, *[""] * (problem.width - task.width)] for task in problem.tasks]
        self._answers = tf.constant(filled)  # (K, C)

        inputs = [served_spec(given) for given in problem.inputs]
        tasks = tf.TensorSpec((None,), tf.int32, "tasks")
        names = tf.TensorSpec((None,), tf.string, "task_names")
        # The others call the first one, so that the network is traced, saved and loaded once.
        self.functions = {"serving_default": self._function(self.answer, *inputs, tasks)}
        self.functions["by_task_name"] = self._function(self.answer_by_name, *inputs, names)
        if method.kinds:
            self.functions["routes"] = self._function(self.routes, *inputs, tasks)
        if hasattr(method, "follow"):
            depth = self.functions["routes"].structured_outputs["path"].shape[1]
            paths = tf.TensorSpec((None, depth), tf.int32, "path")
            self.functions["forward_path"] = self._function(self.forward_path, *inputs, tasks, paths)
        # What the functions use, and nothing of the optimizer's, is saved with them.
        self.used = list({id(v): v for f in self.functions.values() for v in f.variables}.values())

    @property
    def interface(self) -> dict[str, tuple[dict, dict]]:
        """What each function takes and what it returns, as specs by name."""
        return {
            name: (f.structured_input_signature[1], f.structured_outputs)
            for name, f in self.functions.items()
        }

    def answer(self, tasks, **inputs):
        """Answers and routes.

        Returns:
            dict of what there is of: probabilities float32 `[B, C]`, class int32 `[B]` and class_name
            string `[B]` (-1 and empty for a task without classes), of tasks with classes; numbers float32
            `[B, C]`, in the user's units; labels float32 `[B, C]`, the probability of each. What a task
            does not have is 0. From a network that routes besides what `routes` returns.
        """
        with tf.control_dependencies([self._known(tasks)]):
            tasks = tf.identity(tasks)
        prediction = self._method.predict(prepare_all(inputs, tasks, self._problem), tasks)
        route = self._route_of(prediction) if self._method.kinds else {}
        return {**self._answers_of(prediction.logits, tasks), **route}

    def answer_by_name(self, task_names, **inputs):
        """`answer` for tasks given by name."""
        same = task_names[:, None] == self._tasks
        unknown = tf.boolean_mask(task_names, ~tf.reduce_any(same, axis=1))
        known = tf.debugging.Assert(
            tf.equal(tf.size(unknown), 0), ["unknown task names", unknown, "known are", self._tasks]
        )
        with tf.control_dependencies([known]):
            return self._whole(tf.argmax(same, axis=1, output_type=tf.int32), inputs)

    def routes(self, tasks, **inputs):
        """Routes only.

        Returns:
            dict of path int32 `[B, T]`, path_names string `[B, T]`, empty where a step adds no module, and
            confidence float32 `[B]`, the probability that the router gives to the path.
        """
        answers = self._whole(tasks, inputs)
        return {name: answers[name] for name in ("path", "path_names", "confidence")}

    def forward_path(self, tasks, path, **inputs):
        """Answers by networks of the caller's: path int32 `[B, T]`, as `routes` returns them."""
        with tf.control_dependencies([self._known(tasks)]):
            tasks = tf.identity(tasks)
        inputs = prepare_all(inputs, tasks, self._problem)
        return self._answers_of(self._method.follow(inputs, tasks, path), tasks)

    def _whole(self, tasks, inputs):
        return self.functions["serving_default"](tasks=tasks, **inputs)

    def _known(self, tasks):
        return tf.debugging.Assert(
            tf.reduce_all((tasks >= 0) & (tasks < self._problem.num_tasks)),
            ["tasks are numbered from 0 to", self._problem.num_tasks - 1, "given are", tasks],
        )

    def _answers_of(self, logits, tasks):
        answers, found = self._objectives.answers(logits, tasks), {}
        if CLASSES in self._objectives.forms:
            classes = tf.argmax(answers, axis=1, output_type=tf.int32)
            mine = self._of_form(CLASSES, tasks)
            names = tf.gather_nd(self._answers, tf.stack([tasks, classes], axis=1))
            found["probabilities"] = self._where(mine, answers)
            found["class"] = classes if mine is None else tf.where(mine, classes, -1)
            found["class_name"] = names if mine is None else tf.where(mine, names, "")
        for form, name in ((NUMBERS, "numbers"), (LABELS, "labels")):
            if form in self._objectives.forms:
                found[name] = self._where(self._of_form(form, tasks), answers)
        return found

    def _of_form(self, form, tasks):
        """Which examples are of tasks of this form; None where all are."""
        return None if self._objectives.forms == [form] else self._objectives.asks_for(form, tasks)

    @staticmethod
    def _where(mine, values):
        return values if mine is None else tf.where(mine[:, None], values, 0.0)

    def _route_of(self, prediction):
        return {
            "path": prediction.paths,
            "path_names": tf.gather(self._modules, prediction.paths),
            "confidence": tf.exp(prediction.log_policy),
        }

    @staticmethod
    def _function(python_function, *signature):
        # Traced anew: a method's own functions may be compiled for one size of batch.
        function = tf.function(lambda **given: python_function(**given), autograph=False)
        return function.get_concrete_function(**{spec.name: spec for spec in signature})


def served_spec(given: InputSpec) -> tf.TensorSpec:
    """What a served network takes for an input."""
    shape = (None, None, given.shape[2]) if given.is_image else given.shape
    return tf.TensorSpec((None, *shape), given.dtype, given.name)
