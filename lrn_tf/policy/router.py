"""The transformer router (Sec. 4.1, 4.2, Fig. 1): an actor over candidate modules, and a critic."""

import math

import keras
import keras_nlp
import tensorflow as tf

from lrn_tf.policy import folded_transformer

HEADS = 4
INVALID = -1e8  # the logit of a candidate that is only padding


def scaled_glorot(factor: float) -> keras.initializers.Initializer:
    """Keras' default initializer, times a factor."""
    return keras.initializers.VarianceScaling(max(factor, 1e-6) ** 2, "fan_avg", "uniform")


def decided_scale(num_modules: int, depth: int) -> float:
    """How much larger than Keras' the actor's last weights are by default (ours, docs/learning.md).

    The more modules there are to choose from, and the more often, the less an untrained policy makes
    examples of a task take one path.
    """
    return math.sqrt(num_modules * depth / 30)


class ImageEncoder(keras.layers.Layer):
    """A couple of convolutions and a fully connected layer: image -> v (Sec. 4.2).

    Strides and filters are ours.
    """

    def __init__(self, d_model: int, scale: float, **kwargs):
        super().__init__(**kwargs)
        self.layers = keras.Sequential(
            [
                keras.layers.Conv2D(32, 3, strides=2, padding="same", activation="relu"),
                keras.layers.Conv2D(32, 3, strides=2, padding="same", activation="relu"),
                keras.layers.Flatten(),
                keras.layers.Dense(d_model, kernel_initializer=scaled_glorot(scale)),
            ]
        )

    def build(self, images_shape):
        self.layers.build(images_shape)
        self.built = True

    def call(self, images):
        """Args: images: float `[B, H, W, c]`. Returns: `[B, D]`."""
        return self.layers(images)


class Critic(keras.layers.Layer):
    """The value of a state, by attention over its encoded entries (eq. 3-5)."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.score = keras.layers.Dense(1, name="score")  # W_e
        self.value = keras.layers.Dense(1, name="value")  # W_c

    def build(self, states_shape):
        self.score.build(states_shape)
        self.value.build((None, states_shape[-1]))
        self.built = True

    def call(self, states):
        """Args: states: `[B, n, D]`. Returns: float32 `[B]`."""
        weights = tf.nn.softmax(tf.cast(self.score(states), tf.float32), axis=1)  # (B, n, 1)
        pooled = tf.reduce_sum(tf.cast(weights, states.dtype) * states, axis=1)  # (B, D)
        return tf.cast(self.value(pooled)[:, 0], tf.float32)


class Router(keras.layers.Layer):
    """Scores the candidate modules of a step, given the image, the task and the modules so far.

    The state is [v, z, l_1, .., l_{t-1}]. PASS has an embedding of its own and stays in the state, so
    at step t all states have t + 1 entries and need no padding. Candidates are a set: they carry no
    positions and attend to each other without a causal mask.

    Args:
        image: shape of an image, (H, W, c).
        num_tasks: K.
        num_modules: N; action N is PASS.
        depth: T.
        d_model: D, the width of all embeddings; the feed-forward layers have twice as many units.
        actor_scale: factor on the initial weights of the actor's last layer.
        image_scale: factor on the initial weights of v.
    """

    def __init__(
        self,
        image,
        num_tasks: int,
        num_modules: int,
        depth: int,
        d_model: int,
        actor_scale: float = 1.0,
        image_scale: float = 1.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        unit = keras.initializers.RandomNormal(stddev=1.0)
        self.image_encoder = ImageEncoder(d_model, image_scale, name="image_encoder")
        self.task_embedding = keras.layers.Embedding(num_tasks, d_model, unit, name="task_embedding")
        self.action_embedding = keras.layers.Embedding(
            num_modules + 1, d_model, unit, name="action_embedding"
        )
        self.position_embedding = keras.layers.Embedding(
            depth + 1, d_model, keras.initializers.RandomNormal(stddev=0.02), name="position_embedding"
        )
        self.encoder = keras_nlp.layers.TransformerEncoder(2 * d_model, HEADS, name="encoder")
        self.decoder = keras_nlp.layers.TransformerDecoder(2 * d_model, HEADS, name="decoder")
        self.logit = keras.layers.Dense(1, kernel_initializer=scaled_glorot(actor_scale), name="logit")
        self.critic = Critic(name="critic")
        # Each row of the folded decoder weighs all N + 1 actions per head, so with many modules of
        # little width the plain decoder is the cheaper one.
        self.folds = HEADS * (num_modules + 1) <= 4 * d_model

        sequence = (None, None, d_model)
        self.image_encoder.build((None, *image))
        for embedding in (self.task_embedding, self.action_embedding, self.position_embedding):
            embedding.build((None,))
        self.encoder.build(sequence)
        self.decoder.build(sequence, sequence)
        self.logit.build(sequence)
        self.critic.build(sequence)
        self.built = True

    def perceive(self, images, tasks):
        """The part of the state that lasts for the whole episode.

        Args:
            images: float `[B, H, W, c]`.
            tasks: int32 `[B]`.

        Returns:
            `[B, 2, D]`, v and z.
        """
        return tf.stack([self.image_encoder(images), self.task_embedding(tasks)], axis=1)

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

    def score(self, states, candidates, real):
        """The actor's logits (eq. 1 is their softmax) at some steps.

        Args:
            states: `[B, n, D]` for each step, from `encode`.
            candidates: int32 `[B, C]` for each step, the valid actions, padded.
            real: bool `[B, C]` for each step, which of them are no padding.

        Returns:
            float32 `[B, C]` for each step, very negative at padding.
        """
        if self.folds:
            table = tf.cast(self.action_embedding.embeddings, self.compute_dtype)
            decoded = folded_transformer.decode(self.decoder, table, candidates, real, states)
        else:
            decoded = [
                self.decoder(
                    self.action_embedding(ids), state, decoder_padding_mask=mask, use_causal_mask=False
                )
                for state, ids, mask in zip(states, candidates, real, strict=True)
            ]  # (B, C, D) each
        return [
            tf.where(mask, tf.cast(self.logit(x)[:, :, 0], tf.float32), INVALID)
            for x, mask in zip(decoded, real, strict=True)
        ]

    def call(self, images, tasks, actions, candidates, real):
        """One decision from scratch: logits `[B, C]` and values `[B]`; shapes as above."""
        states = self.encode(self.perceive(images, tasks), actions, [actions.shape[1] + 1])
        return self.score(states, [candidates], [real])[0], self.critic(states[0])
