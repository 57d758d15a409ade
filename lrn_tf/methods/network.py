"""The Limitless Routing Network as a Keras model: a router and the modules it chooses from (Sec. 4)."""

import dataclasses
from collections.abc import Sequence

import keras
import tensorflow as tf

from lrn_tf.data.brought import brought
from lrn_tf.data.examples import prepare_all
from lrn_tf.data.problem import Problem
from lrn_tf.devices.precision import layers_compute_in
from lrn_tf.learning.objectives import Objectives
from lrn_tf.modules.decision_process import DecisionProcess
from lrn_tf.modules.dispatch import Modules
from lrn_tf.modules.pool import Kind, Pool
from lrn_tf.router.episodes import route
from lrn_tf.router.router import Router, actor_for, decided_scale
from lrn_tf.storage.from_json import of_type
from lrn_tf.storage.metrics import EpochMetrics


@keras.saving.register_keras_serializable("lrn_tf")
class LRN(keras.Model):
    """A network for each example, of modules that a router picks from its input and its task.

    It is learned by `lrn_tf.train`, not by `fit`. It can be saved and loaded as Keras models can be, if the
    modules' layers can.

    Example:
        >>> model = lrn_tf.train(tasks, pool, depth=3)
        >>> probabilities = model(images, ["colour", "shape"])

    Args:
        kinds: a list of kinds, or a `Pool` for the problem.
        problem: the tasks, and what their examples bring.
        depth: T, the most modules of a network.
        d_model: D, the width of the router.
        actor: `decoder` (the paper's), `pointer`, or `by_size`; see `lrn_tf.router.actors`.
        actor_scale: factor on the initial weights of the actor's last layer; 0 is `decided_scale`.
        input_scale: factor on the initial weights of the input's embedding.

    Attributes:
        pool, problem: what it was made of.
        process: which modules may come next.
        modules: the modules.
        router: the router.
        objectives: what its answers are worth.
        workdir, epochs: of what `lrn_tf.train` has trained: the folder of its run, and the lines of its
            metrics.jsonl.

    Raises:
        ValueError: for some task there is no network of that depth.
    """

    def __init__(
        self,
        kinds: Sequence[Kind] | Pool,
        problem: Problem,
        depth: int,
        d_model: int = 256,
        actor: str = "by_size",
        actor_scale: float = 0.0,
        input_scale: float = 0.1,
        **kwargs,
    ):
        # Keras would round floats to the layers' type before they are standardised.
        super().__init__(autocast=False, **kwargs)
        self._config = dict(
            depth=depth, d_model=d_model, actor=actor, actor_scale=actor_scale, input_scale=input_scale
        )
        self.pool = kinds if isinstance(kinds, Pool) else Pool.of(kinds, problem)
        self.problem = problem
        actor = actor_for(actor, len(self.pool))
        self.process = DecisionProcess(self.pool, depth)
        with layers_compute_in(self.dtype_policy):  # which one that is loaded brings along
            self.modules = Modules(self.pool, depth)
            self.router = Router(
                problem.inputs,
                problem.input_of,
                len(self.pool),
                self.process.max_candidates,
                d_model,
                actor,
                actor_scale or decided_scale(len(self.pool), depth, actor),
                input_scale,
            )
        self.objectives = Objectives(problem)
        self.workdir: str = ""
        self.epochs: list[EpochMetrics] = []
        self._graph = tf.function(self._answer, autograph=False, reduce_retracing=True)
        self.built = True

    @property
    def module_weights(self) -> list[tf.Variable]:
        """All weights of modules."""
        return tf.nest.flatten(self.modules.weights)

    def __call__(self, inputs, tasks):
        """Answers a batch.

        Args:
            inputs, tasks: as `lrn_tf.data.brought.brought` takes them: `[B, *shape]`, images uint8 of any
                size, or such an array by the name of each input; and `B` numbers or names. Inside a
                `tf.function` tensors are taken as they are, and tasks are numbers.

        Returns:
            float32 `[B, C]`, probabilities of classes or labels, or numbers in the user's units; 0 after a
            task's own answers.

        Raises:
            ValueError: an input is of another type or shape, a task is unknown or missing, or there are no
                examples.
        """
        if not any(tf.is_symbolic_tensor(x) for x in tf.nest.flatten([inputs, tasks])):
            tasks = tasks.numpy() if tf.is_tensor(tasks) else tasks
            inputs, tasks = brought(inputs, tasks, self.problem)
        return super().__call__(inputs, tasks=tf.cast(tf.convert_to_tensor(tasks), tf.int32))

    def call(self, inputs, tasks):
        """What `__call__` returns, for tasks by number, int32 `[B]`."""
        return self._graph(inputs, tasks)

    def _answer(self, inputs, tasks):
        inputs = prepare_all(inputs, tasks, self.problem)
        episodes = route(self.router, self.process, inputs, tasks)
        return self.objectives.answers(self.modules(inputs, episodes.actions)[0], tasks)

    def count_params(self) -> int:
        """Weights of router and modules."""
        return self.router.count_params() + sum(w.shape.num_elements() for w in self.module_weights)

    def summary(self, print_fn=print, **_) -> None:
        """Prints the pool, kind by kind, and the tasks."""
        parameters = self.pool.count_parameters()
        rows: list[tuple[str, ...]] = [("kind", "role", "takes", "returns", "modules", "weights")]
        for kind in self.pool.kinds:
            shapes = ("x".join(map(str, shape)) for shape in (kind.input, kind.output))
            rows.append((kind.name, kind.role, *shapes, str(kind.count), f"{parameters[kind.name]:,}"))
        rows.append(("router", "", "", "", "", f"{self.router.count_params():,}"))
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows]
        lines.append(f"networks of at most {self.process.depth} modules; {self.count_params():,} weights")
        for task in self.problem.tasks:
            lines.append(f"task {task.name}: {task.input} to {task.width} {task.form}")
        print_fn("\n".join(lines))

    def get_config(self):
        kinds = [
            {f.name: getattr(kind, f.name) for f in dataclasses.fields(kind)} for kind in self.pool.kinds
        ]
        with layers_compute_in(self.dtype_policy):
            for kind in kinds:
                kind["layer"] = keras.saving.serialize_keras_object(kind["layer"]())
        # Lists, not tuples: Keras has forms of its own for those.
        problem = _plain(dataclasses.asdict(self.problem))
        return {**super().get_config(), "kinds": _plain(kinds), "problem": problem, **self._config}

    @classmethod
    def from_config(cls, config):
        kinds = [_kind(**kind) for kind in config.pop("kinds")]
        problem = of_type(Problem, config.pop("problem"), "problem")
        return cls(kinds, problem, **config)

    def save_own_variables(self, store):
        for i, weight in enumerate(self.module_weights):
            store[str(i)] = weight.numpy()

    def load_own_variables(self, store):
        for i, weight in enumerate(self.module_weights):
            weight.assign(store[str(i)])


def _kind(layer, **rest):
    return Kind(layer=lambda: keras.saving.deserialize_keras_object(layer), **rest)


def _plain(values):
    """Tuples as lists, at any depth."""
    if isinstance(values, dict):
        return {name: _plain(value) for name, value in values.items()}
    return [_plain(value) for value in values] if isinstance(values, list | tuple) else values
