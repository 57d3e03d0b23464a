"""What the user of an exported model should know: what was matched with what, and which warnings apply."""

from seqserve.models.bring.contract import Contract
from seqserve.models.bring.matching import Matching
from seqserve.models.bring.model_file import ModelFile
from seqserve.service.contract.manifest import PREDICT_SIGNATURE, Manifest

FAR = 100.0
"""A pad value that many deviations from the mean is out of the range of real data."""


def likely_collisions(manifest: Manifest) -> list[str]:
    """Warn of a step that callers may well send and that encodes to the pad value: it would be refused."""
    warnings = (_likely_collision(manifest, name) for name in manifest.masking_inputs)
    return [warning for warning in warnings if warning is not None]


def _likely_collision(manifest: Manifest, name: str) -> str | None:
    feature, pad = manifest.features[name], manifest.signatures[PREDICT_SIGNATURE].inputs[name].pad_value
    if feature.kind == "elapsed":
        step = [0.0] if pad == 0 else []
    elif feature.kind == "numbers" and abs(pad or 0) < FAR:
        raw = [mean + scale * (pad or 0) for mean, scale in zip(feature.mean, feature.scale, strict=True)]
        step = raw if all(round(value, 3) == value for value in raw) else []
    else:
        step = []
    if not step:
        return None
    shown = ", ".join(f"{value:g}" for value in step)
    return (
        f"features.{name}: a step of {shown} is the model's padding ({pad:g}), refused with PAD_COLLISION; "
        "where such steps are real, train with a mask value out of their range, or with lengths as an input"
    )


def unused_masking(file: ModelFile, manifest: Manifest) -> list[str]:
    """Warn of `Masking` layers where no feature's pad value makes the model drop a step."""
    if manifest.masking_inputs or not file.masked_values():
        return []
    layers = ", ".join(f"{name!r} ({value:g})" for name, value in file.masked_values().items())
    return [f"mask: the model has {layers}, but no feature's pad value alone makes it drop a step"]


def leak_advice(manifest: Manifest) -> str:
    """Return what helps where padding or neighbours change the answers, to be put behind what changes."""
    alone = "--allow-leak, which runs its rows one by one"
    if manifest.is_raw:
        return f"; compute each row by itself in the graph and save it again, or give {alone}"
    if len(manifest.buckets) == 1:
        return "; every row has the one length, so it is its neighbours: compute each row by itself"
    return (
        "; let the model mask its padding (Masking, mask_zero, or mask or lengths as an input, mask_input = "
        "NAME) and save it again; or, if training padded every row to one length, buckets = [LENGTH] and "
        f"padding = its side, or give {alone}"
    )


def matched_parts(contract: Contract, file: ModelFile, matching: Matching) -> list[tuple[str, str, str]]:
    """Return a row for each input and output: Keras' part, its shape, and the contract's part."""
    rows = [
        (f"input {port.name}", str(port.shape), f"features.{name}")
        for name, port in matching.features.items()
    ]
    if matching.mask is not None:
        rows.append((f"input {matching.mask.name}", str(matching.mask.shape), "mask_input"))
    for name, place in matching.heads.items():
        port = file.outputs[place]
        rows.append((f"output {place} {port.name}", str(port.shape), f"heads.{name}"))
    kinds: dict[str, str] = {f"features.{name}": e.kind for name, e in contract.features.items()}
    kinds |= {f"heads.{name}": f"{e.kind}, per {e.per}" for name, e in contract.heads.items()}
    return [
        (keras_part, shape, f"{ours} ({kinds[ours]})" if ours in kinds else ours)
        for keras_part, shape, ours in rows
    ]


def notes(manifest: Manifest, made_up: bool) -> list[str]:
    """Say how the model is masked and padded, and whether its examples were made up."""
    examples = ["examples: drawn from the features; give [[examples]] of real ones"] if made_up else []
    if manifest.is_raw:
        return ["nothing has steps, and nothing is padded", *examples]
    masking = (" and " if manifest.mask_where == "all" else ", ").join(manifest.masking_inputs)
    mask = f"derived from {masking}" if masking else str(manifest.mask_input or "none")
    buckets = ", ".join(map(str, manifest.buckets))
    lengths = [f"mask: {mask}; padding: {manifest.padding}; buckets: {buckets}"]
    if manifest.streams is not None:
        streams = "; ".join(", ".join(stream) for stream in manifest.streams)
        lengths += [f"steps of their own, which may differ in number: {streams}"]
    least = manifest.limits.sequence_least
    if least is not None:
        lengths += [
            f"sequences of fewer than {least} steps are refused; limits.sequence_least = 1 where training "
            "had shorter ones that were padded"
        ]
    return [*lengths, *examples]
