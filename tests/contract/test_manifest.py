"""The manifest: golden files of schema 1 load and mean what they did; contradictions are refused."""

import hashlib
from collections.abc import Callable
from typing import Any

import orjson
import pytest

from seqserve.service.contract.digest import changed_files, digest_of, sha256
from seqserve.service.contract.manifest import (
    Categories,
    Elapsed,
    Languages,
    Manifest,
    Numbers,
    Numeric,
    Sigmoid,
    Softmax,
    SpecialIds,
    Tokens,
)
from seqserve.service.contract.manifest_file import dump_manifest, parse_manifest
from seqserve.service.contract.texts import Text, TextHead
from seqserve.service.errors import ManifestInvalid

Golden = Callable[[str], bytes]
Plain = Callable[[str], dict[str, Any]]


def test_golden_translation(golden: Golden) -> None:
    """A translation manifest of schema 1 means what it meant when it was written."""
    got = parse_manifest(golden("translation"))
    assert (got.task, got.name, got.version, got.schema_version) == ("translation", "en-de", 3, 1)
    assert got.features == {"source": Tokens(tokenizer="tokenizers/en.model")}
    assert got.features["source"] == Tokens(
        tokenizer="tokenizers/en.model",
        special_ids=SpecialIds(pad=0, unknown=1, start=2, end=3),
        normalization="nmt_nfkc",
        add_end=True,
    )
    assert got.decode is not None
    assert got.decode.special_ids == SpecialIds(pad=0, unknown=1, start=2, end=3)
    assert (got.decode.max_beams, got.decode.default_length, got.decode.max_length) == (8, 64, 128)
    assert got.serving_signatures == ["beam", "greedy", "sample"]
    assert (got.mask_input, got.masking_inputs) == (None, ("source",))
    assert (got.padding, got.batching) == ("right", "shared")
    assert got.options["seed"].maximum == 2**63 - 1
    assert got.signatures["sample"].inputs["temperature"].axes == ("batch",)
    assert got.signatures["beam"].inputs["source"].pad_value == 0
    assert (got.tolerance.cpu, got.tolerance.gpu) == (1e-4, 5e-3)
    assert got.buckets == (16, 32, 64, 128)
    assert got.examples[0].items == [{"text": "zwei hunde rennen", "score": -0.41}]


def test_golden_sequence(golden: Golden) -> None:
    """A sequence manifest of schema 1 means what it meant when it was written."""
    got = parse_manifest(golden("sequence"))
    assert got.features == {
        "activity": Categories(labels=("Assign", "Wait", "7"), first_id=2, unknown="map", unknown_id=1),
        "amount": Numbers(
            width=2, mean=(10.0, 0.0), scale=(2.0, 4.5), columns=("price", "tax"), units=("EUR", "EUR")
        ),
        "minutes": Elapsed(unit="minutes", origin="last", transform="log1p", scale=3.0),
    }
    three = ("Assign", "Wait", "Resolve")
    assert got.heads == {
        "next_activity": Softmax(labels=three, scores="logits", temperature=1.25, per="sequence"),
        "alarms": Sigmoid(labels=("late", "lost"), scores="probabilities", thresholds=(0.5, 0.2), per="step"),
        "minutes_to_next": Numeric(
            unit="minutes",
            inverse="expm1",
            mean=(0.5,),
            scale=(2.0,),
            minimum=0.0,
            quantiles=(0.05, 0.5, 0.95),
        ),
        "load": Numeric(
            unit="kW", columns=("north", "south"), mean=(0.0, 1.0), scale=(1.0, 2.0), per="horizon"
        ),
    }
    assert got.serving_signatures == ["serving_default"]
    assert (got.mask_input, got.masking_inputs) == ("mask", ())
    assert (got.padding, got.batching, got.limits.sequence_steps) == ("left", "single", 40)
    assert got.signatures["serving_default"].inputs["minutes"].pad_value == -1.5
    assert got.signatures["step"].state == {"state": (1, 48)}
    assert (got.tolerance.cpu, got.tolerance.gpu) == (1e-5, 2e-3)


