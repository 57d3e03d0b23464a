"""Rows that are advanced together until all are finished, those that are finished dropped on the way."""

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

DROP_AT = 0.25
"""The share of finished rows at which they are dropped; with 1 they are computed until all are finished."""


class Rows(NamedTuple):
    """What a step changes of the rows that are still computed: nests of tensors (rows, …)."""

    until: tf.Tensor  # int32 (rows, 1), the step at which a row ends; 0: it is finished
    carried: Any  # what the next step needs
    result: Any  # what remains of a row at the end


Step = Callable[[tf.Tensor, Any, Rows], tuple[Rows, Any]]
"""(step (), what no step changes, rows) -> rows, and what to keep of the step: nests of tensors (rows, …)."""


def until_finished(
    advance: Step, until: tf.Tensor, fixed: Any, carried: Any, result: Any, arrays: Any
) -> tuple[Any, Any]:
    """Step until all rows are finished; drop those that are whenever they are at least `DROP_AT` of all.

    The steps between two drops are a loop of their own, so that dropping adds nothing to a step's cost.

    Args:
        until: int32 (batch, 1), at least 1: the most steps of each row.
        arrays: a nest of TensorArrays, for what is to be kept of each step.

    Returns:
        The results, (batch, …), and what was kept, (time, batch, …): zeros where a row was not computed.
    """

    def stepped(step: tf.Tensor, fixed: Any, rows: Rows, arrays: Any) -> tuple[tf.Tensor, Rows, Any]:
        def one(step: tf.Tensor, rows: Rows, arrays: Any) -> tuple[tf.Tensor, Rows, Any]:
            rows, kept = advance(step, fixed, rows)
            return step + 1, rows, tf.nest.map_structure(lambda array, x: array.write(step, x), arrays, kept)

        return tf.while_loop(
            lambda step, rows, _: tf.reduce_mean(tf.cast(rows.until > step, tf.float32)) > 1 - DROP_AT,
            one,
            (step, rows, arrays),
            parallel_iterations=1,
        )

    def dropped(
        step: tf.Tensor, places: tf.Tensor, fixed: Any, rows: Rows, arrays: Any, whole: Any
    ) -> tuple[tf.Tensor, tf.Tensor, Any, Rows, Any, Any]:
        step, rows, arrays = stepped(step, fixed, rows, arrays)
        done = (rows.result, tf.fill(tf.shape(places), step))
        whole = tf.nest.map_structure(
            lambda x, new: tf.tensor_scatter_nd_update(x, places[:, None], new), whole, done
        )
        live = tf.where(rows.until > step)[:, 0]
        kept = tf.nest.map_structure(lambda x: tf.gather(x, live), (places, fixed, rows))
        return step, *kept, arrays, whole

    places = tf.range(tf.size(until))  # in the batch, of the rows still computed
    rows = Rows(until, carried, result)
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
