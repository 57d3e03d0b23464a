"""How many ids a model has for each feature of labels or of tokens, and whether the contract has as many.

A label left out shifts the meaning of those behind it, and no other check can see it: every id is in range.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras.src.ops.nn import OneHot

from seqserve.models.bring.causes import Alone
from seqserve.models.bring.contract import Contract, ContractCategories, ContractTokens
from seqserve.models.bring.matching import Matching, whole_numbers
from seqserve.models.bring.model_file import ModelFile
from seqserve.models.bring.trial import Function
from seqserve.models.bring.trial_inputs import made_up, words_of
from seqserve.models.config import ConfigInvalid
from seqserve.service.contract.features import Files, SequenceEncoder
from seqserve.service.contract.manifest import PREDICT_SIGNATURE, Manifest
from seqserve.service.contract.padding import Array, pad_batch

UNBOUNDED = 2**22
"""An id that no table has: where the model takes it, it does not look ids up."""
PASSING = ("Cast", "Reshape", "ExpandDims", "Squeeze", "Identity", "Masking", "Dropout", "GetItem")
"""Operations that leave ids as they are."""


@dataclass(frozen=True, slots=True)
class Ids:
    """A model has ids 0 to `count` - 1 for a feature; `where`: what of the model has them."""

    count: int
    where: str


def ids_of(contract: Contract, file: ModelFile, matching: Matching) -> dict[str, Ids]:
    """Return the ids of each feature of labels or tokens whose layer is found by following the model's graph.

    Raises:
        ConfigInvalid: what such a layer reads is neither.
    """
    if not isinstance(file.network, keras.Model):
        return {}
    inputs = {tensor.name: tensor for tensor in file.network.inputs}
    found: dict[str, Ids] = {}
    for name, port in matching.features.items():
        feature, ids = contract.features[name], next(_followed(file.network, inputs[port.name]), None)
        if ids is not None and not isinstance(feature, ContractCategories | ContractTokens):
            raise ConfigInvalid(
                f"features.{name}.kind: {feature.kind!r}, but input {port} of the model goes to {ids.where}, "
                f'which takes ids, 0 to {ids.count - 1}: kind = "categories", with labels and first_id'
            )
        if ids is not None:
            found[name] = ids
    return found


def _followed(network: keras.Model, tensor: Any) -> Iterator[Ids]:
    """Yield what looks up the ids of a tensor, wherever operations hand it on unchanged."""
    for operation in network.operations:
        for node in operation._inbound_nodes:
            places = [place for place, x in enumerate(node.input_tensors) if x is tensor]
            if places and getattr(operation, "inputs", None) and isinstance(operation, keras.Model):
                inner = getattr(operation, "_functional", operation)  # a Sequential has its graph in one
                yield from _followed(inner, inner.inputs[places[0]])
            elif places:
                yield from _read(operation)
                if type(operation).__name__ in PASSING:
                    for output in node.output_tensors:
                        yield from _followed(network, output)


def _read(operation: Any) -> Iterator[Ids]:
    match operation:
        case keras.layers.Embedding():
            yield Ids(operation.input_dim, f"Embedding {operation.name!r}")
        case keras.layers.CategoryEncoding():
            yield Ids(operation.num_tokens, f"CategoryEncoding {operation.name!r}")
        case OneHot():
            yield Ids(operation.num_classes, f"operation {operation.name!r}")


def ids_by_trial(
    contract: Contract, matching: Matching, alone: Alone, known: Sequence[str]
) -> dict[str, Ids]:
    """Return the ids of such features where the graph does not show them: the first id that fails."""
    kinds = (ContractCategories, ContractTokens)
    unknown = [n for n, e in contract.features.items() if isinstance(e, kinds) and n not in known]
    if not unknown:
        return {}
    inputs = _zeros(contract, alone.manifest, alone.files)
    found = {}
    for name in unknown:
        port = matching.features[name]
        count = _first_failing(alone.function, inputs, name, min(UNBOUNDED, whole_numbers(port)[1]))
        if count is not None:
            found[name] = Ids(count, f"by trial, input {port}")
    return found


def _zeros(contract: Contract, manifest: Manifest, files: Files) -> dict[str, Array]:
    """Return one row as a batch, id 0 at each step of each feature of labels or tokens."""
    encoder = SequenceEncoder(manifest, PREDICT_SIGNATURE, files)
    length = manifest.limits.sequence_steps or 1
    length = min(2, length) if len(manifest.buckets) != 1 else length
    words = words_of(manifest, encoder, contract.examples)
    row = next(made_up(manifest, encoder, length, np.random.default_rng(2), words))[1]
    padded = manifest.buckets[0] if len(manifest.buckets) == 1 else length
    inputs = pad_batch([row], padded, manifest.signatures[PREDICT_SIGNATURE], manifest)
    for name, feature in contract.features.items():
        if isinstance(feature, ContractCategories | ContractTokens):
            inputs[name] = np.zeros_like(inputs[name])
    return inputs


def _first_failing(function: Function, inputs: Mapping[str, Array], name: str, highest: int) -> int | None:
    """Return the lowest id that the model does not take, by bisection; None if it takes any, or none."""
    if not _takes(function, inputs, name, 0) or _takes(function, inputs, name, highest):
        return None
    good, bad = 0, highest
    while bad - good > 1:
        middle = (good + bad) // 2
        good, bad = (middle, bad) if _takes(function, inputs, name, middle) else (good, middle)
    return bad


def _takes(function: Function, inputs: Mapping[str, Array], name: str, number: int) -> bool:
    try:
        function(**{**inputs, name: np.full_like(inputs[name], number)})
    except Exception:  # whatever the model says of an id that it has not
        return False
    return True


# --- compared with the labels -----------------------------------------------------------------------


def check_ids_fit(contract: Contract, known: Mapping[str, Ids]) -> None:
    """Refuse ids that the model does not have.

    Raises:
        ConfigInvalid: naming the feature, with both numbers.
    """
    for name, feature, ids in _labelled(contract, known):
        highest = max(_used(feature))
        if highest >= ids.count:
            raise ConfigInvalid(
                f"features.{name}: {_shown(feature)}, but the model has {ids.count} ids, 0 to "
                f"{ids.count - 1} ({ids.where}), and lacks {highest}: labels, first_id, unknown_id or "
                "pad_value are not those of training"
            )


def check_ids_named(contract: Contract, known: Mapping[str, Ids]) -> None:
    """Refuse labels that leave ids of the model without one.

    Raises:
        ConfigInvalid: naming the feature, with both numbers.
    """
    for name, feature, ids in _labelled(contract, known):
        unnamed = sorted(set(range(feature.first_id, ids.count)) - _used(feature))
        if len(unnamed) > feature.spare_ids:
            spare, first = len(unnamed), feature.first_id + len(unnamed)
            raise ConfigInvalid(
                f"features.{name}.labels: {_shown(feature)}, but the model has {ids.count} ids, 0 to "
                f"{ids.count - 1} ({ids.where}): {_listed(unnamed)} without a label. Add the labels that are "
                f"left out, in training's order; first_id = {first} if training's ids began there; or "
                f"spare_ids = {spare} if training used no such id"
            )


def check_vocabularies(contract: Contract, known: Mapping[str, Ids], sizes: Mapping[str, int]) -> None:
    """Refuse vocabularies that have not as many ids as the model.

    Args:
        sizes: by feature of tokens, the ids that its vocabulary has.

    Raises:
        ConfigInvalid: naming the vocabulary, with both numbers.
    """
    for name in sizes.keys() & known.keys():
        feature, ids = contract.features[name], known[name]
        assert isinstance(feature, ContractTokens)
        words = feature.vocabulary
        size = words.size or sizes[name]
        may_be_larger = words.kind == "sentencepiece"  # such a file is whole; tables are often rounded up
        if size > ids.count or (size < ids.count and not may_be_larger):
            advice = (
                "it is not training's, or training left the rarest words out (max_tokens, num_words)"
                if size > ids.count
                else f"words are left out; or size = {ids.count} if training had no more of them"
            )
            raise ConfigInvalid(
                f"features.{name}.vocabulary: {words.file} gives the ids 0 to {size - 1}, but the model has "
                f"{ids.count}, 0 to {ids.count - 1} ({ids.where}): {advice}"
            )


def _labelled(contract: Contract, known: Mapping[str, Ids]) -> Iterator[tuple[str, ContractCategories, Ids]]:
    for name, ids in known.items():
        feature = contract.features[name]
        if isinstance(feature, ContractCategories):
            yield name, feature, ids


def _used(feature: ContractCategories) -> set[int]:
    others = {int(n) for n in (feature.unknown_id, feature.pad_value) if n is not None}
    return {*range(feature.first_id, feature.first_id + len(feature.labels)), *others}


def _shown(feature: ContractCategories) -> str:
    last = feature.first_id + len(feature.labels) - 1
    unknown = f" (unknown_id {feature.unknown_id})" if feature.unknown_id is not None else ""
    return f"{len(feature.labels)} labels take the ids first_id = {feature.first_id} to {last}{unknown}"


def _listed(ids: Sequence[int]) -> str:
    return f"id {ids[0]} is" if len(ids) == 1 else f"{len(ids)} ids, {ids[0]} to {ids[-1]}, are"
