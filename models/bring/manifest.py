"""The manifest of a user's own model, by its contract and by the Keras inputs and outputs matched with it."""

from seqserve.models.bring.contract import Contract, ContractCategories, ContractText
from seqserve.models.bring.keras_file import Port
from seqserve.models.bring.matching import Matching, list_ports
from seqserve.models.bring.model_file import ModelFile
from seqserve.models.config import ConfigInvalid
from seqserve.models.manifest import AHEAD, Identity, build_manifest, input_tensor, output_tensor, row_tensor
from seqserve.service.contract.manifest import (
    PREDICT_SIGNATURE,
    Head,
    Limits,
    Manifest,
    MaskInput,
    Signature,
    Tensor,
)

BUCKETS = (8, 16, 32, 64, 128)
CHARACTERS = 2000
"""The longest text, unless the contract says otherwise."""


def contract_manifest(
    contract: Contract, version: int, file: ModelFile, matching: Matching, pad: float
) -> Manifest:
    """Return the manifest; it has no mask unless the model takes one as an input.

    Args:
        pad: fills the padding of features other than categories, unless the contract says what does.

    Raises:
        ConfigInvalid: time axis, buckets, padding or limits contradict each other.
    """
    buckets = _buckets(contract, matching)
    longest = max(buckets, default=0)
    steps = contract.limits.sequence_steps or longest
    if steps > longest:
        shown = list_ports(list(matching.features.values()))
        raise ConfigInvalid(
            f"limits.sequence_steps: {steps} is above the last bucket, {longest}; the model has {shown}"
        )
    inputs = {name: _input(contract, name, port, pad) for name, port in matching.features.items()}
    if matching.mask is not None and matching.mask_name is not None:
        inputs[matching.mask_name] = _mask_tensor(matching.mask)
    heads = contract.manifest_heads()
    outputs = {name: _output(head, file.outputs[matching.heads[name]]) for name, head in heads.items()}
    return build_manifest(
        Identity(contract.name, version, buckets, contract.card),
        {PREDICT_SIGNATURE: Signature(inputs=inputs, outputs=outputs)},
        mask=MaskInput(input=matching.mask_name) if matching.mask_name is not None else "none",
        padding=contract.padding or "right",
        features=contract.manifest_features(),
        heads=heads,
        limits=Limits(sequence_steps=steps or None, text_characters=_characters(contract)),
    )


def _characters(contract: Contract) -> int | None:
    has_text = any(isinstance(feature, ContractText) for feature in contract.features.values())
    if contract.limits.text_characters is not None and not has_text:
        raise ConfigInvalid("limits.text_characters: the contract has no feature of kind text")
    return contract.limits.text_characters or (CHARACTERS if has_text else None)


def _buckets(contract: Contract, matching: Matching) -> tuple[int, ...]:
    """Return the contract's buckets, or the one bucket that a fixed time axis leaves; none for text alone."""
    ports = [
        port
        for name, port in matching.features.items()
        if not isinstance(contract.features[name], ContractText)
    ]
    if not ports:
        if contract.buckets is not None:
            raise ConfigInvalid(f"buckets: {list(contract.buckets)}, but a text is not padded; leave it out")
        return ()
    fixed = {port.shape[1] for port in ports} - {None}
    _check_static(contract, matching)
    if len(fixed) > 1:
        raise ConfigInvalid(f"features: one time axis is expected, the model has {list_ports(ports)}")
    for size in fixed:
        _check_fixed(contract, size, list_ports(ports))
        return (int(size or 0),)
    if contract.padding == "left" and len(contract.buckets or ()) != 1:
        raise ConfigInvalid(
            f"padding: left is for a fixed time axis, the model has {list_ports(ports)}: give "
            "the one length that it was trained with, as buckets = [50]"
        )
    return contract.buckets or BUCKETS


def _check_static(contract: Contract, matching: Matching) -> None:
    """Refuse the values of a whole sequence, (batch, k), taken for k steps beside a real time axis."""
    timed = {name: port for name, port in matching.features.items() if port.dtype != "string"}
    flat = {name: port for name, port in timed.items() if len(port.shape) == 2 and port.shape[1] is not None}
    others = {port.shape[1] for name, port in timed.items() if name not in flat}
    for name, port in flat.items():
        beside = others or {one.shape[1] for other, one in flat.items() if other != name}
        if beside - {port.shape[1]}:
            columns = f" and width = {port.shape[1]}" if (port.shape[1] or 0) > 1 else ""
            raise ConfigInvalid(
                f"features.{name}: {contract.features[name].kind} give one value a step, but input {port} of "
                f"the model has no time axis like {list_ports([o for o in timed.values() if o != port])}: "
                f'per = "sequence"{columns} where it takes values of the whole sequence'
            )


def _check_fixed(contract: Contract, size: int | None, shown: str) -> None:
    if contract.buckets not in (None, (size,)):
        raise ConfigInvalid(
            f"buckets: {list(contract.buckets or ())}, but the model's time axis is fixed, "
            f"{shown}: leave buckets out, or [{size}]"
        )
    if contract.padding is None:
        raise ConfigInvalid(
            f'padding: the model\'s time axis is fixed, {shown}: say padding = "left" if its '
            "training rows were padded in front (pad_sequences' default, padding='pre'), or "
            "padding = \"right\" if behind (padding='post')"
        )


def _mask_tensor(port: Port) -> Tensor:
    """Return the input of the mask itself, or of the lengths where the model takes one number a row."""
    is_mask = len(port.shape) == 2 and port.shape[1] != 1
    return Tensor(dtype="bool", axes=("batch", "time")) if is_mask else row_tensor("int32")


def _input(contract: Contract, name: str, port: Port, likely: float) -> Tensor:
    feature = contract.features[name]
    pad = feature.pad_value
    if pad is None and not isinstance(feature, ContractCategories):
        pad = likely
    return input_tensor(feature, pad or 0, has_columns=len(port.shape) == 3)


def _output(head: Head, port: Port) -> Tensor:
    values = len(port.shape) - 1 - len(AHEAD[head.per])
    return output_tensor(head, *("unit", "level")[:values])
