"""The event-sequence model: event types and elapsed time through an LSTM to three heads.

Built by `models.recipes.events`, which trains it on every step of a sequence at once (an LSTM reads
no future) and exports the answers at the last real step, and the step itself.
"""

import keras
import tensorflow as tf
from keras import layers, ops

from models.clock import CHANNELS, DAY, Clock
from models.config import TimeUse
from models.layers import TimeAwareLSTMCell

PAD = 0
"""The id of no event: what the mask is derived from."""


@keras.saving.register_keras_serializable("seqserve")
class EventModel(keras.Model):
    """Event ids and elapsed times in; next event, time to next and time to the end out, at every step.

    Args:
        event_types: how many kinds of event there are; their ids are 1 … event_types.
        embedding: width of an event's embedding.
        units: width of the LSTM's hidden and memory states.
        dropout: dropped share of embeddings and states, in training.
        time: `time_gate` drives the forget gate (`TimeAwareLSTMCell`); `concat` makes time more channels
            after the embedding, those of `Clock`; `conv1x1` mixes them with the embedding, step by step, by a
            1×1 convolution with ReLU, as wide as the embedding; `none` ignores it. All but the first then go
            through a standard LSTM.
        scale, unit_seconds: of elapsed time, as `Clock` has them.
    """

    def __init__(
        self,
        event_types: int,
        embedding: int,
        units: int,
        dropout: float,
        time: TimeUse = "time_gate",
        scale: float = 1.0,
        unit_seconds: float = DAY,
        **kwargs: object,
    ) -> None:
        super().__init__(**kwargs)
        self.config = {
            "event_types": event_types,
            "embedding": embedding,
            "units": units,
            "dropout": dropout,
            "time": time,
            "scale": scale,
            "unit_seconds": unit_seconds,
        }
        self.time = time
        self.embedding = layers.Embedding(event_types + 1, embedding)
        self.dropout = layers.Dropout(dropout)
        self.clock = Clock(scale, unit_seconds) if time in ("concat", "conv1x1") else None
        self.mixed = layers.Conv1D(embedding, 1, activation="relu") if time == "conv1x1" else None
        # around a cell, so that one step of it can be exported; and no cuDNN comes in
        cell = TimeAwareLSTMCell(units) if time == "time_gate" else layers.LSTMCell(units)
        self.recurrent = layers.RNN(cell, return_sequences=True)
        self.next_event = layers.Dense(event_types + 1, name="next_event")  # the last one: the end
        self.to_next = layers.Dense(1, name="to_next")
        self.to_end = layers.Dense(1, name="to_end")
        self._create(embedding, units)

    def _create(self, embedding: int, units: int) -> None:
        self.embedding.build((None, None))
        if self.clock is not None:
            self.clock.build((None, None))
        if self.mixed is not None:
            self.mixed.build((None, None, embedding + CHANNELS))
        channels = {"time_gate": 1, "concat": CHANNELS}.get(self.time, 0)
        self.recurrent.build((None, None, embedding + channels))
        for head in (self.next_event, self.to_next, self.to_end):
            head.build((None, None, units))
        self.built = True

    def call(self, inputs: tuple[tf.Tensor, tf.Tensor], training: bool = False) -> dict[str, tf.Tensor]:
        events, elapsed = inputs  # int32 (batch, time), float32 (batch, time)
        mask = ops.not_equal(events, PAD)  # (batch, time)
        steps = self._read(events, elapsed, training)
        states = self.recurrent(steps, mask=mask, training=training)  # (batch, time, units)
        return self._answer(self.dropout(states, training=training))

    def _read(self, events: tf.Tensor, elapsed: tf.Tensor, training: bool) -> tf.Tensor:
        """Return what the LSTM reads at each step, (batch, time, width)."""
        embedded = self.dropout(self.embedding(events), training=training)  # (batch, time, embedding)
        if self.time == "none":
            return embedded
        times = elapsed[:, :, None] if self.clock is None else self.clock(elapsed)  # (batch, time, channels)
        steps = ops.concatenate([embedded, times], axis=-1)  # (batch, time, embedding + channels)
        return steps if self.mixed is None else self.mixed(steps)

    def _answer(self, states: tf.Tensor) -> dict[str, tf.Tensor]:
        return {
            "next_event": self.next_event(states),  # logits (batch, time, event_types + 1)
            "to_next": ops.squeeze(self.to_next(states), axis=-1),  # (batch, time)
            "to_end": ops.squeeze(self.to_end(states), axis=-1),  # (batch, time)
        }

    def last(self, events: tf.Tensor, elapsed: tf.Tensor) -> dict[str, tf.Tensor]:
        """Return each head's output at the last real step, (batch, …); rows are padded on the right."""
        lengths = ops.sum(ops.cast(ops.not_equal(events, PAD), "int32"), axis=1)  # (batch)
        outputs = self((events, elapsed), training=False)
        return {name: tf.gather(value, lengths - 1, batch_dims=1) for name, value in outputs.items()}

    def step(
        self, events: tf.Tensor, elapsed: tf.Tensor, states: list[tf.Tensor]
    ) -> tuple[dict[str, tf.Tensor], list[tf.Tensor]]:
        """Advance by one event: each head's output (batch, …), and the new states.

        Args:
            events: ids (batch), all real.
            elapsed: since the previous event, (batch).
            states: hidden and memory, (batch, units) each; zeros before the first event.
        """
        read = self._read(events[:, None], elapsed[:, None], training=False)[:, 0]  # (batch, width)
        hidden, states = self.recurrent.cell(read, states)
        return self._answer(hidden), states

    def get_config(self) -> dict[str, object]:
        return {**super().get_config(), **self.config}
