"""Decoding inside the graph: the whole search is one call of the model server.

The loops know nothing of the model: they are given a function that advances all rows by one piece; its state
and its memory are any nests of tensors (batch, …). Finished rows are dropped on the way, so that a short row
does not cost as much as the longest of its batch. Each op of a step has a price, however small it is: what
can be worked out from what the steps leave behind is worked out once, after them.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from seqserve.models.networks.dropping import Rows, until_finished
from seqserve.models.networks.largest import largest
from seqserve.service.contract.manifest import SpecialIds

State = Any
"""A nest of tensors (batch, beam, …): whatever the model carries from step to step."""
Memory = Any
"""A nest of tensors (batch, …): whatever the model reads in every step and never changes."""
Advance = Callable[[tf.Tensor, State, Memory], tuple[tf.Tensor, State, tf.Tensor]]
"""(ids (batch, beam), state, memory) -> logits (batch * beam, pieces), new state, attention (batch, beam,
source).

Ids whose logits are -inf are never chosen: log p is over the others.
"""
RowAdvance = Callable[[tf.Tensor, Any, Any], tuple[tf.Tensor, Any, tf.Tensor]]
"""The same of a model that knows no beams: (ids (batch), state (batch, …), memory (batch, …)) -> logits
(batch, pieces), new state, attention (batch, source)."""
Choose = Callable[[tf.Tensor, tf.Tensor, Any], tuple[tf.Tensor, tf.Tensor]]
"""(step (), logits (batch, pieces), how each row chooses (batch, …)) -> the next ids, int32 (batch, 1), and
what their log p is worked out of (batch, 1)."""
INFINITY = float("inf")


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


def beamless(advance: RowAdvance) -> Advance:
    """Return the function that advances each hypothesis as a row, with the memory of `for_beams`."""

    def advance_beams(ids: tf.Tensor, state: State, memory: Memory) -> tuple[tf.Tensor, State, tf.Tensor]:
        shape = tf.shape(ids)  # batch, beam
        logits, state, attention = advance(*tf.nest.map_structure(_flat, (ids, state, memory)))
        return logits, *tf.nest.map_structure(lambda x: _by_row(x, shape), (state, attention))

    return advance_beams


def for_beams(memory: Memory, beam_size: tf.Tensor | int) -> Memory:
    """Return a memory (batch, …) again for each beam, (batch, beam, …)."""
    return tf.nest.map_structure(lambda x: tf.repeat(x[:, None], beam_size, axis=1), memory)


def greedy(advance: Advance, state: State, memory: Memory, bounds: Bounds, special: SpecialIds) -> Decoded:
    """Take the best piece at every step; stop as soon as every row has ended or is at its limit.

    Args:
        state: the decoder's first state, (batch, …).
    """

    def best(_: tf.Tensor, logits: tf.Tensor, __: Any) -> tuple[tf.Tensor, tf.Tensor]:
        share, ids = tf.math.top_k(tf.nn.softmax(logits), 1)  # (batch, 1)
        return ids, share

    return _one_by_one(advance, best, tf.math.log, state, memory, bounds, special)


class Sampler(NamedTuple):
    """How each row draws its pieces."""

    temperature: tf.Tensor  # float32 (batch), above 0; divides log p
    top_k: tf.Tensor  # int32 (batch), how many of the best pieces are drawn from; 0: all
    seed: tf.Tensor  # int64 (batch)


def sample(
    advance: Advance,
    state: State,
    memory: Memory,
    bounds: Bounds,
    special: SpecialIds,
    sampler: Sampler,
    longest: int,
) -> Decoded:
    """Draw each piece; a row draws by its own seed alone, so its neighbours and its place do not matter.

    One uniform number a step is turned into a piece by the inverse of the cumulative distribution over the
    pieces, the likeliest first. Scores are of the model's own distribution: temperature 1, all pieces.

    Args:
        longest: steps that there is noise for: the largest max_length that a caller may ask for.
    """

    def draw(
        step: tf.Tensor, logits: tf.Tensor, how: tuple[tf.Tensor, Sampler]
    ) -> tuple[tf.Tensor, tf.Tensor]:
        (noise, sampler), log_p = how, tf.nn.log_softmax(logits)
        ids = _inverse(noise[:, step], log_p, sampler)[:, None]  # (batch, 1)
        return ids, tf.gather(log_p, ids, batch_dims=1)

    noise = uniforms(sampler.seed, longest)  # (batch, longest)
    return _one_by_one(advance, draw, tf.identity, state, memory, bounds, special, (noise, sampler))


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
    # by rounding the sum may end just below 1, and the number lie above it
    possible = tf.reduce_sum(tf.cast(share > 0, tf.int32), axis=-1)
    return tf.gather(ids, tf.minimum(passed, possible - 1), batch_dims=1)


def _one_by_one(
    advance: Advance,
    choose: Choose,
    log_p_of: Callable[[tf.Tensor], tf.Tensor],
    state: State,
    memory: Memory,
    bounds: Bounds,
    special: SpecialIds,
    how: Any = (),
) -> Decoded:
    """Follow one hypothesis for each row; `choose` picks its next piece.

    What is kept of a step is one tensor, as each costs four ops a step; float32 holds ids up to 2^24.
    """

    def step_on(step: tf.Tensor, fixed: Any, rows: Rows) -> tuple[Rows, Any]:
        (memory, how), (last, state) = fixed, rows.carried
        logits, state, attention = advance(last, state, memory)
        last, value = choose(step, logits, how)  # (batch, 1)
        until = rows.until * tf.cast(last != special.end, tf.int32)  # (batch, 1)
        kept = [tf.cast(last, tf.float32), value, tf.squeeze(attention, 1)]
        return Rows(until, (last, state), ()), tf.concat(kept, axis=1)  # (batch, 2 + source)

    most = bounds.max_length[:, None]  # (batch, 1)
    _, kept = until_finished(
        step_on,
        most,
        fixed=(memory, how),
        carried=(tf.fill(tf.shape(most), special.start), for_beams(state, 1)),
        result=(),
        arrays=_array(tf.float32, 2),
    )
    kept = tf.transpose(kept, (1, 0, 2))  # (batch, time, 2 + source)
    ids, log_p, attention = tf.cast(kept[..., 0], tf.int32), log_p_of(kept[..., 1]), kept[..., 2:]
    before = tf.cumsum(tf.cast(ids == special.end, tf.int32), axis=1, exclusive=True)
    real = tf.logical_and(before == 0, tf.range(tf.shape(ids)[1]) < most)
    lengths = tf.math.count_nonzero(real, axis=1, dtype=tf.int32)  # (batch)
    total = tf.reduce_sum(tf.where(real, log_p, 0.0), axis=1)
    attention = tf.where(real[:, None, :, None], attention[:, None], 0.0)
    scores = total / _norm(lengths, bounds.length_penalty)  # (batch)
    return Decoded(tf.where(real, ids, special.pad)[:, None], lengths[:, None], scores[:, None], attention)


class _Finished(NamedTuple):
    """The best complete hypotheses of each row, best first; a score of -inf: none yet."""

    scores: tf.Tensor  # float32 (batch, beam)
    ends: tf.Tensor  # int32 (batch, beam, 3): the beam before the last step, the piece, the length


class _Beams(NamedTuple):
    last: tf.Tensor  # int32 (batch, beam)
    state: State  # (batch, beam, …)
    total: tf.Tensor  # float32 (batch, beam), Σ log p of live hypotheses, best first; -inf: none


class _Pointers(NamedTuple):
    """What is kept of each step: the pieces of a hypothesis are traced by it."""

    pieces: (
        Any  # int32 (batch, beam, 3), of the live hypotheses: the beam before the step, the piece, the step
    )
    attention: Any  # (batch, beam, source), of the beams before the step


def beam(
    advance: Advance, state: State, memory: Memory, bounds: Bounds, special: SpecialIds, beam_size: tf.Tensor
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
        state: the decoder's first state, (batch, …).
        beam_size: int32 (), at least 1. The vocabulary has at least 3 pieces more, so that there are always
            that many hypotheses.
    """

    def step_on(step: tf.Tensor, fixed: Any, rows: Rows) -> tuple[Rows, _Pointers]:
        (memory, penalty), loop, length = fixed, rows.carried, step + 1
        logits, state, attention = advance(loop.last, loop.state, memory)
        count = tf.minimum(2 * beam_size, logits.shape[1] or tf.shape(logits)[1])
        ids, log_p = _likeliest(logits, count)  # (batch * beam, count)
        wide = tf.stack([-1, beam_size * count])
        totals = tf.reshape(log_p + tf.reshape(loop.total, [-1, 1]), wide)  # (batch, beam * count)
        best, places = tf.math.top_k(totals, 2 * beam_size)  # (batch, 2 * beam)
        ids = tf.gather(tf.reshape(ids, wide), places, batch_dims=1)
        pieces = tf.stack([places // count, ids, tf.zeros_like(ids) + length], axis=-1)
        ends = tf.logical_or(ids == special.end, rows.until <= length)  # (batch, 2 * beam)
        score = tf.where(ends, best, -INFINITY) / _norm(length, penalty)
        finished = _best_finished(rows.result, _Finished(score, pieces), beam_size)
        total, kept = tf.math.top_k(tf.where(ends, -INFINITY, best), beam_size)  # (batch, beam)
        pieces = tf.gather(pieces, kept, batch_dims=1)  # (batch, beam, 3)
        parents, ids, _ = tf.unstack(pieces, axis=-1)
        bound = tf.reduce_max(total, axis=1, keepdims=True) / _norm(rows.until, penalty)  # (batch, 1)
        live = bound > tf.reduce_min(finished.scores, axis=1, keepdims=True)
        state = tf.nest.map_structure(lambda x: tf.gather(x, parents, batch_dims=1), state)
        # in a row that is done but not yet dropped all hypotheses end: none scores above its bound
        until = tf.where(live, rows.until, 0)
        return Rows(until, _Beams(ids, state, total), finished), _Pointers(pieces, attention)

    most, penalty = bounds.max_length[:, None], bounds.length_penalty[:, None]  # (batch, 1)
    shape = tf.stack([tf.shape(most)[0], beam_size])
    none, zeros = tf.fill(shape, -INFINITY), tf.zeros(shape, tf.int32)  # (batch, beam)
    total = tf.where(tf.range(beam_size) == 0, 0.0, none)  # the others would only repeat the empty one
    finished, pointers = until_finished(
        step_on,
        most,
        fixed=(memory, penalty),
        carried=_Beams(zeros + special.start, for_beams(state, beam_size), total),
        result=_Finished(none, tf.stack([zeros] * 3, axis=-1)),
        arrays=_Pointers(_array(tf.int32, 3), _array(tf.float32, 3)),
    )
    return _traced(finished, pointers, special)


def _likeliest(logits: tf.Tensor, count: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the ids and the log p of the largest logits, (rows, count), largest first.

    Log p is worked out of those alone: the largest p is 1 / Σ exp(logit - largest).
    """
    best, ids = largest(logits, count)
    share = tf.reduce_max(tf.nn.softmax(logits), axis=-1, keepdims=True)  # (rows, 1)
    return ids, best - tf.reduce_max(best, axis=-1, keepdims=True) + tf.math.log(share)


def _best_finished(old: _Finished, new: _Finished, beam_size: tf.Tensor) -> _Finished:
    """Keep the best of both; of equal ones the older."""
    scores, ends = (tf.concat(pair, axis=1) for pair in zip(old, new, strict=True))
    scores, places = tf.math.top_k(scores, beam_size)  # (batch, beam)
    return _Finished(scores, tf.gather(ends, places, batch_dims=1))


def _flat(value: tf.Tensor) -> tf.Tensor:
    """Return (batch, beam, …) as (batch * beam, …)."""
    return tf.reshape(value, tf.concat([[-1], tf.shape(value)[2:]], axis=0))


def _by_row(value: tf.Tensor, shape: tf.Tensor) -> tf.Tensor:
    """Return (batch * beam, …) as (batch, beam, …)."""
    return tf.reshape(value, tf.concat([shape, tf.shape(value)[1:]], axis=0))


def _traced(finished: _Finished, pointers: _Pointers, special: SpecialIds) -> Decoded:
    """Follow each finished hypothesis back from its last piece to its first."""
    parent, last, lengths = tf.unstack(finished.ends, axis=-1)  # (batch, beam)
    time = tf.reduce_max(lengths)
    pieces, attention = (x[:time] for x in pointers)
    parents, ids, _ = tf.unstack(pieces, axis=-1)  # (time, batch, beam)
    beams = _beams_of(parent, lengths, parents)  # (time, batch, beam)
    step = tf.range(time)[:, None, None]
    piece = tf.gather(ids, tf.concat([beams[1:], beams[:1]], axis=0), batch_dims=2)  # (time, batch, beam)
    piece = tf.where(step == lengths - 1, last, piece)
    attention = tf.gather(attention, beams, batch_dims=2)  # (time, batch, beam, source)
    real = step < lengths  # (time, batch, beam)
    attention = tf.where(real[..., None], attention, 0.0)
    piece = tf.where(real, piece, special.pad)
    return Decoded(
        tf.transpose(piece, (1, 2, 0)), lengths, finished.scores, tf.transpose(attention, (1, 2, 0, 3))
    )


def _beams_of(last: tf.Tensor, lengths: tf.Tensor, parents: tf.Tensor) -> tf.Tensor:
    """Return the live beam that each finished hypothesis was in before each step: int32 (time, batch, beam).

    A step maps the beams after it to those before it, and a hypothesis's last step all of them to one. Each
    map is joined with the one as many steps later as it reaches, until all reach to the end.

    Args:
        last: int32 (batch, beam), the live beam before the last step of each.
        lengths: int32 (batch, beam).
        parents: int32 (time, batch, beam).
    """
    time = tf.shape(parents)[0]
    is_last = tf.range(time)[:, None, None, None] >= lengths[..., None] - 1
    maps = tf.where(is_last, last[..., None], parents[:, :, None])  # (time, batch, beam, live beam)

    def joined(reach: tf.Tensor, maps: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        further = tf.gather(maps[:-reach], maps[reach:], batch_dims=3)
        return 2 * reach, tf.concat([further, maps[-reach:]], axis=0)

    _, maps = tf.while_loop(lambda reach, _: reach < time, joined, (tf.constant(1), maps))
    return maps[..., 0]


def _norm(length: tf.Tensor, penalty: tf.Tensor) -> tf.Tensor:
    """Return length^length_penalty, float32 (batch, …)."""
    return tf.cast(length, tf.float32) ** penalty


def _array(dtype: tf.DType, rank: int) -> tf.TensorArray:
    return tf.TensorArray(dtype, 0, dynamic_size=True, element_shape=[None] * rank)
