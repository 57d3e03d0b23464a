"""Decoding inside the graph: the whole search is one call of the model server.

The loops know nothing of the model: they are given a function that advances all rows by one piece; its state
and its memory are any nests of tensors (batch, …). Finished rows are dropped on the way, so that a short row
does not cost as much as the longest of its batch.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from seqserve.service.contract.manifest import SpecialIds

State = Any
"""A nest of tensors (batch, …): whatever the model carries from step to step."""
Memory = Any
"""A nest of tensors (batch, …): whatever the model reads in every step and never changes."""
Advance = Callable[[tf.Tensor, State, Memory], tuple[tf.Tensor, State, tf.Tensor]]
"""(ids (batch), state, memory) -> logits (batch, vocabulary), new state, attention (batch, source).

Ids whose logits are -inf are never chosen: log p is over the others.
"""
Choose = Callable[[tf.Tensor, tf.Tensor, Any], tf.Tensor]
"""(step (), log p (batch, vocabulary), how each row chooses (batch, …)) -> the next ids, int32 (batch)."""
DROP_AT = 0.25
"""The share of finished rows at which they are dropped; with 1 they are computed until all are finished."""
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


def greedy(advance: Advance, state: State, memory: Memory, bounds: Bounds, special: SpecialIds) -> Decoded:
    """Take the best piece at every step; stop as soon as every row has ended or is at its limit.

    Args:
        state: the decoder's first state, (batch, …).
    """

    def best(_: tf.Tensor, log_p: tf.Tensor, __: Any) -> tf.Tensor:
        return tf.argmax(log_p, axis=-1, output_type=tf.int32)

    return _one_by_one(advance, best, state, memory, bounds, special)


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

    def draw(step: tf.Tensor, log_p: tf.Tensor, how: tuple[tf.Tensor, Sampler]) -> tf.Tensor:
        noise, sampler = how
        return _inverse(noise[:, step], log_p, sampler)

    noise = uniforms(sampler.seed, longest)  # (batch, longest)
    return _one_by_one(advance, draw, state, memory, bounds, special, (noise, sampler))


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


class _Rows(NamedTuple):
    """What a step changes of the rows that are still computed: nests of tensors (rows, …)."""

    live: tf.Tensor  # bool (rows)
    carried: Any  # what the next step needs
    result: Any  # what remains of a row at the end


Step = Callable[[tf.Tensor, Any, _Rows], tuple[_Rows, Any]]
"""(step (), what no step changes, rows) -> rows, and what to keep of the step: nests of tensors (rows, …)."""


def _until_finished(advance: Step, fixed: Any, carried: Any, result: Any, arrays: Any) -> tuple[Any, Any]:
    """Step until no row is live; drop the finished ones whenever they are at least `DROP_AT` of the rows.

    The steps between two drops are a loop of their own, so that dropping adds nothing to a step's cost.

    Args:
        arrays: a nest of TensorArrays, for what is to be kept of each step.

    Returns:
        The results, (batch, …), and what was kept, (time, batch, …): zeros where a row was not computed.
    """

    def stepped(step: tf.Tensor, fixed: Any, rows: _Rows, arrays: Any) -> tuple[tf.Tensor, _Rows, Any]:
        def one(step: tf.Tensor, rows: _Rows, arrays: Any) -> tuple[tf.Tensor, _Rows, Any]:
            rows, kept = advance(step, fixed, rows)
            return step + 1, rows, tf.nest.map_structure(lambda array, x: array.write(step, x), arrays, kept)

        few = tf.cast((1 - DROP_AT) * tf.cast(tf.size(rows.live), tf.float32), tf.int32)
        return tf.while_loop(
            lambda _, rows, __: tf.math.count_nonzero(rows.live, dtype=tf.int32) > few,
            one,
            (step, rows, arrays),
            parallel_iterations=1,
        )

    def dropped(
        step: tf.Tensor, places: tf.Tensor, fixed: Any, rows: _Rows, arrays: Any, whole: Any
    ) -> tuple[tf.Tensor, tf.Tensor, Any, _Rows, Any, Any]:
        step, rows, arrays = stepped(step, fixed, rows, arrays)
        done = (rows.result, tf.fill(tf.shape(places), step))
        whole = tf.nest.map_structure(
            lambda x, new: tf.tensor_scatter_nd_update(x, places[:, None], new), whole, done
        )
        live = tf.where(rows.live)[:, 0]
        kept = tf.nest.map_structure(lambda x: tf.gather(x, live), (places, fixed, rows))
        return step, *kept, arrays, whole

    places = tf.range(tf.shape(tf.nest.flatten(result)[0])[0])  # in the batch, of the rows still computed
    rows = _Rows(tf.ones_like(places, tf.bool), carried, result)
    *_, arrays, (result, steps) = tf.while_loop(
        lambda _, places, *__: tf.size(places) > 0,
        dropped,
        (tf.constant(0), places, fixed, rows, arrays, (result, tf.zeros_like(places))),
        parallel_iterations=1,
    )
    return result, tf.nest.map_structure(lambda array: _in_order(array, steps), arrays)


def _in_order(array: tf.TensorArray, steps: tf.Tensor) -> tf.Tensor:
    """Return what was written, (time, batch, …); row by row only the first `steps` were, int32 (batch)."""
    time = tf.reduce_max(steps)
    written = array.concat()  # (Σ rows over time, …)
    shape = tf.concat([[time], tf.shape(steps), tf.shape(written)[1:]], axis=0)
    places = tf.cast(tf.where(tf.range(time)[:, None] < steps), tf.int32)  # in the order of writing
    return tf.scatter_nd(places, written, shape)


class _Hypothesis(NamedTuple):
    lengths: tf.Tensor  # int32 (batch)
    total: tf.Tensor  # float32 (batch), Σ log p


def _one_by_one(
    advance: Advance,
    choose: Choose,
    state: State,
    memory: Memory,
    bounds: Bounds,
    special: SpecialIds,
    how: Any = (),
) -> Decoded:
    """Follow one hypothesis for each row; `choose` picks its next piece."""

    def step_on(step: tf.Tensor, fixed: Any, rows: _Rows) -> tuple[_Rows, Any]:
        (memory, limits, how), (last, state) = fixed, rows.carried
        logits, state, attention = advance(last, state, memory)
        log_p = tf.nn.log_softmax(logits)  # (batch, vocabulary)
        last = choose(step, log_p, how)  # (batch)
        hypothesis = _Hypothesis(
            lengths=rows.result.lengths + tf.cast(rows.live, tf.int32),
            total=rows.result.total + tf.where(rows.live, tf.gather(log_p, last, batch_dims=1), 0.0),
        )
        ended = tf.logical_or(last == special.end, hypothesis.lengths >= limits)
        live = tf.logical_and(rows.live, tf.logical_not(ended))
        return _Rows(live, (last, state), hypothesis), (last, attention)

    zeros = tf.zeros_like(bounds.max_length)  # (batch)
    (lengths, total), (ids, attention) = _until_finished(
        step_on,
        fixed=(memory, bounds.max_length, how),
        carried=(zeros + special.start, state),
        result=_Hypothesis(zeros, tf.zeros_like(zeros, tf.float32)),
        arrays=(_array(tf.int32, 1), _array(tf.float32, 2)),
    )
    real = tf.sequence_mask(lengths)  # (batch, time)
    ids = tf.where(real, tf.transpose(ids), special.pad)
    attention = tf.where(real[..., None], tf.transpose(attention, (1, 0, 2)), 0.0)  # (batch, time, source)
    scores = total / _norm(lengths, bounds.length_penalty)  # (batch)
    return Decoded(ids[:, None], lengths[:, None], scores[:, None], attention[:, None])


class _Finished(NamedTuple):
    """The best complete hypotheses of each row, best first; a score of -inf: none yet."""

    scores: tf.Tensor  # float32 (batch, beam)
    lengths: tf.Tensor  # int32 (batch, beam)
    last: tf.Tensor  # int32 (batch, beam), the last piece
    beam: tf.Tensor  # int32 (batch, beam), the live beam that it was appended to


class _Beams(NamedTuple):
    last: tf.Tensor  # int32 (batch, beam)
    state: State  # (batch, beam, …)
    total: tf.Tensor  # float32 (batch, beam), Σ log p of live hypotheses, best first; -inf: none


class _Pointers(NamedTuple):
    """What is kept of each step: the pieces of a hypothesis are traced by it."""

    ids: Any  # (batch, beam), of the live hypotheses after the step
    parents: Any  # (batch, beam), the beam before the step that each comes from
    attention: Any  # (batch, beam, source), of the beams before the step


def beam(
    advance: Advance,
    state: State,
    memory: Memory,
    bounds: Bounds,
    special: SpecialIds,
    beam_size: tf.Tensor,
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
        state: the decoder's first state, (batch, …); `advance` advances a row for each beam.
        beam_size: int32 (), at least 1. The vocabulary has at least 3 pieces more, so that there are always
            that many hypotheses.
    """

    def step_on(step: tf.Tensor, fixed: Any, rows: _Rows) -> tuple[_Rows, _Pointers]:
        (memory, limits), loop = fixed, rows.carried
        shape, length = tf.shape(loop.last), step + 1  # batch, beam
        flat = tf.nest.map_structure(_flat, (loop.last, loop.state, memory))
        logits, state, attention = tf.nest.map_structure(lambda x: _by_row(x, shape), advance(*flat))
        pieces = tf.shape(logits)[-1]
        totals = loop.total[:, :, None] + tf.nn.log_softmax(logits)  # (batch, beam, vocabulary)
        best, places = tf.math.top_k(tf.reshape(totals, [shape[0], -1]), 2 * beam_size)  # (batch, 2 * beam)
        parents, ids = places // pieces, places % pieces  # (batch, 2 * beam)
        ends = tf.logical_or(ids == special.end, length >= limits.max_length[:, None])  # (batch, 2 * beam)
        score = tf.where(ends, best, -INFINITY) / _norm(length, limits.length_penalty)[:, None]
        new = _Finished(score, tf.fill(tf.shape(ids), length), ids, parents)
        finished = _best_finished(rows.result, new, beam_size)
        total, kept = tf.math.top_k(tf.where(ends, -INFINITY, best), beam_size)  # (batch, beam)
        ids, parents = (tf.gather(x, kept, batch_dims=1) for x in (ids, parents))
        bound = total[:, 0] / _norm(limits.max_length, limits.length_penalty)  # (batch)
        live = bound > finished.scores[:, -1]
        state = tf.nest.map_structure(lambda x: tf.gather(x, parents, batch_dims=1), state)
        total = tf.where(live[:, None], total, -INFINITY)  # a row not yet dropped is not searched any further
        return _Rows(live, _Beams(ids, state, total), finished), _Pointers(ids, parents, attention)

    state, memory = tf.nest.map_structure(lambda x: tf.repeat(x[:, None], beam_size, axis=1), (state, memory))
    shape = tf.stack([tf.shape(bounds.max_length)[0], beam_size])
    none, zeros = tf.fill(shape, -INFINITY), tf.zeros(shape, tf.int32)  # (batch, beam)
    # one live hypothesis a row, the empty one: the other beams would only repeat it
    total = tf.where(tf.range(beam_size) == 0, 0.0, none)
    finished, pointers = _until_finished(
        step_on,
        fixed=(memory, bounds),
        carried=_Beams(zeros + special.start, state, total),
        result=_Finished(none, zeros, zeros, zeros),
        arrays=_Pointers(_array(tf.int32, 2), _array(tf.int32, 2), _array(tf.float32, 3)),
    )
    return _trace(finished, pointers, special)


