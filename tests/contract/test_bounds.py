"""Hostile manifests: whatever a field holds, it is refused with its name at once, or does no harm."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import orjson
import pytest
from hypothesis import given, settings, strategies as st
from pydantic import BaseModel

from seqserve.service.contract import bounds, digest
from seqserve.service.contract.describe import as_json, describe
from seqserve.service.contract.features import SequenceEncoder
from seqserve.service.contract.manifest import Manifest
from seqserve.service.contract.manifest_file import parse_manifest
from seqserve.service.errors import ManifestInvalid, SeqserveError

Plain = Callable[[str], dict[str, Any]]
Place = tuple[str | int, ...]
TASKS = ("sequence", "translation", "vocabularies")
SECONDS = 1.0


def put(plain: Any, place: Place, value: Any) -> bytes:
    """Return the manifest's JSON with another value in one place."""
    *way, last = place
    holder = plain
    for step in way:
        holder = holder[step]
    holder[last] = value
    return json.dumps(plain).encode()


LIMITS: list[tuple[str, Place, Any, str]] = [
    ("sequence", ("buckets",), [10**9], "buckets.0: 1000000000 is above the limit of 1000000"),
    ("sequence", ("buckets",), list(range(1, 1002)), "buckets: 1001 entries are above the limit of 1000"),
    ("sequence", ("version",), 2**63, "version: 9223372036854775808 is above the limit"),
    ("sequence", ("features", "activity", "first_id"), 10**30, "features.activity.first_id: 1e+30 is above"),
    (
        "sequence",
        ("features", "activity", "first_id"),
        -(10**30),
        "activity.first_id: -1e+30 is below",
    ),
    (
        "sequence",
        ("features", "activity", "first_id"),
        2**31 - 2,
        "features.activity: ids of 1 to 214748364",
    ),
    (
        "sequence",
        ("features", "activity", "unknown_id"),
        2**31,
        "activity.unknown_id: 2147483648 is above",
    ),
    ("sequence", ("features", "amount", "width"), 10**6, "features.amount.width: 1000000 is above"),
    ("sequence", ("features", "amount", "mean"), [1e300, 0], "features.amount.mean.0: 1e+300 is above"),
    ("sequence", ("features", "minutes", "scale"), 1e39, "features.minutes.scale: 1e+39 is above"),
    ("sequence", ("heads", "alarms", "thresholds"), [50, 0.5], "heads.alarms.thresholds.0: 50 is above the"),
    ("sequence", ("heads", "load", "scale"), [1, -1e39], "heads.load.scale.1: -1e+39 is below"),
    ("sequence", ("tolerance", "cpu"), 1e308, "tolerance.cpu: 1e+308 is above the limit of 0.1"),
    ("sequence", ("tolerance", "gpu"), -1, "tolerance.gpu: -1 is below the limit of 0"),
    ("sequence", ("options", "seed", "maximum"), 10**39, "options.seed.maximum: 1e+39 is above"),
    ("sequence", ("options", "seed", "maximum"), 2**63, "options.seed: 0 to 9223372036854775808"),
    ("sequence", ("signatures", "step", "state", "state"), [2**30], "signatures.step.state.state.0: 10737"),
    ("sequence", ("limits", "sequence_steps"), 10**12, "limits.sequence_steps: 1000000000000 is above"),
    ("sequence", ("profile", "ranges"), {"minutes": [[0, 1e300]]}, "profile.ranges.'minutes': 1e+300 is"),
    ("sequence", ("files",), {str(n): "" for n in range(100_001)}, "files: 100001 entries are above"),
    ("sequence", ("files",), {"x" * 1001: ""}, "files: a name of 1001 characters is above the limit of 1000"),
    ("sequence", ("name",), "x" * 1001, "name: 1001 characters are above the limit of 1000"),
    ("sequence", ("features", "activity", "labels"), ["x" * 1001], "features.activity.labels.0: 1001 char"),
    ("sequence", ("examples",), [{}] * 1001, "examples: 1001 entries are above the limit of 1000"),
    ("translation", ("decode", "max_length"), 10**7, "decode.max_length: 10000000 is above"),
    (
        "translation",
        ("decode", "max_beams"),
        10**9,
        "decode.max_beams: 1000000000 is above the limit",
    ),
    ("translation", ("limits", "text_characters"), 10**9, "limits.text_characters: 1000000000 is above"),
    ("vocabularies", ("decode", "special_ids", "pad"), 2**31, "decode.special_ids.pad: 2147483648 is above"),
]


