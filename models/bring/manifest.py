"""The manifest of a user's own model, by its contract and by the Keras inputs and outputs matched with it."""

from collections.abc import Mapping
from types import MappingProxyType

from seqserve.models.bring.contract import Contract, ContractText, ContractTokens
from seqserve.models.bring.keras_file import Port
from seqserve.models.bring.matching import Matching, list_ports
from seqserve.models.bring.model_file import ModelFile
from seqserve.models.config import ConfigInvalid
from seqserve.models.manifest import AHEAD, Identity, build_manifest, input_tensor, output_tensor, row_tensor
from seqserve.service.contract.manifest import (
    PREDICT_SIGNATURE,
    Categories,
    Feature,
    Head,
    Limits,
    Manifest,
    MaskInput,
    Signature,
    Tensor,
    Tokens,
    has_steps,
)

BUCKETS = (8, 16, 32, 64, 128)
CHARACTERS = 2000
"""The longest text, unless the contract says otherwise."""
ONE_SIZE = (
    "sequences of a row are padded to one size: build the model again with None, or one size, in the place "
    "of both (the weights fit, set_weights(old.get_weights()), unless a layer counts steps)"
)


def contract_manifest(
    contract: Contract,
    version: int,
    file: ModelFile,
    matching: Matching,
    pad: float,
    tokens: Mapping[str, Tokens] = MappingProxyType({}),
) -> Manifest:
    """Return the manifest; it has no mask unless the model takes one as an input.

    Args:
        pad: fills the padding of features other than categories, unless the contract says what does.
        tokens: by feature of that kind, what its vocabulary makes it.

    Raises:
        ConfigInvalid: time axis, buckets, padding or limits contradict each other.
    """
    _check_static(contract, matching)
    buckets = _buckets(contract, file, matching)
    longest = max(buckets, default=0)
    steps = contract.limits.sequence_steps or longest
    if steps > longest:
        shown = list_ports(list(matching.features.values()))
        raise ConfigInvalid(
            f"limits.sequence_steps: {steps} is above the last bucket, {longest}; the model has {shown}"
        )
    features = contract.manifest_features(tokens)
    inputs = {
        name: _input(features[name], contract.features[name].pad_value, port, pad)
        for name, port in matching.features.items()
    }
    if matching.mask is not None and matching.mask_name is not None:
        inputs[matching.mask_name] = _mask_tensor(matching.mask)
    heads = contract.manifest_heads()
    outputs = {name: _output(head, file.outputs[matching.heads[name]]) for name, head in heads.items()}
    return build_manifest(
        Identity(contract.name, version, buckets, contract.card),
        {PREDICT_SIGNATURE: Signature(inputs=inputs, outputs=outputs)},
        mask=MaskInput(input=matching.mask_name) if matching.mask_name is not None else "none",
        padding=contract.padding or "right",
        features=features,
        heads=heads,
        limits=Limits(
            sequence_steps=steps if set(contract.stepped) - set(tokens) else None,
            text_characters=_characters(contract),
            text_pieces=_pieces(contract, longest),
        ),
    )


def with_least(contract: Contract, manifest: Manifest, matching: Matching) -> Manifest:
    """Return the manifest, its masks known, with the shortest sequence.

    That is the contract's; else the fixed time axis of a model that does not know padding from steps.
    """
    steps = [name for name in contract.stepped if not isinstance(contract.features[name], ContractTokens)]
    ports = [matching.features[name] for name in steps]
    is_fixed = any(port.shape[1] is not None for port in ports)
    masked = set(manifest.masking_inputs)
    streams = [stream for stream in manifest.groups if set(steps).intersection(stream)]
    knows_padding = manifest.mask_input is not None or all(masked.intersection(each) for each in streams)
    least = contract.limits.sequence_least
    if least is None and is_fixed and not knows_padding:
        least = manifest.buckets[0]
    limits = manifest.limits.model_copy(update={"sequence_least": least})
    if least is not None and not steps:
        raise ConfigInvalid(f"limits.sequence_least: {least}, but no feature has steps; leave it out")
    if least is not None and least > (limits.sequence_steps or 0):
        raise ConfigInvalid(
            f"limits.sequence_least: {least} is above the longest sequence, {limits.sequence_steps}"
        )
    return manifest.model_copy(update={"limits": limits})


