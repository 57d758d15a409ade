"""Networks in which every task has a given path through fully connected blocks: the plain baselines."""

import tensorflow as tf

from lrn_tf.data.problem import Problem
from lrn_tf.methods.fc_network import FCNetwork
from lrn_tf.methods.supervised import Supervised
from lrn_tf.settings.table import Settings


class GivenPaths(Supervised):
    """A trunk, and three layers of blocks of which each task has its own or shares one.

    Subclasses say which layers are the tasks' own.

    Attributes:
        own: for each layer, whether every task has a block of its own in it.
        told: whether the first layer gets the task, as a one-hot vector beside the features.
    """

    own: tuple[bool, bool, bool]
    told = False

    def __init__(self, problem: Problem):
        super().__init__(problem)
        self._num_tasks = problem.num_tasks
        blocks = [self._num_tasks if own else 1 for own in self.own]
        self.network = FCNetwork(problem, blocks, self._num_tasks if self.told else 0)
        self.trunk, self.pool = self.network.trunk, self.network.pool
        self.kinds = self.pool.by_kind
        self.weights = self.network.weights

    @classmethod
    def count_parameters(cls, problem: Problem, settings: Settings, kinds=None) -> dict[str, int]:
        """Trainable parameters of the trunk and of each layer's blocks."""
        return cls.build(problem, settings).network.count_parameters()

    @property
    def variables(self) -> dict[str, object]:
        """All state that training changes, for a checkpoint."""
        return self.network.variables

    def layers(self, features, tasks):
        """See `Supervised.layers`."""
        if self.told:
            one_hot = tf.one_hot(tasks, self._num_tasks, dtype=features.dtype)
            features = tf.concat([features, one_hot], axis=1)
        only = tf.zeros_like(tasks)
        return self.network.run(features, lambda layer, _: tasks if self.own[layer] else only)


class TaskFC(GivenPaths):
    """All three layers for each task alone ("task-specific-all-fc")."""

    own = (True, True, True)


class TaskHead(GivenPaths):
    """The last layer for each task alone ("task-specific-1-fc")."""

    own = (False, False, True)


class Shared(GivenPaths):
    """One network for all tasks, which is told the task."""

    own = (False, False, False)
    told = True