@pytest.mark.parametrize(("task", "place", "value", "message"), LIMITS)
def test_what_is_past_a_bound_is_named_with_the_limit(
    plain_manifest: Plain, task: str, place: Place, value: Any, message: str
) -> None:
    plain = plain_manifest(task)
    if place[0] in ("profile", "examples") and len(place) == 2:
        plain[place[0]] = {}
    with pytest.raises(ManifestInvalid) as caught:
        parse_manifest(put(plain, place, value))
    assert message in caught.value.message
    assert len(caught.value.message) < 500


def test_seeds_may_be_whatever_int64_holds(plain_manifest: Plain) -> None:
    """The bounds of a type belong to it."""
    seed = {"option": "seed", "default": 0, "minimum": -(2**63), "maximum": 2**63 - 1}
    parse_manifest(put(plain_manifest("sequence"), ("options", "seed"), seed))


def test_a_row_that_no_memory_holds_is_refused(plain_manifest: Plain) -> None:
    """Each number is within its bound, and their product is not."""
    plain = plain_manifest("sequence")
    width = 1000
    plain["features"]["amount"] |= {"width": width, "mean": [0] * width, "scale": [1] * width}
    plain["features"]["amount"] |= {"columns": [], "units": []}
    with pytest.raises(ManifestInvalid, match=r"buckets\.0: 1000000 steps of 1002 numbers are 1002000000"):
        parse_manifest(put(plain, ("buckets",), [10**6]))


def test_a_manifest_is_not_read_past_its_size(plain_manifest: Plain, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "MANIFEST_BYTES", 1000)
    with pytest.raises(ManifestInvalid, match=r"manifest\.json: \d+ bytes are above the limit of 1000"):
        parse_manifest(json.dumps(plain_manifest("sequence")).encode())


