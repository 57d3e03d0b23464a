"""Decoding inside the graph: the whole search is one call of the model server.

The loops know nothing of the model: they are given a function that advances all rows by one piece, and its
state is any nest of tensors (batch, …). The ids that are no piece of a text, pad and start, are never chosen:
log p is over the others. Used by `models.recipes.translation`; tested with plain-Python references.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from service.contract.manifest import SpecialIds

State = Any
"""A nest of tensors (batch, …): whatever the model carries from step to step."""
Advance = Callable[[tf.Tensor, State], tuple[tf.Tensor, State, tf.Tensor]]
"""(ids (batch), state) -> logits (batch, vocabulary), new state, attention (batch, source)."""
Choose = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
"""(step (), log p (batch, vocabulary)) -> the next ids, int32 (batch)."""


class Decoded(NamedTuple):
    """What a decoding signature returns; `score = Σ log p / length^length_penalty`."""

    ids: tf.Tensor  # int32 (batch, beam, time), the end id included, pad ids after it
    lengths: tf.Tensor  # int32 (batch, beam), the end id included
    scores: tf.Tensor  # float32 (batch, beam), best first
    attention: tf.Tensor  # float32 (batch, beam, time, source), zero after the end


class Bounds(NamedTuple):
    """What each row asks of its output."""

    max_length: tf.Tensor  # int32 (batch), at least 1: the longest output, the end id included
    length_penalty: tf.Tensor  # float32 (batch), at least 0


def greedy(advance: Advance, state: State, bounds: Bounds, special: SpecialIds) -> Decoded:
    """Take the best piece at every step; stop as soon as every row has ended or is at its limit.

    Args:
        state: the decoder's first state, (batch, …).
    """

    def best(_: tf.Tensor, log_p: tf.Tensor) -> tf.Tensor:
        return tf.argmax(log_p, axis=-1, output_type=tf.int32)

    return _one_by_one(advance, best, state, bounds, special)


class Sampler(NamedTuple):
    """How each row draws."""

    temperature: tf.Tensor  # float32 (batch), above 0; divides log p
    top_k: tf.Tensor  # int32 (batch), how many of the best pieces are drawn from; 0: all
    seed: tf.Tensor  # int64 (batch)


def sample(
    advance: Advance, state: State, bounds: Bounds, special: SpecialIds, sampler: Sampler, longest: int
) -> Decoded:
    """Draw each piece; a row draws by its own seed alone, so its neighbours and its place do not matter.

    One uniform number a step is turned into a piece by the inverse of the cumulative distribution over the
    pieces, the likeliest first. Scores are of the model's own distribution: temperature 1, all pieces.

    Args:
        longest: steps that there is noise for: the largest max_length that a caller may ask for.
    """
    noise = uniforms(sampler.seed, longest)  # (batch, longest)

    def draw(step: tf.Tensor, log_p: tf.Tensor) -> tf.Tensor:
        return _inverse(noise[:, step], log_p, sampler)

    return _one_by_one(advance, draw, state, bounds, special)


def uniforms(seed: tf.Tensor, steps: int) -> tf.Tensor:
    """Return a table of numbers in [0, 1), (batch, steps): each row a function of its own seed.

    Philox (Salmon et al., 2011, https://doi.org/10.1145/2063384.2063405) by name: left to choose, TensorFlow
    takes another generator on another device.
    """

    def of_row(seed: tf.Tensor) -> tf.Tensor:
        return tf.random.stateless_uniform([steps], tf.stack([seed, tf.zeros_like(seed)]), alg="philox")

    return tf.map_fn(of_row, seed, fn_output_signature=tf.TensorSpec([steps], tf.float32))


def _inverse(uniform: tf.Tensor, log_p: tf.Tensor, sampler: Sampler) -> tf.Tensor:
    """Return the piece, int32 (batch), where the cumulative distribution passes the uniform number."""
    pieces = tf.shape(log_p)[-1]
    ranked, ids = tf.math.top_k(log_p, pieces)  # (batch, vocabulary), equal ones by id
    cut = tf.where(sampler.top_k > 0, sampler.top_k, pieces)  # (batch)
    tempered = tf.where(tf.range(pieces) < cut[:, None], ranked / sampler.temperature[:, None], -INFINITY)
    share = tf.nn.softmax(tempered)  # (batch, vocabulary)
    passed = tf.reduce_sum(tf.cast(tf.cumsum(share, axis=-1) <= uniform[:, None], tf.int32), axis=-1)
    # the sum may end just below 1, and a number lie between
    possible = tf.reduce_sum(tf.cast(share > 0, tf.int32), axis=-1)
    return tf.gather(ids, tf.minimum(passed, possible - 1), batch_dims=1)


class _Row(NamedTuple):
    step: tf.Tensor  # int32 ()
    last: tf.Tensor  # int32 (batch)
    state: State
    lengths: tf.Tensor  # int32 (batch)
    total: tf.Tensor  # float32 (batch), Σ log p
    done: tf.Tensor  # bool (batch)
    ids: tf.TensorArray  # time x (batch)
    attention: tf.TensorArray  # time x (batch, source)


def _one_by_one(
    advance: Advance, choose: Choose, state: State, bounds: Bounds, special: SpecialIds
) -> Decoded:
    """Follow one hypothesis a row, by whatever rule chooses the next piece."""

    def body(loop: _Row) -> tuple[_Row]:
        logits, new_state, attention = advance(loop.last, loop.state)
        log_p = _log_p(logits, special)  # (batch, vocabulary)
        chosen = choose(loop.step, log_p)  # (batch)
        live = tf.logical_not(loop.done)
        last = tf.where(live, chosen, special.pad)
        lengths = loop.lengths + tf.cast(live, tf.int32)
        ended = tf.logical_or(last == special.end, lengths >= bounds.max_length)
        return (
            _Row(
                step=loop.step + 1,
                last=last,
                state=new_state,
                lengths=lengths,
                total=loop.total + tf.where(live, tf.gather(log_p, chosen, batch_dims=1), 0.0),
                done=tf.logical_or(loop.done, ended),
                ids=loop.ids.write(loop.step, last),
                attention=loop.attention.write(loop.step, tf.where(live[:, None], attention, 0.0)),
            ),
        )

    rows = tf.shape(bounds.max_length)
    start = _Row(
        step=tf.constant(0),
        last=tf.fill(rows, special.start),
        state=state,
        lengths=tf.zeros(rows, tf.int32),
        total=tf.zeros(rows),
        done=tf.zeros(rows, tf.bool),
        ids=_array(tf.int32, 1),
        attention=_array(tf.float32, 2),
    )
    (end,) = tf.while_loop(
        lambda loop: tf.logical_not(tf.reduce_all(loop.done)), body, (start,), parallel_iterations=1
    )
    ids = tf.transpose(end.ids.stack())  # (batch, time)
    attention = tf.transpose(end.attention.stack(), (1, 0, 2))  # (batch, time, source)
    scores = end.total / tf.cast(end.lengths, tf.float32) ** bounds.length_penalty  # (batch)
    return Decoded(ids[:, None], end.lengths[:, None], scores[:, None], attention[:, None])


class _Finished(NamedTuple):
    """The best complete hypotheses of each row, best first; a score of -inf: none yet."""

    scores: tf.Tensor  # float32 (batch, beam)
    lengths: tf.Tensor  # int32 (batch, beam)
    last: tf.Tensor  # int32 (batch, beam), the last piece
    beam: tf.Tensor  # int32 (batch, beam), the live beam that it was appended to


class _Beams(NamedTuple):
    step: tf.Tensor  # int32 ()
    last: tf.Tensor  # int32 (batch, beam)
    state: State  # (batch * beam, …)
    total: tf.Tensor  # float32 (batch, beam), Σ log p of live hypotheses, best first; -inf: none
    finished: _Finished
    ids: tf.TensorArray  # time x (batch, beam), of the live hypotheses after the step
    parents: tf.TensorArray  # time x (batch, beam), the beam before the step that each comes from
    attention: tf.TensorArray  # time x (batch, beam, source), of the beams before the step


def widen(nest: State, beam_size: tf.Tensor) -> State:
    """Repeat each row of a nest of tensors for each of its beams: (batch, …) to (batch * beam, …)."""
    return tf.nest.map_structure(lambda x: tf.repeat(x, beam_size, axis=0), nest)


def beam(
    advance: Advance, state: State, bounds: Bounds, special: SpecialIds, beam_size: tf.Tensor
) -> Decoded:
    """Search with `beam_size` live hypotheses, and return as many finished ones, best first.

    At each step the 2k best expansions are taken by Σ log p. Those that end compete for k finished places by
    score; the k best others live on. At a row's max_length its live ones count as finished, without an end.
    A row is done when no live hypothesis can win any more: log p is never above 0 and length_penalty never
    below 0, so none will score above its Σ log p / max_length^length_penalty; where that does not beat the
    worst of k finished ones, the search is over with the result of the whole one (Huang, Zhao and Ma, 2017,
    https://arxiv.org/abs/1809.00069). Equal candidates: the better beam first, then the lower id.

    Back-pointers are kept and traced at the end, so a step copies no history.

    Args:
        state: the decoder's first state, (batch * beam, …), see `widen`; `advance` advances as many.
        beam_size: int32 (), at least 1. The vocabulary has at least 3 pieces more, so that there are always
            that many hypotheses.
    """
    shape = tf.stack([tf.shape(bounds.max_length)[0], beam_size])  # batch, beam

    def body(loop: _Beams) -> tuple[_Beams]:
        logits, new_state, attention = advance(tf.reshape(loop.last, [-1]), loop.state)
        log_p = _log_p(logits, special)  # (batch * beam, vocabulary)
        pieces = tf.shape(log_p)[-1]
        totals = loop.total[:, :, None] + tf.reshape(log_p, [shape[0], shape[1], pieces])
        best, places = tf.math.top_k(tf.reshape(totals, [shape[0], -1]), 2 * beam_size)  # (batch, 2 * beam)
        parents, ids = places // pieces, places % pieces  # (batch, 2 * beam)
        length = loop.step + 1
        ends = tf.logical_or(ids == special.end, (length >= bounds.max_length)[:, None])  # (batch, 2 * beam)
        score = tf.where(ends, best, -INFINITY) / _norm(length, bounds)[:, None]
        new = _Finished(score, tf.fill(tf.shape(ids), length), ids, parents)
        finished = _best_finished(loop.finished, new, beam_size)
        total, kept = tf.math.top_k(tf.where(ends, -INFINITY, best), beam_size)  # (batch, beam)
        ids, parents = tf.gather(ids, kept, batch_dims=1), tf.gather(parents, kept, batch_dims=1)
        hopeless = total[:, :1] / _norm(bounds.max_length, bounds)[:, None] <= finished.scores[:, -1:]
        return (
            _Beams(
                step=length,
                last=ids,
                state=tf.nest.map_structure(lambda x: _of_beams(x, parents), new_state),
                total=tf.where(hopeless, -INFINITY, total),
                finished=finished,
                ids=loop.ids.write(loop.step, ids),
                parents=loop.parents.write(loop.step, parents),
                attention=loop.attention.write(loop.step, tf.reshape(attention, [shape[0], shape[1], -1])),
            ),
        )

    (end,) = tf.while_loop(
        lambda loop: tf.reduce_any(loop.total > -INFINITY),
        body,
        (_first_beams(shape, state, special),),
        parallel_iterations=1,
    )
    return _trace(end, special)


def _first_beams(shape: tf.Tensor, state: State, special: SpecialIds) -> _Beams:
    """Start with one live hypothesis a row, the empty one; the other beams would only repeat it."""
    none = tf.fill(shape, -INFINITY)  # (batch, beam)
    zeros = tf.zeros(shape, tf.int32)
    return _Beams(
        step=tf.constant(0),
        last=tf.fill(shape, special.start),
        state=state,
        total=tf.where(tf.range(shape[1]) == 0, 0.0, none),
        finished=_Finished(none, zeros, zeros, zeros),
        ids=_array(tf.int32, 2),
        parents=_array(tf.int32, 2),
        attention=_array(tf.float32, 3),
    )


def _best_finished(old: _Finished, new: _Finished, beam_size: tf.Tensor) -> _Finished:
    """Keep the best of both; of equal ones the older."""
    joined = _Finished(*(tf.concat(pair, axis=1) for pair in zip(old, new, strict=True)))
    places = tf.math.top_k(joined.scores, beam_size).indices  # (batch, beam)
    return _Finished(*(tf.gather(value, places, batch_dims=1) for value in joined))


def _of_beams(value: tf.Tensor, beams: tf.Tensor) -> tf.Tensor:
    """Return (batch * beam, …) with each row's beams exchanged for those named, (batch, beam)."""
    first = tf.range(tf.shape(beams)[0])[:, None] * tf.shape(beams)[1]
    return tf.gather(value, tf.reshape(first + beams, [-1]))


def _trace(end: _Beams, special: SpecialIds) -> Decoded:
    """Follow each finished hypothesis back from its last piece to its first."""
    lengths = end.finished.lengths  # (batch, beam)
    time = tf.reduce_max(lengths)
    steps = (
        tf.range(time),
        end.ids.stack()[:time],
        end.parents.stack()[:time],
    )  # time x ((), (batch, beam) x 2)

    def back(carry: tuple[tf.Tensor, tf.Tensor], at: tuple[tf.Tensor, ...]) -> tuple[tf.Tensor, tf.Tensor]:
        (step, ids, parents), (_, beams) = at, carry
        is_last = step == lengths - 1
        piece = tf.where(is_last, end.finished.last, tf.gather(ids, beams, batch_dims=1))
        beams = tf.where(is_last, end.finished.beam, tf.gather(parents, beams, batch_dims=1))
        return tf.where(step < lengths, piece, special.pad), beams

    nowhere = tf.zeros_like(lengths)
    ids, beams = tf.scan(back, steps, (nowhere, nowhere), reverse=True)  # (time, batch, beam)
    attention = tf.gather(end.attention.stack()[:time], beams, batch_dims=2)  # (time, batch, beam, source)
    real = tf.range(time)[:, None, None] < lengths  # (time, batch, beam)
    attention = tf.where(real[..., None], attention, 0.0)
    return Decoded(
        tf.transpose(ids, (1, 2, 0)), lengths, end.finished.scores, tf.transpose(attention, (1, 2, 0, 3))
    )


INFINITY = float("inf")


def _log_p(logits: tf.Tensor, special: SpecialIds) -> tf.Tensor:
    """Return log p over the pieces that may be written, (…, vocabulary); -inf for pad and start."""
    ids = tf.range(tf.shape(logits)[-1])
    never = tf.logical_or(ids == special.pad, ids == special.start)
    return tf.nn.log_softmax(tf.where(never, -INFINITY, logits))


def _norm(length: tf.Tensor, bounds: Bounds) -> tf.Tensor:
    """Return length^length_penalty, float32 (batch)."""
    return tf.cast(length, tf.float32) ** bounds.length_penalty


def _array(dtype: tf.DType, rank: int) -> tf.TensorArray:
    return tf.TensorArray(dtype, 0, dynamic_size=True, element_shape=[None] * rank)
