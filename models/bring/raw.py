"""What `model.predict` was given and gave, in an `.npz`: read backwards into sequences and their answers.

It proves the graph, the padding and the origin of elapsed time; what labels and scales mean cannot be seen
from arrays that are already encoded.
"""

import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from seqserve.models.bring.contract import Contract
from seqserve.models.bring.expected import Expected
from seqserve.models.bring.keras_file import Port
from seqserve.models.bring.matching import Matching, list_ports
from seqserve.models.bring.model_file import ModelFile
from seqserve.models.bring.trial import Function
from seqserve.models.config import ConfigInvalid, unreadable
from seqserve.service.contract.heads import answer_head
from seqserve.service.contract.items import Prediction, answers_as_json
from seqserve.service.contract.manifest import (
    PREDICT_SIGNATURE,
    Categories,
    Elapsed,
    Feature,
    Head,
    Manifest,
    Numbers,
    Numeric,
)
from seqserve.service.contract.padding import Array

MOST_ROWS = 1000
"""Rows that are compared: the first ones."""
BATCH = 64
PADDED = 2
"""So many steps of the pad value at an end are padding; one may be a real step."""


@dataclass(frozen=True, slots=True)
class Raw:
    """The arrays of a file: by signature input, (rows, …); by head, (rows, …)."""

    file: Path
    inputs: Mapping[str, Array]
    outputs: Mapping[str, Array]


def read_raw(file: Path, model: ModelFile, matching: Matching) -> Raw:
    """Read an `.npz` whose arrays bear the names of the model's inputs and outputs, or of features and heads.

    Raises:
        ConfigInvalid: no such file, an array that is missing or has other axes, or rows of unequal number.
    """
    try:
        with np.load(file, allow_pickle=False) as loaded:
            arrays = {name: loaded[name] for name in loaded.files}
    except OSError as error:
        raise ConfigInvalid(f"--expect {unreadable(file, error).message}") from error
    except (ValueError, zipfile.BadZipFile) as error:  # NumPy's words advise to load what is unsafe
        raise ConfigInvalid(
            f"--expect {file}: it is no .npz of plain arrays, as np.savez writes of numbers and strings"
        ) from error
    ports = dict(matching.features)
    if matching.mask is not None and matching.mask_name is not None:
        ports[matching.mask_name] = matching.mask
    heads = {name: model.outputs[place] for name, place in matching.heads.items()}
    inputs = {name: _array(file, arrays, name, port) for name, port in ports.items()}
    outputs = {n: _array(file, arrays, n, p) for n, p in heads.items() if n in arrays or p.name in arrays}
    if not outputs:
        first = next(iter(heads))
        raise ConfigInvalid(
            f"--expect {file}: it has {', '.join(map(repr, arrays))} and none of the model's outputs, "
            f"{list_ports(list(heads.values()))}: np.savez(FILE, {first}=model.predict(…), …)"
        )
    counts = {name: len(values) for name, values in {**inputs, **outputs}.items()}
    if len(set(counts.values())) != 1 or not next(iter(counts.values())):
        raise ConfigInvalid(f"--expect {file}: one number of rows is expected, not {counts}")
    sides = ({name: values[:MOST_ROWS] for name, values in side.items()} for side in (inputs, outputs))
    return Raw(file, *sides)


def _array(file: Path, arrays: Mapping[str, Array], name: str, port: Port) -> Array:
    found = next((key for key in (port.name, name) if key in arrays), None)
    if found is None:
        raise ConfigInvalid(
            f"--expect {file}: it has {', '.join(map(repr, arrays)) or 'nothing'}, and not {port} of the "
            f"model: np.savez(FILE, {name}=…)"
        )
    values = arrays[found]
    fits = values.ndim == len(port.shape) and all(
        wanted in (None, size) for wanted, size in zip(port.shape, values.shape, strict=True)
    )
    if not fits:
        raise ConfigInvalid(f"--expect {file}: {found!r} has shape {values.shape}, the model {port}")
    return values


def check_graph(raw: Raw, function: Function, tolerance: float) -> None:
    """Refuse arrays that the model itself does not answer so.

    Raises:
        ConfigInvalid: naming the output and by how much it is off.
    """
    rows = len(next(iter(raw.inputs.values())))
    for begin in range(0, rows, BATCH):
        part = slice(begin, begin + BATCH)
        got = function(**{name: values[part] for name, values in raw.inputs.items()})
        for name, values in raw.outputs.items():
            wanted, given = values[part].astype(np.float64), np.asarray(got[name], np.float64)
            off = np.abs(wanted - given)
            if not (off <= tolerance * (1 + np.abs(wanted))).all():
                raise ConfigInvalid(
                    f"--expect {raw.file}: heads.{name}: for the file's own inputs the model's output is off "
                    f"by {float(off.max()):.3g}: they are to be what model.predict gives for these inputs, "
                    "with this very model"
                )


def as_items(raw: Raw, contract: Contract, manifest: Manifest) -> Iterator[Expected]:
    """Yield each row as a sequence that encodes to it, padding left out, with its answers.

    Raises:
        ConfigInvalid: an id that no label has.
    """
    rows = len(next(iter(raw.inputs.values())))
    for row in range(rows):
        field = f"{raw.file.name} row {row}"
        values = {name: array[row] for name, array in raw.inputs.items()}
        real = _real(values, manifest)
        if not real.any():
            continue  # all of it is padding
        sent = {
            name: _sent(f"{field}: features.{name}", feature, values[name], _steps(name, real, manifest))
            for name, feature in manifest.features.items()
        }
        heads = {name: _wanted(manifest.heads[name], array[row], real) for name, array in raw.outputs.items()}
        yield Expected(field, sent, heads)


