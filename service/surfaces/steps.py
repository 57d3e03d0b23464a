"""Which steps of a tensor's row are real: all have as many as the longest, so shorter rows are filled up."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from seqserve.service import errors
from seqserve.service.contract.manifest import PREDICT_SIGNATURE, Categories, Manifest, Tokens
from seqserve.service.contract.padding import Array

LENGTHS = "lengths"
"""An input of a sequence model that has no feature of that name: how many steps of each row are real."""


class Steps:
    """Cuts the rows of one model's features.

    Args:
        manifest: None: the model is not known, and nothing is cut.
    """

    def __init__(self, manifest: Manifest | None) -> None:
        self._pads = _pads(manifest) if manifest is not None else {}
        self._groups = manifest.groups if manifest is not None else ()

    def real(self, row: Mapping[str, Any], length: Any) -> dict[str, Any]:
        """Return one row of each feature with its real steps alone.

        Those are the first `length`; without it, text ends before "", numbers end before NaN, and before 0 or
        the pad value where a text with the same steps has ended.

        Raises:
            WrongType: `length` is no number of steps.
        """
        if length is not None and (isinstance(length, bool) or not isinstance(length, int) or length < 0):
            raise errors.WrongType(f"{LENGTHS}: a number of steps is wanted for each row", path=(LENGTHS,))
        cut = {name: _real(value, length) if name in self._pads else value for name, value in row.items()}
        for group in self._groups if length is None else ():
            self._follow_texts(group, row, cut)
        return cut

    def _follow_texts(self, group: Sequence[str], row: Mapping[str, Any], cut: dict[str, Any]) -> None:
        texts = (name for name in group if isinstance(cut.get(name), list))
        ends = {len(row[name]): len(cut[name]) for name in texts if len(cut[name]) < len(row[name])}
        for name in group:
            value = cut.get(name)
            if not isinstance(value, np.ndarray) or not value.ndim:
                continue
            end = ends.get(len(value))
            if end is not None and np.isin(value[end:], (0, self._pads.get(name, 0))).all():
                cut[name] = value[:end]


def _pads(manifest: Manifest) -> dict[str, float]:
    """Return the pad values of features with steps, without those that have "" among their labels."""
    inputs = manifest.signatures[PREDICT_SIGNATURE].inputs if manifest.decode is None else {}
    features = {name: manifest.features[name] for name in manifest.stepped if name in inputs}
    return {
        name: inputs[name].pad_value or 0
        for name, feature in features.items()
        if not isinstance(feature, Tokens) and not (isinstance(feature, Categories) and "" in feature.labels)
    }


def _real(row: Any, length: int | None) -> Any:
    if not isinstance(row, list | np.ndarray):
        return row
    if length is not None:
        return row[:length]
    if isinstance(row, list):
        end = len(row)
        while end and row[end - 1] == "":
            end -= 1
        return row if end == len(row) else row[:end]
    return _numbers(row) if row.dtype.kind == "f" else row


def _numbers(row: Array) -> Array:
    if not len(row) or not np.isnan(row[-1]).all():
        return row
    real = np.flatnonzero(~np.isnan(row.reshape(len(row), -1)).all(axis=1))
    return row[: int(real[-1]) + 1 if len(real) else 0]
