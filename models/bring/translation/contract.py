"""The contract file of a translator that was not trained here, in TOML: its parts and its two vocabularies.

Files are named relative to what is exported: MODEL's folder, or MODEL itself where it is one.
"""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from seqserve.models.bring.words import Piece, Place, Table, TextWords, Words
from seqserve.models.config import LONGEST_OUTPUT, Name, Width
from seqserve.service.contract.manifest import Languages

MOST_EXAMPLES = 100


class Source(TextWords):
    """The text that goes in."""

    length: Width | None = None  # each row is padded to it, as in training: where padding is not masked
    padding: Literal["right", "left"] = "right"
    reverse: bool = False  # the model reads sources from their end
    ids: str | None = None  # a function of the --import file, texts to ids: compared with ours


class Target(Words):
    """The text that comes out."""

    start: Piece | None = None  # what the first step is given; found where it is written as usual
    end: Piece | None = None
    length: Annotated[int, Field(ge=1, le=LONGEST_OUTPUT)] = 80  # the longest output unless a caller says


class Part(Table):
    """Where the encoder is, or one step of the decoder."""

    file: str | None = None
    layer: str | None = None  # a model within the file
    signature: str | None = None  # a function of a SavedModel


class EncoderInputs(Table):
    """Which input of the encoder takes the source; others begin as zeros."""

    ids: Place | None = None


class EncoderOutputs(Table):
    """Which outputs of the encoder begin the decoder's states, and which of them each step reads."""

    states: tuple[Place, ...] | None = None
    memory: tuple[Place, ...] | None = None


class Encoder(Part):
    """The encoder; what is left out is found by shape."""

    inputs: EncoderInputs = EncoderInputs()
    outputs: EncoderOutputs = EncoderOutputs()


class DecoderInputs(Table):
    """Which inputs of the decoder take the last word, its states, the encoder's memory and the mask."""

    word: Place | None = None
    states: tuple[Place, ...] | None = None
    memory: tuple[Place, ...] | None = None
    mask: Place | None = None


class DecoderOutputs(Table):
    """Which outputs of the decoder score the next word, go on as its states, and weigh the source."""

    scores: Place | None = None
    states: tuple[Place, ...] | None = None
    weights: Place | None = None  # of a model with both inputs: a layer's name


class Decoder(Part):
    """One step of the decoder; what is left out is found by shape."""

    inputs: DecoderInputs = DecoderInputs()
    outputs: DecoderOutputs = DecoderOutputs()
    scores: Literal["logits", "probabilities"] | None = None  # by trial if absent
    initial: Literal["encoder", "zeros"] = "encoder"  # where the first states come from


class TranslationExample(Table):
    """A text, and its translation by one's own loop."""

    source: Annotated[str, Field(min_length=1)]
    expected: str | None = None


class Limits(Table):
    """What a caller may send."""

    text_characters: Width = 2000


class Sizes(Table):
    """What a row may write, by the texts of --shortlist-from: common pieces, and partners of each piece."""

    common: Width = 1024
    partners: Width = 64


class TranslationContract(Table):
    """The whole file."""

    name: Name
    task: Literal["translation"]
    function: str | None = None  # of the --import file: MODEL's path to (encode, advance)
    file: str | None = None  # a Keras file or a SavedModel; MODEL itself if absent
    signature: str | None = None  # of a SavedModel that takes and returns strings
    encoder: Encoder | None = None
    decoder: Decoder = Decoder()
    source: Source
    target: Target
    languages: Languages | None = None
    buckets: tuple[Width, ...] | None = None
    max_beams: Annotated[int, Field(ge=1, le=32)] = 8
    shortlist: Sizes = Sizes()
    limits: Limits = Limits()
    examples: Annotated[tuple[TranslationExample, ...], Field(max_length=MOST_EXAMPLES)] = ()
    card: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check(self) -> "TranslationContract":
        if self.buckets is not None and (not self.buckets or list(self.buckets) != sorted(set(self.buckets))):
            raise ValueError("buckets: ascending, at least one")
        if (self.source.kind == "none") != (self.target.kind == "none"):
            raise ValueError('source.kind and target.kind: both are "none", or neither')
        if self.source.length is not None and self.buckets not in (None, (self.source.length,)):
            raise ValueError(
                f"buckets: {list(self.buckets or ())}, but source.length is {self.source.length}"
            )
        if self.shortlist.common < 2 * self.max_beams:
            raise ValueError(
                f"shortlist.common: {self.shortlist.common} is less than twice max_beams, {self.max_beams}"
            )
        if self.function is not None and (self.encoder is not None or self.file is not None):
            raise ValueError("function: it returns both parts; leave out file and [encoder]")
        return self
