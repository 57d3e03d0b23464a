"""`manifest.json`: what a model version says about itself. Unknown fields are kept.

A manifest that contradicts itself is refused on loading, by `ManifestInvalid`, which names the field: each
part checks itself here, and `consistency` checks the parts against each other.
"""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, Field, model_serializer, model_validator

from seqserve.service.contract.consistency import check_consistency
from seqserve.service.contract.part import Part
from seqserve.service.contract.shortlist import Shortlist
from seqserve.service.contract.texts import Text, TextHead

FILE_NAME = "manifest.json"
SCHEMA_VERSION = 1
"""The only schema that is read and written."""
PREDICT_SIGNATURE = "serving_default"
"""The signature that a sequence model is called by: TensorFlow Serving's own default."""
STEP_SIGNATURE = "step"
"""The signature that advances a recurrent sequence model by one event."""
MANIFEST_SIGNATURE = "manifest"

Dtype = Literal["bool", "int32", "int64", "float32", "string"]
Positive = Annotated[int, Field(ge=1)]


def _distinct(labels: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(labels)) != len(labels):
        twice = next(label for place, label in enumerate(labels) if label in labels[:place])
        raise ValueError(f"labels are not distinct: {twice!r} is there twice")
    return labels


def _known_schema(version: int) -> int:
    if version != SCHEMA_VERSION:
        raise ValueError(f"this seqserve reads schema {SCHEMA_VERSION}, not {version}")
    return version


Extent = Literal["step", "sequence"]
"""What one value of a feature is given for."""
Labels = Annotated[tuple[str, ...], Field(min_length=1), AfterValidator(_distinct)]


class Tensor(Part):
    """One input or output: its dtype, its named axes, and what fills the padded cells of an input."""

    dtype: Dtype
    axes: tuple[str, ...]
    pad_value: bool | int | float | None = None

    @model_validator(mode="after")
    def _check(self) -> "Tensor":
        pad = 0 if self.pad_value is None else self.pad_value
        if self.dtype in ("int32", "int64") and not (
            pad == int(pad) and abs(pad) < 2 ** int(self.dtype[3:]) / 2
        ):
            raise ValueError(f"pad_value {pad} is no {self.dtype}")
        return self


class Signature(Part):
    """A callable of the SavedModel. `state`: a step signature's state tensors, their last axis the units."""

    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]
    state: dict[str, Annotated[tuple[Positive, ...], Field(min_length=1)]] | None = None

    @model_validator(mode="after")
    def _check(self) -> "Signature":
        for name in self.state or ():
            for side in ("inputs", "outputs"):
                tensor = getattr(self, side).get(name)
                if tensor is None or (tensor.dtype, tensor.axes) != ("float32", ("batch", "unit")):
                    raise ValueError(f"state.{name}: {side} has no such float32 (batch, unit)")
        for name, tensor in self.inputs.items():
            if self.state is not None and "time" in tensor.axes:
                raise ValueError(f"inputs.{name}: has a time axis, and a step is one event")
        return self


class MaskInput(Part):
    """An input says which steps are real: a bool (batch, time) mask, or int lengths (batch)."""

    input: str


class Option(Part):
    """The request option that feeds an input. Axes [batch]: per row; []: one value for the batch."""

    option: Literal["temperature", "top_k", "seed", "max_length", "beam_size", "length_penalty", "alignment"]
    default: int | float
    minimum: int | float
    maximum: int | float

    @model_validator(mode="after")
    def _check(self) -> "Option":
        if not self.minimum <= self.default <= self.maximum:
            raise ValueError(f"default {self.default} is outside {self.minimum} to {self.maximum}")
        return self


class SpecialIds(Part):
    """The vocabulary's ids that are not text; null where it has no such id."""

    pad: int = 0
    unknown: int | None = 1
    start: int | None = 2
    end: int | None = 3

    @model_serializer
    def _all(self) -> dict[str, Any]:
        return dict(self)  # a null as well: left out, it would be read back as the default


class Tokens(Part):
    """Text, cut into pieces by a vocabulary that travels with the version."""

    kind: Literal["tokens"] = "tokens"
    tokenizer: str  # a file, relative to assets/: a vocabulary if it ends in .json, else SentencePiece
    special_ids: SpecialIds = SpecialIds()
    normalization: str = "nmt_nfkc"  # done by the tokenizer itself
    add_start: bool = False  # the start-of-sentence id opens every row
    add_end: bool = True  # the end-of-sentence id closes every row

    @model_validator(mode="after")
    def _check(self) -> "Tokens":
        for side in ("start", "end"):
            if getattr(self, f"add_{side}") and getattr(self.special_ids, side) is None:
                raise ValueError(f"add_{side} is true and special_ids.{side} is null")
        return self


class Categories(Part):
    """Labels, one a step or one a sequence; a label's id is its place in `labels` plus `first_id`."""

    kind: Literal["categories"] = "categories"
    labels: Labels
    first_id: int = 0
    unknown: Literal["reject", "map"] = "reject"
    unknown_id: int | None = None
    per: Extent = "step"

    @model_validator(mode="after")
    def _check(self) -> "Categories":
        if (self.unknown == "map") != (self.unknown_id is not None):
            raise ValueError("unknown_id goes with unknown: map, and only with it")
        return self


