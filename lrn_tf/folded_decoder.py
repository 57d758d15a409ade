"""The decoder's arithmetic with far fewer multiplications: same weights, same result.

A decoder row is a candidate of one example at one step, and there are many: at dup 10, batch 128 and
depth 6 some twenty thousand a step. What `keras_nlp`'s TransformerDecoder does for every row can mostly
be done once per module or once per state instead:

- Candidates carry no positions, so before attention they are rows of one table of N + 1 embeddings.
  Queries, keys, values and the scores of all pairs are computed on the table. Rows only look scores up,
  mask what is no candidate of theirs, and take their softmax.
- Whatever a value passes through on its way out (the output projection) is linear, so it is applied to
  the N + 1 values, or to the few states, before rows mix them.
- In cross-attention the query projection is likewise moved to the keys: (x W_q) . k = x . (W_q k).

What is left per row are two thin matrix products and the feed-forward layers.
"""

import math

import keras_nlp
import tensorflow as tf


def decode(decoder: keras_nlp.layers.TransformerDecoder, table, candidates, real, states):
    """What the decoder returns for the candidates' embeddings without a causal mask.

    Args:
        decoder: built, without dropout, post-norm.
        table: `[N + 1, D]`, the embeddings of all actions.
        candidates: int32 `[B, C]`, rows of the table, padded.
        real: bool `[B, C]`, which candidates are no padding. At least one per example.
        states: `[B, n, D]`, the encoded state.

    Returns:
        `[B, C, D]`; arbitrary at padding.
    """
    x = tf.gather(table, candidates)  # (B, C, D)
    x += _self_attention(decoder._self_attention_layer, table, candidates, real)
    x = decoder._self_attention_layer_norm(x)
    x = decoder._cross_attention_layer_norm(x + _cross_attention(decoder._cross_attention_layer, x, states))
    update = decoder._feedforward_output_dense(decoder._feedforward_intermediate_dense(x))
    return decoder._feedforward_layer_norm(x + update)


def _self_attention(layer, table, candidates, real):
    query, key, value = _project(layer, table[None], table[None])  # (1, N, H, d) each
    scores = tf.einsum("nhd,mhd->nhm", query[0], key[0])  # (N, H, N)
    values = tf.einsum("mhd,hde->hme", value[0], _kernel(layer._output_dense))  # (H, N, D)
    count = table.shape[0]
    mine = tf.one_hot(candidates, count, True, False, dtype=tf.bool) & real[:, :, None]
    mine = tf.reduce_any(mine, axis=1)  # (B, N)
    weights = _softmax(tf.gather(scores, candidates), mine[:, None, None, :])  # (B, C, H, N)
    heads = count * values.shape[0]
    weights = tf.reshape(weights, [*candidates.shape, heads])  # (B, C, HN)
    return tf.matmul(weights, tf.reshape(values, [heads, -1])) + tf.cast(
        layer._output_dense.bias, values.dtype
    )


def _cross_attention(layer, x, states):
    batch, rows = x.shape[:2]
    _, key, value = _project(layer, None, states)  # (B, n, H, d) each
    scale = 1 / math.sqrt(layer.key_dim)
    keys = tf.einsum("bnhd,ehd->behn", key, _kernel(layer._query_dense)) * scale  # (B, D, H, n)
    offsets = tf.einsum("bnhd,hd->bhn", key, tf.cast(layer._query_dense.bias, key.dtype)) * scale
    values = tf.einsum("bnhd,hde->bhne", value, _kernel(layer._output_dense))  # (B, H, n, D)
    heads, entries = values.shape[1:3]
    scores = tf.matmul(x, tf.reshape(keys, [batch, -1, heads * entries]))  # (B, C, Hn)
    scores = tf.reshape(scores, [batch, rows, heads, entries]) + offsets[:, None]
    weights = tf.reshape(_softmax(scores), [batch, rows, heads * entries])
    values = tf.reshape(values, [batch, heads * entries, -1])
    return tf.matmul(weights, values) + tf.cast(layer._output_dense.bias, x.dtype)


def _project(layer, queries, values):
    """Queries (scaled), keys and values of each head; None where no queries are asked for."""
    query = None if queries is None else layer._query_dense(queries) / math.sqrt(layer.key_dim)
    return query, layer._key_dense(values), layer._value_dense(values)


def _kernel(dense):
    return tf.cast(dense.kernel, dense.compute_dtype)


def _softmax(scores, mask=None):
    """In float32, whatever the layers compute in."""
    wide = tf.cast(scores, tf.float32)
    if mask is not None:
        wide = tf.where(mask, wide, -1e9)
    return tf.cast(tf.nn.softmax(wide), scores.dtype)
