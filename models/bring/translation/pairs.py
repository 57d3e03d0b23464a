"""An encoder and one step of the decoder, each a model or signature of its own, joined by shape and name."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import tensorflow as tf

from seqserve.models.bring.keras_file import Port
from seqserve.models.bring.translation.contract import Decoder, Encoder
from seqserve.models.bring.translation.joint import as_input
from seqserve.models.bring.translation.steps import Row, Steps, masks_of, with_masks
from seqserve.models.bring.words import Place
from seqserve.models.config import ConfigInvalid
from seqserve.models.networks.decoding import Memory, State

Ports = Sequence[Port]


@dataclass(frozen=True, slots=True)
class Callee:
    """A model as a function from a flat list of inputs to one of outputs."""

    name: str  # the contract's table: encoder, decoder
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    call: Callable[[list[tf.Tensor]], list[tf.Tensor]]
    keep: Any


def join(
    encoder: Callee, decoder: Callee, roles: tuple[Encoder, Decoder], pieces: int, pad: int = 0
) -> Steps:
    """Join the two.

    Args:
        pieces: how many ids the target has.
        pad: the id that fills rows of the source.

    Raises:
        ConfigInvalid: naming the input or output that does not fit, or that has to be named.
    """
    taken, given = _taken(encoder, roles[0]), _given(decoder, roles[1], pieces)
    from_encoder = roles[1].initial == "encoder"
    taken = replace(
        taken,
        states=taken.states if from_encoder else (),
        memory=taken.memory if given.memory or roles[0].outputs.memory else (),
    )
    _check_seam(encoder, decoder, taken, given, from_encoder)
    joint = _Joint(encoder, decoder, taken, given, from_encoder, pad)
    return replace(joint.steps(masked=True), unmasked=joint.steps(masked=False))


@dataclass(frozen=True, slots=True)
class _Joint:
    """The two, and what is given from one to the other."""

    encoder: Callee
    decoder: Callee
    taken: "_Taken"
    given: "_Given"
    from_encoder: bool
    pad: int

    def steps(self, masked: bool) -> Steps:
        """Return them as one; `masked`: Keras' masks of the memory go with it, as where models are called."""

        def encode(ids: tf.Tensor) -> tuple[State, Memory]:
            state, memory = self._encoded(ids)
            source = (ids,) * (self.given.mask is not None)
            return state, (tuple(map(tf.identity, memory)), masks_of(memory) if masked else {}, source)

        keep = (self.encoder.keep, self.decoder.keep)
        table = (*_rows_of_encoder(self.encoder, self.taken), *_rows_of_decoder(self.decoder, self.given))
        length = self.encoder.inputs[self.taken.ids].shape[1]
        return Steps(encode, self._advance, keep, table, length=length)

    def _encoded(self, ids: tf.Tensor) -> tuple[tuple[tf.Tensor, ...], tuple[tf.Tensor, ...]]:
        """Return the first states, and the memory."""
        inputs, rows = self.encoder.inputs, tf.shape(ids)[0]
        fed = [_zeros(rows, port) for port in inputs]
        fed[self.taken.ids] = as_input(ids, inputs[self.taken.ids])
        outputs = self.encoder.call(fed)
        first = [outputs[at] for at in self.taken.states]
        if not self.from_encoder:
            first = [_zeros(rows, self.decoder.inputs[at]) for at in self.given.states]
        return tuple(first), tuple(outputs[at] for at in self.taken.memory)

    def _advance(self, ids: tf.Tensor, state: State, memory: Memory) -> Any:
        given, inputs = self.given, self.decoder.inputs
        values, masks, source = memory
        fed: list[Any] = [None] * len(inputs)
        fed[given.word] = _as_word(ids, inputs[given.word])
        for places, parts in ((given.states, state), (given.memory, with_masks(values, masks))):
            for at, part in zip(places, parts, strict=True):
                fed[at] = part
        if given.mask is not None:
            fed[given.mask] = tf.cast(source[0] != self.pad, inputs[given.mask].dtype)
        outputs = self.decoder.call(fed)
        weights = {self.decoder.outputs[at].name: outputs[at] for at in given.weights}
        return outputs[given.scores], tuple(outputs[at] for at in given.after), weights


def _zeros(rows: tf.Tensor, port: Port) -> tf.Tensor:
    """Return a first state; all of its axes but the batch are fixed."""
    return tf.zeros([rows, *(size or 1 for size in port.shape[1:])], port.dtype)


def _as_word(ids: tf.Tensor, port: Port) -> tf.Tensor:
    """Return the last word as an input takes it: (batch), (batch, 1), or one-hot with an axis more."""
    if len(port.shape) == 1:
        return tf.cast(ids, port.dtype)
    return as_input(ids[:, None], port)


