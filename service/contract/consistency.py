"""What the parts of a manifest say of each other, checked: signatures, what feeds them, decoding, the mask.

Each part checks its own fields in `manifest`. Here a field that another one contradicts, or that leads to
nothing, is refused with its name, so that a manifest does not say what the model does not do.
"""

import math
import reprlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from seqserve.service.contract.bounds import EXACT_IN_FLOAT32, FLOAT32, INT32, INT64, ROW_NUMBERS

if TYPE_CHECKING:  # `manifest` checks itself by this module
    from seqserve.service.contract.manifest import (
        Categories,
        Decode,
        Feature,
        Manifest,
        Option,
        Signature,
        Tensor,
    )

LIMITED = ("translation", "sequence")
"""The tasks whose pieces, or steps, have a limit; raw text has characters alone."""
DECODED = ("ids", "lengths", "scores")
"""The outputs of every decoding signature; `attention` is a further one, for alignment."""
SEEN = ("coverage", "attended")
"""What else is said of attention: both or neither; `attention` may then wait for the option `alignment`."""
MOST_PIECES = 1_000_000
"""Pieces of a word, on average."""
_LARGEST = {"int32": INT32, "int64": INT64, "float32": EXACT_IN_FLOAT32}
"""The largest id, by dtype."""


def check_consistency(manifest: "Manifest") -> None:
    """Compare the parts of a manifest; raises ValueError with the first field at fault."""
    fault = next(_faults(manifest), None)
    if fault is not None:
        raise ValueError(fault)


def _faults(manifest: "Manifest") -> Iterator[str]:
    for name in manifest.serving_signatures:
        signature = manifest.signatures.get(name)
        if signature is None:
            yield f"signatures: {name!r} is called but not listed"
            continue
        yield from (f"signatures.{name}.{fault}" for fault in _faults_of_signature(manifest, signature))
        yield from _not_in_signature(manifest, name, signature)
    yield from _faults_of_mask(manifest)
    yield from _faults_of_streams(manifest)
    yield from _faults_of_options(manifest)
    yield from _faults_of_profile(manifest)
    yield from _faults_of_limits(manifest)
    yield from _faults_of_sizes(manifest)
    if manifest.decode is not None:
        yield from (f"decode.{fault}" for fault in _faults_of_decode(manifest, manifest.decode))


def _faults_of_signature(manifest: "Manifest", signature: "Signature") -> Iterator[str]:
    for name, tensor in signature.inputs.items():
        sources = [name in manifest.features, name in manifest.options, name == manifest.mask_input]
        if not any(sources):
            yield f"inputs.{name}: no feature, option or mask feeds it"
        if sum(sources) > 1:
            yield f"inputs.{name}: fed by more than one of feature, option and mask"
        if "time" in tensor.axes and name != manifest.mask_input and tensor.pad_value is None:
            yield f"inputs.{name}: has a time axis and no pad_value"
        if name in manifest.features:
            yield from (f"inputs.{name}: {fault}" for fault in _misfits(manifest.features[name], tensor))
        if name in manifest.options and tensor.axes not in ((), ("batch",)):
            yield f"inputs.{name}: an option has one value a row or one a batch, not {', '.join(tensor.axes)}"
    for output in DECODED if manifest.decode is not None and not manifest.is_raw else ():
        if output not in signature.outputs:
            yield f"outputs: {output!r} is missing"
    seen = {output for output in SEEN if output in signature.outputs}
    asks = any(option.option == "alignment" for option in _options_of(manifest, signature))
    if manifest.decode is not None and (seen or asks) and len(seen) < len(SEEN):
        yield f"outputs: {' and '.join(SEEN)} go together, and with the option alignment"
    for name, head in manifest.heads.items():
        dtype = signature.outputs[name].dtype if name in signature.outputs else None
        if dtype is not None and (dtype == "string") != (head.kind == "text"):
            yield f"outputs.{name}: dtype {dtype} is not what a head of kind {head.kind} reads"


def _options_of(manifest: "Manifest", signature: "Signature") -> list["Option"]:
    return [option for name, option in manifest.options.items() if name in signature.inputs]


def _not_in_signature(manifest: "Manifest", name: str, signature: "Signature") -> Iterator[str]:
    if manifest.mask_input is not None and manifest.mask_input not in signature.inputs:
        yield f"mask.input: {manifest.mask_input!r} is not an input of signature {name!r}"
    for feature in manifest.features:
        if feature not in signature.inputs:
            yield f"features.{feature}: not an input of signature {name!r}"
    for head in manifest.heads:
        if head not in signature.outputs:
            yield f"heads.{head}: not an output of signature {name!r}"


