"""The codec of sequence models: features to a row, heads to labels and values."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from seqserve.service import errors
from seqserve.service.contract.features import NO_FILES, Files, SequenceEncoder
from seqserve.service.contract.heads import answer_head, answers, by_word
from seqserve.service.contract.items import HeadAnswer, PredictBody, Prediction
from seqserve.service.contract.manifest import PREDICT_SIGNATURE, Head, Manifest
from seqserve.service.contract.padding import Array, Row
from seqserve.service.contract.texts import TextHead
from seqserve.service.core.doubts import HIGH_UNKNOWN, is_strange
from seqserve.service.core.options import Given, check_range, option_inputs
from seqserve.service.core.types import Batch, BatchOptions, Encoded, Outputs, RowOutputs

MOST_LABELS = 1000
MOST_HEADS = 1000


class PredictCodec:
    """Encodes sequences and decodes heads as one manifest says."""

    def __init__(self, manifest: Manifest, files: Files = NO_FILES) -> None:
        self._manifest = manifest
        self._encoder = SequenceEncoder(manifest, PREDICT_SIGNATURE, files)

    def plan(self, body: PredictBody) -> "PredictPlan":
        """Check top_k, heads and seed."""
        check_range("top_k", body.top_k, 1, MOST_LABELS)
        wanted = self._manifest.heads if body.heads is None else self._chosen(body.heads)
        # a model that draws nothing at random gives the same answer for any seed
        seed = Given(body.seed, ("seed",), body.seed)
        rows, shared = option_inputs(self._manifest, PREDICT_SIGNATURE, {"seed": seed})
        return PredictPlan(self._manifest, self._encoder, wanted, body.top_k, rows, shared, body.sequences)

    def _chosen(self, names: Sequence[str]) -> dict[str, Head]:
        if len(names) > MOST_HEADS:
            message = f"heads has {len(names)} entries, more than the limit of {MOST_HEADS}"
            raise errors.OptionOutOfRange(message, path=("heads",))
        for place, name in enumerate(names):
            if name not in self._manifest.heads:
                known = ", ".join(self._manifest.heads)
                raise errors.UnknownHead(
                    f"no head {name[:60]!r}; the model has {known}", path=("heads", place)
                )
        if not names:
            raise errors.UnknownHead("heads is empty; leave it out for all", path=("heads",))
        return {name: self._manifest.heads[name] for name in names}


@dataclass(frozen=True, slots=True)
class PredictPlan:
    """A checked request to a sequence model."""

    manifest: Manifest
    encoder: SequenceEncoder
    heads: Mapping[str, Head]
    top_k: int
    row_options: Mapping[str, Array]
    batch_options: BatchOptions
    items: Sequence[dict[str, Any]]

    @property
    def signature(self) -> str:
        """Sequence models answer by the default signature."""
        return PREDICT_SIGNATURE

    def encode(self, item: dict[str, Any]) -> Encoded:
        """Return a sequence's row; see `SequenceEncoder.encode`."""
        encoded = self.encoder.encode(item)
        row = Row({**encoded.row.inputs, **self.row_options}, encoded.row.length)
        profile, vocabularies = self.manifest.profile or {}, self.encoder.vocabularies
        strange = any(is_strange(vocabularies[n], *text, profile) for n, text in encoded.texts.items())
        return Encoded(row, encoded, (*encoded.warnings, *[HIGH_UNKNOWN] * strange))

    def decode(self, encoded: Encoded, outputs: Outputs) -> Prediction:
        """Return the answers of the heads asked for."""
        source = encoded.source
        try:
            heads = {
                name: by_word(self._answer(name, head, encoded, outputs), source.words)
                for name, head in self.heads.items()
            }
        except ValueError as error:
            raise errors.BackendFailed(f"the model's answer breaks its manifest: {error}") from error
        return Prediction(heads, encoded.warnings, source.details or None)

    def _answer(self, name: str, head: Head, encoded: Encoded, outputs: Outputs) -> HeadAnswer:
        """Return a head's answer; raises ValueError where the output is not the head's."""
        if isinstance(outputs, RowOutputs):
            together = _together(name, head, outputs.batch)
            if together is not None:
                return together(outputs.row, self.top_k)
        return answer_head(head, outputs[name], encoded.row.length, self.manifest.padding, self.top_k)


def _together(name: str, head: Head, batch: Batch) -> Callable[[int, int], HeadAnswer] | None:
    """Return what answers the rows of a batch, worked out for all of them the first time that one is asked.

    None: they are to be answered one by one, as the head is not of that kind, or some row is wrong: each says
    so for itself.
    """
    if isinstance(head, TextHead) or head.per != "sequence":
        return None
    if batch.known is None:
        batch.known = {}
    known: dict[str, Callable[[int, int], HeadAnswer] | None] = batch.known
    if name not in known:
        try:
            known[name] = answers(head, batch.outputs[name])
        except ValueError:
            known[name] = None
    return known[name]