class Numbers(Part):
    """Numbers, `width` columns a step or a sequence, standardized as (x - mean) / scale per column."""

    kind: Literal["numbers"] = "numbers"
    width: Positive = 1
    mean: tuple[float, ...]
    scale: tuple[float, ...]
    columns: tuple[str, ...] = ()
    units: tuple[str, ...] = ()
    per: Extent = "step"

    @model_validator(mode="after")
    def _check(self) -> "Numbers":
        for name in ("mean", "scale"):
            if len(getattr(self, name)) != self.width:
                raise ValueError(f"{name} has {len(getattr(self, name))} entries, width is {self.width}")
        for name in ("columns", "units"):
            if len(getattr(self, name)) not in (0, self.width):
                raise ValueError(f"{name} has {len(getattr(self, name))} entries, width is {self.width}")
        if not all(self.scale):
            raise ValueError("scale has a zero")
        return self


class Elapsed(Part):
    """Time between events, never negative: since the previous event, or up to the last one."""

    kind: Literal["elapsed"] = "elapsed"
    unit: Literal["milliseconds", "seconds", "minutes", "hours", "days"]
    origin: Literal["previous", "last"] = "previous"
    transform: Literal["none", "log1p"] = "none"
    scale: Annotated[float, Field(gt=0)] = 1.0  # after the transform: transform(x) / scale


Feature = Annotated[Tokens | Text | Categories | Numbers | Elapsed, Field(discriminator="kind")]
Per = Literal["sequence", "step", "horizon"]


def has_steps(feature: BaseModel) -> bool:
    """Tell whether a feature has a value a step, and not one for the whole sequence."""
    return not isinstance(feature, Text) and getattr(feature, "per", "step") == "step"


class Softmax(Part):
    """One label out of several. `temperature` divides logits, or log p where scores are probabilities."""

    kind: Literal["softmax"] = "softmax"
    labels: Labels
    scores: Literal["logits", "probabilities"]
    temperature: Annotated[float, Field(gt=0)] | None = None
    per: Literal["sequence", "step"] = "sequence"


class Sigmoid(Part):
    """Any of several labels, each where its probability reaches its threshold."""

    kind: Literal["sigmoid"] = "sigmoid"
    labels: Labels
    scores: Literal["logits", "probabilities"]
    thresholds: tuple[float, ...]
    per: Literal["sequence", "step"] = "sequence"

    @model_validator(mode="after")
    def _check(self) -> "Sigmoid":
        if len(self.thresholds) != len(self.labels):
            raise ValueError(f"thresholds has {len(self.thresholds)} entries for {len(self.labels)} labels")
        return self


class Numeric(Part):
    """A value in a unit: inverse(output * scale + mean). Quantile levels are the output's last axis."""

    kind: Literal["numeric"] = "numeric"
    unit: str = ""
    columns: tuple[str, ...] = ()
    inverse: Literal["none", "expm1"] = "none"
    mean: tuple[float, ...] = (0.0,)
    scale: tuple[float, ...] = (1.0,)
    minimum: float | None = None  # what the quantity can never be below, as 0 for a time
    quantiles: tuple[float, ...] = ()
    per: Per = "sequence"

    @model_validator(mode="after")
    def _check(self) -> "Numeric":
        width = max(1, len(self.columns))
        for name in ("mean", "scale"):
            if len(getattr(self, name)) != width:
                raise ValueError(f"{name} has {len(getattr(self, name))} entries, the head {width} columns")
        if not all(self.scale):
            raise ValueError("scale has a zero")
        if list(self.quantiles) != sorted({q for q in self.quantiles if 0 < q < 1}):
            raise ValueError("quantiles ascend between 0 and 1")
        if self.quantiles and 0.5 not in self.quantiles:
            raise ValueError("quantiles hold 0.5, the value")
        return self


Head = Annotated[Softmax | Sigmoid | Numeric | TextHead, Field(discriminator="kind")]


class Decode(Part):
    """How a translation model is asked to decode, and what it can do.

    `tokenizer` names the target's vocabulary, as `Tokens.tokenizer` does; without it the two share one.
    Where text comes back, not ids, there are no lengths and no vocabulary.
    """

    signatures: Annotated[dict[Literal["greedy", "beam", "sample"], str], Field(min_length=1)]
    max_beams: Positive = 1
    default_length: Positive | None = None
    max_length: Positive | None = None
    tokenizer: str | None = None
    special_ids: SpecialIds = SpecialIds()  # the target's; absent without a tokenizer: those of the text
    shortlist: Shortlist | None = None  # none: every piece is a candidate

    @model_validator(mode="after")
    def _check(self) -> "Decode":
        if self.default_length and self.max_length and self.default_length > self.max_length:
            raise ValueError(f"default_length {self.default_length} is above max_length {self.max_length}")
        return self


