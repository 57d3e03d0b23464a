"""One Keras model with both inputs, as it was trained, cut into an encoder and one step of the decoder.

What depends on the source alone is run once; what depends on the target is run step by step, each recurrent
layer with the state that it had. The values that cross between the two are found by following the graph.
"""

import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras.src.models.functional import Functional

from seqserve.models.bring.keras_file import Port
from seqserve.models.bring.translation.contract import TranslationContract
from seqserve.models.bring.translation.steps import Row, Steps
from seqserve.models.bring.words import Place
from seqserve.models.config import ConfigInvalid
from seqserve.models.networks.decoding import Memory, State
from seqserve.service.contract.padding import Array

ATTENTIONS = (
    keras.layers.Attention,
    keras.layers.AdditiveAttention,
    keras.layers.MultiHeadAttention,
    keras.layers.GroupQueryAttention,
)
UNCHANGED = 1e-6
"""Scores that an input changes by no more are not changed by it."""
EXAMPLE = 'function = "load" of a file given by --import returns the encoder and one step of the decoder'
Visit = Callable[[Any, Any, Any, int], list[Any]]
"""(operation, args, kwargs, how many outputs) -> the outputs."""


class _OfTarget:
    """Stands, while the source is encoded, for what depends on the target."""


class _OfSource:
    """Stands, in a step of the decoder, for what the encoder has computed."""


def cut(path: Path, network: keras.Model, contract: TranslationContract, pieces: int) -> Steps:
    """Cut a model in two.

    Args:
        pieces: how many ids the target has.

    Raises:
        ConfigInvalid: it has other than two inputs, or a layer reads the whole target at once.
    """
    scores = _scores(path, network, contract, pieces)
    source, target = _sides(path, network, contract, scores)
    ports = [Port(x.name, tuple(x.shape), x.dtype) for x in network.inputs]
    longest = ports[target].shape[1]
    graph = keras.Model(list(network.inputs), network.outputs[scores])

    def fed(of_source: Any, of_target: Any) -> list[Any]:
        return [of_source, of_target] if source == 0 else [of_target, of_source]

    def encode(ids: tf.Tensor) -> tuple[State, Memory]:
        text = as_input(ids, ports[source])
        seam = _Encoding(tf.shape(ids)[0], text)
        walk(graph, fed(text, _OfTarget()), seam.visit)
        return tuple(seam.states), tuple(seam.memory)

    def advance(ids: tf.Tensor, state: State, memory: Memory) -> Any:
        word = as_input(ids[:, None], ports[target])
        step = _Step(list(state), list(memory), word)
        (answer,) = walk(graph, fed(_OfSource(), word), step.visit)
        weights = {name: value for name, value in step.weights.items() if value is not answer}
        return answer, tuple(step.new), weights

    def taught(ids: tf.Tensor, words: tf.Tensor) -> tf.Tensor:
        given = as_input(ids, ports[source]), as_input(_filled(words, longest, graph), ports[target])
        answer = graph(fed(*given), training=False)
        return answer[:, : words.shape[1]] if len(answer.shape) == 3 else answer

    answer = Port(
        network.output_names[scores], tuple(network.outputs[scores].shape), network.outputs[scores].dtype
    )
    table = _table(ports, source, answer)
    return Steps(encode, advance, network, table, (), taught, ports[source].shape[1], longest)


def _filled(words: tf.Tensor, longest: int | None, graph: keras.Model) -> tf.Tensor:
    """Return target ids filled to a fixed axis: in front, where the last place alone is answered for."""
    gap = (longest or words.shape[1]) - words.shape[1]
    behind = len(graph.outputs[0].shape) == 3
    return tf.pad(words, [[0, 0], [0, gap] if behind else [gap, 0]])


def _table(ports: Sequence[Port], source: int, scores: Port) -> tuple[Row, ...]:
    roles = ["target"] * 2
    roles[source] = "source"
    rows = [(f"input {port.name}", str(port.shape), role) for port, role in zip(ports, roles, strict=True)]
    return (*rows, (f"output {scores.name}", str(scores.shape), "scores of the next piece"))


def as_input(ids: tf.Tensor, port: Port) -> tf.Tensor:
    """Return ids (batch, time) as an input takes them: plain, or one-hot where it has an axis for that."""
    if len(port.shape) == 3:
        return tf.one_hot(ids, int(port.shape[-1] or 1), dtype=port.dtype)
    return tf.cast(ids, port.dtype)


def _scores(path: Path, network: keras.Model, contract: TranslationContract, pieces: int) -> int:
    """Return which output scores the next piece: of several, the one that is as wide as the vocabulary."""
    place = contract.decoder.outputs.scores
    if place is not None:
        return _named("decoder.outputs.scores", place, network.output_names)
    wide = [at for at, x in enumerate(network.outputs) if x.shape[-1] == pieces]
    if len(network.outputs) != 1 and len(wide) == 1:
        return wide[0]
    if len(network.outputs) != 1:
        names = ", ".join(map(repr, network.output_names))
        raise ConfigInvalid(f"decoder.outputs.scores: {path.name} has the outputs {names}; name one")
    return 0


