"""A trained `Translator` as it is served: the same equations, what is known before a step folded away.

What a piece alone decides, its embedding's products with the kernels, is a table. What the source alone
decides, its products with the decoder's kernels, is worked out once a row, since the mean of products is the
product of the mean. Products that share an input are one.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from seqserve.models.networks.attention import NEVER
from seqserve.models.networks.decoding import Advance
from seqserve.models.networks.shortlist import Candidates, gap_of
from seqserve.models.networks.translation import Translator

Array = np.ndarray
Parts = Sequence[tf.Tensor]
FOREVER = 1e9
"""A gate's input at which it is wholly open."""
MARKS = 8
"""Channels beside a key's own that say whether its step is real. One would do; eight keep vectors whole."""


class Memory(NamedTuple):
    """The encoded source, constant while a row is decoded."""

    keys: tf.Tensor  # (batch, 1, source, units + MARKS): -`FOREVER` where a step is padding
    values: tf.Tensor  # (batch, source, gates + embedding): their products with the decoder's kernels


class State(NamedTuple):
    """The decoder's state, and its product with all kernels that read it."""

    cell: tuple[tf.Tensor, ...]  # each (batch, [beam,] units)
    products: tf.Tensor  # (batch, [beam,] gates + units + MARKS): for the gates, and the attention's query


class Gates(NamedTuple):
    """A recurrent cell whose inputs' and state's products with its kernels are given.

    Args:
        states: tensors of the state, each as wide as a gate.
        idle: each gate's input where there is no piece: a state of zeros then stays as it is.
        parts: gates that `advance` is given together.
        advance: (inputs' products, state's products, state) -> state; the products by parts.
    """

    states: int
    idle: tuple[float, ...]
    parts: tuple[int, ...]
    advance: Callable[[Parts, Parts, Parts], tuple[tf.Tensor, ...]]


def _gru(inputs: Parts, products: Parts, state: Parts) -> tuple[tf.Tensor, ...]:
    """Advance a GRU, the reset gate after the product (Cho et al., 2014, as Keras and cuDNN have it)."""
    update, reset = tf.split(tf.sigmoid(inputs[0] + products[0]), 2, axis=-1)
    new = tf.tanh(inputs[1] + reset * products[1])
    return (new + update * (state[0] - new),)


def _lstm(inputs: Parts, products: Parts, state: Parts) -> tuple[tf.Tensor, ...]:
    """Advance an LSTM (Hochreiter and Schmidhuber, 1997, with the forget gate of Gers et al., 2000)."""
    doors, new, out = (both[0] + both[1] for both in zip(inputs, products, strict=True))
    enter, forget = tf.split(tf.sigmoid(doors), 2, axis=-1)
    memory = forget * state[1] + enter * tf.tanh(new)
    return tf.sigmoid(out) * tf.tanh(memory), memory


CELLS = {
    "gru": Gates(1, (FOREVER, 0.0, 0.0), (2, 1), _gru),
    "lstm": Gates(2, (-FOREVER, FOREVER, 0.0, 0.0), (2, 1, 1), _lstm),
}