def _steps(name: str, real: Array, manifest: Manifest) -> Array | None:
    timed = "time" in manifest.signatures[PREDICT_SIGNATURE].inputs[name].axes
    return real if timed else None


def _real(values: Mapping[str, Array], manifest: Manifest) -> Array:
    """Return which steps of a row are no padding: bool (time)."""
    inputs = manifest.signatures[PREDICT_SIGNATURE].inputs
    mask = manifest.mask_input
    timed = [name for name, tensor in inputs.items() if "time" in tensor.axes and name != mask]
    length = len(values[timed[0]]) if timed else 1
    if mask is not None and "time" in inputs[mask].axes:
        return np.asarray(values[mask], bool)
    if mask is not None:
        return np.arange(length) < int(np.reshape(values[mask], -1)[0])
    if not timed:
        return np.ones(1, bool)
    masking = manifest.masking_inputs
    is_pad = [
        (values[name].reshape(length, -1) == np.float32(inputs[name].pad_value or 0)).all(axis=1)
        for name in masking or timed
    ]
    if not masking:
        return _without_ends(np.logical_and.reduce(is_pad), manifest)
    dropped = np.logical_and.reduce(is_pad) if manifest.mask_where == "all" else np.logical_or.reduce(is_pad)
    return ~dropped


def _without_ends(padded: Array, manifest: Manifest) -> Array:
    """Return the real steps where nothing is masked: not those at the end that the contract pads, nor at the
    other if it is clear that they are padding too.
    """
    real = np.ones(len(padded), bool)
    steps = np.flatnonzero(~padded)
    first, last = (int(steps[0]), int(steps[-1])) if len(steps) else (len(padded), -1)
    sure = any(
        isinstance(feature, Categories) and not _is_label(feature, manifest, name)
        for name, feature in manifest.features.items()
    )
    least = 1 if sure else PADDED
    behind, before = len(padded) - 1 - last, first
    if manifest.padding == "right" or behind >= least:
        real[last + 1 :] = False
    if manifest.padding == "left" or before >= least:
        real[:first] = False
    fewest = getattr(manifest.limits, "sequence_least", None) or 1
    return real if real.sum() >= fewest else np.ones(len(padded), bool)


def _is_label(feature: Categories, manifest: Manifest, name: str) -> bool:
    """Say whether the pad value is the id of a label too."""
    pad = manifest.signatures[PREDICT_SIGNATURE].inputs[name].pad_value or 0
    return feature.first_id <= pad < feature.first_id + len(feature.labels)


def _sent(field: str, feature: Feature, values: Array, real: Array | None) -> Any:
    """Return a feature's values as a caller would send them."""
    listed = values[real] if real is not None else values.reshape(1, -1)
    match feature:
        case Categories():
            sent: list[Any] = [_label(field, feature, int(number)) for number in listed.reshape(-1)]
        case Numbers():
            table = listed.reshape(-1, feature.width).astype(np.float64)
            sent = (table * np.array(feature.scale) + np.array(feature.mean)).tolist()
            sent = [row[0] for row in sent] if feature.width == 1 else sent
        case Elapsed():
            times = listed.reshape(-1).astype(np.float64) * feature.scale
            sent = (np.expm1(times) if feature.transform == "log1p" else times).tolist()
        case _:
            text = values.reshape(-1)[0]
            return text.decode() if isinstance(text, bytes) else str(text)
    return sent if real is not None else sent[0]


def _label(field: str, feature: Categories, number: int) -> str:
    place = number - feature.first_id
    if 0 <= place < len(feature.labels):
        return feature.labels[place]
    if number == feature.unknown_id:
        return "?" * (1 + max(map(len, feature.labels)))
    last = feature.first_id + len(feature.labels) - 1
    raise ConfigInvalid(
        f"{field}: the model was given the id {number}, but the {len(feature.labels)} labels have the ids "
        f"first_id = {feature.first_id} to {last}: labels, first_id or pad_value is not training's"
    )


def _wanted(head: Head, values: Array, real: Array) -> Any:
    """Return what a head answers for a raw output, in the form that is compared."""
    steps = values[real] if head.per == "step" else values
    top_k = 1 if isinstance(head, Numeric) else 10**9
    answer = answer_head(head, steps, int(real.sum()), "right", top_k)
    plain = answers_as_json([Prediction({"head": answer})])[0]["heads"]["head"]
    if head.per == "step":
        return [_of_answer(step) for step in plain["steps"]]
    return _of_answer(plain)


def _of_answer(plain: Mapping[str, Any]) -> Any:
    if "top" in plain or "all" in plain:
        entries: Sequence[Any] = plain.get("all") or plain["top"]
        return {entry["label"]: entry["probability"] for entry in entries}
    if "values" in plain:
        return np.array(plain["values"], np.float64)
    if "value" in plain:
        return np.array(plain["value"], np.float64).reshape(-1)
    return plain["text"]
