"""The transformer router (Sec. 4.1, 4.2, Fig. 1): an actor over candidate modules, and a critic."""

import math
from collections.abc import Sequence

import keras
import keras_nlp
import tensorflow as tf

from lrn_tf.data.problem import InputSpec
from lrn_tf.router import folded_transformer
from lrn_tf.router.actors import DecoderActor, PointerActor
from lrn_tf.router.attention import AttentionPool
from lrn_tf.router.encoders import HEADS, make_encoder

# Up to so many modules the router has the paper's actor by default, beyond it the pointer (ours).
MANY = 100


def actor_for(asked: str, num_modules: int) -> str:
    """The actor that is asked for, which may be the one for pools of a size."""
    if asked != "by_size":
        return asked
    return "pointer" if num_modules > MANY else "decoder"


def decided_scale(num_modules: int, depth: int, actor: str) -> float:
    """How much larger than Keras' the actor's last weights are by default (ours, docs/notebook.md).

    The more modules there are to choose from, and the more often, the less an untrained policy makes
    examples of a task take one path. The pointer starts less decided than the decoder with the same factor.
    """
    return math.sqrt(num_modules * depth / 30) * (1.5 if actor == "pointer" else 1.0)


class Critic(keras.layers.Layer):
    """The value of a state, by attention over its encoded entries (eq. 3-5).

    It works on standardised returns and starts with their mean, 0 (both ours, docs/notebook.md).
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.pool = AttentionPool(name="pool")
        # W_c, in float32 as what is made of it
        self.value = keras.layers.Dense(1, kernel_initializer="zeros", dtype="float32", name="value")

    def build(self, states_shape):
        self.pool.build(states_shape)
        self.value.build((None, states_shape[-1]))
        self.built = True

    def call(self, states):
        """Args: states: `[B, n, D]`. Returns: float32 `[B]`, standardised: see `RunningMoments`."""
        return self.value(self.pool(states))[:, 0]


class Router(keras.layers.Layer):
    """Scores the modules that may come next, given the input, the task and the modules so far.

    The state is [v, z, l_1, .., l_{t-1}]. PASS has an embedding of its own and stays in the state, so
    at step t all states have t + 1 entries and need no padding.

    Args:
        inputs: what examples bring, each encoded to v by an encoder of its own.
        input_of: for each of the K tasks, the number of its input.
        num_modules: N; action N is PASS.
        most: `T` integers, the most actions that can be valid at each step.
        d_model: D, the width of all embeddings; the feed-forward layers have twice as many units.
        actor: `decoder` (the paper's) or `pointer` (ours).
        actor_scale: factor on the initial weights of the actor's last layer.
        input_scale: factor on the initial weights of v.
    """

    def __init__(
        self,
        inputs: Sequence[InputSpec],
        input_of: Sequence[int],
        num_modules: int,
        most: Sequence[int],
        d_model: int,
        actor: str = "decoder",
        actor_scale: float = 1.0,
        input_scale: float = 1.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.input_of = list(input_of)
        self.encoders = [make_encoder(given, d_model, input_scale) for given in inputs]
        self.task_embedding = _embedding(len(self.input_of), d_model, 1.0, "task_embedding")
        self.action_embedding = _embedding(num_modules + 1, d_model, 1.0, "action_embedding")
        self.position_embedding = _embedding(len(most) + 1, d_model, 0.02, "position_embedding")
        self.encoder = keras_nlp.layers.TransformerEncoder(2 * d_model, HEADS, name="encoder")
        if actor == "decoder":
            self.actor = DecoderActor(num_modules + 1, d_model, most, actor_scale, name="actor")
        else:
            self.actor = PointerActor(d_model, actor_scale, name="actor")
        self.critic = Critic(name="critic")

        sequence = (None, None, d_model)
        self.encoder.build(sequence)
        self.critic.build(sequence)
        self.built = True

    def perceive(self, inputs, tasks):
        """The part of the state that lasts for the whole episode.

        Args:
            inputs: `[B, *shape]`, or a tuple of them where there are several; rows of examples that bring
                another input are any.
            tasks: int32 `[B]`.

        Returns:
            `[B, 2, D]`, v and z.
        """
        return tf.stack([self.see(inputs, tasks), self.task_embedding(tasks)], axis=1)

    def see(self, inputs, tasks):
        """v `[B, D]`, by the encoder of each example's input; args as in `perceive`."""
        views = [encode(x) for encode, x in zip(self.encoders, tf.nest.flatten(inputs), strict=True)]
        view = views[0]
        if len(views) > 1:
            mine = tf.gather(tf.constant(self.input_of), tasks)[:, None]
            for i, other in enumerate(views[1:], start=1):
                view = tf.where(mine == i, other, view)
        return view

    def encode(self, percept, actions, steps):
        """The encoded states (eq. 2) of some steps of the episodes.

        Args:
            percept: `[B, 2, D]`, from `perceive`.
            actions: int32 `[B, >= max(steps) - 1]`, the actions so far.
            steps: integers t >= 1.

        Returns:
            `[B, t + 1, D]` for each step: the state before action t.
        """
        longest = max(steps) + 1
        tokens = percept
        if longest > 2:
            tokens = tf.concat([tokens, self.action_embedding(actions[:, : longest - 2])], axis=1)
        tokens += self.position_embedding(tf.range(longest))
        return folded_transformer.encode(self.encoder, tokens, [t + 1 for t in steps])

    def score(self, states, valid, steps):
        """The actor's logits (eq. 1 is their softmax) at some steps.

        Args:
            states: `[B, t + 1, D]` for each step, from `encode`.
            valid: bool `[B, N + 1]` for each step, the valid actions. At least one in every row.
            steps: integers t >= 1.

        Returns:
            float32 `[B, N + 1]` for each step, very negative where invalid.
        """
        table = tf.cast(self.action_embedding.embeddings, self.compute_dtype)
        return self.actor(table, states, valid, steps=steps)

    def call(self, inputs, tasks, actions, valid):
        """One decision from scratch: logits `[B, N + 1]` and standardised values `[B]`; shapes as above."""
        steps = [actions.shape[1] + 1]
        states = self.encode(self.perceive(inputs, tasks), actions, steps)
        return self.score(states, [valid], steps)[0], self.critic(states[0])


def _embedding(count, width, stddev, name):
    """A built table of embeddings. An initializer that two tables share would fill both with one stream."""
    layer = keras.layers.Embedding(count, width, keras.initializers.RandomNormal(stddev=stddev), name=name)
    layer.build((None,))
    return layer
