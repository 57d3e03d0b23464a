"""A user's step of the decoder over some of the pieces alone: its last `Dense` computes no others."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from seqserve.models.config import ConfigInvalid, in_short
from seqserve.models.networks.decoding import Advance, Memory, RowAdvance, State, beamless, for_beams
from seqserve.models.networks.shortlist import Candidates, Shortlist
from seqserve.models.translator import Encode
from seqserve.service.contract.manifest import SpecialIds
from seqserve.service.contract.padding import Array

SAME = 1e-4
"""Of log p, absolutely and relatively: some columns of a product may add up in another order than all."""
FIELD = "--shortlist-from"
Loops = tuple[Encode, RowAdvance]
Call = Callable[..., tf.Tensor]


@dataclass(frozen=True, slots=True, eq=False)
class Narrow:
    """A shortlist, and the layer that scores the pieces: its kernel by piece, and its bias."""

    shortlist: Shortlist
    layer: Any
    columns: tf.Variable  # (pieces, depth)
    bias: tf.Variable  # (pieces)

    def within(self, advance: RowAdvance) -> Callable[[Candidates, Memory], tuple[Advance, Memory]]:
        """Return what makes of a step one over candidates alone, whose places are its ids, and its memory.

        Candidates of others score -inf before the layer's own activation: p is over the row's own.
        """

        def over(candidates: Candidates, memory: Memory) -> tuple[Advance, Memory]:
            pieces = candidates.pieces
            kernel = tf.transpose(tf.gather(self.columns, pieces))  # (depth, columns)
            never = tf.where(candidates.allowed, 0.0, -np.inf)  # (batch, columns)

            def step(ids: tf.Tensor, state: State, memory: Memory) -> tuple[tf.Tensor, State, tf.Tensor]:
                own, bias = memory
                with _computed(self.layer, kernel, bias):
                    return advance(tf.gather(pieces, ids), state, own)

            return beamless(step), (memory, never + tf.gather(self.bias, pieces))

        return over


def narrow(
    loops: Loops, rows: Sequence[Array], special: SpecialIds, shortlist: Shortlist, pieces: int
) -> Narrow:
    """Find the layer, and show that candidates score by it as they do beside all pieces.

    Args:
        rows: ids (source), each as it is sent alone.
        special: of the target, which has so many pieces.

    Raises:
        ConfigInvalid: no one `Dense` scores the pieces, or what follows it needs all of them.
    """
    layer = _scoring(loops, rows[0], special, pieces)
    columns = tf.Variable(np.transpose(layer.kernel), trainable=False, name="scored_columns")
    bias = np.zeros(pieces, np.float32) if layer.bias is None else np.asarray(layer.bias)
    found = Narrow(shortlist, layer, columns, tf.Variable(bias, trainable=False, name="scored_bias"))
    for row in rows:
        _check(loops, found, tf.constant(row[None], tf.int32), special)
    return found


def _scoring(loops: Loops, row: Array, special: SpecialIds, pieces: int) -> Any:
    """Return the `Dense` that a step calls and that is as wide as there are pieces."""
    called: dict[int, Any] = {}

    def note(original: Call, layer: Any, inputs: tf.Tensor, **options: Any) -> tf.Tensor:
        if layer.units == pieces:
            called[id(layer)] = layer
        return original(layer, inputs, **options)

    with _dense_by(note):
        _all(loops, tf.constant(row[None], tf.int32), special)
    if len(called) != 1:
        raise ConfigInvalid(
            f"{FIELD}: nothing would be saved: a step of the decoder runs {len(called)} Dense layers of "
            f"{pieces} units, one for each piece of the target; one is expected, to leave units of it out"
        )
    return next(iter(called.values()))


def _all(loops: Loops, ids: tf.Tensor, special: SpecialIds) -> Array:
    """Return what every piece scores in the first step, (pieces)."""
    encode, advance = loops
    logits, *_ = advance(tf.constant([special.start or 0]), *encode(ids))
    return np.asarray(logits)[0]


def _check(loops: Loops, found: Narrow, ids: tf.Tensor, special: SpecialIds) -> None:
    """Refuse a step whose scores over candidates are not those over all pieces but for what each has more."""
    encode, advance = loops
    pieces, allowed = candidates = found.shortlist.candidates(ids)
    state, memory = encode(ids)
    over, memory = found.within(advance)(candidates, memory)
    first = tf.constant([[found.shortlist.special.start or 0]])
    try:
        logits, *_ = over(first, for_beams(state, 1), for_beams(memory, 1))
    except Exception as error:  # whatever the user's own code raises
        reason = f"{type(error).__name__}: {in_short(error)}"
        raise ConfigInvalid(f"{FIELD}: the model fails on scores of some pieces alone: {reason}") from error
    own = np.flatnonzero(allowed[0])
    wanted, got = _all(loops, ids, special)[pieces.numpy()[own]], np.asarray(logits)[0][own]
    with np.errstate(invalid="ignore"):  # where the model has made NaN of it
        same = np.allclose(got - got.max(), wanted - wanted.max(), SAME, SAME)
    if not same:
        raise ConfigInvalid(
            f"{FIELD}: the scores of some pieces alone are not those that the model gives them beside all: "
            f"what follows its Dense {found.layer.name!r} reads them together"
        )


@contextmanager
def _computed(own: Any, kernel: tf.Tensor, bias: tf.Tensor) -> Iterator[None]:
    """Let a layer compute (rows, [1,] columns) by this kernel (depth, columns) and bias (rows, columns)."""

    def compute(original: Call, layer: Any, inputs: tf.Tensor, **options: Any) -> tf.Tensor:
        if layer is not own:
            return original(layer, inputs, **options)
        logits = tf.tensordot(inputs, tf.cast(kernel, inputs.dtype), 1)
        added = tf.cast(bias, inputs.dtype)
        logits += added if logits.shape.rank == 2 else added[:, None]
        return layer.activation(logits)

    with _dense_by(compute):
        yield


@contextmanager
def _dense_by(call: Call) -> Iterator[None]:
    """Run each `Dense`, of Keras 3 and of Keras 2 (`tf_keras`), by a function that is given its own call.

    The layers are in closures of the user's own functions, so it is set on their class.
    """
    kinds = [keras.layers.Dense]
    if "tf_keras" in sys.modules:
        kinds.append(sys.modules["tf_keras"].layers.Dense)
    originals = [kind.call for kind in kinds]
    for kind, original in zip(kinds, originals, strict=True):
        kind.call = _bound(call, original)
    try:
        yield
    finally:
        for kind, original in zip(kinds, originals, strict=True):
            kind.call = original


def _bound(call: Call, original: Call) -> Call:
    def bound(layer: Any, inputs: tf.Tensor, **options: Any) -> tf.Tensor:
        return call(original, layer, inputs, **options)

    return bound
