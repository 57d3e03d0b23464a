"""Which versions can be called. A call keeps the map that it was given until it ends.

As in TensorFlow Serving (fast_read_dynamic_ptr.h): a new map is given out at once, but who changes the map
waits until every call that holds the old one has ended. So one long call holds up each load and each unload.
"""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from tests.tfserving.servable import Servable

Versions = Mapping[int, Servable]


@dataclass(slots=True, eq=False)
class Snapshot:
    """The versions by model at one time, and how many calls hold them."""

    models: Mapping[str, Versions]
    holders: int = 0


class ServingMap:
    """Calls come from any thread; one thread alone changes it."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._current = Snapshot({})

    @contextmanager
    def held(self) -> Iterator[Mapping[str, Versions]]:
        """Give out the versions by model; they stay loaded until the end of the block."""
        with self._changed:
            snapshot = self._current
            snapshot.holders += 1
        try:
            yield snapshot.models
        finally:
            with self._changed:
                snapshot.holders -= 1
                self._changed.notify_all()

    def versions(self, model: str) -> Versions:
        """Return the versions of a model that can be called now."""
        return self._current.models.get(model, {})

    def put(self, model: str, versions: Versions) -> None:
        """Change a model's versions; return when the last call that does not see the change has ended."""
        with self._changed:
            old = self._current
            self._current = Snapshot({**old.models, model: versions})
            self._changed.wait_for(lambda: old.holders == 0)
