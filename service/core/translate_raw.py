"""The codec of translators that take and return text itself, their vocabularies and whole loop in the graph.

Nothing but the text comes back, so there is no score, and nothing that a caller could steer.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from seqserve.service import errors
from seqserve.service.contract.items import TranslateBody, Translation
from seqserve.service.contract.manifest import Manifest
from seqserve.service.contract.padding import Row
from seqserve.service.contract.texts import text_input, text_output, words_in
from seqserve.service.core.types import BatchOptions, Encoded, Outputs

STEERING = ("beam_size", "n_best", "length_penalty", "max_length", "sampling", "alignment")
"""The options of a translation, but for `tokens`: the words between white space are known in any case."""
NEUTRAL = TranslateBody(texts=[])


class RawCodec:
    """Hands texts to one version's graph and its texts back."""

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest

    def plan(self, body: TranslateBody) -> "RawPlan":
        """Refuse every option that the graph knows nothing of."""
        for name in STEERING:
            if getattr(body, name) != getattr(NEUTRAL, name):
                raise errors.OptionOutOfRange(
                    f"{name} cannot be chosen: this model takes and returns text, and decodes inside its "
                    "graph in one way of its own, without scores or attention; leave it out",
                    path=(name,),
                )
        return RawPlan(self._manifest, body)


@dataclass(frozen=True, slots=True)
class RawPlan:
    """A checked request to such a translator."""

    manifest: Manifest
    body: TranslateBody

    @property
    def signature(self) -> str:
        """The only one that it decodes by."""
        return self.manifest.serving_signatures[0]

    @property
    def batch_options(self) -> BatchOptions:
        """There are none."""
        return ()

    @property
    def items(self) -> Sequence[str]:
        """The texts, in order."""
        return self.body.texts

    def encode(self, item: str) -> Encoded:
        """Return a text's row, as long as it has words; raises EmptyText, TextTooLong."""
        (feature,) = self.manifest.features
        tensor = text_input(item, self.manifest.limits.text_characters)
        return Encoded(Row({feature: tensor}, words_in(tensor)), item)

    def decode(self, encoded: Encoded, outputs: Outputs) -> Translation:
        """Return the text, with the words of both sides where they were asked for."""
        (head,) = self.manifest.heads
        try:
            text = text_output(outputs[head])
        except ValueError as error:
            raise errors.BackendFailed(f"the model's answer breaks its manifest: {error}") from error
        if not self.body.tokens:
            return Translation(text)
        words = tuple(encoded.source.split()), tuple(text.split())
        return Translation(text, source_tokens=words[0], target_tokens=words[1])
