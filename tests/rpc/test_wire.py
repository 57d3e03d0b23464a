"""Fields counted in bytes: as protobuf has them where the bytes are a message, and anyhow elsewhere."""

import asyncio
import itertools
from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message
from hypothesis import given, strategies as st

from seqserve.service import errors
from seqserve.service.core.turns import Turn
from seqserve.service.rpc import wire
from seqserve.v1 import sequence_pb2, translation_pb2

PREDICT, TRANSLATE = sequence_pb2.PredictRequest, translation_pb2.TranslateRequest
OBJECTS = (FieldDescriptor.TYPE_MESSAGE, FieldDescriptor.TYPE_STRING)
TEXT = st.text(max_size=20)
INTEGER = st.integers(-(2**31), 2**31 - 1)
UNKNOWN = st.lists(
    st.sampled_from([b"\x78\x00", b"\x7a\x03\x0a\x00\x0a", b"\x79" + b"\x0a" * 8, b"\x7d" + b"\x12" * 4]),
    max_size=3,
)


@st.composite
def features(draw: st.DrawFn) -> sequence_pb2.Feature:
    feature = sequence_pb2.Feature()
    match draw(st.integers(0, 3)):
        case 0:
            feature.strings.values.extend(draw(st.lists(TEXT)))
        case 1:
            feature.numbers.values.extend(draw(st.lists(st.floats())))
            feature.numbers.width = draw(INTEGER)
        case 2:
            for seconds in draw(st.lists(INTEGER)):
                feature.timestamps.values.add(seconds=seconds, nanos=10)
    return feature


@st.composite
def predictions(draw: st.DrawFn) -> sequence_pb2.PredictRequest:
    request = PREDICT(heads=draw(st.lists(TEXT)), seed=draw(INTEGER))
    for given_ in draw(st.lists(st.dictionaries(TEXT, features(), max_size=3), max_size=3)):
        sequence = request.sequences.add()
        for name, feature in given_.items():
            sequence.features[name].CopyFrom(feature)
    return request


@st.composite
def translations(draw: st.DrawFn) -> translation_pb2.TranslateRequest:
    request = TRANSLATE(texts=draw(st.lists(TEXT)))
    request.model.name, request.model.version = draw(TEXT), draw(INTEGER)
    request.options.sampling.seed = draw(INTEGER)
    return request


def most_objects(raw: bytes, kind: Any) -> int:
    """Return what is told last, looked for in pieces so small that tags lie across their ends."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(wire, "PIECE", 3)
        found = max(wire.most_objects(raw, kind), default=0)
    assert found == max(wire.most_objects(raw, kind), default=0)
    return found


def has_objects(kind: Any) -> bool:
    return any(field.type in OBJECTS for field in kind.fields)


def counted(message: Message) -> tuple[int, int]:
    """Return a message's fields, and those of them that are texts or messages, as protobuf has them."""
    fields = objects = 0
    for field, value in message.ListFields():
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            inner = [(3 + more[0], 3 + more[1]) for more in map(counted, value.values())]  # entry, key, value
        elif field.type == FieldDescriptor.TYPE_MESSAGE:
            inner = [
                (1 + more[0], 1 + more[1]) for more in map(counted, value if field.is_repeated else [value])
            ]
        else:
            inner = [(1, int(field.type in OBJECTS))] * (len(value) if field.is_repeated else 1)
        fields += sum(more for more, _ in inner)
        objects += sum(more for _, more in inner)
    return (fields, objects) if has_objects(message.DESCRIPTOR) else (0, 0)


@given(st.one_of(predictions(), translations()), UNKNOWN)
def test_a_messages_fields_are_as_many_as_protobuf_has(message: Message, unknown: list[bytes]) -> None:
    fields, objects = counted(message)
    raw, kind = message.SerializeToString() + b"".join(unknown), message.DESCRIPTOR
    assert list(wire.count_fields(raw, kind))[-1] == fields + len(unknown)
    assert most_objects(raw, kind) >= objects


TAGS = st.lists(st.sampled_from(b"\x0a\x12\x1a\x8a\x00\x80\x01\x02\x06\x0b\x0c\xff"), max_size=60).map(bytes)


@given(st.one_of(st.binary(max_size=60), TAGS))
def test_any_bytes_can_be_counted_and_never_hide_what_protobuf_finds(raw: bytes) -> None:
    count = list(wire.count_fields(raw, PREDICT.DESCRIPTOR))[-1]
    assert 0 <= count <= len(raw)
    try:
        message = PREDICT.FromString(raw)
    except DecodeError:
        return
    lists = [
        found
        for sequence in message.sequences
        for feature in sequence.features.values()
        for found in (feature.strings.values, feature.timestamps.values)
    ]
    found = len(message.sequences) + len(message.heads) + sum(map(len, lists))
    assert found <= min(count, most_objects(raw, PREDICT.DESCRIPTOR))


@given(st.integers(1, 40), st.integers(1, 12))
def test_others_have_their_turn_between_a_few_fields(fields: int, turn: int) -> None:
    """However the fields lie in one another."""
    request = PREDICT(sequences=[sequence_pb2.Sequence()] * fields)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(wire, "TURN", turn)
        counts = list(wire.count_fields(request.SerializeToString(), PREDICT.DESCRIPTOR))
    assert all(later - earlier <= turn for earlier, later in itertools.pairwise(counts))
    assert counts[-1] == fields


@pytest.mark.parametrize("overlong", [False, True])
async def test_a_message_of_too_many_fields_is_refused_before_it_is_parsed(overlong: bool) -> None:
    """A tag may be written longer than it need be."""
    text = b"\x8a\x80\x00\x00" if overlong else b"\x0a\x00"
    strings = text * 100
    feature = b"\x0a" + bytes([len(strings) & 0x7F | 0x80, len(strings) >> 7]) + strings
    entry = b"\x12" + bytes([len(feature) & 0x7F | 0x80, len(feature) >> 7]) + feature
    sequence = b"\x0a" + bytes([len(entry) & 0x7F | 0x80, len(entry) >> 7]) + entry
    raw = b"\x12" + bytes([len(sequence) & 0x7F | 0x80, len(sequence) >> 7]) + sequence
    assert len(PREDICT.FromString(raw).sequences[0].features[""].strings.values) == 100
    await wire.check_fields(raw, PREDICT.DESCRIPTOR, 104)
    with pytest.raises(errors.MalformedMessage, match=r"more than 103 fields .* \(SEQSERVE_GRPC_FIELDS\)"):
        await wire.check_fields(raw, PREDICT.DESCRIPTOR, 103)


async def test_others_have_their_turn_while_a_long_message_is_looked_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After each piece where that took long."""
    turns = 0

    class Slow(Turn):
        def is_over(self) -> bool:
            return True

        async def end(self) -> None:
            nonlocal turns
            turns += 1

    monkeypatch.setattr(wire, "Turn", Slow)
    raw = PREDICT(heads=["é" * wire.PIECE] * 3).SerializeToString()
    await wire.check_fields(raw, PREDICT.DESCRIPTOR, 10)
    assert turns == 7


async def test_a_message_that_only_looks_like_many_fields_is_let_through() -> None:
    raw = TRANSLATE(texts=["\x12" * 1000]).SerializeToString()
    assert most_objects(raw, TRANSLATE.DESCRIPTOR) > 1000
    await asyncio.wait_for(wire.check_fields(raw, TRANSLATE.DESCRIPTOR, 1), 20)
