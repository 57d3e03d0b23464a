"""Which versions of a model can be called, and why the others cannot: state alone, no backend, no tasks."""

from collections.abc import Hashable
from dataclasses import dataclass
from enum import StrEnum

from seqserve.service import errors
from seqserve.service.backend.base import VersionState
from seqserve.service.core.types import Served
from seqserve.service.errors import SeqserveError

RETRY_SECONDS = 1.0


class Standing(StrEnum):
    """What can be said of a version: only ROUTABLE ones answer."""

    LOADING = "LOADING"
    ROUTABLE = "ROUTABLE"
    REFUSED = "REFUSED"


@dataclass(frozen=True, slots=True)
class VersionReport:
    """One version as callers see it; `error` says why it is refused."""

    version: int
    standing: Standing
    served: Served | None = None
    error: SeqserveError | None = None


@dataclass(frozen=True, slots=True)
class _Known:
    report: VersionReport
    seen: Hashable  # the state and stamp at the backend that the report is about


class ModelStanding:
    """What is known of one model; the catalog, its only owner, feeds it.

    `labels` are those in use, with the version that the backend gave for each when it was last asked;
    `trouble` is why the last look failed, empty where it did not; `was_routable` is whether any look so far
    ended with a version that can be called.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.labels: dict[str, int] = {}
        self.trouble = ""
        self.was_routable = False
        self._versions: dict[int, _Known] = {}

    @property
    def numbers(self) -> set[int]:
        """The versions that are known, whatever their standing."""
        return set(self._versions)

    def reports(self) -> list[VersionReport]:
        """Return every version's report, newest first."""
        return [self._versions[number].report for number in sorted(self._versions, reverse=True)]

    def current(self) -> Served | None:
        """Return the version that answers a call without version and label; None if none can be called."""
        return next((report.served for report in self.reports() if report.served is not None), None)

    def has_changed(self, state: VersionState) -> bool:
        """Return whether a version is known, but with another state or content at the backend."""
        known = self._versions.get(state.version)
        return known is not None and known.seen != _seen(state)

    def is_open(self, version: int) -> bool:
        """Return whether a version has yet to be examined, for the first time or again."""
        known = self._versions.get(version)
        return known is None or known.report.standing is Standing.LOADING

    def record(self, report: VersionReport, state: VersionState) -> None:
        """Take in how a version stands, as it was at the backend when it was examined."""
        self._versions[report.version] = _Known(report, _seen(state))

    def forget(self, version: int) -> None:
        """Drop a version that is gone."""
        del self._versions[version]

    def newest(self) -> Served:
        """Return the newest version that can be called.

        Raises:
            NotReady: there is none; the message says why the newest one is refused, if it is.
        """
        current = self.current()
        if current is not None:
            return current
        refused = [report.error for report in self.reports() if report.error is not None]
        why = f": {refused[0].reason}: {refused[0].message}" if refused else " yet"
        raise not_ready(f"no version of model {self.name!r} can be called{why}")

    def pinned(self, version: int) -> Served:
        """Return the version of that number.

        Raises:
            VersionNotFound, NotReady; or why the version is refused.
        """
        if version not in self._versions:
            there = ", ".join(map(str, sorted(self._versions))) or "none"
            raise errors.VersionNotFound(f"model {self.name!r} has no version {version}; it has {there}")
        report = self._versions[version].report
        if report.error is not None:
            raise report.error.at()
        if report.served is None:
            raise not_ready(f"model {self.name!r} version {version} is loading")
        return report.served

    def labelled(self, label: str, version: int) -> Served:
        """Return the version that a label stands for; raises as `pinned`, but for a version not yet seen.

        Raises:
            NotReady: the backend knows the version, and the catalog has not examined it yet.
        """
        if version not in self._versions:
            where = f"label {label!r} of model {self.name!r}"
            raise not_ready(f"{where} is version {version}, which is not examined yet")
        return self.pinned(version)


def _seen(state: VersionState) -> Hashable:
    return (state.state, state.stamp)


def not_ready(message: str) -> errors.NotReady:
    """Return the error of a model or version that may be callable soon."""
    return errors.NotReady(message, retry_after=RETRY_SECONDS)