def _named(field: str, place: Place, names: Sequence[str]) -> int:
    """Return the index of a name, or the index itself."""
    if isinstance(place, int) and place < len(names):
        return place
    if place not in names:
        raise ConfigInvalid(f"{field}: {place!r} is none of {', '.join(map(repr, names))}")
    return list(names).index(str(place))


def _sides(path: Path, network: keras.Model, contract: TranslationContract, scores: int) -> tuple[int, int]:
    """Return which input takes the source and which the target so far."""
    names = [x.name for x in network.inputs]
    if len(names) != 2:
        raise ConfigInvalid(
            f"{path.name} has the inputs {', '.join(map(repr, names))}; the source and the target so far are "
            "expected. For an encoder and a decoder of their own files give [encoder] and [decoder]; a "
            f"model that is called otherwise: {EXAMPLE}"
        )
    if contract.source.input is not None:
        at = _named("source.input", contract.source.input, names)
        return at, 1 - at
    if contract.target.input is not None:
        at = _named("target.input", contract.target.input, names)
        return 1 - at, at
    written = _written_one(network, scores)
    return 1 - written, written


def _written_one(network: keras.Model, scores: int) -> int:
    """Return the input whose last step does not change the answer to the first one: it is not written yet.

    The second one where that does not tell them apart.
    """
    ports = [Port(x.name, tuple(x.shape), x.dtype) for x in network.inputs]
    rows = [np.ones((1, port.shape[1] or 4), np.int32) for port in ports]

    def first(rows: Sequence[Array]) -> Array:
        given = [as_input(tf.constant(row), port) for row, port in zip(rows, ports, strict=True)]
        return np.asarray(keras.tree.flatten(network(given, training=False))[scores])[:, 0]

    last = [np.where(np.arange(row.shape[1]) == row.shape[1] - 1, 2, row) for row in rows]
    try:
        before = first(rows)
        changes = [np.abs(first(pair) - before).max() for pair in ((last[0], rows[1]), (rows[0], last[1]))]
    except Exception:  # whatever the model's own code raises: it is told of where the model is tried
        return 1
    return 0 if changes[0] <= UNCHANGED < changes[1] else 1


def walk(network: Any, values: Sequence[Any], visit: Visit) -> list[Any]:
    """Run a Functional model, nested ones too, by a function that is given each operation.

    Returns:
        The values of its outputs.
    """
    known = {id(x): value for x, value in zip(network.inputs, values, strict=True)}
    for depth in sorted(network._nodes_by_depth, reverse=True):
        for node in network._nodes_by_depth[depth]:
            if node.operation is None or node.is_input:
                continue
            args, kwargs = node.arguments.fill_in(known)
            nested = getattr(node.operation, "_functional", node.operation)  # a Sequential holds one
            if isinstance(nested, Functional):
                outputs = walk(nested, _in_order(nested, args), visit)
            else:
                outputs = visit(node.operation, args, kwargs, len(node.outputs))
            known |= {id(x): value for x, value in zip(node.outputs, outputs, strict=True)}
    return [known[id(x)] for x in network.outputs]


def _in_order(nested: Any, args: Any) -> list[Any]:
    """Return what a nested model is given, in the order of its inputs."""
    if isinstance(args[0], dict):
        return [args[0][x.name] for x in nested.inputs]
    return list(keras.tree.flatten(args[: len(nested.inputs)]))


class _Values:
    """Some of the values that an operation may be given, in the order in which they came up."""

    def __init__(self, *values: Any) -> None:
        self.kept: list[Any] = []  # held, so that no other value meanwhile gets the id of one of them
        self._places: dict[int, int] = {}
        self.add(values)

    def add(self, values: Iterable[Any]) -> None:
        for value in values:
            self.place(value)

    def place(self, value: Any) -> int:
        if id(value) not in self._places:
            self._places[id(value)] = len(self.kept)
            self.kept.append(value)
        return self._places[id(value)]

    def among(self, given: Any) -> list[Any]:
        return [value for value in keras.tree.flatten(given) if id(value) in self._places]


class _Encoding:
    """Runs what depends on the source alone; notes the first states, and what the steps will read."""

    def __init__(self, rows: tf.Tensor, text: tf.Tensor) -> None:
        self._rows, self._made, self._read = rows, _Values(text), _Values()
        self.states: list[Any] = []

    @property
    def memory(self) -> Iterator[tuple[tf.Tensor, ...]]:
        """Each value that steps read, with its mask where it has one."""
        for value in self._read.kept:
            mask = getattr(value, "_keras_mask", None)
            yield (value,) if mask is None else (value, mask)

    def visit(self, operation: Any, args: Any, kwargs: Any, count: int) -> list[Any]:
        """Run an operation, unless it depends on the target."""
        if not any(isinstance(value, _OfTarget) for value in keras.tree.flatten((args, kwargs))):
            outputs = list(keras.tree.flatten(operation(*args, **kwargs)))
            outputs = [_another(value) if self._made.among(value) else value for value in outputs]
            self._made.add(outputs)
            return outputs
        _check_own(operation)
        if isinstance(operation, keras.layers.Bidirectional):
            raise ConfigInvalid(
                f"layer {operation.name!r} reads the target from both ends: it cannot be written word by word"
            )
        if isinstance(operation, keras.layers.RNN):
            args, kwargs, state = _initial(operation, args, kwargs)
            self.states.append(tuple(keras.tree.flatten(self._first(operation, state))))
        self._read.add(self._made.among((args, kwargs)))
        return [_OfTarget() for _ in range(count)]

    def _first(self, layer: Any, state: Any) -> Any:
        if state is None:
            return layer.get_initial_state(self._rows)
        if any(isinstance(part, _OfTarget) for part in keras.tree.flatten(state)):
            raise ConfigInvalid(f"layer {layer.name!r} begins with a state that depends on the target")
        return state


