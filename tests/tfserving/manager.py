"""Versions come and go as in TensorFlow Serving: watched, loaded, made available, unloaded, remembered.

One thread does it all, as there (--num_load_threads=0), so a slow load, or a change that waits for a call to
end, holds up the others. What it decides follows TensorFlow Serving's AvailabilityPreservingPolicy; what a
start and a new configuration wait for follows its server_core.cc and servable_state_monitor.cc.
"""

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum, auto
from itertools import islice
from pathlib import Path
from typing import Any

from grpc import StatusCode
from tensorflow_serving.apis.get_model_status_pb2 import ModelVersionStatus
from tensorflow_serving.config import model_server_config_pb2

from tests.tfserving.servable import Servable
from tests.tfserving.serving_map import ServingMap
from tests.tfserving.source import aspired, check_models
from tests.tfserving.status import CODES, StatusError, failed_precondition, invalid, not_found

log = logging.getLogger(__name__)
Load = Callable[[str, int, Path], Servable]
State = ModelVersionStatus.State


class Stage(Enum):
    """Where a version that is managed stands."""

    NEW = auto()
    READY = auto()
    ERROR = auto()
    GONE = auto()


@dataclass(slots=True)
class Managed:
    """A version that is managed: still wanted or not, loaded or not."""

    folder: Path
    stage: Stage = Stage.NEW
    aspired: bool = True
    servable: Servable | None = None