def test_files_are_not_read_past_their_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the manifest nor another file, however deep; weights may be as large as they are."""
    for name in ("assets/manifest.json", "assets/deep/words", "variables/variables.data-00000-of-00001"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"123")
    for name in ("MANIFEST_BYTES", "ASSET_BYTES"):
        monkeypatch.setattr(digest, name, 3)
    assert digest.read_manifest(tmp_path) == b"123"
    digest.check_sizes(tmp_path)
    for name in ("MANIFEST_BYTES", "ASSET_BYTES"):
        monkeypatch.setattr(digest, name, 2)
    with pytest.raises(ManifestInvalid, match=r"assets/manifest\.json: 3 bytes are above the limit of 2"):
        digest.read_manifest(tmp_path)
    (tmp_path / "assets" / "manifest.json").unlink()
    with pytest.raises(ManifestInvalid, match="assets/deep/words: 3 bytes are above the limit of 2"):
        digest.check_sizes(tmp_path)


def test_a_thousand_faults_are_not_all_said(plain_manifest: Plain) -> None:
    with pytest.raises(ManifestInvalid, match=r"and 99\d more$"):
        parse_manifest(put(plain_manifest("sequence"), ("features", "activity", "labels"), [0] * 1000))


FREE = {(Manifest, "profile"), (Manifest, "card"), (Manifest, "examples")}


def fields_of(model: type[BaseModel], seen: set[type[BaseModel]]) -> Iterator[tuple[str, set[Any]]]:
    """Yield each field of a model and of its parts, with the plain types that it may hold."""
    if model in seen:
        return
    seen.add(model)
    for name, field in model.model_fields.items():
        types = set(types_within(field.annotation))
        yield name, types
        for part in types:
            if isinstance(part, type) and issubclass(part, BaseModel) and (model, name) not in FREE:
                yield from fields_of(part, seen)


def types_within(annotation: Any) -> Iterator[Any]:
    """Yield the types that an annotation is made of."""
    origin = get_origin(annotation)
    if origin is Literal:
        return
    if origin in (Annotated, Union, UnionType, tuple, list, dict):
        yield from [origin] if origin in (tuple, list, dict) else []
        for inner in get_args(annotation)[: 1 if origin is Annotated else None]:
            yield from types_within(inner)
    else:
        yield annotation


def test_every_number_list_and_object_of_a_manifest_has_a_bound() -> None:
    """A field that is added to the manifest needs a line in the tables."""
    for name, types in fields_of(Manifest, set()):
        if name in ("profile", "card"):
            continue
        if types & {int, float}:
            assert name in bounds.NUMBERS, f"{name} has no least and most"
        if types & {tuple, list}:
            assert name in bounds.ENTRIES or name == "items", f"{name} has no most entries"
    assert set(Manifest.model_fields) == {*bounds.KNOWN, *bounds.FREE, "padding", "batching"}


def places_of(plain: Any) -> Iterator[Place]:
    """Yield where each value of a JSON tree is."""
    pairs = plain.items() if isinstance(plain, dict) else enumerate(plain) if isinstance(plain, list) else ()
    for key, value in pairs:
        yield (key,)
        yield from ((key, *rest) for rest in places_of(value))


WHOLE = (0, -1, 1, 2**31, -(2**31) - 1, 2**53 + 1, 2**63, 2**64, 10**30, -(10**30), 10**400)
NUMBERS = st.sampled_from([*WHOLE, 0.5, 5e-324, 1e-300, 1e39, 1e300, -1.7e308, True, False])
LONG = st.sampled_from([[0] * 20_000, ["x"] * 20_000, [[]] * 20_000, "x" * 100_000, {"x" * 2000: 0}])
DEEP = st.integers(1, 900).map(lambda depth: json.loads("[" * depth + "]" * depth))
WORDS = st.sampled_from(["", "\0", "../../x", "NaN", "\U0010ffff", "a\nb", "__class__"])
HOSTILE = st.one_of(
    NUMBERS,
    NUMBERS.map(lambda number: [number]),
    st.tuples(NUMBERS, NUMBERS).map(list),
    st.lists(NUMBERS, max_size=4),
    NUMBERS.map(lambda number: {"x": number}),
    NUMBERS.map(lambda number: {"minutes": [[0, number]]}),
    LONG,
    DEEP,
    WORDS,
    st.none(),
    st.just([]),
    st.just({}),
)


@settings(max_examples=600, deadline=None)
@given(data=st.data(), task=st.sampled_from(TASKS), value=HOSTILE)
def test_whatever_a_field_holds_is_refused_at_once_or_harmless(
    golden: Callable[[str], bytes], data: st.DataObject, task: str, value: Any
) -> None:
    """Harmless: what loads can be shown to callers, and makes an encoder that encodes or refuses."""
    plain = orjson.loads(golden(task)) | {"profile": {"ranges": {}, "pieces_per_word": 2}}
    place = data.draw(st.sampled_from(list(places_of(plain))))
    given = put(plain, place, value)
    refusal = refusal_of(given, task)
    # again where it was slow: a collection of the whole process' garbage may fall into it
    assert any(seconds_of(given, task) < SECONDS for _ in range(3))
    assert len(refusal) < bounds.MOST_FAULTS * (bounds.LONGEST_FAULT + 10)
    assert "\n" not in refusal


def seconds_of(given: bytes, task: str) -> float:
    """Return the processor time that it takes to refuse it, or to load it."""
    started = time.thread_time()
    refusal_of(given, task)
    return time.thread_time() - started


def refusal_of(given: bytes, task: str) -> str:
    """Return why a manifest is refused; empty where it loads, can be shown to callers, and encodes."""
    try:
        manifest = parse_manifest(given)
        if task == "sequence":
            item = {"activity": ["Wait"], "amount": [[1, 2]], "minutes": [3]}
            SequenceEncoder(manifest, "serving_default").encode(item)
    except SeqserveError as error:
        return error.message
    assert orjson.dumps(as_json(describe(manifest)))
    return ""