@dataclass(frozen=True, slots=True)
class _Taken:
    """Which input of the encoder takes ids, and which outputs go to the decoder."""

    ids: int
    states: tuple[int, ...]
    memory: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Given:
    """What the decoder's inputs and outputs are for."""

    word: int
    states: tuple[int, ...]
    memory: tuple[int, ...]
    mask: int | None
    scores: int
    after: tuple[int, ...]
    weights: tuple[int, ...]


def place_of(field: str, place: Place, ports: Ports) -> int:
    """Return the index of an input or output that the contract names."""
    names = [port.name for port in ports]
    if isinstance(place, int) and 0 <= place < len(names):
        return place
    if place not in names:
        raise ConfigInvalid(f"{field}: {place!r} is none of {', '.join(map(str, ports))}")
    return names.index(str(place))


def _places(field: str, places: Sequence[Place], ports: Ports) -> tuple[int, ...]:
    return tuple(place_of(field, place, ports) for place in places)


def _shown(ports: Ports) -> str:
    return ", ".join(map(str, ports)) or "none"


def _taken(encoder: Callee, roles: Encoder) -> _Taken:
    inputs, outputs = encoder.inputs, encoder.outputs
    if roles.inputs.ids is not None:
        ids = place_of("encoder.inputs.ids", roles.inputs.ids, inputs)
    else:
        fitting = [at for at, port in enumerate(inputs) if _is_sequence(port)]
        fitting = [0] if len(inputs) == 1 else fitting
        if len(fitting) != 1:
            raise ConfigInvalid(
                f"encoder.inputs.ids: which input takes the source? The encoder has {_shown(inputs)}"
            )
        ids = fitting[0]
    ranks = [len(port.shape) for port in outputs]
    states, memory = roles.outputs.states, roles.outputs.memory
    return _Taken(
        ids,
        tuple(at for at, rank in enumerate(ranks) if rank == 2)
        if states is None
        else _places("encoder.outputs.states", states, outputs),
        tuple(at for at, rank in enumerate(ranks) if rank > 2)
        if memory is None
        else _places("encoder.outputs.memory", memory, outputs),
    )


def _is_sequence(port: Port) -> bool:
    """Say whether an input may take ids (batch, time), or the same one-hot."""
    return len(port.shape) == 3 or (len(port.shape) == 2 and (port.shape[1] is None or "int" in port.dtype))


def _given(decoder: Callee, roles: Decoder, pieces: int) -> _Given:
    inputs, outputs = decoder.inputs, decoder.outputs
    named = roles.inputs
    mask = _mask(inputs, named.mask)
    word = _word(inputs, named.word, pieces, mask)
    rest = [at for at in range(len(inputs)) if at not in (word, mask)]
    states = tuple(at for at in rest if len(inputs[at].shape) == 2)
    memory = tuple(at for at in rest if len(inputs[at].shape) > 2)
    if named.states is not None:
        states = _places("decoder.inputs.states", named.states, inputs)
        memory = tuple(at for at in rest if at not in states)
    if named.memory is not None:
        memory = _places("decoder.inputs.memory", named.memory, inputs)
    left = sorted(set(rest) - {*states, *memory})
    if left:
        raise ConfigInvalid(f"decoder.inputs: nothing is given to {_shown([inputs[at] for at in left])}")
    scores = _scored(outputs, roles.outputs.scores, pieces)
    after = _after(decoder, roles, states, scores)
    weights = tuple(at for at in range(len(outputs)) if at not in (scores, *after))
    if roles.outputs.weights is not None:
        weights = (place_of("decoder.outputs.weights", roles.outputs.weights, outputs),)
    return _Given(word, states, memory, mask, scores, after, weights)


def _mask(inputs: Ports, named: Place | None) -> int | None:
    """Return the input that takes the mask of the source: the one of booleans, where none is named."""
    if named is not None:
        return place_of("decoder.inputs.mask", named, inputs)
    fitting = [at for at, port in enumerate(inputs) if port.dtype == "bool" and len(port.shape) == 2]
    return fitting[0] if len(fitting) == 1 else None


def _word(inputs: Ports, named: Place | None, pieces: int, mask: int | None) -> int:
    if named is not None:
        return place_of("decoder.inputs.word", named, inputs)
    fitting = [at for at, port in enumerate(inputs) if at != mask and _is_word(port, pieces)]
    if len(fitting) != 1:
        raise ConfigInvalid(
            "decoder.inputs.word: which input takes the last word, (batch), (batch, 1) or one-hot "
            f"(batch, 1, {pieces})? The decoder has {_shown(inputs)}"
        )
    return fitting[0]


def _is_word(port: Port, pieces: int) -> bool:
    shape = port.shape
    return (
        len(shape) == 1
        or (len(shape) == 2 and shape[1] in (None, 1))
        or (len(shape) == 3 and shape[1] in (None, 1) and shape[2] == pieces)
    )


