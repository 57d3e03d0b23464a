"""A session as a value, and as the bytes that a store keeps."""

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import orjson

from seqserve.service.contract.events import Events, count
from seqserve.service.contract.items import WarningDetail
from seqserve.service.contract.padding import Array
from seqserve.service.core.types import ModelRef, Outputs

FORMAT = 1
"""Of the bytes: what another release wrote in another form is not read."""
HEAD = struct.Struct("<BI")
"""The format, and the bytes of the JSON that follows; after that come the arrays."""
TYPES = {name: np.dtype(name) for name in ("bool", "int32", "int64", "float32")}
NAMES = {kind: name for name, kind in TYPES.items()}


class OtherFormat(ValueError):
    """The bytes are not a session as this release writes them."""


@dataclass(frozen=True, slots=True)
class Session:
    """One live sequence.

    Args:
        ref: what it was made with: the version or label that it is bound to, or neither.
        principal: who made it; nobody else is told that it is there.
        version, digest: the model version whose state this is.
        events: all of them so far.
        outputs: of the last event, the state among them; before any, the state that a model starts from.
        details: where its warnings come from.
        expires: when a store may forget it, in Unix time; each change puts it off.
    """

    id: str
    ref: ModelRef
    principal: str
    version: int
    digest: str
    outputs: Outputs = field(compare=False)  # arrays
    events: Events = field(default_factory=dict)
    details: tuple[WarningDetail, ...] = ()
    expires: float = 0.0

    @property
    def next_event(self) -> int:
        """The number of the event that comes next: how many there have been."""
        return count(self.events)

    def later(self, **changes: Any) -> "Session":
        """Return it changed."""
        return replace(self, **changes)


def pack(session: Session) -> bytes:
    """Return a session as bytes."""
    arrays = session.outputs
    content = {
        "id": session.id,
        "ref": [session.ref.name, session.ref.version, session.ref.label],
        "principal": session.principal,
        "version": session.version,
        "digest": session.digest,
        "events": session.events,
        "details": [[one.warning, one.feature, one.step, one.value] for one in session.details],
        "expires": session.expires,
        "arrays": [[name, NAMES[value.dtype], value.shape] for name, value in arrays.items()],
    }
    head = orjson.dumps(content)
    return b"".join([HEAD.pack(FORMAT, len(head)), head, *(value.tobytes() for value in arrays.values())])


def unpack(data: bytes) -> Session:
    """Return the session that `pack` wrote; raises OtherFormat."""
    try:
        form, size = HEAD.unpack_from(data)
        if form != FORMAT:
            raise OtherFormat(f"format {form}, not {FORMAT}")
        content = orjson.loads(data[HEAD.size : HEAD.size + size])
        return Session(
            id=content["id"],
            ref=ModelRef(*content["ref"]),
            principal=content["principal"],
            version=content["version"],
            digest=content["digest"],
            outputs=_arrays(content["arrays"], data, HEAD.size + size),
            events=content["events"],
            details=tuple(WarningDetail(*one) for one in content["details"]),
            expires=content["expires"],
        )
    except (struct.error, LookupError, TypeError, ValueError) as error:
        raise OtherFormat(str(error)) from error


def _arrays(described: list[Any], data: bytes, at: int) -> Mapping[str, Array]:
    arrays = {}
    for name, kind, shape in described:
        dtype, size = TYPES[kind], math.prod(shape)
        arrays[name] = np.frombuffer(data, dtype, size, at).reshape(shape)
        at += size * dtype.itemsize
    return arrays
