"""The event-sequence model: event types and elapsed time through a time-aware LSTM to three heads.

Built by `models.recipes.events`, which trains it on every step of a sequence at once (an LSTM reads
no future) and exports the answers at the last real step.
"""

import keras
import tensorflow as tf
from keras import layers, ops

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
    """

    def __init__(
        self, event_types: int, embedding: int, units: int, dropout: float, **kwargs: object
    ) -> None:
        super().__init__(**kwargs)
        self.config = {
            "event_types": event_types,
            "embedding": embedding,
            "units": units,
            "dropout": dropout,
        }
        self.embedding = layers.Embedding(event_types + 1, embedding)
        self.dropout = layers.Dropout(dropout)
        self.recurrent = layers.RNN(TimeAwareLSTMCell(units), return_sequences=True)
        self.next_event = layers.Dense(event_types + 1, name="next_event")  # the last one: the end
        self.to_next = layers.Dense(1, name="to_next")
        self.to_end = layers.Dense(1, name="to_end")
        self.embedding.build((None, None))
        self.recurrent.build((None, None, embedding + 1))
        for head in (self.next_event, self.to_next, self.to_end):
            head.build((None, None, units))
        self.built = True

    def call(self, inputs: tuple[tf.Tensor, tf.Tensor], training: bool = False) -> dict[str, tf.Tensor]:
        events, elapsed = inputs  # int32 (batch, time), float32 (batch, time)
        mask = ops.not_equal(events, PAD)  # (batch, time)
        embedded = self.dropout(self.embedding(events), training=training)  # (batch, time, embedding)
        steps = ops.concatenate([embedded, elapsed[:, :, None]], axis=-1)
        states = self.recurrent(steps, mask=mask, training=training)  # (batch, time, units)
        states = self.dropout(states, training=training)
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

    def get_config(self) -> dict[str, object]:
        return {**super().get_config(), **self.config}