class Languages(Part):
    """What a translation model translates from and to, as BCP 47 tags: `en`, `pt-BR`."""

    source: Annotated[str, Field(min_length=1)]
    target: Annotated[str, Field(min_length=1)]


class Limits(Part):
    """What is refused before it costs anything: characters, then pieces, or steps."""

    text_characters: Positive | None = None
    text_pieces: Positive | None = None
    sequence_steps: Positive | None = None
    sequence_least: Positive | None = None  # the shortest sequence in steps; 1 where absent


class Example(Part):
    """A golden example: a REST body and the items it must be answered with."""

    request: dict[str, Any]
    items: list[dict[str, Any]]


class Tolerance(Part):
    """How far a golden answer may be off, absolutely and relatively, by class of device."""

    cpu: float = 1e-4
    gpu: float = 5e-3


class Manifest(Part):
    """A model version's own description; see `docs/manifest.md` for each field."""

    schema_version: Annotated[int, AfterValidator(_known_schema)] = SCHEMA_VERSION
    task: Annotated[str, Field(min_length=1)]  # which are served, and what else each needs: core/tasks.py
    name: str
    version: Positive
    signatures: dict[str, Signature]
    mask: Literal["derived", "none"] | MaskInput = "derived"  # none: no value stands for "no step"
    # the inputs whose pad values the graph masks by, where mask is derived: one, or several with a mask each
    mask_from: str | tuple[str, ...] | None = None
    mask_where: Literal["any", "all"] | None = None  # which of several must be its pad value; any if absent
    streams: tuple[tuple[str, ...], ...] | None = None  # features that share their steps; all where absent
    padding: Literal["right", "left"] = "right"
    batching: Literal["shared", "single"] = "shared"
    options: dict[str, Option] = Field(default_factory=dict)
    features: Annotated[dict[str, Feature], Field(min_length=1)]
    heads: dict[str, Head] = Field(default_factory=dict)
    decode: Decode | None = None
    languages: Languages | None = None
    limits: Limits
    buckets: tuple[Positive, ...] = ()  # none where no input has a time axis
    examples: tuple[Example, ...] = ()
    tolerance: Tolerance = Tolerance()
    profile: dict[str, Any] | None = None
    card: dict[str, Any] | None = None
    files: dict[str, str] = Field(default_factory=dict)

    @property
    def mask_input(self) -> str | None:
        """The input that carries the mask or the lengths, if the graph does not derive it."""
        return self.mask.input if isinstance(self.mask, MaskInput) else None

    @property
    def stepped(self) -> tuple[str, ...]:
        """The features that have a value a step."""
        return tuple(name for name, feature in self.features.items() if has_steps(feature))

    @property
    def groups(self) -> tuple[tuple[str, ...], ...]:
        """The features with steps, together those that share them; a text's pieces are its own steps."""
        if self.streams is not None:
            return self.streams
        texts = tuple((name,) for name in self.stepped if isinstance(self.features[name], Tokens))
        others = tuple(name for name in self.stepped if not isinstance(self.features[name], Tokens))
        return (others, *texts) if others else texts

    @property
    def masking_inputs(self) -> tuple[str, ...]:
        """The features whose pad value means "no step" to the graph; none where there is none."""
        if self.mask != "derived":
            return ()
        if self.mask_from is None:
            return self.stepped[:1]
        return (self.mask_from,) if isinstance(self.mask_from, str) else self.mask_from

    @property
    def is_raw(self) -> bool:
        """Whether nothing that goes in has a time axis, and so nothing is padded: raw text above all."""
        return not self.stepped

    @property
    def serving_signatures(self) -> list[str]:
        """The signatures that answer requests."""
        if self.decode is not None:
            return sorted(set(self.decode.signatures.values()))
        return [PREDICT_SIGNATURE]

    @model_validator(mode="after")
    def _check(self) -> "Manifest":
        if (self.task == "translation") != (self.decode is not None):
            raise ValueError("decode goes with task: translation, and only with it")
        if self.task == "sequence" and not self.heads:
            raise ValueError("heads: a sequence model has at least one")
        if list(self.buckets) != sorted(set(self.buckets)) or bool(self.buckets) == self.is_raw:
            raise ValueError("buckets: ascending, at least one; none where no feature has steps")
        if self.padding == "left" and len(self.buckets) != 1:
            raise ValueError("padding: left is for a fixed time axis, which is one bucket")
        for name in self.masking_inputs:
            if name not in self.features:
                raise ValueError(f"mask_from: {name!r} is no feature")
        if self.decode is not None and not {"special_ids", "tokenizer"} & self.decode.model_fields_set:
            self._share_special_ids(self.decode)
        check_consistency(self)
        return self

    def _share_special_ids(self, decode: Decode) -> None:
        """Give the output the special ids of the text that goes in: one vocabulary is both."""
        shared = (text.special_ids for text in self.features.values() if isinstance(text, Tokens))
        filled = decode.model_copy(update={"special_ids": next(shared, decode.special_ids)})
        object.__setattr__(self, "decode", filled)  # frozen, but not before its own validator has ended
