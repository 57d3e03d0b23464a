"""Hostile inputs from honest ones: JSON and protobuf messages changed by structure, then by bytes.

Everything is drawn from the `Random` given, so that a seed and a number find an input again.
"""

import json
from copy import deepcopy
from random import Random
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

SESSION = "fuzzed-live-sequence-1"
"""The id of a session that there is, of `visits`."""
BODIES: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("echo", "translate", {"texts": ["two dogs run"], "beam_size": 2, "n_best": 2, "alignment": True}),
    ("echo", "translate", {"texts": ["a cat", "dogs"], "sampling": {"seed": 3}, "tokens": True}),
    ("totals", "predict", {"sequences": [{"x": [1, 2, 3]}, {"x": [4.5]}], "heads": ["total"], "seed": 2}),
    (
        "tickets",
        "predict",
        {
            "sequences": [{"activity": ["Wait", 7], "minutes": [0, 2.5], "amount": [[1, 2], [3, 4]]}],
            "top_k": 3,
        },
    ),
    (
        "tickets",
        "predict",
        {
            "sequences": [
                {
                    "activity": ["Assign", "Wait"],
                    "minutes": {"timestamps": ["2026-01-02T03:04:05Z", "2026-01-02T04:04:05+01:00"]},
                    "amount": [[1, 2], [3, 4]],
                }
            ]
        },
    ),
    ("echo", "predict", {"instances": ["two dogs", {"text": "run"}], "signature_name": "serving_default"}),
    ("totals", "predict", {"inputs": {"x": [[1, 2, 3], [4.5]]}}),
    (
        "tickets",
        "infer",
        {
            "id": "mine",
            "inputs": [
                {"name": "activity", "datatype": "BYTES", "shape": [1, 2], "data": ["Assign", "Wait"]},
                {"name": "minutes", "datatype": "FP32", "shape": [1, 2], "data": [[0, 2.5]]},
                {"name": "amount", "datatype": "INT64", "shape": [1, 2, 2], "data": [1, 2, 3, 4]},
            ],
            "parameters": {"top_k": 2},
        },
    ),
    (
        "visits",
        "append",
        {"first_event": 0, "sequence": {"event": ["visit", 7], "minutes": [0, 2.5]}, "top_k": 2},
    ),
    ("echo", "pair", {"q": ["two dogs", "run"], "source": "en", "target": "de", "alternatives": 1}),
)
"""Honest requests: model, verb and body."""
PATHS = {
    "infer": ("/v2/models/{m}/infer", "/v2/models/{m}/versions/1/infer"),
    "pair": ("/translate",),
    "append": (f"/v1/models/{{m}}/sessions/{SESSION}:append",),
}
"""Of verbs that are no task's: where other protocols, and sessions, ask."""

NUMBERS: tuple[Any, ...] = (
    0,
    -1,
    1,
    7,
    2**31,
    -(2**31) - 1,
    2**63,
    2**64,
    10**30,
    1e308,
    -1e-320,
    0.5,
    666.0,
)
WORDS = (
    "",
    " ",
    "\x00",
    "Assign",
    "x" * 300,
    "😀👨‍👩‍👧‍👦",
    "\ufeff",
    "العربية",
    "\n",
    "2026-13-01T00:00:00Z",
    "9999-12-31T23:59:59Z",
    "seed",
)
LITERALS = ("NaN", "-Infinity", "1e999", "1" * 400, '"\\ud800"', "[" * 60 + "]" * 60, "{" + '"a":{' * 40)
DELETED = object()


def nasty(random: Random) -> Any:
    """Return a value that no member expects, or perhaps one that it does."""
    simple: tuple[Any, ...] = (None, True, False, [], {}, *NUMBERS, *WORDS)
    match random.randrange(12):
        case 0:
            return [random.choice(simple) for _ in range(random.randrange(40))]
        case 1:
            return {random.choice(WORDS): random.choice(simple) for _ in range(random.randrange(5))}
        case 2:
            return [[random.choice(NUMBERS)] * random.randrange(4) for _ in range(random.randrange(5))]
    return random.choice(simple)


def body(random: Random) -> tuple[str, str, bytes]:
    """Return a model, a verb and the bytes of a body that is nearly one of theirs."""
    model, verb, honest = random.choice(BODIES)
    table: Any = deepcopy(honest)
    for _ in range(random.randrange(3)):
        table = _changed(table, random)
    data = json.dumps(table, ensure_ascii=random.random() < 0.5).encode("utf-8", "surrogatepass")
    if random.random() < 0.15:
        data = _with_literal(data, random)
    return model, verb, mutated(data, random) if random.random() < 0.3 else data