def test_golden_vocabularies(golden: Golden) -> None:
    """A source and a target with a vocabulary each; an id that a vocabulary lacks is null, and stays so."""
    got = parse_manifest(golden("vocabularies"))
    assert got.features["source"] == Tokens(
        tokenizer="source.json",
        special_ids=SpecialIds(pad=0, unknown=None, start=2, end=None),
        add_start=True,
        add_end=False,
    )
    assert got.decode is not None
    assert got.decode.tokenizer == "target.json"
    special = got.decode.special_ids
    assert (special.pad, special.unknown, special.start, special.end) == (7, 1, 4, 5)
    assert got.languages == Languages(source="nl", target="en")


def test_what_a_manifest_of_before_does_not_say(golden: Golden) -> None:
    """One vocabulary for both sides, no start id before a text, and no languages."""
    got = parse_manifest(golden("translation"))
    assert got.decode is not None
    assert (got.decode.tokenizer, got.languages) == (None, None)
    assert not Tokens(tokenizer="t").add_start
    assert not {"languages"} & set(orjson.loads(dump_manifest(got)))


def _contains(whole: Any, part: Any) -> bool:
    if isinstance(part, dict):
        return all(name in whole and _contains(whole[name], value) for name, value in part.items())
    if isinstance(part, list):
        return len(whole) == len(part) and all(map(_contains, whole, part))
    return bool(whole == part)


def test_golden_strings(golden: Golden) -> None:
    """A translator from text to text has no vocabulary, no lengths and nothing that is padded."""
    got = parse_manifest(golden("strings"))
    assert (got.features, got.heads) == ({"source": Text()}, {"target": TextHead()})
    assert got.decode is not None
    assert (got.decode.default_length, got.decode.max_length, got.buckets) == (None, None, ())
    assert (got.is_raw, got.masking_inputs, got.serving_signatures) == (True, (), ["serving_default"])


@pytest.mark.parametrize("task", ["translation", "sequence", "vocabularies", "strings"])
def test_nothing_is_lost(golden: Golden, task: str) -> None:
    """Loading and dumping keeps every field, ones of a later schema too, and comes to rest."""
    first = parse_manifest(golden(task))
    dumped = dump_manifest(first)
    assert _contains(orjson.loads(dumped), orjson.loads(golden(task)))
    assert parse_manifest(dumped) == first
    assert dump_manifest(parse_manifest(dumped)) == dumped


