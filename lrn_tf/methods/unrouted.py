"""LRN's modules without a router: what they learn along paths that are given (ours).

It tells what routing could be worth, and what it has to beat.
"""

import tensorflow as tf

from lrn_tf.data.problem import Problem
from lrn_tf.devices import replicas
from lrn_tf.methods.method import Prediction
from lrn_tf.methods.modular import Modular, pool_of
from lrn_tf.modules.decision_process import DecisionProcess
from lrn_tf.modules.dispatch import Modules
from lrn_tf.modules.pool import Pool
from lrn_tf.modules.task_paths import draw_paths, kinds_of_tasks, paths_of_tasks
from lrn_tf.settings.table import Settings


class Unrouted(Modular):
    """Every network of a task holds modules of the same kinds, as many different ones as depth allows.

    Which modules of those kinds, `--paths` says:

        shared  the first ones, for all tasks; with `--heads=task` one network with a head for each
        own     others for each task, so that nothing is shared; needs as many of each kind
        task    any, drawn once for each task
        random  any, drawn anew for each example of every step; evaluated along the paths of `task`

    A `lrn_tf.methods.method.Method`.
    """

    def __init__(self, pool: Pool, problem: Problem, settings: Settings):
        super().__init__(
            DecisionProcess(pool, settings.depth), Modules(pool, settings.depth), problem, settings
        )
        self.weights = tf.nest.flatten(self.modules.weights)
        self.metrics = self.objectives.metrics
        self._plan = kinds_of_tasks(pool, settings.depth)
        which = "drawn" if settings.paths in ("task", "random") else settings.paths
        self._of_task = tf.constant(paths_of_tasks(pool, self._plan, which, settings.seed))  # (K, T)

    @staticmethod
    def count_parameters(problem: Problem, settings: Settings, kinds=None) -> dict[str, int]:
        """Trainable parameters of each kind's modules."""
        return dict(pool_of(problem, settings, kinds).count_parameters())

    @property
    def variables(self) -> dict[str, object]:
        """All state that training changes, for a checkpoint."""
        return {"modules": self.modules.weights, "module_adam": self.module_adam.variables}

    def train_step(self, inputs, tasks, targets, seed, learning_rate) -> dict[str, tf.Tensor]:
        """One step of Adam on the modules; see `Method.train_step`."""
        paths = self.paths(tasks)
        if self.settings.paths == "random":
            paths = draw_paths(self.pool, self._plan, tasks, seed)
        mine = replicas.mine((inputs, tasks, targets, paths))
        loss, right, _ = self.train_modules(*mine, learning_rate)
        return self.objectives.means(loss, right, tasks)

    def predict(self, inputs, tasks) -> Prediction:
        """What the path of each example's task answers; see `Method.predict`."""
        paths = self.paths(tasks)
        return Prediction(self.run(inputs, paths), paths, tf.zeros_like(tasks, tf.float32))

    def paths(self, tasks):
        """The path of each example's task, int32 `[B, T]`."""
        return tf.gather(self._of_task, tasks)
