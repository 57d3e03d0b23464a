"""A manifest before its version is written, for every recipe and for models brought from elsewhere.

Goldens, measured quality and hashes are added when the version is exported.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Required, TypedDict, Unpack

from seqserve.service.contract.manifest import (
    MANIFEST_SIGNATURE,
    PREDICT_SIGNATURE,
    Categories,
    Decode,
    Dtype,
    Feature,
    Head,
    Languages,
    Limits,
    Manifest,
    MaskInput,
    Numbers,
    Numeric,
    Option,
    Per,
    Signature,
    Tensor,
    Tokens,
    has_steps,
)
from seqserve.service.contract.texts import Text, TextHead

MANIFEST_OUTPUTS = {name: Tensor(dtype="string", axes=("file",)) for name in ("names", "contents")}
"""What the signature `manifest` returns."""
AHEAD: Mapping[Per, tuple[str, ...]] = {"sequence": (), "step": ("time",), "horizon": ("horizon",)}
"""The axes of a head's output between the batch and the values of one answer."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Which version it is, the lengths that its rows are padded to, and what is recorded beside it."""

    name: str
    version: int
    buckets: tuple[int, ...]
    card: dict[str, Any]
    profile: dict[str, Any] | None = None


class Parts(TypedDict, total=False):
    """What differs from kind to kind: fields of `Manifest`, which has the defaults of those left out."""

    features: Required[dict[str, Feature]]
    heads: dict[str, Head]
    mask: Literal["derived", "none"] | MaskInput
    mask_from: str | tuple[str, ...]
    padding: Literal["right", "left"]
    options: dict[str, Option]
    decode: Decode
    languages: Languages
    limits: Limits


def build_manifest(
    identity: Identity, signatures: Mapping[str, Signature], **parts: Unpack[Parts]
) -> Manifest:
    """Return the manifest of a translation model where `decode` is given, else of a sequence model.

    Args:
        signatures: those that answer requests; the signature `manifest` is added to them.
        parts: `limits` is the longest bucket where it is left out.

    Raises:
        pydantic.ValidationError: the parts contradict each other.
    """
    if "limits" not in parts:
        parts["limits"] = Limits(sequence_steps=identity.buckets[-1])
    own = Signature(inputs={}, outputs=MANIFEST_OUTPUTS)
    return Manifest(
        task="translation" if "decode" in parts else "sequence",
        name=identity.name,
        version=identity.version,
        signatures={**signatures, MANIFEST_SIGNATURE: own},
        buckets=identity.buckets,
        profile=identity.profile,
        card=identity.card,
        **parts,
    )


def predict_signatures(
    features: Mapping[str, Feature], heads: Mapping[str, Head], others: Mapping[str, Tensor]
) -> dict[str, Signature]:
    """Return the one signature of a sequence model that answers requests, under its name.

    Args:
        others: inputs that no feature feeds: a mask or lengths, and options.
    """
    inputs = {name: input_tensor(feature) for name, feature in features.items()}
    outputs = {name: output_tensor(head, *_value_axes(head)) for name, head in heads.items()}
    return {PREDICT_SIGNATURE: Signature(inputs={**inputs, **others}, outputs=outputs)}


def row_tensor(dtype: Dtype) -> Tensor:
    """Return an input of one value a row."""
    return Tensor(dtype=dtype, axes=("batch",))


def input_tensor(feature: Feature, pad_value: float = 0, has_columns: bool = True) -> Tensor:
    """Return the input that takes a feature: ids, numbers with an axis for their columns, or a text a row.

    One that has one value a sequence has no time axis and no padding.
    """
    if isinstance(feature, Text):
        return row_tensor("string")
    if not has_steps(feature):
        return _value_tensor(feature, has_columns)
    steps = ("batch", "time")
    if isinstance(feature, Tokens | Categories):
        return Tensor(dtype="int32", axes=steps, pad_value=int(pad_value))
    axes = (*steps, "unit") if isinstance(feature, Numbers) and has_columns else steps
    return Tensor(dtype="float32", axes=axes, pad_value=float(pad_value))


def _value_tensor(feature: Feature, has_columns: bool) -> Tensor:
    """Return the input of one value a sequence."""
    if not isinstance(feature, Numbers):
        return row_tensor("int32")
    return Tensor(dtype="float32", axes=("batch", *("unit",) * has_columns))


def output_tensor(head: Head, *values: str) -> Tensor:
    """Return the output that a head reads; `values` are the axes of one answer."""
    dtype: Dtype = "string" if isinstance(head, TextHead) else "float32"
    return Tensor(dtype=dtype, axes=("batch", *AHEAD[head.per], *values))


def _value_axes(head: Head) -> tuple[str, ...]:
    if not isinstance(head, Numeric):
        return ("label",)
    return ("column",) * bool(head.columns) + ("level",) * bool(head.quantiles)
