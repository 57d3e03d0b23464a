"""A lexical shortlist: the pieces that a row's output may have, by the pieces of its source.

Source: Jean et al., 2015, https://arxiv.org/abs/1412.2007, §3.2; Junczys-Dowmunt et al., 2018,
https://aclanthology.org/P18-4020.
"""

from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from seqserve.models.networks.largest import GROUP
from seqserve.service.contract.manifest import SpecialIds

Array = np.ndarray
APART = 256
"""Rows of a matrix that lie so far apart, or a multiple, take one another's place in a processor's cache: a
product takes up to twice as long, of 4,096 columns longer than of 6,016."""


class Candidates(NamedTuple):
    """What the rows of a batch may write."""

    pieces: tf.Tensor  # int32 (columns): the union, the special ids first; then pads, to fill a group
    allowed: tf.Tensor  # bool (batch, columns): what each row may write itself


class Shortlist(tf.Module):
    """The commonest pieces and the likeliest partners of each source piece.

    A row's candidates depend on that row alone; the batch works on their union. `special` are the places that
    the special ids have in each union: a loop over candidates takes those.

    Args:
        partners: int32 (source pieces, partners), target pieces.
        common: int32 (common), target pieces.
        special: of the target; always candidates.
        pieces: how many the target has.
        source_pad: fills the rows of the source.
    """

    def __init__(
        self, partners: Array, common: Array, special: SpecialIds, pieces: int, source_pad: int = 0
    ) -> None:
        super().__init__()
        partners = partners.copy()
        partners[source_pad] = special.pad  # a row's padding has none
        self._first = sorted({number for _, number in special if number is not None})
        always, self._rest = np.zeros(pieces, np.bool_), np.ones(pieces, np.bool_)
        always[common] = always[self._first] = True
        self._rest[self._first] = False
        self._pieces, self._pad = pieces, special.pad
        self.special = _places(special, self._first)
        with tf.init_scope():
            self._partners = tf.Variable(partners, trainable=False, name="shortlist_partners")
            self._always = tf.Variable(always, trainable=False, name="shortlist_always")

    def candidates(self, source_ids: tf.Tensor) -> Candidates:
        """Return the candidates of source ids, int32 (batch, source)."""
        rows = tf.shape(source_ids)[0]
        partners = tf.reshape(tf.gather(self._partners, source_ids), [rows, -1])  # (batch, source * partners)
        row = tf.broadcast_to(tf.range(rows)[:, None], tf.shape(partners))
        places = tf.reshape(row * self._pieces + partners, [-1, 1])
        found = tf.tensor_scatter_nd_update(
            tf.zeros([rows * self._pieces], tf.bool), places, tf.ones([tf.shape(places)[0]], tf.bool)
        )
        allowed = tf.logical_or(tf.reshape(found, [rows, self._pieces]), self._always)  # (batch, pieces)
        rest = tf.where(tf.logical_and(tf.reduce_any(allowed, axis=0), self._rest))[:, 0]
        union = tf.concat([self._first, tf.cast(rest, tf.int32)], axis=0)
        gap = gap_of(tf.size(union))
        own = tf.pad(tf.gather(allowed, union, axis=1), [[0, 0], [0, gap]])
        return Candidates(tf.pad(union, [[0, gap]], constant_values=self._pad), own)


def gap_of(columns: Any) -> Any:
    """Return how many columns to add to a matrix that is multiplied by: int, or int32 ().

    Whole groups, for `largest` to find; and no multiple of `APART`.
    """
    gap = -columns % GROUP
    return gap + tf.cast((columns + gap) % APART == 0, tf.int32) * GROUP


def _places(special: SpecialIds, first: list[int]) -> SpecialIds:
    """Return the places of the special ids where those of `first` come first."""
    return special.model_copy(update={name: first.index(n) for name, n in special if n is not None})