def _another(value: tf.Tensor) -> tf.Tensor:
    """Return the same value as one of its own: `Dropout` gives back what it is given."""
    copy, mask = tf.identity(value), getattr(value, "_keras_mask", None)
    if mask is not None:
        copy._keras_mask = mask
    return copy


def _check_own(operation: Any) -> None:
    """Refuse a layer of the user's own with a recurrent layer inside: its state cannot be reached."""
    if isinstance(operation, keras.layers.RNN | keras.layers.Bidirectional):
        return
    layers = operation._flatten_layers(include_self=False) if isinstance(operation, keras.Layer) else ()
    inner = next((layer.name for layer in layers if isinstance(layer, keras.layers.RNN)), None)
    if inner is not None:
        raise ConfigInvalid(
            f"layer {operation.name!r} is a class of its own that holds {inner!r}: it cannot be run word by "
            f"word from outside; {EXAMPLE}"
        )


class _Step:
    """Runs what depends on the target, for one word of it."""

    def __init__(self, states: list[Any], memory: list[Any], word: tf.Tensor) -> None:
        self._states, self._memory = states, memory
        self._made, self._read = _Values(word), _Values()
        self.new: list[Any] = []
        self.weights: dict[str, tf.Tensor] = {}

    def visit(self, operation: Any, args: Any, kwargs: Any, count: int) -> list[Any]:
        """Run an operation, unless the encoder has run it."""
        if not self._made.among((args, kwargs)):
            return [_OfSource() for _ in range(count)]
        if isinstance(operation, keras.layers.RNN):
            outputs = self._recurrent(operation, args, kwargs)
        else:
            outputs = self._plain(operation, args, kwargs)[:count]
        self._made.add(outputs)
        return outputs

    def _plain(self, operation: Any, args: Any, kwargs: Any) -> list[Any]:
        given = keras.tree.flatten((args, kwargs))
        attends = isinstance(operation, ATTENTIONS) and any(isinstance(v, _OfSource) for v in given)
        args, kwargs = keras.tree.map_structure(self._remembered, (args, kwargs))
        scores = {"return_attention_scores": True} if attends else {}
        outputs = list(keras.tree.flatten(operation(*args, **{**kwargs, **scores})))
        if attends:
            self.weights[operation.name] = outputs[1]
        elif _is_softmax(operation):
            self.weights[operation.name] = outputs[0]
        return outputs

    def _remembered(self, value: Any) -> Any:
        if not isinstance(value, _OfSource):
            return value
        held, *mask = self._memory[self._read.place(value)]
        if mask:
            held._keras_mask = mask[0]  # each time: some layers take it off
        return held

    def _recurrent(self, layer: Any, args: Any, kwargs: Any) -> list[Any]:
        args, kwargs, _ = _initial(layer, args, kwargs)
        args, kwargs = keras.tree.map_structure(self._remembered, (args, kwargs))
        state = keras.tree.pack_sequence_as(layer.state_size, list(self._states[len(self.new)]))
        state = list(state) if isinstance(state, list | tuple) else [state]
        with _giving_all(layer) as (sequences, with_state):
            steps, *after = layer(*args, initial_state=state, **kwargs)
        self.new.append(tuple(keras.tree.flatten(after)))
        answer = steps if sequences else steps[:, -1]
        return [answer, *keras.tree.flatten(after)] if with_state else [answer]


def _is_softmax(operation: Any) -> bool:
    applied = getattr(operation, "activation", None)
    by_name = isinstance(operation, keras.layers.Activation) and applied is keras.activations.softmax
    return by_name or isinstance(operation, keras.layers.Softmax) or type(operation).__name__ == "Softmax"


def _initial(layer: Any, args: Any, kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any], Any]:
    """Return a recurrent layer's arguments without its first state, and that state."""
    bound = inspect.signature(layer.call).bind(*args, **kwargs)
    state = bound.arguments.pop("initial_state", None)
    return bound.args[:1], {n: v for n, v in bound.arguments.items() if n != "sequences"}, state


@contextmanager
def _giving_all(layer: Any) -> Iterator[tuple[bool, bool]]:
    """Let a layer give its output at each step and its state; yields whether it was built to."""
    before = layer.return_sequences, layer.return_state
    layer.return_sequences = layer.return_state = True
    try:
        yield before
    finally:
        layer.return_sequences, layer.return_state = before
