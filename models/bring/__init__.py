"""A user's own Keras model and its contract file made a version.

`python -m models export` calls `bring`. What does not fit is told, with the contract's field and the
model's input or output, before anything is written.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from seqserve.models.bring.contract import Contract, TakenCategories
from seqserve.models.bring.keras_file import KerasFile, Port, load_keras
from seqserve.models.bring.matching import Fit, fit, list_ports
from seqserve.models.bring.trial import draw_examples, masking_feature
from seqserve.models.config import ConfigInvalid
from seqserve.models.draft import Draft
from seqserve.models.manifest import AHEAD, Identity, build_manifest, input_tensor, output_tensor, row_tensor
from seqserve.service.contract.features import SequenceEncoder
from seqserve.service.contract.manifest import (
    PREDICT_SIGNATURE,
    Head,
    Limits,
    Manifest,
    MaskInput,
    Signature,
    Tensor,
)
from seqserve.service.errors import InvalidArgument

BUCKETS = (8, 16, 32, 64, 128)
FAR = 100.0
"""A pad value that many deviations from the mean is out of the range of real data."""


@dataclass(frozen=True, slots=True)
class Brought:
    """A version to be written; `table`: Keras' part, its shape, the contract's part; what else was found."""

    draft: Draft
    table: list[tuple[str, str, str]]
    found: list[str]
    warnings: list[str]


def bring(model: Path, contract: Contract, version: int, imports: Sequence[Path] = ()) -> Brought:
    """Load a model and fit it to its contract.

    Raises:
        ConfigInvalid: naming the field of the contract and the input or output of the model.
    """
    file = load_keras(model, imports)
    fitted = fit(contract, file)
    manifest, function = _manifest(contract, version, file, fitted), _function(file, fitted)
    masking = contract.mask_from
    if masking is None and fitted.mask is None and file.maybe_masks():
        masking = masking_feature(manifest, function)
    if masking is not None:
        manifest = manifest.model_copy(update={"mask": "derived", "mask_from": masking})
        _check_labels_kept(manifest, masking)
    _check_examples(contract, manifest)
    drawn = draw_examples(manifest, function, contract.examples)
    requests, probes = (
        [{"sequences": [sequence]} for sequence in sequences]
        for sequences in (contract.examples or drawn.clear, drawn.unclear)
    )
    functions = {PREDICT_SIGNATURE: function}
    draft = Draft(file.network, functions, manifest, {}, requests, probes, eager=functions)
    warnings = [*_collisions(manifest), *_unused_masking(file, masking), *drawn.warnings]
    return Brought(draft, _table(contract, file, fitted), _found(manifest, not contract.examples), warnings)


# --- the version ----------------------------------------------------------------------------------


def _manifest(contract: Contract, version: int, file: KerasFile, fitted: Fit) -> Manifest:
    buckets = _buckets(contract, fitted)
    steps = contract.limits.sequence_steps or buckets[-1]
    if steps > buckets[-1]:
        shown = list_ports(list(fitted.features.values()))
        raise ConfigInvalid(
            f"limits.sequence_steps: {steps} is above the last bucket, {buckets[-1]}; the model has {shown}"
        )
    inputs = {name: _tensor(contract, name, port, file) for name, port in fitted.features.items()}
    if fitted.mask is not None and fitted.mask_name is not None:
        is_mask = len(fitted.mask.shape) == 2 and fitted.mask.shape[1] != 1
        inputs[fitted.mask_name] = (
            Tensor(dtype="bool", axes=("batch", "time")) if is_mask else row_tensor("int32")
        )
    heads = contract.manifest_heads()
    outputs = {name: _output(head, file.outputs[fitted.heads[name]]) for name, head in heads.items()}
    return build_manifest(
        Identity(contract.name, version, buckets, contract.card),
        {PREDICT_SIGNATURE: Signature(inputs=inputs, outputs=outputs)},
        mask=MaskInput(input=fitted.mask_name) if fitted.mask_name is not None else "none",
        padding=contract.padding or "right",
        features=contract.manifest_features(),
        heads=heads,
        limits=Limits(sequence_steps=steps),
    )


def _buckets(contract: Contract, fitted: Fit) -> tuple[int, ...]:
    """Return the contract's, or the one that a fixed time axis is."""
    ports = list(fitted.features.values())
    fixed = {port.shape[1] for port in ports} - {None}
    if len(fixed) > 1:
        raise ConfigInvalid(f"features: one time axis is wanted, the model has {list_ports(ports)}")
    for size in fixed:
        if contract.buckets not in (None, (size,)):
            raise ConfigInvalid(
                f"buckets: {list(contract.buckets or ())}, but the model's time axis is fixed, "
                f"{list_ports(ports)}: leave buckets out, or [{size}]"
            )
        if contract.padding is None:
            raise ConfigInvalid(
                f'padding: the model\'s time axis is fixed, {list_ports(ports)}: say padding = "left" if its '
                "training rows were padded in front (pad_sequences' default, padding='pre'), or "
                "padding = \"right\" if behind (padding='post')"
            )
        return (int(size or 0),)
    if contract.padding == "left" and len(contract.buckets or ()) != 1:
        raise ConfigInvalid(
            f"padding: left is for a fixed time axis, the model has {list_ports(ports)}: give "
            "the one length that it was trained with, as buckets = [50]"
        )
    return contract.buckets or BUCKETS


