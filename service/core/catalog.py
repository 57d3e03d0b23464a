"""The model versions that can be called now: followed at the backend, admitted by their golden examples.

One task, started by `service.main`, calls `refresh` again and again. A model is looked at by one task at a
time, which alone changes what is known of it. The gateway reads the catalog through `resolve`.
"""

import asyncio
import logging
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from enum import StrEnum

from seqserve.service import errors
from seqserve.service.backend.base import Backend, State, VersionState
from seqserve.service.contract.digest import digest_of, sha256
from seqserve.service.contract.manifest import FILE_NAME, parse_manifest
from seqserve.service.core.golden import TRANSIENT, run_examples
from seqserve.service.core.items import ItemRunner
from seqserve.service.core.tasks import TASKS, Tasks, task_named
from seqserve.service.core.types import ModelRef, Served
from seqserve.service.errors import SeqserveError
from seqserve.service.metrics import NONE, Metrics

log = logging.getLogger(__name__)
ADMISSION_SECONDS = 60.0


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


@dataclass(slots=True)
class _Version:
    report: VersionReport
    seen: Hashable  # what the backend said of it: its state and stamp


@dataclass(slots=True)
class _Model:
    versions: dict[int, _Version] = field(default_factory=dict)
    labels: dict[str, int] = field(default_factory=dict)  # those asked for that exist
    was_ready: bool = False
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    next_look: asyncio.Task[SeqserveError | None] | None = None  # the one that has not begun
    failing: str = ""  # why the last look failed

    def routable(self) -> list[Served]:
        """Return what can be called, newest first."""
        found = [v.report.served for v in self.versions.values() if v.report.served is not None]
        return sorted(found, key=lambda served: -served.version)


