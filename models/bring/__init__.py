"""A user's own model, a Keras file or a SavedModel, and its contract file, made into a version.

What does not fit is refused before anything is written, with the contract's field and the model's input or
output.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import tensorflow as tf
from rich.console import Console

from seqserve.models.bring.advice import leak_advice, likely_collisions, matched_parts, notes, unused_masking
from seqserve.models.bring.brought import Brought
from seqserve.models.bring.causes import Alone
from seqserve.models.bring.contract import Contract, ContractTokens
from seqserve.models.bring.expected import Expected, check_origin, check_sent, read_items, unproven
from seqserve.models.bring.keras2_file import load_keras_2
from seqserve.models.bring.keras_file import KERAS_2, Port, imported, load_keras
from seqserve.models.bring.manifest import contract_manifest, with_least
from seqserve.models.bring.masks import masked_manifest
from seqserve.models.bring.matching import Matching, match_contract
from seqserve.models.bring.model_file import ModelFile
from seqserve.models.bring.proof import OF_HALVES, TOLERANCE, compare
from seqserve.models.bring.raw import as_items, check_graph, read_raw
from seqserve.models.bring.saved_model import load_saved_model
from seqserve.models.bring.stored import keras_version
from seqserve.models.bring.tables import (
    check_ids_fit,
    check_ids_named,
    check_vocabularies,
    ids_by_trial,
    ids_of,
)
from seqserve.models.bring.translation import bring_translator
from seqserve.models.bring.translation.contract import TranslationContract
from seqserve.models.bring.translation.proof import NOT_COMPARED
from seqserve.models.bring.translation.vocabularies import read_text
from seqserve.models.bring.trial import check_one_bucket, try_model
from seqserve.models.config import ConfigInvalid, unreadable
from seqserve.models.draft import Draft
from seqserve.service.contract.features import Files, SequenceEncoder
from seqserve.service.contract.manifest import PREDICT_SIGNATURE, Manifest
from seqserve.service.errors import InvalidArgument


def bring(
    model: Path,
    contract: Contract | TranslationContract,
    version: int,
    imports: Sequence[Path] = (),
    expect: Path | None = None,
    shortlist_from: Path | None = None,
    console: Console | None = None,
) -> Brought:
    """Load a model, match it with its contract, and try it.

    Args:
        expect: a file of what the model must answer.
        shortlist_from: parallel texts, by which a translator's rows are narrowed to candidates.
        console: shows how far those are read.

    Raises:
        ConfigInvalid: naming the field of the contract and the input or output of the model.
    """
    if isinstance(contract, TranslationContract):
        return bring_translator(model, contract, version, imports, expect, shortlist_from, console)
    if shortlist_from is not None:
        raise ConfigInvalid(f"--shortlist-from {shortlist_from}: it is for translators; leave it out")
    return _bring_sequences(model, contract, version, imports, expect)


def _bring_sequences(
    model: Path, contract: Contract, version: int, imports: Sequence[Path], expect: Path | None
) -> Brought:
    """Do it for a model of sequences; see `bring`."""
    file = _load(model, contract, imports)
    matching = match_contract(contract, file)
    function = _function(file, matching)
    read = {
        name: read_text(f"features.{name}.vocabulary", f"{name}_vocabulary", feature.vocabulary, model)
        for name, feature in contract.features.items()
        if isinstance(feature, ContractTokens)
    }
    tokens = {name: vocabulary.tokens for name, vocabulary in read.items()}
    files = {vocabulary.name: vocabulary.data for vocabulary in read.values()}
    manifests = [contract_manifest(contract, version, file, matching, pad, tokens) for pad in file.pads()]
    ids = ids_of(contract, file, matching)
    ids |= ids_by_trial(contract, matching, Alone(manifests[0], function, files), list(ids))
    check_vocabularies(contract, ids, {name: text.vocabulary.size for name, text in read.items()})
    check_ids_fit(contract, ids)
    _check_examples(contract, manifests[0], files)
    manifest = manifests[-1]
    if matching.mask is None and (file.maybe_masks() or contract.masks):
        manifest = masked_manifest(manifests, function, contract, files)
    manifest = with_least(contract, manifest, matching)
    for masking in manifest.masking_inputs if manifest.mask_where != "all" else ():
        _check_labels_kept(manifest, masking)
    _check_examples(contract, manifest, files)
    check_ids_named(contract, ids)
    trial = try_model(manifest, function, contract.examples, files)
    is_open = all(matching.features[name].shape[1] is None for name in contract.stepped)
    if len(manifest.buckets) == 1 and is_open and contract.padding is None:
        encoder = SequenceEncoder(manifest, PREDICT_SIGNATURE, files)
        rows = [encoder.encode(sent).row for sent in trial.clear]
        check_one_bucket(manifest, function, rows, _tolerance(file))
    alone = Alone(manifest, function, files)
    expected, uncompared = _expected(contract, expect, file, matching, alone)
    requests, probes = (
        [{"sequences": [sequence]} for sequence in sequences]
        for sequences in (contract.examples or trial.clear, trial.unclear)
    )
    functions = {PREDICT_SIGNATURE: function}
    draft = Draft(file.network, functions, manifest, files, requests, probes, eager=functions)
    warnings = [*likely_collisions(manifest), *unused_masking(file, manifest), *trial.warnings]
    table = matched_parts(contract, file, matching)
    shown = [*notes(manifest, made_up=not contract.examples), *uncompared]
    proof = partial(compare, expected=expected, alone=alone, tolerance=_tolerance(file))
    return Brought(draft, table, shown, warnings, proof if expected else None, leak_advice(manifest))


def _tolerance(file: ModelFile) -> float:
    return OF_HALVES if file.computes_in_halves() else TOLERANCE


def _expected(
    contract: Contract, file: Path | None, model: ModelFile, matching: Matching, alone: Alone
) -> tuple[list[Expected], list[str]]:
    """Return what the user's own code answers, and what it leaves uncompared."""
    is_raw = file is not None and file.suffix == ".npz"
    expected, named = read_items(contract, None if is_raw else file)
    if file is not None and is_raw:
        raw = read_raw(file, model, matching)
        check_graph(raw, alone.function, _tolerance(model))
        expected += as_items(raw, contract, alone.manifest)
    if not expected:
        return [], [NOT_COMPARED]
    check_sent(expected, alone.manifest, alone.files)
    check_origin(expected, alone.manifest)
    return expected, unproven(contract, named)


