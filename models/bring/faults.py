"""What is wrong with a contract file, a line in all: each field, its value, and what to write instead."""

import difflib
import reprlib
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from seqserve.models.bring.contract import AnyFeature, AnyHead, Contract
from seqserve.models.bring.translation.contract import TranslationContract

ENTRIES: dict[str, Any] = {"features": AnyFeature, "heads": AnyHead}
"""Tables whose entries have names and are of a `kind`, which stands in pydantic's path, not in the file's."""
NAMES = {
    "name": "letters, digits and _ . - alone",
    "features": "letters, digits and _ alone, a letter first; input = NAME says what the model calls it",
    "heads": "letters, digits and _ alone, a letter first; output = NAME says what the model calls it",
}
WRITE = {
    ("padding", "pre"): 'padding = "left"',
    ("padding", "post"): 'padding = "right"',
    ("scores", "softmax"): 'scores = "probabilities"',
    ("scores", "sigmoid"): 'scores = "probabilities"',
    ("per", "horizon"): 'steps ahead are numbers, kind = "numeric"',
}
"""What is meant by a value that people write, by field and value."""
MOST = 5
"""Faults that are shown."""
Path = Sequence[int | str]


def contract_faults(error: ValidationError, table: Mapping[str, Any]) -> str:
    """Return the faults of a file, each with its field; what is wrong with a list's entries is said once."""
    told: dict[Path, str] = {}
    for fault in error.errors():
        path = _path(fault["loc"], table)
        field = path[:-1] if path and isinstance(path[-1], int) else path
        if field not in told:
            told[field] = f"{'.'.join(map(str, path))}: {_message(fault, path, table)}".removeprefix(": ")
    more = f"; and {len(told) - MOST} more" if len(told) > MOST else ""
    return "; ".join([*told.values()][:MOST]) + more


def _path(place: Path, table: Mapping[str, Any]) -> tuple[int | str, ...]:
    """Return where a fault lies, as the file has it: without the kind of an entry."""
    path = [key for key in place if key != "[key]"]
    if len(path) > 2 and path[0] in ENTRIES and path[2] == _at(table, [*path[:2], "kind"]):
        del path[2]
    return tuple(path)


def _at(table: Any, path: Path) -> Any:
    for key in path:
        try:
            table = table[key]
        except (KeyError, IndexError, TypeError):
            return None
    return table


def _message(fault: Any, path: Path, table: Mapping[str, Any]) -> str:
    given = fault.get("input")
    match fault["type"]:
        case "string_type" if isinstance(path[-1], int):
            return _strings(_at(table, path[:-1]), given)
        case "tuple_type" | "list_type":
            return _list(path, given)
        case "dict_type" | "model_type" | "model_attributes_type":
            return f"{_shown(given)}, but a table is expected: {_header(path)}"
        case "extra_forbidden":
            return _unknown(path, table)
        case "missing":
            return f"it is missing{_advice(path)}"
        case "union_tag_invalid" | "union_tag_not_found":
            named = given.get("kind") if isinstance(given, Mapping) else None
            kinds = ", ".join(_kinds(str(path[0]))) if path[0] in ENTRIES else "see docs/bring.md"
            return f"kind is missing: {kinds}" if named is None else f"kind = {named!r}, not one of {kinds}"
        case "literal_error":
            return _literal(fault, path, given)
        case "string_pattern_mismatch":
            return f"{_shown(given)}: {NAMES.get(str(path[0]), fault['msg'])}"
        case "too_long":
            return f"{fault['ctx']['actual_length']} entries, at most {fault['ctx']['max_length']}"
    message = str(fault["msg"]).removeprefix("Value error, ")
    is_said = fault["type"] == "value_error" or isinstance(given, Mapping | list)
    return message if is_said else f"{_shown(given)}: {message}"


def _shown(value: Any) -> str:
    return reprlib.repr(value)


def _strings(listed: Any, given: Any) -> str:
    """Say that entries are to be strings, with the list as it would be right."""
    entries = listed if isinstance(listed, list) else [given]
    right = ", ".join(f'"{entry}"' for entry in entries[:3]) + (", …" if len(entries) > 3 else "")
    return f"{_shown(given)}, but its entries are strings: [{right}]"


def _list(path: Path, given: Any) -> str:
    if path == ("examples",):
        return "one table, but a list of them is expected: [[examples]]"
    return f"{_shown(given)}, but a list is expected: {path[-1]} = [{_shown(given)}]"


def _header(path: Path) -> str:
    if path[0] in ENTRIES:
        return f"[{path[0]}.NAME]"
    return f"[{'.'.join(str(key) for key in path if isinstance(key, str))}]"


def _kinds(table: str) -> dict[str, type[BaseModel]]:
    union, _ = get_args(ENTRIES[table])
    return {get_args(entry.model_fields["kind"].annotation)[0]: entry for entry in get_args(union)}


def _unknown(path: Path, table: Mapping[str, Any]) -> str:
    """Say that there is no such field, and which one may be meant."""
    fields: list[str] = []
    if len(path) == 1:
        kind = TranslationContract if table.get("task") == "translation" else Contract
        fields = list(kind.model_fields)
    elif path[0] in ENTRIES:
        entry = _kinds(str(path[0])).get(str(_at(table, [*path[:2], "kind"])))
        fields = list(entry.model_fields) if entry is not None else []
    near = difflib.get_close_matches(str(path[-1]), fields, 1)
    if near:
        return f"there is no such field: is {near[0]} meant?"
    return f"there is no such field; there are {', '.join(fields)}" if fields else "there is no such field"


def _advice(path: Path) -> str:
    if path[-1] == "scores":
        return ': "probabilities" where the model ends with softmax or sigmoid, else "logits"'
    return f": add {_header(path)}" if path[-1] in ENTRIES else ""


def _literal(fault: Any, path: Path, given: Any) -> str:
    meant = WRITE.get((str(path[-1]), str(given)))
    allowed = "'sequence' or 'translation'" if path == ("task",) else fault["ctx"]["expected"]
    return f"{_shown(given)} is not {allowed}" + (f": {meant}" if meant else "")
