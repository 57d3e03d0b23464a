"""Which versions of a model can be called, and why the others cannot: state alone, no backend, no tasks."""

from collections.abc import Hashable
from dataclasses import dataclass, replace
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
    passed: Served | None  # what answers, or did before the version had to be examined again


class ModelStanding:
    """What is known of one model; the catalog, its only owner, feeds it.

    `trouble` is why the last look failed, empty where it did not; `was_routable` is whether any look so far
    ended with a version that can be called.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.trouble = ""
        self.was_routable = False
        self._versions: dict[int, _Known] = {}

    @property
    def numbers(self) -> set[int]:
        """The versions that are known, whatever their standing."""
        return set(self._versions)

    @property
    def is_refused(self) -> bool:
        """Whether there are versions, and every one is refused."""
        standings = {known.report.standing for known in self._versions.values()}
        return standings == {Standing.REFUSED}

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

    def record(self, report: VersionReport, state: VersionState) -> list[VersionReport]:
        """Take in how a version stands, as it was at the backend when it was examined.

        Versions of two tasks cannot answer under one name. The one that answers stays, unless the manifest of
        the new one names this model and its own does not: then it lies in the wrong folder.

        Returns:
            every report that this has changed: this version's, which may be a refusal by now, and those of
            versions that had to make way.
        """
        before = self._versions.get(report.version)
        is_again = before is not None and report.standing is Standing.LOADING
        passed = before.passed if before is not None and is_again else report.served
        self._versions[report.version] = _Known(report, _seen(state), passed)
        refusals = self._refusals(report.served) if report.served is not None else []
        for refusal in refusals:
            known = self._versions[refusal.version]
            self._versions[refusal.version] = replace(known, report=refusal, passed=None)
        return list({changed.version: changed for changed in (report, *refusals)}.values())

    def forget(self, version: int) -> None:
        """Drop a version that is gone."""
        del self._versions[version]

    def _refusals(self, new: Served) -> list[VersionReport]:
        """Return who is refused for its task: the version that is new, or those that answered before it."""
        passed = (self._versions[number].passed for number in sorted(self._versions, reverse=True))
        others = [other for other in passed if other is not None and other.manifest.task != new.manifest.task]
        if not others:
            return []
        is_at_home = new.manifest.name == self.name
        makes_way = is_at_home and all(other.manifest.name != self.name for other in others)
        stays, leaving = (new, others) if makes_way else (others[0], [new])
        return [_misplaced(each, stays) for each in leaving]

    def newest(self) -> Served:
        """Return the newest version that can be called.

        Raises:
            NotReady: there is none; the message says why.
        """
        current = self.current()
        if current is None:
            raise self._no_version()
        return current

    def fault(self) -> errors.NotReady | None:
        """Return why no version can be called, as `newest` raises it; None where one can."""
        return self._no_version() if self.current() is None else None

    def _no_version(self) -> errors.NotReady:
        """Return the error that says why the newest version is refused, or why there is none to be seen."""
        refused = [report.error for report in self.reports() if report.error is not None]
        why = f"{refused[0].reason}: {refused[0].message}" if refused else self.trouble
        return not_ready(f"no version of model {self.name!r} can be called{f': {why}' if why else ' yet'}")

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


def _misplaced(refused: Served, stays: Served) -> VersionReport:
    """Return the refusal of a version whose task is not that of the one that stays."""
    message = (
        f"version {refused.version} of model {refused.model!r} is for {refused.manifest.task}; version "
        f"{stays.version}, which answers under that name, is for {stays.manifest.task}"
    )
    return VersionReport(refused.version, Standing.REFUSED, error=errors.TaskDiffers(message))


def _seen(state: VersionState) -> Hashable:
    return (state.state, state.stamp)


def not_ready(message: str) -> errors.NotReady:
    """Return the error of a model or version that may be callable soon."""
    return errors.NotReady(message, retry_after=RETRY_SECONDS)