class Folded(tf.Module):
    """`encode` and `advance` of a trained network, as the loops of `networks.decoding` take them.

    Its weights are those that the network has now; training it further does not change them.

    Args:
        written: int32 (ids), the target pieces that it writes, whose places are then its ids; None: all. The
            special ids are the first and at their own places.
    """

    def __init__(self, network: Translator, written: Array | None = None) -> None:
        super().__init__()
        self._written = slice(None) if written is None else written
        self._gates, self._units = CELLS[str(network.config["cell"])], network.units
        self._special_ids = network.special_ids
        with tf.init_scope():
            self._fold_encoder(network)
            self._fold_decoder(network)

    def _fold_encoder(self, network: Translator) -> None:
        pieces = network.embedding.embeddings.numpy()  # (pieces, embedding)
        cells = [layer.cell for layer in (network.encoder.forward_layer, network.encoder.backward_layer)]
        idle = np.repeat(np.array(self._gates.idle, np.float32), self._units)  # (gates)
        tables = []
        for cell in cells:
            tables.append(pieces @ cell.kernel.numpy() + _input_bias(cell))
            tables[-1][self._special_ids.pad] = idle
        self._source = _kept("source", np.concatenate(tables))  # (2 * pieces, gates)
        self._recurrent = [
            (
                _kept(f"{side}_recurrent", cell.recurrent_kernel.numpy()),
                _kept(f"{side}_bias", _recurrent_bias(cell)),
            )
            for side, cell in zip(("forward", "backward"), cells, strict=True)
        ]

    def _fold_decoder(self, network: Translator) -> None:
        units, pieces = self._units, network.embedding.embeddings.numpy()[self._written]
        width = pieces.shape[1]
        kernel, readout = network.cell.kernel.numpy(), network.readout.kernel.numpy()
        of_hidden, of_context, of_piece = np.split(readout, [units, 3 * units])
        table = pieces @ np.concatenate([kernel[:width], of_piece], axis=1)  # (pieces, gates + embedding)
        table += np.concatenate([_input_bias(network.cell), network.readout.bias.numpy()])
        self._target = _kept("target", table)
        of_values = np.concatenate([kernel[width:], of_context], axis=1)
        self._values = _kept("values", of_values)  # (2 * units, gates + embedding)
        keys, query = network.attention.W2, network.attention.W1.kernel.numpy()
        self._keys = _kept("keys", _marked(keys.kernel.numpy()))  # (2 * units, units + MARKS)
        self._keys_bias = _kept("keys_bias", _marked(keys.bias.numpy()))
        of_state = [network.cell.recurrent_kernel.numpy(), _marked(query), of_hidden]
        # (units, gates + units + MARKS + embedding)
        self._state = _kept("state", np.concatenate(of_state, axis=1))
        bias = np.zeros(self._state.shape[1], np.float32)
        bias[: len(self._gates.idle) * units] = _recurrent_bias(network.cell)
        self._state_bias = _kept("state_bias", bias)
        compare = _marked(network.attention.V.kernel.numpy().T)
        compare[:, self._units] = -NEVER  # the mark is 0 where a step is real, and tanh -1 elsewhere
        self._compare = _kept("compare", compare[0])  # (units + MARKS)
        self._bridge = _kept("bridge", network.bridge.kernel.numpy())
        self._bridge_bias = _kept("bridge_bias", network.bridge.bias.numpy())
        gap = int(gap_of(len(pieces)))
        self._output = _kept("output", np.pad(pieces.T, [(0, 0), (0, gap)]))  # (embedding, pieces + gap)
        self._readable = _kept("readable", pieces)  # (pieces, embedding)
        bias = np.pad(network.bias.numpy()[self._written], (0, gap), constant_values=-math.inf)
        for never in (self._special_ids.pad, self._special_ids.start):  # no pieces of a text
            bias[never] = -math.inf
        self._output_bias = _kept("output_bias", bias)

    def encode(self, source_ids: tf.Tensor) -> tuple[State, Memory]:
        """Return the first state and the memory of source ids (batch, source)."""
        values, backward = self._encoded(source_ids)  # (batch, source, 2 * units), (batch, units)
        keys = tf.tensordot(values, self._keys, 1) + self._keys_bias
        keys = tf.where(source_ids[..., None] == self._special_ids.pad, -FOREVER, keys)
        memory = Memory(keys[:, None], tf.tensordot(values, self._values, 1))
        bridged = tf.tanh(tf.matmul(backward, self._bridge) + self._bridge_bias)
        cell = tuple(tf.split(bridged, self._gates.states, axis=-1))
        return State(cell, self._products(cell[0])[0]), memory

    def _encoded(self, source_ids: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Run the encoder's two directions in one loop; the backward one's last state comes second."""
        length, gates = tf.shape(source_ids)[1], self._gates
        ids = tf.transpose(source_ids)  # (source, batch)
        both = tf.concat([ids, tf.reverse(ids, [0]) + self._source.shape[0] // 2], axis=1)
        inputs = tf.gather(self._source, both)  # (source, 2 * batch, gates)
        zeros = tf.zeros([tf.size(both[0]), self._units])

        def step(at: tf.Tensor, state: Any, read: Any) -> tuple[tf.Tensor, Any, Any]:
            # two products: on a CPU a batched one does not use all of its instructions
            sides = zip(tf.split(state[0], 2), self._recurrent, strict=True)
            products = [tf.nn.bias_add(tf.matmul(hidden, kernel), bias) for hidden, (kernel, bias) in sides]
            products = tf.concat(products, axis=0)  # (2 * batch, gates)
            new = gates.advance(self._gated(tf.gather(inputs, at)), self._gated(products), state)
            forward, backward = tf.split(new[0], 2)
            return at + 1, new, (read[0].write(at, forward), read[1].write(length - 1 - at, backward))

        read = tuple(tf.TensorArray(tf.float32, length, element_shape=[None, self._units]) for _ in range(2))
        first = (tf.constant(0), (zeros,) * gates.states, read)
        _, (last, *_), read = tf.while_loop(lambda at, *_: at < length, step, first, parallel_iterations=1)
        hidden = tf.concat([array.stack() for array in read], axis=-1)  # (source, batch, 2 * units)
        return tf.transpose(hidden, (1, 0, 2)), tf.split(last, 2)[1]

    def _products(self, hidden: tf.Tensor) -> Parts:
        """Return states' products, (rows, gates + units + MARKS), and their part of the readout."""
        products = tf.nn.bias_add(tf.matmul(hidden, self._state), self._state_bias)
        width = (len(self._gates.idle) + 1) * self._units + MARKS
        return tf.split(products, [width, products.shape[-1] - width], axis=-1)

    def _gated(self, values: tf.Tensor) -> Parts:
        """Return the gates of (…, gates) by parts."""
        return tf.split(values, [part * self._units for part in self._gates.parts], axis=-1)

    def _parts(self, values: tf.Tensor) -> tuple[Parts, tf.Tensor]:
        """Return the gates of (…, gates + rest) by parts, and the rest."""
        widths = [part * self._units for part in self._gates.parts]
        *parts, rest = tf.split(values, [*widths, -1], axis=-1)
        rest.set_shape([*rest.shape[:-1], values.shape[-1] - sum(widths)])
        return parts, rest

    def advance(self, ids: tf.Tensor, state: State, memory: Memory) -> tuple[tf.Tensor, State, tf.Tensor]:
        """Advance every hypothesis by a piece, as `decoding.Advance` says: its beams share a row's memory."""
        readout, state, attention = self._step(ids, state, memory)
        logits = tf.nn.bias_add(tf.matmul(readout, self._output), self._output_bias)
        return logits, state, attention

    def within(self, candidates: Candidates, memory: Memory) -> tuple[Advance, tuple[Memory, tf.Tensor]]:
        """Return the same over candidates alone, whose places are its ids, and the memory that it takes."""
        pieces = candidates.pieces
        output = tf.transpose(tf.gather(self._readable, pieces))  # (embedding, columns)
        bias = tf.where(candidates.allowed, tf.gather(self._output_bias, pieces), -math.inf)

        def advance(ids: tf.Tensor, state: State, memory: Any) -> tuple[tf.Tensor, State, tf.Tensor]:
            own, bias = memory
            readout, state, attention = self._step(tf.gather(pieces, ids), state, own)
            logits = tf.matmul(readout, output)  # (batch * beam, columns)
            by_row = tf.reshape(logits, tf.concat([tf.shape(ids), [-1]], axis=0))
            return tf.reshape(by_row + bias, tf.shape(logits)), state, attention

        return advance, (memory, bias[:, None])

    def _step(self, ids: tf.Tensor, state: State, memory: Memory) -> tuple[tf.Tensor, State, tf.Tensor]:
        """Advance by a piece; returns what the next one is scored by, (batch * beam, embedding), first."""
        recurrent, query = self._parts(state.products)  # (batch, beam, …)
        compared = tf.tanh(tf.expand_dims(query, 2) + memory.keys)  # (batch, beam, source, units + MARKS)
        # not by matmul: of tensors of unlike rank TensorFlow up to 2.21 reads too much, on some processors
        # (https://github.com/tensorflow/tensorflow/issues/117700)
        scores = tf.einsum("bksu,u->bks", compared, self._compare)  # (batch, beam, source)
        attention = tf.nn.softmax(scores)
        inputs = tf.matmul(attention, memory.values) + tf.gather(self._target, ids)
        gates, outer = self._parts(inputs)
        cell = self._gates.advance(gates, recurrent, state.cell)
        products, of_hidden = self._products(tf.reshape(cell[0], [-1, self._units]))
        outer = tf.reshape(outer, [-1, outer.shape[-1]])
        readout = tf.tanh(outer + of_hidden)  # (batch * beam, embedding)
        return readout, State(cell, tf.reshape(products, tf.shape(state.products))), attention


def _kept(name: str, value: Array) -> tf.Variable:
    return tf.Variable(value.astype(np.float32), trainable=False, name=f"folded_{name}")


def _marked(values: Array) -> Array:
    """Return values (…, units) with channels of zeros for the marks."""
    return np.pad(values, [(0, 0)] * (values.ndim - 1) + [(0, MARKS)])


def _input_bias(cell: Any) -> Array:
    """Return what a cell adds to its inputs' products, (gates)."""
    bias: Array = cell.bias.numpy()
    return bias[0] if bias.ndim == 2 else bias


def _recurrent_bias(cell: Any) -> Array:
    """Return what a cell adds to its state's products, (gates)."""
    bias: Array = cell.bias.numpy()
    return bias[1] if bias.ndim == 2 else np.zeros_like(bias)