def _load(model: Path, contract: Contract, imports: Sequence[Path]) -> ModelFile:
    if not model.exists():
        raise unreadable(model, FileNotFoundError())
    if not model.is_dir():
        if contract.signature is not None:
            raise ConfigInvalid(f"signature: {contract.signature!r}, but {model} is no SavedModel's folder")
        version = keras_version(model) if model.is_file() else ""
        if version.startswith(KERAS_2):
            return load_keras_2(model, version, imported(imports))
        return load_keras(model, imports)
    if imports:
        raise ConfigInvalid(
            f"--import {imports[0]}: a SavedModel has all of its code in its graph; leave it out"
        )
    return load_saved_model(model, contract.signature)


def _function(file: ModelFile, matching: Matching) -> Any:
    """Return the graph function: features and mask by name in, heads by name out."""
    given = {port.name: name for name, port in matching.features.items()}
    if matching.mask is not None and matching.mask_name is not None:
        given[matching.mask.name] = matching.mask_name

    def predict(**inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        fed = [_shaped(inputs[given[port.name]], port) for port in file.inputs]
        outputs = file.call(fed)
        return {name: _answered(outputs[place]) for name, place in matching.heads.items()}

    return predict


def _shaped(values: tf.Tensor, port: Port) -> tf.Tensor:
    """Return a signature's input in the model's dtype, with its fixed axes and its last one of 1."""
    cast = tf.cast(values, port.dtype)
    wide = cast[..., None] if len(cast.shape) < len(port.shape) else cast
    return tf.ensure_shape(wide, port.shape)


def _answered(values: tf.Tensor) -> tf.Tensor:
    """Return an output as a signature has it: float32, or a text a row."""
    return tf.reshape(values, [-1]) if values.dtype == tf.string else tf.cast(values, tf.float32)


def _check_labels_kept(manifest: Manifest, masking: str) -> None:
    """Refuse a label, known or not, whose id the model takes for padding: it would drop such steps."""
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
            f"features.{masking}.unknown_id: {pad} is padding to the model, which would drop such steps"
        )


def _check_examples(contract: Contract, manifest: Manifest, files: Files) -> None:
    encoder = SequenceEncoder(manifest, PREDICT_SIGNATURE, files)
    for number, example in enumerate(contract.examples):
        try:
            encoder.encode(example)
        except InvalidArgument as error:
            place = ".".join(map(str, ("examples", number, *error.path)))
            raise ConfigInvalid(f"{place}: {error.message}") from error