def _best_finished(old: _Finished, new: _Finished, beam_size: tf.Tensor) -> _Finished:
    """Keep the best of both; of equal ones the older."""
    joined = _Finished(*(tf.concat(pair, axis=1) for pair in zip(old, new, strict=True)))
    places = tf.math.top_k(joined.scores, beam_size).indices  # (batch, beam)
    return _Finished(*(tf.gather(value, places, batch_dims=1) for value in joined))


def _flat(value: tf.Tensor) -> tf.Tensor:
    """Return (batch, beam, …) as (batch * beam, …)."""
    return tf.reshape(value, tf.concat([[-1], tf.shape(value)[2:]], axis=0))


def _by_row(value: tf.Tensor, shape: tf.Tensor) -> tf.Tensor:
    """Return (batch * beam, …) as (batch, beam, …)."""
    return tf.reshape(value, tf.concat([shape, tf.shape(value)[1:]], axis=0))


def _trace(finished: _Finished, pointers: _Pointers, special: SpecialIds) -> Decoded:
    """Follow each finished hypothesis back from its last piece to its first."""
    lengths = finished.lengths  # (batch, beam)
    time = tf.reduce_max(lengths)
    steps = (tf.range(time), pointers.ids[:time], pointers.parents[:time])  # time x ((), (batch, beam) x 2)

    def back(carry: tuple[tf.Tensor, tf.Tensor], at: tuple[tf.Tensor, ...]) -> tuple[tf.Tensor, tf.Tensor]:
        (step, ids, parents), (_, beams) = at, carry
        is_last = step == lengths - 1
        piece = tf.where(is_last, finished.last, tf.gather(ids, beams, batch_dims=1))
        beams = tf.where(is_last, finished.beam, tf.gather(parents, beams, batch_dims=1))
        return tf.where(step < lengths, piece, special.pad), beams

    nowhere = tf.zeros_like(lengths)
    ids, beams = tf.scan(back, steps, (nowhere, nowhere), reverse=True)  # (time, batch, beam)
    attention = tf.gather(pointers.attention[:time], beams, batch_dims=2)  # (time, batch, beam, source)
    real = tf.range(time)[:, None, None] < lengths  # (time, batch, beam)
    attention = tf.where(real[..., None], attention, 0.0)
    return Decoded(
        tf.transpose(ids, (1, 2, 0)), lengths, finished.scores, tf.transpose(attention, (1, 2, 0, 3))
    )


def _norm(length: tf.Tensor, penalty: tf.Tensor) -> tf.Tensor:
    """Return length^length_penalty, float32 (batch)."""
    return tf.cast(length, tf.float32) ** penalty


def _array(dtype: tf.DType, rank: int) -> tf.TensorArray:
    return tf.TensorArray(dtype, 0, dynamic_size=True, element_shape=[None] * rank)
