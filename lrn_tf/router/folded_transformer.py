"""The arithmetic of the router's transformer with far fewer operations: same weights, same result.

The decoder has a row for each candidate of each example at each step, some twenty thousand a batch at
dup 10 and depth 6, and the encoder one for each entry of each state. What `keras_nlp`'s layers do for
every row can mostly be done once for many:

- The states of an episode are the beginnings of one sequence. Queries, keys, values and scores are made
  once for the whole sequence; a state only takes its softmax over its own entries.
- Candidates carry no positions, so before attention they are rows of one table of N + 1 embeddings, and
  all this is done on the table. Rows look scores up, mask what is no candidate of theirs, and take
  their softmax.
- Whatever a value passes through on its way out (the output projection) is linear, so it is applied to
  the N + 1 values, or to the few states, before rows mix them.
- In cross-attention the query projection is likewise moved to the keys: (x W_q) . k = x . (W_q k).
- All steps go through the feed-forward layers together, in matrix products of two dimensions.

What is left per row are two thin matrix products and the feed-forward layers.
"""

import math
from collections.abc import Sequence

import keras_nlp
import tensorflow as tf


def encode(encoder: keras_nlp.layers.TransformerEncoder, tokens, lengths: Sequence[int]) -> list:
    """What the encoder returns for each of several beginnings of a sequence.

    Args:
        encoder: built, without dropout, post-norm.
        tokens: `[B, n, D]`.
        lengths: how many tokens each beginning has.

    Returns:
        `[B, length, D]` for each length.
    """
    layer = encoder._self_attention_layer
    query, key, value = (
        _project(tokens, dense) for dense in (layer._query_dense, layer._key_dense, layer._value_dense)
    )  # (B, n, H, d) each
    scores = tf.einsum("bihd,bjhd->bhij", query, key) / math.sqrt(layer.key_dim)
    mixed = [tf.einsum("bhij,bjhd->bihd", _softmax(scores[:, :, :n, :n]), value[:, :n]) for n in lengths]
    mixed = tf.concat(mixed, axis=1)  # (B, sum of lengths, H, d)
    x = tf.concat([tokens[:, :n] for n in lengths], axis=1)
    x += _linear(tf.reshape(mixed, sizes(x)), layer._output_dense)
    x = _feed_forward(encoder, encoder._self_attention_layer_norm(x))
    return tf.split(x, lengths, axis=1)


def decode(
    decoder: keras_nlp.layers.TransformerDecoder,
    table,
    rows: Sequence,
    valid: Sequence,
    states: Sequence,
) -> list:
    """What the decoder returns for the candidates' embeddings at several steps, without a causal mask.

    Args:
        decoder: built, without dropout, post-norm.
        table: `[N + 1, D]`, the embeddings of all actions.
        rows: `[B, C, N + 1]` for each step, 1 where a candidate is that action; all 0 at padding.
        valid: bool `[B, N + 1]` for each step, which actions are candidates. At least one per example.
        states: `[B, n, D]` for each step, the encoded state.

    Returns:
        `[B, C, D]` for each step; arbitrary at padding.
    """
    widths = [step.shape[1] for step in rows]
    x = _self_attention(decoder._self_attention_layer, table, rows, valid)  # (B, sum of C, D)
    x = decoder._self_attention_layer_norm(x)
    x += _cross_attention(decoder._cross_attention_layer, tf.split(x, widths, axis=1), states)
    x = _feed_forward(decoder, decoder._cross_attention_layer_norm(x))
    return tf.split(x, widths, axis=1)


