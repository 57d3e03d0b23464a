"""Decoding inside the graph: the whole search is one call of the model server.

The loops know nothing of the model: they are given a function that advances all rows by one piece.
Used by `models.recipes.translation`; tested with plain-Python references.
"""

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from service.contract.manifest import SpecialIds

Advance = Callable[[tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor, tf.Tensor]]
"""(ids (batch), state (batch, units)) -> logits (batch, vocabulary), new state, attention (batch, source)."""


class Decoded(NamedTuple):
    """What a decoding signature returns; `score = Σ log p / length^length_penalty`."""

    ids: tf.Tensor  # int32 (batch, beam, time), the end id included, pad ids after it
    lengths: tf.Tensor  # int32 (batch, beam), the end id included
    scores: tf.Tensor  # float32 (batch, beam)
    attention: tf.Tensor  # float32 (batch, beam, time, source), zero after the end


class _Loop(NamedTuple):
    step: tf.Tensor  # int32 ()
    last: tf.Tensor  # int32 (batch)
    state: tf.Tensor  # (batch, units)
    lengths: tf.Tensor  # int32 (batch)
    total: tf.Tensor  # float32 (batch), Σ log p
    done: tf.Tensor  # bool (batch)
    ids: tf.TensorArray  # time x (batch)
    attention: tf.TensorArray  # time x (batch, source)


def greedy(
    advance: Advance,
    state: tf.Tensor,
    source: tf.Tensor,
    max_length: tf.Tensor,
    length_penalty: tf.Tensor,
    special: SpecialIds,
) -> Decoded:
    """Take the best piece at every step; stop as soon as every row has ended or is at its limit.

    Args:
        state: the decoder's first state, (batch, units).
        source: source ids, (batch, source); only their shape is used.
        max_length: int32 (batch), at least 1: a row's longest output, the end id included.
        length_penalty: float32 (batch).
    """
    rows = tf.shape(source)[0]

    def more(loop: _Loop) -> tf.Tensor:
        return tf.logical_not(tf.reduce_all(loop.done))

    def body(loop: _Loop) -> tuple[_Loop]:
        logits, new_state, attention = advance(loop.last, loop.state)
        best = tf.argmax(logits, axis=-1, output_type=tf.int32)  # (batch)
        gained = tf.reduce_max(tf.nn.log_softmax(logits), axis=-1)  # (batch)
        live = tf.logical_not(loop.done)
        last = tf.where(live, best, special.pad)
        lengths = loop.lengths + tf.cast(live, tf.int32)
        ended = tf.logical_or(last == special.end, lengths >= max_length)
        return (
            _Loop(
                step=loop.step + 1,
                last=last,
                state=new_state,
                lengths=lengths,
                total=loop.total + tf.where(live, gained, 0.0),
                done=tf.logical_or(loop.done, ended),
                ids=loop.ids.write(loop.step, last),
                attention=loop.attention.write(loop.step, tf.where(live[:, None], attention, 0.0)),
            ),
        )

    start = _Loop(
        step=tf.constant(0),
        last=tf.fill([rows], special.start),
        state=state,
        lengths=tf.zeros([rows], tf.int32),
        total=tf.zeros([rows]),
        done=tf.zeros([rows], tf.bool),
        ids=tf.TensorArray(tf.int32, 0, dynamic_size=True, element_shape=[None]),
        attention=tf.TensorArray(tf.float32, 0, dynamic_size=True, element_shape=[None, None]),
    )
    (end,) = tf.while_loop(more, body, (start,), parallel_iterations=1)
    ids = tf.transpose(end.ids.stack())  # (batch, time)
    attention = tf.transpose(end.attention.stack(), (1, 0, 2))  # (batch, time, source)
    scores = end.total / tf.cast(end.lengths, tf.float32) ** length_penalty  # (batch)
    return Decoded(ids[:, None], end.lengths[:, None], scores[:, None], attention[:, None])