def _scored(outputs: Ports, named: Place | None, pieces: int) -> int:
    """Return the output whose last axis is the target's vocabulary."""
    if named is not None:
        at = place_of("decoder.outputs.scores", named, outputs)
    else:
        wide = [at for at, port in enumerate(outputs) if len(port.shape) > 1 and port.shape[-1] == pieces]
        open_ended = [at for at, port in enumerate(outputs) if port.shape[-1:] == (None,)]
        of_step = [at for at in wide if len(outputs[at].shape) == 3]  # states have two axes
        fitting = of_step if len(of_step) == 1 else wide or open_ended or [0]
        if len(fitting) > 1:
            raise ConfigInvalid(
                f"decoder.outputs.scores: which output scores the next piece? {_shown(outputs)} of the "
                f"decoder may, as the target has {pieces} pieces"
            )
        at = fitting[0]
    if outputs[at].shape[-1] not in (pieces, None):
        raise ConfigInvalid(
            f"target: the vocabulary has {pieces} entries, the decoder's output {outputs[at]} "
            f"{outputs[at].shape[-1]} scores; {width_advice(pieces, outputs[at].shape[-1])}"
        )
    return at


def width_advice(pieces: int, width: int | None) -> str:
    """Say what to do where scores are not as many as pieces."""
    if width is not None and width > pieces:
        return f"is it the file that the model was trained with? If so, target.size = {width}"
    return "is it the file that the model was trained with? An entry that is no word counts too"


def _after(decoder: Callee, roles: Decoder, states: tuple[int, ...], scores: int) -> tuple[int, ...]:
    """Return the outputs that are the next states, in the order of the states."""
    outputs = decoder.outputs
    if roles.outputs.states is not None:
        after = _places("decoder.outputs.states", roles.outputs.states, outputs)
    else:
        after = tuple(at for at, port in enumerate(outputs) if at != scores and len(port.shape) == 2)
        widths = [decoder.inputs[at].shape for at in states]
        after = tuple(at for at in after if outputs[at].shape in widths)[: len(states)]
    wanted = [decoder.inputs[at] for at in states]
    given = [outputs[at] for at in after]
    if [port.shape[1:] for port in wanted] != [port.shape[1:] for port in given]:
        raise ConfigInvalid(
            f"decoder.outputs.states: the decoder takes the states {_shown(wanted)} and gives back "
            f"{_shown(given)}, of {_shown(outputs)}: build its recurrent layer with return_state=True and "
            "make its state an output, in the order of the inputs"
        )
    return after


def _check_seam(encoder: Callee, decoder: Callee, taken: _Taken, given: _Given, from_encoder: bool) -> None:
    """Refuse what the encoder gives and the decoder does not take."""
    pairs = [("memory", taken.memory, given.memory)]
    if from_encoder:
        pairs.append(("states", taken.states, given.states))
    for what, outputs, inputs in pairs:
        gives, takes = [encoder.outputs[at] for at in outputs], [decoder.inputs[at] for at in inputs]
        if not _fit(gives, takes):
            zeros = '; initial = "zeros" in [decoder] if it begins so' if what == "states" else ""
            raise ConfigInvalid(
                f"encoder.outputs.{what}: the encoder gives {_shown(gives)}, the decoder takes "
                f"{_shown(takes)}; name them in one order{zeros}"
            )


def _fit(gives: Ports, takes: Ports) -> bool:
    shapes = [(one.shape[1:], other.shape[1:]) for one, other in zip(gives, takes, strict=False)]
    return len(gives) == len(takes) and all(
        len(one) == len(other)
        and all(None in pair or pair[0] == pair[1] for pair in zip(one, other, strict=True))
        for one, other in shapes
    )


def _rows_of_encoder(encoder: Callee, taken: _Taken) -> list[Row]:
    rows = []
    for at, port in enumerate(encoder.inputs):
        rows.append((f"encoder input {port.name}", str(port.shape), "source" if at == taken.ids else "zeros"))
    for at, port in enumerate(encoder.outputs):
        role = "first state" if at in taken.states else "memory" if at in taken.memory else "not used"
        rows.append((f"encoder output {port.name}", str(port.shape), role))
    return rows


def _rows_of_decoder(decoder: Callee, given: _Given) -> list[Row]:
    roles = dict.fromkeys(given.states, "state") | dict.fromkeys(given.memory, "memory")
    roles[given.word] = "last word"
    after = dict.fromkeys(given.weights, "weights over the source?") | dict.fromkeys(
        given.after, "next state"
    )
    after[given.scores] = "scores of the next piece"
    rows = []
    for at, port in enumerate(decoder.inputs):
        rows.append((f"decoder input {port.name}", str(port.shape), roles.get(at, "mask of the source")))
    for at, port in enumerate(decoder.outputs):
        rows.append((f"decoder output {port.name}", str(port.shape), after[at]))
    return rows
