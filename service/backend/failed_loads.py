"""Versions that a model server could not load: which of those that it lists still count.

TensorFlow Serving lists such a version, with its error, until it is restarted or the number is used again,
even when the version's directory is gone. There is nothing left to mend then, so no alert should stay.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from seqserve.service import errors
from seqserve.service.backend.base import State, VersionState
from seqserve.service.backend.folders import look_at
from seqserve.service.backend.model_config import ModelConfigFile, ModelEntry


class FailedLoads:
    """Drops what is gone.

    Args:
        config: names each model's folder and policy; without it they are the model's name and `latest 2`.
        root: where this process sees the models' folders, each by its last name; None: it sees none.
    """

    def __init__(self, config: ModelConfigFile | None = None, root: Path | None = None) -> None:
        self._config = config
        self._root = root

    async def without_gone(self, model: str, states: Sequence[VersionState]) -> list[VersionState]:
        """Return a model's states without the failed loads whose directory is gone or whose turn is over.

        Its turn is over once the policy keeps as many newer versions, all available, in its place. What stays
        although its directory cannot be seen says so.
        """
        if not any(state.has_ended for state in states):
            return list(states)
        entry = self._entry(model)
        there = await asyncio.to_thread(self._numbers, entry)
        loaded = [s.version for s in states if not s.has_ended and s.state is not State.LOADING]
        failed = [s.version for s in states if s.has_ended and _counts(s.version, entry, loaded, there)]
        kept = [state for state in states if not state.has_ended or state.version in failed]
        return kept if there is not None else [_unseen(state, entry) for state in kept]

    def _entry(self, model: str) -> ModelEntry:
        configured = self._config.entries() if self._config is not None else {}
        return configured.get(model) or ModelEntry(model, Path(model))

    def _numbers(self, entry: ModelEntry) -> set[int] | None:
        """Return the versions that have a directory; None where that cannot be seen."""
        if self._root is None:
            return None
        try:
            return set(look_at(self._root / entry.folder.name).versions)
        except OSError:
            return None


def _counts(number: int, entry: ModelEntry, loaded: list[int], there: set[int] | None) -> bool:
    is_kept = number in entry.kept(sorted((*loaded, number), reverse=True))
    return is_kept and (there is None or number in there)


def _unseen(state: VersionState, entry: ModelEntry) -> VersionState:
    """Say of a failed load that its directory cannot be seen, and when it is dropped then."""
    if not state.has_ended or state.error is None:
        return state
    until = f"{entry.latest} newer can be run" if entry.latest else "the number is used again"
    note = f"its directory cannot be seen from here, so it is listed until {until} or that server restarts"
    return replace(state, error=errors.BackendFailed(f"{state.error.message}; {note}"))