INPUTS = ("signatures", "serving_default", "inputs")
OUTPUTS = ("signatures", "serving_default", "outputs")
STEP = ("signatures", "step")
DROP = object()
SEED = {"option": "seed", "default": 0, "minimum": 0, "maximum": 9}
CONTRADICTIONS: list[tuple[str, tuple[str | int, ...], Any, str]] = [
    ("sequence", ("schema_version",), 2, "schema_version: Value error, this seqserve reads schema 1, not 2"),
    ("sequence", ("schema_version",), 0, "schema_version"),
    ("sequence", ("schema_version",), True, "schema_version"),
    ("sequence", ("schema_version",), "1", "schema_version"),
    ("sequence", ("version",), 0, "version"),
    ("sequence", ("name",), DROP, "name"),
    ("sequence", ("task",), "translation", "decode"),
    ("translation", ("decode",), DROP, "decode"),
    ("sequence", ("heads",), {}, "heads"),
    ("sequence", ("features",), {}, "features"),
    ("sequence", ("buckets",), [], "buckets"),
    ("translation", ("buckets",), [32, 16, 128], "buckets"),
    ("translation", ("buckets",), [16, 16, 128], "buckets"),
    ("sequence", ("buckets",), [25, 50], "padding"),
    ("translation", ("mask_from",), "target", "mask_from"),
    ("sequence", ("mask_from",), "activity", "mask_from: 'activity' goes with mask: derived"),
    ("sequence", ("mask",), {"input": "lengths"}, "serving_default.inputs.mask"),
    ("sequence", (*INPUTS, "mask"), DROP, "mask.input"),
    ("translation", ("signatures", "beam"), DROP, "'beam'"),
    ("sequence", (*INPUTS, "amount"), DROP, "features.amount"),
    ("sequence", (*INPUTS, "amount", "axes"), ["batch", "time"], "inputs.amount"),
    ("sequence", (*INPUTS, "amount", "axes"), ["batch", "unit"], "inputs.amount"),
    ("sequence", (*INPUTS, "amount", "axes"), ["batch", "time", "a", "b"], "inputs.amount"),
    ("sequence", (*INPUTS, "amount", "dtype"), "string", "inputs.amount"),
    ("sequence", (*INPUTS, "amount", "dtype"), "float16", "inputs.amount.dtype"),
    ("sequence", (*INPUTS, "amount", "pad_value"), DROP, "inputs.amount"),
    ("sequence", (*INPUTS, "activity", "pad_value"), 0.5, "inputs.activity"),
    ("sequence", (*INPUTS, "activity", "pad_value"), 2**31, "inputs.activity"),
    ("sequence", (*INPUTS, "extra"), {"dtype": "int32", "axes": ["batch"]}, "inputs.extra"),
    ("sequence", ("signatures", "serving_default", "outputs", "load"), DROP, "heads.load"),
    ("sequence", (*STEP, "state", "more"), [48], "state.more"),
    ("sequence", (*STEP, "state", "state"), [], "signatures.step.state"),
    ("sequence", (*STEP, "inputs", "state"), DROP, "state.state: inputs"),
    ("sequence", (*STEP, "outputs", "state", "dtype"), "int32", "state.state: outputs"),
    ("sequence", (*STEP, "inputs", "state", "axes"), ["unit", "batch"], "state.state: inputs"),
    ("sequence", (*STEP, "inputs", "activity", "axes"), ["batch", "time"], "inputs.activity"),
    ("sequence", ("options", "seed", "default"), -1, "options.seed"),
    ("sequence", ("options", "heat"), SEED, "options.heat: not an input of any signature"),
    ("sequence", ("options", "minutes"), SEED, "serving_default.inputs.minutes: fed by more"),
    ("sequence", ("options", "mask"), SEED, "serving_default.inputs.mask: fed by more"),
    ("sequence", (*INPUTS, "seed", "axes"), ["batch", "unit"], "serving_default.inputs.seed"),
    ("sequence", ("limits", "sequence_steps"), DROP, "limits.sequence_steps"),
    ("sequence", ("limits", "sequence_steps"), 51, "limits.sequence_steps"),
    ("translation", ("limits", "text_characters"), DROP, "limits.text_characters"),
    ("translation", ("limits", "text_pieces"), 129, "limits.text_pieces"),
    ("translation", ("decode", "signatures"), {}, "decode.signatures"),
    ("translation", ("decode", "signatures", "fast"), "greedy", "decode.signatures"),
    ("translation", ("decode", "default_length"), 129, "default_length"),
    ("translation", ("decode", "default_length"), 32, "decode.default_length: 32, but options.max_length"),
    ("translation", ("decode", "max_length"), 256, "decode.max_length: 256, but options.max_length"),
    ("translation", ("decode", "max_beams"), 4, "decode.max_beams: 4, but options.beam_size"),
    ("translation", ("profile",), {"pieces_per_word": "2"}, "profile.pieces_per_word"),
    ("translation", ("profile",), {"pieces_per_word": 0}, "profile.pieces_per_word"),
    ("translation", ("profile",), {"pieces_per_word": True}, "profile.pieces_per_word"),
    ("sequence", ("profile", "ranges"), [[0, 1]], "profile.ranges"),
    ("translation", ("decode", "special_ids"), {"end": 4}, "features.source.special_ids.end is 3"),
    ("translation", ("decode", "special_ids"), {"pad": 9}, "decode.special_ids.pad is 9"),
    ("vocabularies", ("decode", "tokenizer"), DROP, "decode.special_ids.pad is 7"),
    ("vocabularies", ("features", "source", "add_end"), True, "special_ids.end is null"),
    ("vocabularies", ("features", "source", "special_ids", "start"), None, "special_ids.start is null"),
    ("vocabularies", ("features", "source", "special_ids", "pad"), None, "special_ids.pad"),
    ("vocabularies", ("languages", "target"), DROP, "languages.target"),
    ("vocabularies", ("languages", "source"), "", "languages.source"),
    ("translation", ("decode", "default_length"), DROP, "decode.default_length: needed"),
    ("translation", ("decode", "max_length"), DROP, "decode.max_length: needed"),
    ("translation", ("buckets",), DROP, "buckets: ascending, at least one"),
    ("strings", ("buckets",), [8], "none where no feature has steps"),
    (
        "strings",
        (*INPUTS, "source", "dtype"),
        "int32",
        "inputs.source: a text is a string (batch), not int32",
    ),
    ("strings", (*INPUTS, "source", "axes"), ["batch", "time"], "inputs.source"),
    ("strings", (*OUTPUTS, "target", "dtype"), "int32", "outputs.target: dtype int32"),
    ("sequence", (*OUTPUTS, "load", "dtype"), "string", "outputs.load: dtype string"),
    ("strings", ("heads", "target", "per"), "step", "heads.target"),
    ("strings", ("heads",), {}, "decode.signatures: a translator of raw text answers by one"),
    (
        "strings",
        ("decode", "signatures", "beam"),
        "serving_default",
        "decode.signatures: a translator of raw",
    ),
    ("strings", ("decode", "max_length"), 9, "decode.max_length: 9, but text comes back"),
    ("strings", ("decode", "tokenizer"), "a.json", "decode.tokenizer: a.json, but text comes back"),
    ("strings", ("decode", "max_beams"), 2, "decode.max_beams: 2"),
    ("strings", ("limits", "text_characters"), DROP, "limits.text_characters: needed"),
    ("strings", ("limits", "text_pieces"), 9, "limits.text_pieces: 9, but no feature has pieces"),
    ("strings", ("padding",), "left", "padding: left is for a fixed time axis"),
    ("sequence", ("features", "activity", "per"), "sequence", "inputs.activity: axes are batch and at most"),
    ("sequence", ("features", "amount", "per"), "row", "features.amount"),
    ("sequence", ("streams",), [["activity"], ["minutes"]], "streams: each of activity, amount, minutes"),
    ("sequence", ("streams",), [["activity"], ["amount", "minutes"]], "streams: 'mask' is one mask for all"),
    ("sequence", ("limits", "sequence_least"), 51, "limits.sequence_least: 51 is above sequence_steps, 40"),
    ("translation", ("mask_from",), ["source", "source"], "several distinct ones"),
    ("translation", ("mask_from",), [], "mask_from"),
    ("translation", ("mask_where",), "all", "mask_where: 'all' goes with several"),
    (
        "sequence",
        ("features", "activity"),
        {"kind": "tokens", "tokenizer": "t"},
        "streams: 'mask' is one mask",
    ),
    ("strings", ("limits", "sequence_least"), 2, "limits.sequence_least: 2, but no feature has"),
    ("sequence", ("features", "activity", "labels"), ["Wait", "Wait"], "features.activity"),
    ("sequence", ("features", "activity", "labels"), [], "features.activity"),
    ("sequence", ("features", "activity", "unknown"), "reject", "unknown_id"),
    ("sequence", ("features", "activity", "unknown_id"), DROP, "unknown_id"),
    ("sequence", ("features", "amount", "mean"), [0], "mean has 1"),
    ("sequence", ("features", "amount", "scale"), [1, 1, 1], "scale has 3"),
    ("sequence", ("features", "amount", "scale"), [1, 0], "scale has a zero"),
    ("sequence", ("features", "amount", "columns"), ["price"], "columns has 1"),
    ("sequence", ("features", "amount", "units"), ["EUR"], "units has 1"),
    ("sequence", ("features", "minutes", "scale"), 0, "features.minutes"),
    ("sequence", ("features", "minutes", "unit"), "weeks", "features.minutes"),
    ("sequence", ("features", "minutes", "kind"), "clock", "features.minutes"),
    ("sequence", ("heads", "next_activity", "labels"), ["a", "a"], "heads.next_activity"),
    ("sequence", ("heads", "next_activity", "scores"), DROP, "heads.next_activity"),
    ("sequence", ("heads", "next_activity", "temperature"), 0, "heads.next_activity"),
    ("sequence", ("heads", "alarms", "labels"), [], "heads.alarms"),
    ("sequence", ("heads", "alarms", "thresholds"), [0.5], "thresholds has 1"),
    ("sequence", ("heads", "minutes_to_next", "quantiles"), [0.1, 0.9], "quantiles"),
    ("sequence", ("heads", "minutes_to_next", "quantiles"), [0.9, 0.5, 0.1], "quantiles"),
    ("sequence", ("heads", "minutes_to_next", "quantiles"), [0.5, 0.5], "quantiles"),
    ("sequence", ("heads", "minutes_to_next", "quantiles"), [0.0, 0.5, 1.0], "quantiles"),
    ("sequence", ("heads", "minutes_to_next", "scale"), [0], "scale has a zero"),
    ("sequence", ("heads", "load", "mean"), [0], "mean has 1"),
]