def _misfits(feature: "Feature", tensor: "Tensor") -> Iterator[str]:
    """Yield why the feature's rows, (time), (time, columns) or one text, cannot be given to the tensor."""
    if feature.kind == "text":
        if (tensor.dtype, tensor.axes) != ("string", ("batch",)):
            yield f"a text is a string (batch), not {tensor.dtype} ({', '.join(tensor.axes)})"
        return
    if tensor.dtype in ("bool", "string"):
        yield f"dtype {tensor.dtype} takes no ids and no numbers"
    steps = () if _is_static(feature) else ("time",)
    own, columns = ("batch", *steps), tensor.axes[1 + len(steps) :]
    if tensor.axes[: len(own)] != own or "time" in columns or len(columns) > 1:
        yield f"axes are {', '.join(own)} and at most one more, not {', '.join(tensor.axes)}"
    if feature.kind == "numbers" and feature.width > 1 and not columns:
        yield f"has no axis for the {feature.width} columns"


def _is_static(feature: "Feature") -> bool:
    return getattr(feature, "per", "step") == "sequence"


def _faults_of_mask(manifest: "Manifest") -> Iterator[str]:
    given = manifest.masking_inputs if manifest.mask == "derived" else ()
    if manifest.mask_from is not None and manifest.mask != "derived":
        yield f"mask_from: {manifest.mask_from!r} goes with mask: derived, and only with it"
    if manifest.mask_from is not None and (not given or len(set(given)) != len(given)):
        yield f"mask_from: {manifest.mask_from!r}: one feature, or several distinct ones"
    if manifest.mask_where is not None and (len(given) < 2 or manifest.streams is not None):
        yield f"mask_where: {manifest.mask_where!r} goes with several features in mask_from, of one stream"
    for name in given:
        feature = manifest.features[name]
        if feature.kind == "text" or _is_static(feature):
            yield f"mask_from: {name!r} is {_single(feature)}, which has no steps"
    if manifest.mask_input is not None and manifest.is_raw:
        yield f"mask.input: {manifest.mask_input!r} masks steps, and a text has none"


def _single(feature: "Feature") -> str:
    return "a text" if feature.kind == "text" else "one value a sequence"


def _faults_of_streams(manifest: "Manifest") -> Iterator[str]:
    """Yield what does not go together with features that have steps of their own."""
    named = [name for stream in manifest.groups for name in stream]
    if sorted(named) != sorted(manifest.stepped) or not all(manifest.groups):
        yield f"streams: each of {', '.join(manifest.stepped)} stands in one of them, and nothing else does"
        return
    for stream in manifest.groups:
        texts = [name for name in stream if manifest.features[name].kind == "tokens"]
        if texts and len(stream) > 1:
            yield f"streams: the pieces of {texts[0]!r} are steps of its own, not of {', '.join(stream)}"
    if len(manifest.groups) < 2:
        return
    if manifest.mask_input is not None:
        yield f"streams: {manifest.mask_input!r} is one mask for all of them"
    for name, head in manifest.heads.items():
        if head.per == "step":
            yield f"heads.{name}.per: step, but {' and '.join(map(', '.join, manifest.groups))} may differ"


def _faults_of_options(manifest: "Manifest") -> Iterator[str]:
    fed = {name for signature in manifest.signatures.values() for name in signature.inputs}
    for name in manifest.options:
        if name not in fed:
            yield f"options.{name}: not an input of any signature"


def _faults_of_profile(manifest: "Manifest") -> Iterator[str]:
    profile = manifest.profile or {}
    pieces, ranges = profile.get("pieces_per_word"), profile.get("ranges")
    if pieces is not None and not (_is_number(pieces) and 0 < pieces <= MOST_PIECES):
        yield f"profile.pieces_per_word: a number above 0, at most {MOST_PIECES}, not {_shown(pieces)}"
    if ranges is not None and not isinstance(ranges, dict):
        yield "profile.ranges: an object by feature, each with a [lowest, highest] a column"
    for name, columns in ranges.items() if isinstance(ranges, dict) else ():
        pairs = [pair for pair in columns if isinstance(pair, list)] if isinstance(columns, list) else []
        beyond = next(
            (n for pair in pairs for n in pair if _is_number(n) and FLOAT32 < abs(n) < math.inf), None
        )
        if beyond is not None:
            yield f"profile.ranges.{_shown(name)}: {beyond} is further from 0 than the limit of {FLOAT32}"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _shown(value: Any) -> str:
    return reprlib.repr(value)


def _faults_of_sizes(manifest: "Manifest") -> Iterator[str]:
    """Yield what does not fit its tensor: ids, options, and a row that is padded to the last bucket."""
    for place, signature in manifest.signatures.items():
        for name, tensor in signature.inputs.items():
            where = f"signatures.{place}.inputs.{name} is {tensor.dtype}"
            feature, option = manifest.features.get(name), manifest.options.get(name)
            if feature is not None and feature.kind == "categories" and not _fits(_ids(feature), tensor):
                yield f"features.{name}: ids of {' to '.join(map(str, _ids(feature)))}, {where}"
            is_whole = tensor.dtype in ("int32", "int64")
            if option is not None and is_whole and not _fits((option.minimum, option.maximum), tensor):
                yield f"options.{name}: {option.minimum} to {option.maximum}, {where}"
    yield from _faults_of_row(manifest)