def _self_attention(layer, table, rows, valid):
    """Embeddings of the candidates of all steps, plus what attention among them adds."""
    count = table.shape[0]
    query, key, value = (
        _project(table, dense) for dense in (layer._query_dense, layer._key_dense, layer._value_dense)
    )  # (N, H, d) each
    scores = tf.einsum("nhd,mhd->nhm", query, key) / math.sqrt(layer.key_dim)  # (N, H, N)
    values = tf.einsum("mhd,hde->hme", value, _kernel(layer._output_dense))  # (H, N, D)
    mine = [tf.repeat(mask[:, None], r.shape[1], axis=1) for mask, r in zip(valid, rows, strict=True)]
    mine = tf.concat(mine, axis=1)[:, :, None]  # (B, R, 1, N), whom each candidate may attend to
    # Looking up by a matrix product is exact, and its gradient is a product too, no scatter.
    rows = tf.concat(rows, axis=1)  # (B, R, N)
    looked_up = _matmul(rows, tf.reshape(scores, [count, -1]))  # (B, R, HN)
    weights = _softmax(tf.reshape(looked_up, [*sizes(rows)[:2], *scores.shape[1:]]), mine)
    weights = tf.reshape(weights, sizes(looked_up))
    mixed = _matmul(weights, tf.reshape(values, [-1, values.shape[2]]))
    return _matmul(rows, table) + mixed + tf.cast(layer._output_dense.bias, table.dtype)


def _cross_attention(layer, rows, states):
    """What attention to the state adds to the rows of all steps."""
    lengths = [state.shape[1] for state in states]
    states = tf.concat(states, axis=1)
    key = _project(states, layer._key_dense) / math.sqrt(layer.key_dim)  # (B, n, H, d)
    value = _project(states, layer._value_dense)
    keys = tf.einsum("bnhd,ehd->behn", key, _kernel(layer._query_dense))  # (B, D, H, n)
    offsets = tf.einsum("bnhd,hd->bhn", key, tf.cast(layer._query_dense.bias, key.dtype))
    values = tf.einsum("bnhd,hde->bhne", value, _kernel(layer._output_dense))  # (B, H, n, D)
    mixed = [
        _attend(*step)
        for step in zip(
            rows,
            tf.split(keys, lengths, axis=3),
            tf.split(offsets, lengths, axis=2),
            tf.split(values, lengths, axis=2),
            strict=True,
        )
    ]
    return tf.concat(mixed, axis=1) + tf.cast(layer._output_dense.bias, key.dtype)


def _attend(x, keys, offsets, values):
    batch, heads, entries, width = sizes(values)
    scores = tf.matmul(x, tf.reshape(keys, [batch, width, heads * entries]))  # (B, C, Hn)
    rows = x.shape[1]
    scores = tf.reshape(scores, [batch, rows, heads, entries]) + offsets[:, None]
    weights = tf.reshape(_softmax(scores), [batch, rows, heads * entries])
    return tf.matmul(weights, tf.reshape(values, [batch, heads * entries, width]))


def sizes(x) -> list[int]:
    """A tensor's shape for `tf.reshape`; only the size of the batch may be unknown, and is -1."""
    return [-1 if size is None else size for size in x.shape]


def _feed_forward(layer, x):
    inner = tf.nn.relu(_linear(x, layer._feedforward_intermediate_dense))
    return layer._feedforward_layer_norm(x + _linear(inner, layer._feedforward_output_dense))


def _project(x, dense):
    """`[.., D]` -> `[.., H, d]`."""
    return tf.reshape(_linear(x, dense), [*sizes(x)[:-1], *dense.kernel.shape[1:]])


def _linear(x, dense):
    """What a dense layer does to the last axis, whatever the shape of its kernel."""
    kernel = tf.reshape(_kernel(dense), [x.shape[-1], -1])
    return _matmul(x, kernel) + tf.reshape(tf.cast(dense.bias, x.dtype), [-1])


def _matmul(x, matrix):
    flat = tf.matmul(tf.reshape(x, [-1, x.shape[-1]]), matrix)
    return tf.reshape(flat, [*sizes(x)[:-1], matrix.shape[1]])


def _kernel(dense):
    return tf.cast(dense.kernel, dense.compute_dtype)


def _softmax(scores, mask=None):
    """In float32, whatever the layers compute in."""
    wide = tf.cast(scores, tf.float32)
    if mask is not None:
        wide = tf.where(mask, wide, -1e9)
    return tf.cast(tf.nn.softmax(wide), scores.dtype)