@pytest.mark.parametrize(("task", "path", "value", "named"), CONTRADICTIONS)
def test_contradictions(
    plain_manifest: Plain, task: str, path: tuple[str | int, ...], value: Any, named: str
) -> None:
    """A manifest that is wrong in one place is refused with that place in the message."""
    plain = plain_manifest(task)
    place: Any = plain
    for step in path[:-1]:
        place = place[step]
    if value is DROP:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    with pytest.raises(ManifestInvalid, match=r"^manifest\.json: ") as caught:
        parse_manifest(orjson.dumps(plain))
    assert named in str(caught.value)


def test_absent_fields_of_decoding_are_those_of_the_text(plain_manifest: Plain) -> None:
    """One vocabulary is both source and target: its special ids are said once, or twice and alike."""
    plain = plain_manifest("translation")
    ids = {"pad": 0, "unknown": 1, "start": 5, "end": 6}
    plain["features"]["source"]["special_ids"] = ids
    assert "special_ids" not in plain["decode"]
    once = parse_manifest(orjson.dumps(plain))
    assert once.decode is not None
    assert once.decode.special_ids == SpecialIds(**ids)
    assert once.decode.max_length == 128
    plain["decode"]["special_ids"] = ids
    twice = parse_manifest(orjson.dumps(plain))
    assert twice == once
    assert dump_manifest(twice) == dump_manifest(once)