class Manager:
    """The models of a server. Calls come from any thread; the watching thread alone loads and unloads."""

    def __init__(self, load: Load, poll_seconds: float, unavailable_labels: bool) -> None:
        self._load_servable = load
        self._poll_seconds = poll_seconds
        self._unavailable_labels = unavailable_labels
        self._configuring = threading.Lock()  # one configuration at a time, from a call or from the file
        self._changed = threading.Condition()
        self._configs: dict[str, model_server_config_pb2.ModelConfig] = {}
        self._labels: dict[str, dict[str, int]] = {}
        self._managed: dict[str, dict[int, Managed]] = {}
        self._serving = ServingMap()
        self._statuses: dict[str, dict[int, ModelVersionStatus]] = {}
        self._wake = threading.Event()

    def start(self, config: model_server_config_pb2.ModelServerConfig) -> None:
        """Watch, and return once every version that the configuration asks for is loaded.

        A model without any version is waited for without end, and all others with it.

        Raises:
            StatusError: the configuration is no good, or a version cannot be loaded, however many others can.
        """
        threading.Thread(target=self._watch, name="manager", daemon=True).start()
        # there the versions of a start are loaded side by side, and one that is broken ends before a good one
        self._take(config, self._all_settled, "servable(s)")

    def configure(self, config: model_server_config_pb2.ModelServerConfig) -> None:
        """Take a configuration; return once each model that is new in it has a version that is available.

        An empty one changes nothing. While a new model has no version, nothing returns, and no other
        configuration is taken.

        Raises:
            StatusError: the configuration is no good, or the newest version of a new model cannot be loaded.
        """
        self._take(config, self._any_settled, "model(s)")

    def _take(
        self,
        config: model_server_config_pb2.ModelServerConfig,
        settled: Callable[[str], list[ModelVersionStatus]],
        kind: str,
    ) -> None:
        if config.WhichOneof("config") is None:
            return
        models = config.model_config_list.config
        with self._configuring:
            check_models(models)
            labels = self._checked_labels(models)
            with self._changed:
                new = sorted({model.name for model in models} - set(self._configs))
                for name in new:
                    self._statuses.pop(name, None)  # how it ended before says nothing of how it will begin
                self._labels = labels
                self._configs = {model.name: model for model in models}
                self._wake.set()
                self._changed.wait_for(lambda: all(settled(name) for name in new))
                failed = [f for name in new if (f := _failure(name, settled(name)))]
        if failed:
            text = f"{len(failed)} {kind} did not become available: {{{''.join(failed)}}}"
            raise StatusError(StatusCode.UNKNOWN, text)

    @contextmanager
    def held(self, spec: Any) -> Iterator[Servable]:
        """Give the servable that a ModelSpec asks for, and keep it loaded until the end of the block."""
        if not spec.name:
            raise invalid("ModelSpec has no name specified.")
        choice = spec.WhichOneof("version_choice")
        number = self._labelled(spec) if choice == "version_label" else spec.version.value
        with self._serving.held() as models:
            versions = models.get(spec.name, {})
            if choice is None:
                if not versions:
                    raise not_found(f"Servable not found for request: Latest({spec.name})")
                number = max(versions)
            if number not in versions:
                raise not_found(f"Servable not found for request: Specific({spec.name}, {number})")
            yield versions[number]

    def statuses(self, spec: Any) -> list[ModelVersionStatus]:
        """Return one version's status, or every version's, newest first. A label is not looked at."""
        with self._changed:
            known = self._statuses.get(spec.name, {})
            if spec.WhichOneof("version_choice") == "version":
                number = spec.version.value
                if number not in known:
                    raise not_found(f"Could not find version {number} of model {spec.name}")
                return [known[number]]
            if not known:
                raise not_found(f"Could not find any versions of model {spec.name}")
            return [known[number] for number in sorted(known, reverse=True)]

    def _labelled(self, spec: Any) -> int:
        with self._changed:
            labels = self._labels.get(spec.name, {})
        if spec.version_label not in labels:
            raise invalid(f"Unrecognized servable version label: {spec.version_label}")
        return labels[spec.version_label]

    def _checked_labels(self, models: Any) -> dict[str, dict[str, int]]:
        """Refuse a label for a version that is not available, unless the flag and a new label allow it."""
        with self._changed:
            for model in models:
                for label, number in model.version_labels.items():
                    moved = self._labels.get(model.name, {}).get(label, number) != number
                    if number in self._available(model.name) or (self._unavailable_labels and not moved):
                        continue
                    raise failed_precondition(
                        f"Request to assign label to version {number} of model {model.name}, which is not "
                        "currently available for inference"
                    )
        return {model.name: dict(model.version_labels) for model in models}

    def _available(self, name: str) -> set[int]:
        statuses = self._statuses.get(name, {}).values()
        return {status.version for status in statuses if status.state == State.AVAILABLE}

    def _any_settled(self, name: str) -> list[ModelVersionStatus]:
        """Return the newest version that is loaded or has failed; none while there is none."""
        statuses = self._statuses.get(name, {})
        newest_first = (statuses[number] for number in sorted(statuses, reverse=True))
        return list(islice(filter(_settled, newest_first), 1))

    def _all_settled(self, name: str) -> list[ModelVersionStatus]:
        """Return every version once each is loaded or has failed; none before."""
        statuses = list(self._statuses.get(name, {}).values())
        return statuses if all(map(_settled, statuses)) else []

    def _watch(self) -> None:
        while True:
            self._wake.wait(self._poll_seconds if self._poll_seconds > 0 else None)
            self._wake.clear()
            try:
                self._poll()
            except StatusError as error:
                log.error("polling: %s", error.message)
            except Exception:
                log.exception("polling")

    def _poll(self) -> None:
        with self._changed:
            configs = dict(self._configs)
        for name in set(self._managed) - set(configs):
            self._bring(name, {})
        # one base path that is missing ends the look at all of them
        for name, wanted in {name: aspired(config) for name, config in configs.items()}.items():
            self._bring(name, wanted)

    def _bring(self, name: str, wanted: Mapping[int, Path]) -> None:
        self._process(name, wanted)
        while self._act(name):
            self._flush(name)
        self._flush(name)

    def _process(self, name: str, wanted: Mapping[int, Path]) -> None:
        """Note what is wanted anew and no longer; wait while a version is wanted again before it is gone."""
        managed = self._managed.setdefault(name, {})
        if any(number in wanted and not version.aspired for number, version in managed.items()):
            return
        for number, version in managed.items():
            version.aspired = number in wanted
        self._flush(name)
        for number, folder in wanted.items():
            if number not in managed:
                managed[number] = Managed(folder)
                self._publish(name, number, State.START)

    def _flush(self, name: str) -> None:
        managed = self._managed[name]
        for number, version in list(managed.items()):
            if not version.aspired and version.stage is not Stage.READY:
                del managed[number]

    def _act(self, name: str) -> bool:
        """Take a step: unload what is not wanted once something wanted serves, else load the newest."""
        managed = self._managed[name]
        wanted = [version for version in managed.values() if version.aspired]
        serves = any(version.stage is Stage.READY for version in wanted)
        leaving = [n for n, v in managed.items() if not v.aspired and v.stage is Stage.READY]
        if leaving and (not wanted or serves or len(leaving) > 1):
            self._unload(name, min(leaving))
            return True
        new = [number for number, v in managed.items() if v.aspired and v.stage is Stage.NEW]
        if new:
            self._load(name, max(new))
        return bool(new)

    def _load(self, name: str, number: int) -> None:
        version = self._managed[name][number]
        self._publish(name, number, State.LOADING)
        try:
            version.servable = self._load_servable(name, number, version.folder)
        except StatusError as error:
            log.error("%s version %d cannot be loaded: %s", name, number, error.message)
            version.stage = Stage.ERROR
            self._publish(name, number, State.END, error)
            return
        version.stage = Stage.READY
        self._serving.put(name, {**self._serving.versions(name), number: version.servable})
        self._publish(name, number, State.AVAILABLE)

    def _unload(self, name: str, number: int) -> None:
        version = self._managed[name][number]
        self._publish(name, number, State.UNLOADING)
        self._serving.put(name, {n: s for n, s in self._serving.versions(name).items() if n != number})
        if version.servable is not None:
            version.servable.close()
        version.stage, version.servable = Stage.GONE, None
        self._publish(name, number, State.END)

    def _publish(self, name: str, number: int, state: int, error: StatusError | None = None) -> None:
        status = ModelVersionStatus(version=number, state=state)  # type: ignore[arg-type]
        if error is not None:
            status.status.error_code = error.code.value[0]
            status.status.error_message = error.message
        else:
            status.status.SetInParent()
        with self._changed:
            self._statuses.setdefault(name, {})[number] = status
            self._changed.notify_all()


def _settled(status: ModelVersionStatus) -> bool:
    return status.state in (State.AVAILABLE, State.END)


def _failure(name: str, statuses: Iterable[ModelVersionStatus]) -> str:
    """Describe the first version that did not become available, as TensorFlow Serving does; empty if none."""
    for status in statuses:
        if status.state == State.END:
            error = f"{CODES[status.status.error_code].name}: {status.status.error_message}"
            return f"{{{{name: {name} version: {status.version}}} due to error: {error}}}, "
    return ""