def _changed(value: Any, random: Random) -> Any:
    """Return a value with one place of it replaced, deleted, doubled or put elsewhere."""
    if isinstance(value, dict) and value and random.random() < 0.85:
        key = random.choice(list(value))
        match random.randrange(8):
            case 0:
                return {name: inner for name, inner in value.items() if name != key}
            case 1:
                return {**value, random.choice(WORDS): nasty(random)}
        return {**value, key: _changed(value[key], random)}
    if isinstance(value, list) and value and random.random() < 0.85:
        place = random.randrange(len(value))
        match random.randrange(6):
            case 0:
                return value[:place] + value[place + 1 :]
            case 1:
                return value * random.randrange(2, 12)
        return [*value[:place], _changed(value[place], random), *value[place + 1 :]]
    return nasty(random)


def _with_literal(data: bytes, random: Random) -> bytes:
    """Put what is no JSON, or hardly, where a comma or a bracket was."""
    places = [place for place, char in enumerate(data) if char in b",]}"]
    if not places:
        return data
    at = random.choice(places)
    return data[:at] + b"," + random.choice(LITERALS).encode() + data[at:]


def mutated(data: bytes, random: Random) -> bytes:
    """Return bytes with some of them flipped, cut, doubled or drawn anew."""
    changed = bytearray(data)
    for _ in range(random.randrange(1, 4)):
        at = random.randrange(len(changed) + 1)
        match random.randrange(5):
            case 0 if at < len(changed):
                changed[at] ^= 1 << random.randrange(8)
            case 1:
                del changed[at : at + random.randrange(1, 9)]
            case 2:
                changed[at:at] = changed[max(0, at - random.randrange(1, 17)) : at]
            case 3:
                changed[at:at] = random.randbytes(random.randrange(1, 9))
            case _:
                del changed[at:]
    return bytes(changed)


# --- messages -------------------------------------------------------------------------------------


def message(honest: Message, random: Random) -> bytes:
    """Return the bytes of a message that is nearly the honest one, or is drawn from its descriptor alone."""
    made = type(honest)()
    if random.random() < 0.7:
        made.CopyFrom(honest)
    fill(made, random, depth=random.randrange(5))
    data = made.SerializeToString()
    return mutated(data, random) if random.random() < 0.35 else data


def fill(made: Message, random: Random, depth: int) -> None:
    """Set some fields of a message to values of their types, likely and unlikely."""
    descriptor: Descriptor = made.DESCRIPTOR
    for field in descriptor.fields:
        if random.random() < 0.4:
            _set(made, field, random, depth)


def _set(made: Message, field: FieldDescriptor, random: Random, depth: int) -> None:
    kind = field.message_type
    if kind is not None and kind.GetOptions().map_entry:
        for _ in range(random.randrange(3)):
            entry = getattr(made, field.name)[random.choice((*WORDS, "x", "activity", "minutes", "amount"))]
            if depth:
                fill(entry, random, depth - 1)
    elif kind is not None:
        if depth == 0:
            return
        several = getattr(made, field.name)
        for _ in range(random.randrange(4) if field.is_repeated else 1):
            fill(several.add() if field.is_repeated else several, random, depth - 1)
    elif field.is_repeated:
        getattr(made, field.name).extend(_scalar(field, random) for _ in range(random.randrange(6)))
    else:
        setattr(made, field.name, _scalar(field, random))


def _scalar(field: FieldDescriptor, random: Random) -> Any:
    """Return a value of a field's type."""
    kinds = FieldDescriptor
    match field.cpp_type:
        case kinds.CPPTYPE_STRING if field.type == kinds.TYPE_BYTES:
            return random.randbytes(random.randrange(9))
        case kinds.CPPTYPE_STRING:
            return random.choice((*WORDS, "total", "x", "echo", "totals", "tickets", "visits", SESSION))
        case kinds.CPPTYPE_BOOL:
            return random.random() < 0.5
        case kinds.CPPTYPE_DOUBLE | kinds.CPPTYPE_FLOAT:
            return random.choice((0.0, -0.0, 1.5, -1.0, 1e300, float("nan"), float("inf"), 666.0))
        case kinds.CPPTYPE_INT32:
            return random.choice((0, 1, 2, -1, 5, 2**31 - 1, -(2**31)))
        case kinds.CPPTYPE_INT64:
            return random.choice((0, 1, -1, 253402300800, 2**63 - 1, -(2**63)))
    return random.randrange(3)
