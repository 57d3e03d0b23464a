"""The model versions that can be called now: followed at the backend, looked up by name, version or label.

One task calls `refresh` again and again. A model is looked at by one task at a time, which alone changes its
`ModelStanding`; how a version is judged is the `Examiner`'s.
"""

import asyncio
import logging
from collections.abc import Callable

from seqserve.service import errors
from seqserve.service.backend.base import Backend, VersionState
from seqserve.service.core.examine import Examiner
from seqserve.service.core.items import ItemRunner
from seqserve.service.core.labels import Labels
from seqserve.service.core.looks import Looks
from seqserve.service.core.readiness import Readiness
from seqserve.service.core.standing import ModelStanding, Standing, VersionReport, not_ready
from seqserve.service.core.tasks import TASKS, Tasks
from seqserve.service.core.types import ModelRef, Served
from seqserve.service.errors import SeqserveError
from seqserve.service.metrics import NONE, Metrics

log = logging.getLogger(__name__)


class Catalog:
    """Owner of what is routable. `on_change` is called after each refresh.

    Args:
        device: what the models run on, `cpu` or `gpu`: whose tolerance the golden examples are held to.
        tasks: those that are served; a version for another one is refused.
        readiness: what makes the service ready; absent: every model, and its usual grace.
    """

    def __init__(
        self,
        backend: Backend,
        runner: ItemRunner,
        metrics: Metrics,
        device: str = "cpu",
        tasks: Tasks = TASKS,
        readiness: Readiness | None = None,
    ) -> None:
        self.tasks = tasks
        self._backend = backend
        self._examiner = Examiner(backend, runner, device, tasks)
        self._metrics = metrics
        self._models: dict[str, ModelStanding] = {}
        self._looks = Looks(self._look_at)
        self._has_looked = False
        self._unlisted = ""  # why the last look found no names
        self._labels = Labels(backend)
        self._readiness = readiness or Readiness(backend)
        self.on_change: Callable[[], None] = lambda: None

    def unready(self, name: str | None = None) -> SeqserveError | None:
        """Return why callers, or those of one model, may not be sent here; None where they may.

        Raises:
            ModelNotFound; NotReady before the first look.
        """
        if name is not None:
            return self._find(name).fault() or self._readiness.outage()
        if not self._has_looked:
            return _starting()
        return self._readiness.fault(self._models.values(), self._unlisted)

    def __contains__(self, name: str) -> bool:
        """Return whether there is a model of that name."""
        return name in self._models

    def models(self) -> dict[str, list[VersionReport]]:
        """Return every model's versions, newest first."""
        return {name: self.versions(name) for name in sorted(self._models)}

    def versions(self, name: str) -> list[VersionReport]:
        """Return a model's versions, newest first; raises ModelNotFound."""
        return self._find(name).reports()

    def current(self, name: str) -> Served | None:
        """Return the version that answers a call without version and label; None if none can be called."""
        return self._find(name).current()

    async def resolve(self, ref: ModelRef) -> Served:
        """Return the version that a caller means: the one named, the label's, or the newest routable.

        Raises:
            ModelNotFound, VersionNotFound, LabelNotFound, NotReady; or why the version is refused.
        """
        model = self._find(ref.name)
        if ref.label is not None:
            return model.labelled(ref.label, await self._labels.version(ref.name, ref.label))
        return model.newest() if ref.version is None else model.pinned(ref.version)

    async def renew(self, name: str) -> None:
        """Return when a look at one model has ended that began after this call."""
        if name in self._models:
            await asyncio.wait({self._looks.following(name)})

    async def watch(self, seconds: float) -> None:
        """Look for ever, `seconds` apart; a model whose examination takes long holds up no other."""
        while True:
            await self.look(seconds)
            await asyncio.sleep(seconds)

    async def close(self) -> None:
        """End the looks under way."""
        await self._looks.close()

    async def look(self, patience: float | None = None) -> None:
        """Refresh once; a failure is logged, and the next look may do better."""
        try:
            await self.refresh(patience)
        except SeqserveError:
            pass  # logged by the look itself
        except Exception:
            log.exception("looking for versions failed unexpectedly")

    async def refresh(self, patience: float | None = None) -> None:
        """Look at every model: admit versions that are new, forget those that are gone.

        Args:
            patience: seconds to wait for the looks; one that takes longer goes on by itself.

        Raises:
            SeqserveError: a model could not be looked at; the others were.
        """
        names = await self._names()
        for gone in set(self._models) - set(names):
            await self._drop(gone)
        for name in set(names) - set(self._models):
            self._models[name] = ModelStanding(name)
            self._metrics.admit(name, NONE)
            self._metrics.ready.labels(name).set(0)
        looks = [] if self._unlisted else [self._looks.following(name) for name in names]
        done, _ = await asyncio.wait(looks, timeout=patience) if looks else (set(), None)
        self._has_looked = True
        self._readiness.observe(self._models.values())
        self.on_change()
        for error in filter(None, (look.result() for look in looks if look in done)):
            raise error

    async def _names(self) -> list[str]:
        """Return the names of the models; those known so far where the backend cannot list them."""
        try:
            names = await self._backend.models()
        except SeqserveError as error:
            if self._unlisted != error.message:
                log.warning("the models cannot be listed, those that are loaded go on: %s", error.message)
            self._unlisted = error.message
            self._metrics.listed.set(0)
            return list(self._models)
        if self._unlisted:
            log.info("the models can be listed again")
        self._unlisted = ""
        self._metrics.listed.set(1)
        return names

    def _find(self, name: str) -> ModelStanding:
        if not self._has_looked:
            raise _starting()
        if name not in self._models:
            there = "/v1/models (gRPC: ListModels) lists those that there are"
            raise errors.ModelNotFound(f"no model {name[:60]!r}; {there}")
        return self._models[name]

    async def _look_at(self, name: str) -> SeqserveError | None:
        """Look at one model; return why it could not be looked at."""
        model = self._models[name]
        try:
            await self._follow(model)
        except SeqserveError as error:
            can_be_called = self._backend.is_reachable and model.current() is not None
            self._metrics.ready.labels(name).set(can_be_called)
            if model.trouble != error.message:
                log.warning("model %s cannot be looked at: %s", name, error.message)
            model.trouble = error.message
            return error
        except Exception:
            log.exception("looking at model %s failed unexpectedly", name)
            return errors.Unexpected("the log has it")
        if model.trouble:
            log.info("model %s can be looked at again", name)
        model.trouble = ""
        return None

    async def _follow(self, model: ModelStanding) -> None:
        """Bring what is known of a model up to what its backend says now."""
        states = {state.version: state for state in await self._backend.versions(model.name)}
        # the oldest first: where a start finds two tasks under one name, the first to pass sets the model's
        for number, state in sorted(states.items()):
            if model.has_changed(state):
                # rows encoded for the old content must not reach the new: not called while it is examined
                self._record(model, VersionReport(number, Standing.LOADING), state)
            if model.is_open(number):
                self._record(model, await self._examined(model.name, state), state)
        for gone in model.numbers - set(states):
            self._forget(model, gone)
        await self._labels.renew(model.name)
        is_routable = model.current() is not None
        model.was_routable = model.was_routable or is_routable
        self._metrics.ready.labels(model.name).set(is_routable)

    async def _examined(self, name: str, state: VersionState) -> VersionReport:
        """Examine a version; where the model is taken out meanwhile, nothing is left of it in the metrics."""
        self._metrics.admit(name, str(state.version))
        try:
            return await self._examiner.examine(name, state)
        except asyncio.CancelledError:
            self._metrics.retire(name, str(state.version))
            raise

    def _record(self, model: ModelStanding, report: VersionReport, state: VersionState) -> None:
        """Take in how a version stands, in the metrics and the log too."""
        for changed in model.record(report, state):
            self._show(model.name, changed)

    def _show(self, name: str, report: VersionReport) -> None:
        number, served = str(report.version), report.served
        fields = {"model": name, "version": report.version, "standing": report.standing.value}
        self._metrics.clear_standing(name, number)
        if served is not None:
            self._metrics.version_info.labels(name, number, served.digest).set(1)
            other = {"exported_name": served.exported_name} if served.exported_name is not None else {}
            log.info("version admitted", extra={"fields": fields | other})
        if report.error is not None:
            reason = report.error.reason
            self._metrics.version_refused.labels(name, number, reason).set(1)
            fields["reason"] = reason
            log.warning("version refused: %s", report.error.message, extra={"fields": fields})

    def _forget(self, model: ModelStanding, number: int) -> None:
        model.forget(number)
        self._metrics.retire(model.name, str(number))

    async def _drop(self, name: str) -> None:
        model = self._models.pop(name)
        await self._looks.end(name)
        self._labels.drop(name)
        for number in model.numbers:
            self._forget(model, number)
        self._metrics.retire(name, NONE)
        self._metrics.ready.remove_by_labels({"model": name})


def _starting() -> errors.NotReady:
    return not_ready("the service is starting: no model has been examined yet")
