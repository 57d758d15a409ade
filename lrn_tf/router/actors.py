"""Actors: the logits of a step's actions, from the encoded state and the actions' embeddings.

Both are permutation-equivariant: actions are a set and carry no positions.
"""

import math
from collections.abc import Sequence

import keras
import keras_nlp
import tensorflow as tf

from lrn_tf.router import folded_transformer
from lrn_tf.router.attention import AttentionPool
from lrn_tf.router.encoders import HEADS, scaled_glorot

INVALID = -1e8  # the logit of an action that is not valid


class DecoderActor(keras.layers.Layer):
    """The paper's: a transformer decoder over the embeddings of the valid actions (Sec. 4.2, Fig. 1).

    Valid actions attend to each other, without a causal mask, and to the state; one unit makes a logit of
    each. The feed-forward layers see every valid action of every example, so a step's cost grows with them.

    Args:
        actions: N + 1.
        d_model: D.
        most: `T` integers, the most actions that can be valid at each step.
        scale: factor on the initial weights of the last layer.
    """

    def __init__(self, actions: int, d_model: int, most: Sequence[int], scale: float = 1.0, **kwargs):
        super().__init__(**kwargs)
        self.most = tuple(most)
        self.decoder = keras_nlp.layers.TransformerDecoder(2 * d_model, HEADS, name="decoder")
        # In bfloat16 logits that are close would be the same, and the lowest module would be taken.
        self.logit = keras.layers.Dense(
            1, kernel_initializer=scaled_glorot(scale), dtype="float32", name="logit"
        )
        # Each row of the folded decoder weighs all N + 1 actions per head, so with many modules of
        # little width the plain decoder is the cheaper one.
        self.folds = HEADS * actions <= 4 * d_model
        sequence = (None, None, d_model)
        self.decoder.build(sequence, sequence)
        self.logit.build(sequence)
        self.built = True

    def call(self, table, states, valid, steps):
        """The logits of some steps.

        Args:
            table: `[N + 1, D]`, the embeddings of all actions.
            states: `[B, t + 1, D]` for each step, encoded.
            valid: bool `[B, N + 1]` for each step. At least one action in every row.
            steps: integers t >= 1.

        Returns:
            float32 `[B, N + 1]` for each step, very negative where invalid.
        """
        rows = [pack(mask, self.most[t - 1]) for mask, t in zip(valid, steps, strict=True)]
        if self.folds:
            rows = [tf.cast(ids, table.dtype) for ids in rows]
            decoded = folded_transformer.decode(self.decoder, table, rows, valid, states)
        else:
            decoded = [
                self.decoder(
                    tf.gather(table, tf.argmax(ids, axis=2)),
                    state,
                    decoder_padding_mask=tf.reduce_any(ids, axis=2),
                    use_causal_mask=False,
                )
                for ids, state in zip(rows, states, strict=True)
            ]  # (B, C, D) each
        packed = [self.logit(x)[:, :, 0] for x in decoded]  # (B, C) each
        return [
            tf.where(mask, tf.einsum("bc,bcn->bn", x, tf.cast(ids, tf.float32)), INVALID)
            for x, ids, mask in zip(packed, rows, valid, strict=True)
        ]


class PointerActor(keras.layers.Layer):
    """Points at an action by its embedding (ours; after Vinyals et al. 2015, Kool et al. 2019).

    The logit of an action is the scaled dot product of a query, made from the attention-pooled state, with
    a projection of the action's embedding. One product per step serves all N + 1 actions, so that many
    modules cost next to nothing.

    Args:
        d_model: D.
        scale: factor on the initial weights of the query.
    """

    def __init__(self, d_model: int, scale: float = 1.0, **kwargs):
        super().__init__(**kwargs)
        self.pool = AttentionPool(name="pool")
        self.query = keras.layers.Dense(d_model, kernel_initializer=scaled_glorot(scale), name="query")
        # A bias would add the same to all logits.
        self.key = keras.layers.Dense(d_model, use_bias=False, name="key")
        self.pool.build((None, None, d_model))
        self.query.build((None, d_model))
        self.key.build((None, d_model))
        self.built = True

    def call(self, table, states, valid, steps):
        """The logits of some steps; see `DecoderActor.call`."""
        pooled = tf.stack([self.pool(state) for state in states])  # (T, B, D)
        # As the decoder's logits.
        queries, keys = (tf.cast(x, tf.float32) for x in (self.query(pooled), self.key(table)))
        logits = tf.matmul(queries, keys, transpose_b=True) / math.sqrt(keys.shape[1])
        return [tf.where(mask, x, INVALID) for mask, x in zip(valid, tf.unstack(logits), strict=True)]


def pack(valid: tf.Tensor, width: int) -> tf.Tensor:
    """Which valid action comes in which place, so that the decoder gets no row for an invalid one.

    Args:
        valid: bool `[B, N + 1]`.
        width: the most that any row has.

    Returns:
        bool `[B, width, N + 1]`: in place i the i-th valid action, in ascending order; then no action.
    """
    place = tf.cumsum(tf.cast(valid, tf.int32), axis=1) - 1  # (B, N + 1)
    return (place[:, None] == tf.range(width)[:, None]) & valid[:, None]
