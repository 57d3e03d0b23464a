"""What a caller gave, looked at before it is sent: what is wrong is said at once, alike at both doors."""

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import isfinite
from reprlib import repr as shown
from typing import Any
from urllib.parse import quote

from seqserve.client import errors
from seqserve.client.errors import ServiceError, Violation

BITS = {"seed": 64, "version": 64}
"""Of a whole number, signed, in the messages; 32 of any other."""


def wrong(pointer: str, message: str, kind: type[ServiceError] = errors.WrongType) -> ServiceError:
    """Return an error with its one fault."""
    return kind(message, errors=[Violation(pointer, message, kind.reason)])


def whole(name: str, value: Any) -> int:
    """Return a whole number, of numpy too."""
    place = _pointer(name)
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None:
        raise wrong(place, f"{name} is {shown(value)}, not a whole number")
    most = 2 ** (BITS.get(name.rpartition(".")[2], 32) - 1) - 1
    if not -most - 1 <= number <= most:
        told = f"{name} is {shown(number)}; it must be between {-most - 1} and {most}"
        raise wrong(place, told, errors.OptionOutOfRange)
    return number


def number(name: str, value: Any) -> float:
    """Return a finite number."""
    if isinstance(value, (bool, str, bytes)) or not hasattr(value, "__float__"):
        raise wrong(_pointer(name), f"{name} is {shown(value)}, not a number")
    try:
        read = float(value)
    except OverflowError:
        read = float("inf")
    if not isfinite(read):
        raise wrong(_pointer(name), f"{name} is {shown(value)}; it must be finite", errors.OptionOutOfRange)
    return read


def truth(name: str, value: Any) -> bool:
    """Return True or False."""
    if not isinstance(value, bool):
        raise wrong(_pointer(name), f"{name} is {shown(value)}, not True or False")
    return value


def text(name: str, value: Any) -> str:
    """Return a text that UTF-8 has: a half of a surrogate pair is none."""
    if not isinstance(value, str):
        raise wrong(_pointer(name), f"{name} is {shown(value)}, not a text")
    if not is_sayable(value):
        raise wrong(_pointer(name), f"{name} is {shown(value)}, which is no Unicode text")
    return value


def texts(name: str, value: Any) -> list[str]:
    """Return a list of texts; one text is none."""
    if isinstance(value, (str, bytes, Mapping)) or not hasattr(value, "__iter__"):
        raise wrong(_pointer(name), f"{name} is {shown(value)}, not a list of texts")
    return [text(f"{name}.{i}", one) for i, one in enumerate(value)]


def sampling(name: str, value: Any) -> dict[str, Any]:
    """Return the options of drawing."""
    if not isinstance(value, Mapping):
        raise wrong(_pointer(name), f"{name} is {shown(value)}, not a mapping")
    return options(value, SAMPLING, f"{name}.")


SAMPLING: Mapping[str, Callable[[str, Any], Any]] = {"temperature": number, "top_k": whole, "seed": whole}
OPTIONS: Mapping[str, Callable[[str, Any], Any]] = {
    "beam_size": whole,
    "n_best": whole,
    "length_penalty": number,
    "max_length": whole,
    "sampling": sampling,
    "alignment": truth,
    "tokens": truth,
    "top_k": whole,
    "heads": texts,
    "seed": whole,
}


def options(
    given: Mapping[str, Any], readers: Mapping[str, Callable[[str, Any], Any]] = OPTIONS, before: str = ""
) -> dict[str, Any]:
    """Return options as they are sent; None counts as not given."""
    for name in given:
        if name not in readers:
            raise wrong(_pointer(before + name), f"no option {before}{name}; there are {', '.join(readers)}")
    return {name: readers[name](before + name, one) for name, one in given.items() if one is not None}


def items(member: str, given: Any) -> Any:
    """Return a list, or what yields one: a text alone would be read letter by letter.

    Raises:
        TypeError: it is one text or one sequence.
    """
    if isinstance(given, (str, bytes, Mapping)):
        raise TypeError(f"{member} is a list; for one, [{shown(given)}]")
    return given


def check_items(member: str, given: Sequence[Any]) -> None:
    """Raise the first item's fault; others of the list may be at fault as well."""
    kind, name = (str, "text") if member == "texts" else (Mapping, "mapping of features")
    for place, item in enumerate(given):
        if not isinstance(item, kind):
            fault = wrong(f"#/{member}/{place}", f"{shown(item)} is no {name}")
            fault.left_out = len(given) - 1
            raise fault


def fault_in(value: Any, place: str) -> ServiceError | None:
    """Return what of a value neither door can send, and where it is; None: each can send all."""
    inner: Iterable[tuple[Any, str]] = ()
    match value:
        case str():
            return None if is_sayable(value) else wrong(place, f"{shown(value)} is no Unicode text")
        case Mapping():
            if any(not isinstance(name, str) or not is_sayable(name) for name in value):
                return wrong(place, f"a name in {shown(value)} is no Unicode text")
            inner = ((one, f"{place}/{escaped(name)}") for name, one in value.items())
        case list() | tuple():
            inner = ((one, f"{place}/{i}") for i, one in enumerate(value))
        case None:
            pass
        case _:
            return _fault_of_number(value, place)
    return next((fault for one in inner if (fault := fault_in(*one)) is not None), None)


def _fault_of_number(value: Any, place: str) -> ServiceError | None:
    try:
        is_finite = isfinite(plain(value))
    except OverflowError:
        is_finite = False
    except TypeError:
        return wrong(place, f"{shown(value)} is of type {type(value).__name__}, no list, number or text")
    told = f"{shown(value)}: NaN, infinite, or beyond a double"
    return None if is_finite else wrong(place, told, errors.NotFinite)


def plain(value: Any) -> int | float:
    """Return a number of another library as one of Python's; raises TypeError for what is none."""
    if hasattr(value, "__index__"):
        return operator.index(value)
    if hasattr(value, "__float__"):
        return float(value)
    raise TypeError(f"{shown(value)} is no number")


def escaped(name: str) -> str:
    """Return a name as a JSON Pointer in a URI's fragment has it."""
    name = name.replace("~", "~0").replace("/", "~1")
    return quote(name, safe="~!$&'()*+,;=:@", errors="replace")


def is_sayable(value: str) -> bool:
    """Whether UTF-8 has it."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _pointer(name: str) -> str:
    return "#/" + name.replace(".", "/")