def _tensor(contract: Contract, name: str, port: Port, file: KerasFile) -> Tensor:
    taken = contract.features[name]
    pad = taken.pad_value
    if pad is None and not isinstance(taken, TakenCategories):
        pad = next(iter(file.masked_values().values()), 0.0)
    return input_tensor(taken, pad or 0, has_columns=len(port.shape) == 3)


def _output(head: Head, port: Port) -> Tensor:
    values = len(port.shape) - 1 - len(AHEAD[head.per])
    return output_tensor(head, *("unit", "level")[:values])


def _function(file: KerasFile, fitted: Fit) -> Any:
    """Return the graph function: features and mask by name in, heads by name out."""
    given = {port.name: name for name, port in fitted.features.items()}
    if fitted.mask is not None and fitted.mask_name is not None:
        given[fitted.mask.name] = fitted.mask_name

    def predict(**inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        fed = [_shaped(inputs[given[port.name]], port) for port in file.inputs]
        outputs = keras.tree.flatten(file.network(fed, training=False))
        return {name: tf.cast(outputs[place], tf.float32) for name, place in fitted.heads.items()}

    return predict


def _shaped(values: tf.Tensor, port: Port) -> tf.Tensor:
    """Return a signature's input in the model's dtype, with its fixed axes and its last one of 1."""
    cast = tf.cast(values, port.dtype)
    wide = cast[..., None] if len(cast.shape) < len(port.shape) else cast
    return tf.ensure_shape(wide, port.shape)


# --- what a user should know ----------------------------------------------------------------------


def _check_labels_kept(manifest: Manifest, masking: str) -> None:
    feature = manifest.features[masking]
    if feature.kind != "categories":
        return
    pad = manifest.signatures[PREDICT_SIGNATURE].inputs[masking].pad_value
    ids = {feature.first_id + place: label for place, label in enumerate(feature.labels)}
    if pad in ids:
        raise ConfigInvalid(
            f"features.{masking}.first_id: label {ids[int(pad or 0)]!r} has the id {pad}, which the model "
            f"takes for padding; first_id = {int(pad or 0) + 1} if it was trained so"
        )
    if feature.unknown_id == pad:
        raise ConfigInvalid(
            f"features.{masking}.unknown_id: {pad} is padding to the model, it would drop such steps"
        )


def _check_examples(contract: Contract, manifest: Manifest) -> None:
    encoder = SequenceEncoder(manifest, PREDICT_SIGNATURE)
    for number, example in enumerate(contract.examples):
        try:
            encoder.encode(example)
        except InvalidArgument as error:
            place = ".".join(map(str, ("examples", number, *error.path)))
            raise ConfigInvalid(f"{place}: {error.message}") from error


def _collisions(manifest: Manifest) -> list[str]:
    """Warn of a step that someone may well send and that encodes to the pad value: it would be refused."""
    name = manifest.masking_input
    if name is None:
        return []
    feature, pad = manifest.features[name], manifest.signatures[PREDICT_SIGNATURE].inputs[name].pad_value
    if feature.kind == "elapsed":
        step = [0.0] if pad == 0 else []
    elif feature.kind == "numbers" and abs(pad or 0) < FAR:
        raw = [mean + scale * (pad or 0) for mean, scale in zip(feature.mean, feature.scale, strict=True)]
        step = raw if all(round(value, 3) == value for value in raw) else []
    else:
        step = []
    if not step:
        return []
    shown = ", ".join(f"{value:g}" for value in step)
    return [
        f"features.{name}: a step of {shown} is the model's padding ({pad:g}), refused with PAD_COLLISION; "
        "where such steps are real, train with a mask value out of their range, or with lengths as an input"
    ]


def _unused_masking(file: KerasFile, masking: str | None) -> list[str]:
    if masking is not None or not file.masked_values():
        return []
    layers = ", ".join(f"{name!r} ({value:g})" for name, value in file.masked_values().items())
    return [f"mask: the model has {layers}, but no feature's pad value alone makes it drop a step"]


def _table(contract: Contract, file: KerasFile, fitted: Fit) -> list[tuple[str, str, str]]:
    rows = [(f"input {port.name}", str(port.shape), f"features.{n}") for n, port in fitted.features.items()]
    if fitted.mask is not None:
        rows.append((f"input {fitted.mask.name}", str(fitted.mask.shape), "mask_input"))
    for name, place in fitted.heads.items():
        port = file.outputs[place]
        rows.append((f"output {place} {port.name}", str(port.shape), f"heads.{name}"))
    kinds: dict[str, str] = {f"features.{n}": e.kind for n, e in contract.features.items()}
    kinds |= {f"heads.{n}": f"{e.kind}, per {e.per}" for n, e in contract.heads.items()}
    return [
        (keras_part, shape, f"{ours} ({kinds[ours]})" if ours in kinds else ours)
        for keras_part, shape, ours in rows
    ]


def _found(manifest: Manifest, drawn: bool) -> list[str]:
    mask = (
        f"derived from {manifest.masking_input}"
        if manifest.masking_input
        else str(manifest.mask_input or "none")
    )
    buckets = ", ".join(map(str, manifest.buckets))
    examples = ["examples: drawn from the features; give [[examples]] of real ones"] if drawn else []
    return [f"mask: {mask}; padding: {manifest.padding}; buckets: {buckets}", *examples]