def test_a_length_that_no_option_feeds_is_the_models_own(plain_manifest: Plain) -> None:
    """Without an option for it nothing contradicts what decoding says."""
    plain = plain_manifest("translation")
    del plain["options"]["max_length"]
    for signature in ("greedy", "beam", "sample"):
        del plain["signatures"][signature]["inputs"]["max_length"]
    plain["decode"]["default_length"] = 32
    got = parse_manifest(orjson.dumps(plain))
    assert got.decode is not None
    assert got.decode.default_length == 32


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b"null", b"\xff", b'{"card": {"loss": NaN}}', b"[" * 2000]
)
def test_not_a_manifest(data: bytes) -> None:
    """Bytes that are no JSON object are refused alike."""
    with pytest.raises(ManifestInvalid, match=r"^manifest\.json: "):
        parse_manifest(data)


def test_nan_is_not_json(golden: Golden) -> None:
    """NaN is refused even where any value goes: it would come back as null."""
    with pytest.raises(ManifestInvalid, match="not JSON"):
        parse_manifest(golden("translation").replace(b"null", b"NaN"))


def test_digest(golden: Golden) -> None:
    """The digest is the SHA-256 of the manifest's own bytes, named as such."""
    data = golden("sequence")
    assert digest_of(data) == f"sha256:{hashlib.sha256(data).hexdigest()}"
    assert sha256(b"") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@pytest.mark.parametrize(
    ("hashes", "changed"),
    [
        ({"saved_model.pb": "00", "assets/tokenizers/en.model": "11"}, []),
        ({"saved_model.pb": "01", "assets/tokenizers/en.model": "11"}, ["saved_model.pb"]),
        ({"saved_model.pb": "00"}, ["assets/tokenizers/en.model"]),
        ({"saved_model.pb": "00", "assets/tokenizers/en.model": "11", "extra": "22"}, ["extra"]),
        ({"extra": "22"}, ["assets/tokenizers/en.model", "extra", "saved_model.pb"]),
    ],
)
def test_changed_files(golden: Golden, hashes: dict[str, str], changed: list[str]) -> None:
    """Files that differ, are missing or are not listed are named, in order."""
    manifest: Manifest = parse_manifest(golden("translation"))
    assert list(changed_files(manifest, hashes)) == changed