def _characters(contract: Contract) -> int | None:
    kinds = (ContractText, ContractTokens)
    has_text = any(isinstance(feature, kinds) for feature in contract.features.values())
    if contract.limits.text_characters is not None and not has_text:
        raise ConfigInvalid("limits.text_characters: the contract has no feature of kind text or tokens")
    return contract.limits.text_characters or (CHARACTERS if has_text else None)


def _pieces(contract: Contract, longest: int) -> int | None:
    has_tokens = any(isinstance(feature, ContractTokens) for feature in contract.features.values())
    given = contract.limits.text_pieces
    if given is not None and not has_tokens:
        raise ConfigInvalid("limits.text_pieces: the contract has no feature of kind tokens")
    if given is not None and given > longest:
        raise ConfigInvalid(f"limits.text_pieces: {given} is above the last bucket, {longest}")
    return given or (longest if has_tokens else None)


def _buckets(contract: Contract, file: ModelFile, matching: Matching) -> tuple[int, ...]:
    """Return the contract's buckets, or the one bucket that a fixed time axis leaves; none without steps."""
    ports = [matching.features[name] for name in contract.stepped]
    if not ports:
        if contract.buckets is not None:
            raise ConfigInvalid(
                f"buckets: {list(contract.buckets)}, but no feature has steps to be padded; leave it out"
            )
        return ()
    fixed = {port.shape[1] for port in ports} - {None}
    _check_static(contract, matching)
    if len(fixed) > 1:
        raise ConfigInvalid(
            f"features: the model's time axes are fixed at different sizes, {list_ports(ports)}, and "
            f"{ONE_SIZE}"
        )
    for size in fixed:
        _check_fixed(contract, file, size, list_ports(ports))
        return (int(size or 0),)
    if contract.padding == "left" and len(contract.buckets or ()) != 1:
        raise ConfigInvalid(
            f"padding: left is for a fixed time axis, the model has {list_ports(ports)}: give "
            "the one length that it was trained with, as buckets = [50]"
        )
    return contract.buckets or BUCKETS


def _check_static(contract: Contract, matching: Matching) -> None:
    """Refuse the width of a value of the whole sequence, (batch, k), taken for k steps."""
    timed = {name: matching.features[name] for name in contract.stepped}
    axes = {port.shape[1] for port in timed.values()}
    for name, port in timed.items():
        size = port.shape[1]
        if len(port.shape) == 2 and size is not None and (size == 1 or len(axes) > 1):
            feature, others = contract.features[name], [one for one in timed.values() if one != port]
            width = f" and width = {size}" if feature.kind == "numbers" and size > 1 else ""
            beside = f", and {list_ports(others)} another" if others else ""
            other = f". Where both are sequences, {ONE_SIZE}" if size > 1 and None not in axes else ""
            raise ConfigInvalid(
                f"features.{name}: {feature.kind} have one value a step, and input {port} of the model would "
                f'have {size} steps{beside}: per = "sequence"{width} where it has one value a sequence{other}'
            )


def _check_fixed(contract: Contract, file: ModelFile, size: int | None, shown: str) -> None:
    if contract.buckets not in (None, (size,)):
        raise ConfigInvalid(
            f"buckets: {list(contract.buckets or ())}, but the model's time axis is fixed, "
            f"{shown}: leave buckets out, or [{size}]"
        )
    may_be_shorter = (
        file.maybe_masks() or contract.masks or contract.mask_input or contract.limits.sequence_least
    )
    if contract.padding is None and may_be_shorter:
        raise ConfigInvalid(
            f'padding: the model\'s time axis is fixed, {shown}: say padding = "left" if its '
            "training rows were padded in front (pad_sequences' default, padding='pre'), or "
            "padding = \"right\" if behind (padding='post')"
        )


def _mask_tensor(port: Port) -> Tensor:
    """Return the input of the mask itself, or of the lengths where the model takes one number a row."""
    is_mask = len(port.shape) == 2 and port.shape[1] != 1
    return Tensor(dtype="bool", axes=("batch", "time")) if is_mask else row_tensor("int32")


def _input(feature: Feature, pad: float | None, port: Port, likely: float) -> Tensor:
    if isinstance(feature, Tokens):
        pad = feature.special_ids.pad
    elif pad is None and not isinstance(feature, Categories):
        pad = likely
    return input_tensor(feature, pad or 0, has_columns=len(port.shape) == 2 + has_steps(feature))


def _output(head: Head, port: Port) -> Tensor:
    values = len(port.shape) - 1 - len(AHEAD[head.per])
    return output_tensor(head, *("unit", "level")[:values])