def _fits(bounds: tuple[float, float], tensor: "Tensor") -> bool:
    largest = _LARGEST.get(tensor.dtype, math.inf)
    return -largest - 1 <= bounds[0] and bounds[1] <= largest


def _ids(feature: "Categories") -> tuple[int, int]:
    ids = [feature.first_id, feature.first_id + len(feature.labels) - 1]
    ids += [feature.unknown_id] if feature.unknown_id is not None else []
    return min(ids), max(ids)


def _faults_of_row(manifest: "Manifest") -> Iterator[str]:
    widths = (
        feature.width if feature.kind == "numbers" else 1
        for name, feature in manifest.features.items()
        if name in manifest.stepped
    )
    longest, width = max(manifest.buckets, default=0), sum(widths)
    if longest * width > ROW_NUMBERS:
        numbers = f"{longest} steps of {width} numbers are {longest * width} numbers a row"
        yield f"buckets.{len(manifest.buckets) - 1}: {numbers}, above the limit of {ROW_NUMBERS}"


def _faults_of_limits(manifest: "Manifest") -> Iterator[str]:
    least, most = manifest.limits.sequence_least, manifest.limits.sequence_steps
    if least is not None and most is not None and least > most:
        yield f"limits.sequence_least: {least} is above sequence_steps, {most}"
    for field in ("text_pieces", "sequence_steps", "sequence_least"):
        limit = getattr(manifest.limits, field)
        if limit is not None and manifest.is_raw:
            yield f"limits.{field}: {limit}, but no feature has pieces or steps"
        elif limit is not None and limit > manifest.buckets[-1]:
            yield f"limits.{field}: {limit} is above the last bucket, {manifest.buckets[-1]}"
    kinds = {feature.kind for name, feature in manifest.features.items() if name in manifest.stepped}
    has_text = any(feature.kind in ("text", "tokens") for feature in manifest.features.values())
    kinds = kinds if manifest.task in LIMITED else set()
    needed = ("text_characters",) * has_text + ("text_pieces",) * ("tokens" in kinds)
    for field in (*needed, *("sequence_steps",) * bool(kinds - {"tokens"})):
        if getattr(manifest.limits, field) is None:
            yield f"limits.{field}: needed for task {manifest.task}"


def _faults_of_decode(manifest: "Manifest", decode: "Decode") -> Iterator[str]:
    """Yield where decoding contradicts the options that steer it, or the text that it shares its ids with."""
    if manifest.is_raw:
        yield from _faults_of_raw(manifest, decode)
        return
    for field in ("default_length", "max_length"):
        if getattr(decode, field) is None:
            yield f"{field}: needed where ids are decoded"
    for name, option in manifest.options.items():
        where = f"options.{name}"
        if option.option == "max_length" and option.default != decode.default_length:
            yield f"default_length: {decode.default_length}, but {where} has the default {option.default}"
        if option.option == "max_length" and option.maximum != decode.max_length:
            yield f"max_length: {decode.max_length}, but {where} has the maximum {option.maximum}"
        if option.option == "beam_size" and option.maximum != decode.max_beams:
            yield f"max_beams: {decode.max_beams}, but {where} has the maximum {option.maximum}"
    if decode.tokenizer is None:
        yield from _faults_of_shared_vocabulary(manifest, decode)


def _faults_of_raw(manifest: "Manifest", decode: "Decode") -> Iterator[str]:
    """Yield what a translator from text to text, whose whole loop is in its graph, says and cannot have."""
    for name, feature in manifest.features.items():
        if feature.kind != "text":
            yield f"signatures: features.{name} is {_single(feature)}, and a translator takes texts"
    if list(decode.signatures) != ["greedy"]:
        yield f"signatures: a translator of raw text has greedy alone, not {', '.join(decode.signatures)}"
    for field in ("default_length", "max_length", "tokenizer"):
        if getattr(decode, field) is not None:
            yield f"{field}: {getattr(decode, field)}, but text comes back, not ids"
    if decode.max_beams != 1:
        yield f"max_beams: {decode.max_beams}, but text comes back, not beams"
    if [head.kind for head in manifest.heads.values()] != ["text"]:
        yield "signatures: a translator of raw text answers by one of heads, of kind text"
    for name in manifest.options:
        yield f"signatures: options.{name} cannot steer a translator of raw text"


def _faults_of_shared_vocabulary(manifest: "Manifest", decode: "Decode") -> Iterator[str]:
    texts = {name: text.special_ids for name, text in manifest.features.items() if text.kind == "tokens"}
    for name, special_ids in texts.items():
        for field, source in special_ids:
            target = getattr(decode.special_ids, field)
            if target != source:
                yield (
                    f"special_ids.{field} is {target}, features.{name}.special_ids.{field} is {source}: "
                    "without decode.tokenizer the two share one vocabulary"
                )