class Catalog:
    """Owner of what is routable. `on_change` is called after each refresh.

    Args:
        device: what the models run on, `cpu` or `gpu`: whose tolerance the golden examples are held to.
        tasks: those that are served; a version for another one is refused.
    """

    def __init__(
        self,
        backend: Backend,
        runner: ItemRunner,
        metrics: Metrics,
        device: str = "cpu",
        tasks: Tasks = TASKS,
    ) -> None:
        self.tasks = tasks
        self._device = device
        self._backend = backend
        self._runner = runner
        self._metrics = metrics
        self._models: dict[str, _Model] = {}
        self._has_looked = False
        self._is_ready = False
        self._looks: set[asyncio.Task[SeqserveError | None]] = set()
        self._label_turn = asyncio.Lock()  # invented labels reach the backend one at a time
        self.on_change: Callable[[], None] = lambda: None

    @property
    def is_ready(self) -> bool:
        """True once every model has been routable once; a model that comes later does not undo it."""
        return self._is_ready

    def __contains__(self, name: str) -> bool:
        """Tell whether there is a model of that name."""
        return name in self._models

    def models(self) -> dict[str, list[VersionReport]]:
        """Return every model's versions, newest first."""
        return {name: self.versions(name) for name in sorted(self._models)}

    def versions(self, name: str) -> list[VersionReport]:
        """Return a model's versions, newest first; raises ModelNotFound."""
        found = self._find(name).versions
        return [found[number].report for number in sorted(found, reverse=True)]

    def current(self, name: str) -> Served | None:
        """Return the version that answers a call which names none; None where there is none."""
        return next(iter(self._find(name).routable()), None)

    async def resolve(self, ref: ModelRef) -> Served:
        """Return the version that a caller means: the one named, the label's, or the newest routable.

        Raises:
            ModelNotFound, VersionNotFound, LabelNotFound, NotReady; or why the version is refused.
        """
        model = self._find(ref.name)
        if ref.label is not None:
            return await self._labelled(ref.name, model, ref.label)
        if ref.version is not None:
            return self._pinned(ref.name, model, ref.version)
        for served in model.routable():
            return served
        refused = [report.error for report in self.versions(ref.name) if report.error is not None]
        why = f": {refused[0].reason}: {refused[0].message}" if refused else " yet"
        raise errors.NotReady(f"no version of model {ref.name!r} can be called{why}", retry_after=1.0)

    def _find(self, name: str) -> _Model:
        if not self._has_looked:
            raise errors.NotReady("the service is starting: no model has been examined yet", retry_after=1.0)
        if name not in self._models:
            raise errors.ModelNotFound(
                f"no model {name[:60]!r}; there are: {', '.join(sorted(self._models))}"
            )
        return self._models[name]

    def _pinned(self, name: str, model: _Model, version: int) -> Served:
        if version not in model.versions:
            there = ", ".join(map(str, sorted(model.versions)))
            raise errors.VersionNotFound(f"model {name!r} has no version {version}; it has {there or 'none'}")
        report = model.versions[version].report
        if report.error is not None:
            raise report.error.at()
        if report.served is None:
            raise errors.NotReady(f"model {name!r} version {version} is loading", retry_after=1.0)
        return report.served

    async def _labelled(self, name: str, model: _Model, label: str) -> Served:
        """Return a label's version, which the backend knows; each look asks again about labels in use."""
        version = model.labels.get(label) or await self._asked(name, model, label)
        if version not in model.versions:
            told = f"label {label!r} of model {name!r} is version {version}, which is not examined yet"
            raise errors.NotReady(told, retry_after=1.0)
        return self._pinned(name, model, version)

    async def _asked(self, name: str, model: _Model, label: str) -> int:
        async with self._label_turn:
            if label not in model.labels:
                model.labels[label] = await self._backend.label(name, label)
            return model.labels[label]

    async def renew(self, name: str) -> None:
        """Return when a look at one model has ended that began after this call."""
        if name in self._models:
            await asyncio.wait({self._look_at(name)})

    async def watch(self, seconds: float) -> None:
        """Look for ever, `seconds` apart; a model whose examination takes long holds up no other."""
        while True:
            await self.look(seconds)
            await asyncio.sleep(seconds)

    async def close(self) -> None:
        """End the looks under way."""
        await self._end(set(self._looks))

    async def look(self, patience: float | None = None) -> None:
        """Refresh once; a failure is logged, and the next look may do better."""
        try:
            await self.refresh(patience)
        except SeqserveError:
            pass  # told by the look itself
        except Exception:
            log.exception("looking for versions failed unexpectedly")

    async def refresh(self, patience: float | None = None) -> None:
        """Look at every model: admit versions that are new, forget those that are gone.

        Args:
            patience: seconds to wait for the looks; one that takes longer goes on by itself.

        Raises:
            SeqserveError: a model could not be looked at; the others were.
        """
        names = await self._backend.models()
        for gone in set(self._models) - set(names):
            await self._drop(gone)
        for name in set(names) - set(self._models):
            self._models[name] = _Model()
            self._metrics.ready.labels(name).set(0)
        looks = [self._look_at(name) for name in names]
        done, _ = await asyncio.wait(looks, timeout=patience) if looks else (set(), None)
        self._has_looked = True
        self._is_ready = self._is_ready or (bool(names) and all(m.was_ready for m in self._models.values()))
        self.on_change()
        for error in filter(None, (look.result() for look in looks if look in done)):
            raise error

    def _look_at(self, name: str) -> asyncio.Task[SeqserveError | None]:
        """Return the look at a model that begins next: the one that waits for its turn, or a new one."""
        model = self._models[name]
        if model.next_look is None:
            model.next_look = asyncio.create_task(self._look(name, model), name=f"look at {name}")
            self._looks.add(model.next_look)
            model.next_look.add_done_callback(self._looks.discard)
        return model.next_look

    async def _look(self, name: str, model: _Model) -> SeqserveError | None:
        async with model.turn:
            model.next_look = None
            try:
                await self._refresh_model(name, model)
            except SeqserveError as error:
                self._metrics.ready.labels(name).set(0)
                if model.failing != error.message:
                    log.warning("model %s cannot be looked at: %s", name, error.message)
                model.failing = error.message
                return error
            except Exception:
                log.exception("looking at model %s failed unexpectedly", name)
                return errors.Unexpected("the log has it")
            if model.failing:
                log.info("model %s can be looked at again", name)
            model.failing = ""
            return None

    async def _drop(self, name: str) -> None:
        model = self._models.pop(name)
        await self._end({look for look in self._looks if look.get_name() == f"look at {name}"})
        for number in list(model.versions):
            self._forget(name, model, number)
        self._metrics.retire(name, NONE)
        self._metrics.ready.remove_by_labels({"model": name})

    async def _end(self, looks: set[asyncio.Task[SeqserveError | None]]) -> None:
        for look in looks:
            look.cancel()
        await asyncio.gather(*looks, return_exceptions=True)

    async def _refresh_model(self, name: str, model: _Model) -> None:
        states = {state.version: state for state in await self._backend.versions(name)}
        for number, state in states.items():
            known = model.versions.get(number)
            if known is not None and known.seen != _seen(state):
                # no more what its rows are encoded for: not to be called while it is examined
                self._set(name, model, VersionReport(number, Standing.LOADING), state)
                known = None
            if known is None or known.report.standing is Standing.LOADING:
                await self._consider(name, model, state)
        for number in set(model.versions) - set(states):
            self._forget(name, model, number)
        for label in list(model.labels):
            await self._ask_again(name, model, label)
        model.was_ready = model.was_ready or bool(model.routable())
        self._metrics.ready.labels(name).set(bool(model.routable()))

    async def _ask_again(self, name: str, model: _Model, label: str) -> None:
        try:
            model.labels[label] = await self._backend.label(name, label)
        except errors.LabelNotFound:
            del model.labels[label]
        except SeqserveError as error:
            log.warning("label %s of %s cannot be looked at: %s", label, name, error.message)

    async def _consider(self, name: str, model: _Model, state: VersionState) -> None:
        """Set a version's report: admitted, refused with the reason, or loading where nothing is known."""
        report = VersionReport(state.version, Standing.LOADING)
        try:
            if state.error is not None:
                raise state.error
            if state.state is State.AVAILABLE:
                served = await self._admit(name, state.version)
                report = VersionReport(state.version, Standing.ROUTABLE, served)
        except TRANSIENT as error:
            log.warning("%s version %d cannot be examined yet: %s", name, state.version, error.message)
        except SeqserveError as error:
            report = VersionReport(state.version, Standing.REFUSED, error=error)
        except Exception:
            log.exception("examining %s version %d failed unexpectedly", name, state.version)
            fault = errors.Unexpected("examining it failed unexpectedly; the log has it")
            report = VersionReport(state.version, Standing.REFUSED, error=fault)
        self._set(name, model, report, state)

    def _set(self, name: str, model: _Model, report: VersionReport, state: VersionState) -> None:
        self._metrics.clear_standing(name, str(state.version))
        model.versions[state.version] = _Version(report, _seen(state))
        self._tell(name, report)

    async def _admit(self, name: str, number: int) -> Served:
        """Fetch the contract from the version itself and run its golden examples."""
        served = make_served(name, number, await self._backend.manifest(name, number), self.tasks)
        deadline = asyncio.get_running_loop().time() + ADMISSION_SECONDS
        await run_examples(served, self._runner, deadline, self._device)
        return served

    def _tell(self, name: str, report: VersionReport) -> None:
        fields = {"model": name, "version": report.version, "standing": report.standing.value}
        if report.served is not None:
            self._metrics.version_info.labels(name, str(report.version), report.served.digest).set(1)
            log.info("version admitted", extra={"fields": fields})
        if report.error is not None:
            reason = report.error.reason
            self._metrics.version_refused.labels(name, str(report.version), reason).set(1)
            log.warning(
                "version refused: %s", report.error.message, extra={"fields": {**fields, "reason": reason}}
            )

    def _forget(self, name: str, model: _Model, number: int) -> None:
        if model.versions.pop(number, None) is not None:
            self._metrics.retire(name, str(number))


def _seen(state: VersionState) -> Hashable:
    return (state.state, state.stamp)


def make_served(name: str, number: int, files: dict[str, bytes], tasks: Tasks = TASKS) -> Served:
    """Build what can be called from a version's contract files, by path relative to assets/.

    Raises:
        ManifestMissing; ManifestInvalid, also where its task is not among `tasks`; FileChanged, naming a
        contract file that is not as exported.
    """
    if FILE_NAME not in files:
        raise errors.ManifestMissing(f"{name} version {number} carries no {FILE_NAME}")
    manifest = parse_manifest(files[FILE_NAME])
    for path, content in files.items():
        listed = manifest.files.get(f"assets/{path}")
        if path != FILE_NAME and listed is not None and listed != sha256(content):
            raise errors.FileChanged(f"assets/{path} is not the file that was exported")
    task = task_named(manifest.task, tasks)
    return Served(name, number, digest_of(files[FILE_NAME]), manifest, task, task.codec(manifest, files))
