"""A translator that takes and returns strings: a SavedModel with its vocabularies and loop in the graph."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import tensorflow as tf

from seqserve.models.bring.advice import leak_advice
from seqserve.models.bring.brought import Brought
from seqserve.models.bring.saved_model import SavedModelFile, load_saved_model
from seqserve.models.bring.translation.contract import TranslationContract
from seqserve.models.bring.translation.proof import NOT_COMPARED, compare, read_expected
from seqserve.models.bring.words import beside
from seqserve.models.config import ConfigInvalid, in_short
from seqserve.models.draft import EXAMPLES, Draft
from seqserve.models.manifest import Identity, build_manifest, input_tensor, output_tensor
from seqserve.service.contract.manifest import PREDICT_SIGNATURE, Decode, Limits, Manifest, Signature
from seqserve.service.contract.texts import Text, TextHead, text_output

FEATURE, HEAD = "source", "translation"
PROBES = 9
"""Texts that the certification compares beside the golden examples."""
MEANINGLESS = ("function", "encoder", "decoder", "buckets", "max_beams")
"""Fields of the contract that steer a loop which is not the graph's own."""
Function = Callable[..., dict[str, tf.Tensor]]


def bring_strings(
    model: Path,
    contract: TranslationContract,
    version: int,
    imports: Sequence[Path] = (),
    expect: Path | None = None,
) -> Brought:
    """Load a SavedModel of strings, try it, and draw up its version.

    Raises:
        ConfigInvalid: naming the field of the contract and the input or output of the model.
    """
    _check_contract(contract)
    if imports:
        raise ConfigInvalid(f"--import {imports[0]}: a SavedModel has all of its code in its graph")
    expected = read_expected(contract.examples, expect)
    given = [*(e.source for e in contract.examples), *(e.source for e in expected)]
    texts = sorted({text for text in given if text.strip()}, key=lambda text: (len(text.split()), text))
    if not texts:
        raise ConfigInvalid("examples: give one at least: no text can be drawn of vocabularies in a graph")
    path = model if contract.file is None else beside(model, contract.file)
    file = load_saved_model(path, contract.signature)
    place = _output(path, file)
    function = _function(file, place)
    _try(path, function, texts)
    chosen = _spread(texts, EXAMPLES)
    probes = [{"texts": _spread([text for text in texts if text not in chosen], PROBES)}]
    manifest, functions = _manifest(contract, version), {PREDICT_SIGNATURE: function}
    requests = [{"texts": [text]} for text in chosen]
    draft = Draft(
        file.network, functions, manifest, {}, requests, probes if probes[0]["texts"] else (), functions
    )
    table = [
        (f"input {file.inputs[0].name}", str(file.inputs[0].shape), "[source]"),
        (f"output {file.outputs[place].name}", str(file.outputs[place].shape), "[target]"),
    ]
    notes = ["text goes to the model as it is: no scores, beams, sampling or alignment"]
    if not expected:
        notes.append(NOT_COMPARED)
    proof = partial(compare, expected=expected) if expected else None
    return Brought(draft, table, notes, [], proof, leak_advice(manifest))


def _check_contract(contract: TranslationContract) -> None:
    for field in MEANINGLESS:
        if field in contract.model_fields_set:
            raise ConfigInvalid(
                f'{field}: source.kind is "none", so the graph has its own loop; leave it out'
            )
    for side in ("source", "target"):
        for field in sorted(getattr(contract, side).model_fields_set - {"kind"}):
            raise ConfigInvalid(
                f'{side}.{field}: a vocabulary of kind "none" is the graph\'s own; leave it out'
            )


def _output(path: Path, file: SavedModelFile) -> int:
    """Return the place of the output that is text, after checking the input."""
    shapes = ((), (1,))
    if len(file.inputs) != 1 or file.inputs[0].dtype != "string" or file.inputs[0].shape[1:] not in shapes:
        raise ConfigInvalid(
            f"source: {path} takes {', '.join(map(str, file.inputs))}, not one string a row; for one that "
            "takes ids give source and target a vocabulary"
        )
    texts = [at for at, port in enumerate(file.outputs) if port.dtype == "string"]
    if len(texts) != 1 or file.outputs[texts[0]].shape[1:] not in shapes:
        raise ConfigInvalid(
            f"target: {path} gives {', '.join(map(str, file.outputs))}, not one string a row: save it again "
            "with a signature that gives the translation alone"
        )
    return texts[0]


def _function(file: SavedModelFile, place: int) -> Function:
    wide = len(file.inputs[0].shape) == 2

    def translate(source: tf.Tensor) -> dict[str, tf.Tensor]:
        answered = file.call([source[:, None] if wide else source])[place]
        return {HEAD: tf.reshape(answered, tf.shape(source))}  # (batch)

    return translate


def _try(path: Path, function: Function, texts: Sequence[str]) -> None:
    """Translate the shortest, the longest and both at once: the model must take any number of rows."""
    for rows in ([texts[0]], [texts[-1]], [texts[0], texts[-1]]):
        try:
            for text in np.asarray(function(tf.constant(rows))[HEAD]):
                text_output(text)
        except Exception as error:  # whatever the graph says of rows that it does not take
            reason = in_short(error)
            raise ConfigInvalid(f"{path}: the model fails on {rows} as one batch: {reason}") from error


def _spread(texts: Sequence[str], count: int) -> list[str]:
    """Return at most so many of the texts, as far apart in length as they can be."""
    if len(texts) <= count:
        return list(texts)
    return [texts[int(place)] for place in np.linspace(0, len(texts) - 1, count)]


def _manifest(contract: TranslationContract, version: int) -> Manifest:
    feature, head = Text(), TextHead()
    signature = Signature(inputs={FEATURE: input_tensor(feature)}, outputs={HEAD: output_tensor(head)})
    manifest = build_manifest(
        Identity(contract.name, version, (), contract.card),
        {PREDICT_SIGNATURE: signature},
        mask="none",
        features={FEATURE: feature},
        heads={HEAD: head},
        decode=Decode(signatures={"greedy": PREDICT_SIGNATURE}),
        limits=Limits(text_characters=contract.limits.text_characters),
    )
    return manifest.model_copy(update={"languages": contract.languages})
