"""The event-sequence model: event types and elapsed time through an LSTM to three heads.

It is trained on every step of a sequence at once, since an LSTM reads no future. Two functions serve: one
answers at the last real step, the other advances by a single event.
"""

import keras
import tensorflow as tf
from keras import layers, ops

from seqserve.models.config import TimeUse
from seqserve.models.networks.clock import DAY, Clock
from seqserve.models.networks.time_gate import TimeAwareLSTMCell

PAD = 0
"""The id of padding, which the mask is derived from."""


@keras.saving.register_keras_serializable("seqserve")
class EventModel(keras.Model):
    """Event ids and elapsed times in; next event, time to next and time to the end out, at every step.

    Args:
        event_types: how many kinds of event there are; their ids are 1 … event_types.
        embedding: width of an event's embedding.
        units: width of the LSTM's hidden and memory states.
        dropout: dropped share of embeddings, channels of time and states, in training.
        time: `time_gate` drives the forget gate (`TimeAwareLSTMCell`); `concat` makes time more channels
            after the embedding, those of `Clock`; `conv1x1` mixes them with the embedding, step by step, by a
            1×1 convolution with ReLU, as wide as the embedding; `none` ignores it. All but the first then go
            through a standard LSTM.
        scale, unit_seconds, daily: of elapsed time, as `Clock` has them.
        unseen: share of events that training reads as `event_types` + 1, the id of kinds it has never seen.

    The logits of the next event have a part that depends on the last event alone, as in a bigram: fewer cases
    teach it than the recurrent layer needs. Mikolov et al., 2011
    (https://doi.org/10.1109/ASRU.2011.6163930), join n-grams to a recurrent network in this way.
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
        daily: bool = True,
        unseen: float = 0.0,
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
            "daily": daily,
            "unseen": unseen,
        }
        self.time, self.unseen, self.unseen_id = time, unseen, event_types + 1
        self.seeds = keras.random.SeedGenerator()
        ids = event_types + 2  # padding, the kinds, and any other kind
        self.embedding = layers.Embedding(ids, embedding)
        self.bigram = layers.Embedding(ids, event_types + 1, "zeros", name="bigram")
        self.dropout = layers.Dropout(dropout)
        self.clock = Clock(scale, unit_seconds, daily) if time in ("concat", "conv1x1") else None
        self.mixed = layers.Conv1D(embedding, 1, activation="relu") if time == "conv1x1" else None
        # around a cell, so that one step of it can be exported, and cuDNN is never used
        cell = TimeAwareLSTMCell(units) if time == "time_gate" else layers.LSTMCell(units)
        self.recurrent = layers.RNN(cell, return_sequences=True)
        self.next_event = layers.Dense(event_types + 1, name="next_event")  # the last one: the end
        self.to_next = layers.Dense(1, name="to_next")
        self.to_end = layers.Dense(1, name="to_end")
        self._create(embedding, units)

    def _create(self, embedding: int, units: int) -> None:
        self.embedding.build((None, None))
        self.bigram.build((None, None))
        width = embedding + (self.time == "time_gate")
        if self.clock is not None:
            self.clock.build((None, None))
            width += self.clock.channels
        if self.mixed is not None:
            self.mixed.build((None, None, width))
            width = embedding
        self.recurrent.build((None, None, width))
        for head in (self.next_event, self.to_next, self.to_end):
            head.build((None, None, units))
        self.built = True

    def call(self, inputs: tuple[tf.Tensor, tf.Tensor], training: bool = False) -> dict[str, tf.Tensor]:
        events, elapsed = inputs  # int32 (batch, time), float32 (batch, time)
        mask = ops.not_equal(events, PAD)  # (batch, time)
        if training and self.unseen:
            hidden = keras.random.uniform(ops.shape(events), seed=self.seeds) < self.unseen  # (batch, time)
            events = ops.where(ops.logical_and(mask, hidden), self.unseen_id, events)
        steps = self._read(events, elapsed, training)
        states = self.recurrent(steps, mask=mask, training=training)  # (batch, time, units)
        return self._answer(self.dropout(states, training=training), events)

    def _read(self, events: tf.Tensor, elapsed: tf.Tensor, training: bool) -> tf.Tensor:
        """Return what the LSTM reads at each step, (batch, time, width)."""
        steps = self.embedding(events)  # (batch, time, embedding)
        if self.clock is not None:
            steps = ops.concatenate([steps, self.clock(elapsed)], axis=-1)  # (batch, time, … + channels)
        steps = self.dropout(steps, training=training)
        if self.time == "time_gate":
            return ops.concatenate([steps, elapsed[:, :, None]], axis=-1)
        return steps if self.mixed is None else self.mixed(steps)

    def _answer(self, states: tf.Tensor, events: tf.Tensor) -> dict[str, tf.Tensor]:
        return {
            "next_event": self.next_event(states) + self.bigram(events),  # (batch, time, event_types + 1)
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
        return self._answer(hidden, events), states

    def get_config(self) -> dict[str, object]:
        return {**super().get_config(), **self.config}
