"""What came out wrong, each with the input that brought it about."""

from dataclasses import dataclass, field
from typing import Any

MOST_SHOWN = 20
SLOW_SECONDS = 0.5
"""How long one input of some kilobytes may take; on a loaded machine too."""


@dataclass
class Findings:
    """A run's faults; what shows again and again is kept once a kind."""

    by_kind: dict[str, list[str]] = field(default_factory=dict)
    number: str = ""  # names the input that is being tried

    def add(self, kind: str, seen: Any, given: bytes) -> None:
        """Take a fault down."""
        known = self.by_kind.setdefault(kind, [])
        if len(known) < MOST_SHOWN:
            known.append(f"{self.number}: {str(seen)[:300]} <- {given[:300]!r}")

    def lines(self) -> list[str]:
        """Return what there is to read, the first of each kind."""
        return [f"{kind} ({len(known)}): {known[0]}" for kind, known in self.by_kind.items()]
