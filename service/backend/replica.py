"""One address of the model server: its channel, the versions it is known to have, the calls under way there.

`service.backend.tfserving` chooses among replicas. What fails here is gRPC's own error; `translated` makes it
ours, by one table, and keeps the server's words, which name graph nodes, in the log.
"""

import asyncio
import logging
import re
from collections.abc import Mapping
from time import perf_counter
from typing import TypeVar

import grpc
from google.protobuf.message import DecodeError, Message
from google.protobuf.wrappers_pb2 import Int64Value

from seqserve.service import errors
from seqserve.service.backend.base import State, VersionState
from seqserve.service.contract.digest import digest_of
from seqserve.service.contract.manifest import FILE_NAME, MANIFEST_SIGNATURE
from seqserve.service.errors import SeqserveError
from seqserve.service.metrics import Metrics
from seqserve.tfserving.predict_pb2 import (
    GetModelStatusRequest,
    GetModelStatusResponse,
    ModelSpec,
    ModelVersionStatus,
    PredictRequest,
    PredictResponse,
)

log = logging.getLogger(__name__)
Answer = TypeVar("Answer", bound=Message)
Key = tuple[str, int]
"""A model's name and a version's number."""

PREDICT = "/tensorflow.serving.PredictionService/Predict"
STATUS = "/tensorflow.serving.ModelService/GetModelStatus"
LOOKS = 4
"""Questions about models at once: each takes one of the server's threads."""
READS = 2
"""Manifests fetched at once, beside those: a start that asks for all of them would exhaust the threads."""
LOOK_SECONDS = 2.0
"""How long such a question may take before the address counts as silent."""
MANIFEST_SECONDS = 10.0
Code = grpc.StatusCode
READY = grpc.ChannelConnectivity.READY
ERRORS: Mapping[grpc.StatusCode, type[SeqserveError]] = {
    Code.NOT_FOUND: errors.VersionNotFound,
    Code.DEADLINE_EXCEEDED: errors.DeadlineExceeded,
    Code.UNAVAILABLE: errors.BackendUnavailable,
    Code.RESOURCE_EXHAUSTED: errors.BackendUnavailable,
    Code.CANCELLED: errors.BackendUnavailable,
    Code.UNAUTHENTICATED: errors.BackendUnavailable,
    Code.PERMISSION_DENIED: errors.BackendUnavailable,
    Code.UNIMPLEMENTED: errors.BackendUnavailable,
}
"""The model server's code and our error. Every other code: the model failed on this input."""
WORDS: Mapping[type[SeqserveError], str] = {
    errors.VersionNotFound: "is not there, or is gone",
    errors.DeadlineExceeded: "did not answer in time",
    errors.BackendUnavailable: "cannot be reached, or has no room to compute",
    errors.BackendFailed: "failed on this input",
}
BATCHING_ON = "Batching Run() must have at least one input tensor"
"""What a server that batches says to a signature without inputs (its source, batching_util.h)."""
GONE = "Servable not found for request"
"""What the server says of a model or version that it does not have (seen on TensorFlow Serving 2.19)."""
NUMBER = re.compile(r"Specific\(.*, (\d+)\)")
"""Where it names the version in that."""
NO_LABEL = "Unrecognized servable version label"
"""What it says of a label that it does not have (seen likewise)."""
RETRY_SECONDS = 1.0
SHORTEST_SECONDS = 0.005
"""A shorter timeout is not sent: TensorFlow Serving reads whole milliseconds, and takes 0 for no limit."""


def translated(error: grpc.aio.AioRpcError, where: str, address: str) -> SeqserveError:
    """Return ours for gRPC's error; the address, like the server's words, is for the log."""
    kind = ERRORS.get(error.code(), errors.BackendFailed)
    if kind is errors.VersionNotFound and not _is_gone(error):
        kind = errors.BackendFailed
    log.warning("%s at %s: %s: %s", where, address, error.code().name, error.details())
    retry_after = RETRY_SECONDS if kind is errors.BackendUnavailable else None
    return kind(f"{where} {WORDS[kind]}", retry_after=retry_after)


def _is_gone(error: grpc.aio.AioRpcError) -> bool:
    """Return whether the server has no such version; a graph that misses a file is NOT_FOUND too."""
    return error.code() is Code.NOT_FOUND and str(error.details()).startswith(GONE)


class Replica:
    """One address. `held` says which versions it has, by the digest of the manifest that it gives itself.

    What is held is good for one connection only: the next one may reach a server with other content.

    Args:
        calls: how many batches the address gets at once.
        look_seconds: how long it may take to answer a question about a model.
    """

    def __init__(
        self,
        address: str,
        channel: grpc.aio.Channel,
        calls: int,
        metrics: Metrics,
        look_seconds: float = LOOK_SECONDS,
    ) -> None:
        self.address = address
        self.held: dict[Key, str | SeqserveError] = {}
        self.looked_at: set[str] = set()  # the models whose versions are all in `held`
        self.is_silent = False
        self.in_flight = 0
        self.last_call = 0.0  # on the loop's clock
        self._closed = False
        self._connection = 0  # counts up whenever one has ended
        self._room = asyncio.Semaphore(calls)
        self._asking = asyncio.Semaphore(LOOKS)
        self._reading = asyncio.Semaphore(READS)
        self._reported: dict[Key, int] = {}  # the error code of versions that failed to load
        self._channel = channel
        self._metrics = metrics
        self._look_seconds = look_seconds
        self._watch = asyncio.create_task(self._follow(), name=f"channel {address}")

    @property
    def is_up(self) -> bool:
        """True while there is a connection that answers."""
        return not self.is_silent and self._is_connected()

    def has(self, key: Key, digest: str) -> bool:
        """Return whether a version, with that very content, can be called here now."""
        return not self._closed and self._is_connected() and self.held.get(key) == digest

    def known(self, model: str) -> list[VersionState]:
        """Return what `look` would, from what is held: for an address that was too busy to answer."""
        held = self.held.items() if self._is_connected() else ()
        return [
            VersionState(version, State.AVAILABLE, stamp=digest)
            for (name, version), digest in held
            if name == model and isinstance(digest, str)
        ]

    async def close(self, grace: float | None = None) -> None:
        """End the channel, once the calls under way have ended or `grace` seconds have passed."""
        self._closed = True
        self._metrics.backend_up.remove_by_labels({"address": self.address})
        self._watch.cancel()
        await asyncio.gather(self._watch, return_exceptions=True)
        await self._channel.close(grace)

    async def look(self, model: str) -> list[VersionState]:
        """Ask for a model's versions, and for the manifest of each that has become available.

        Raises:
            AioRpcError: the address did not answer.
        """
        request = GetModelStatusRequest(model_spec=ModelSpec(name=model))
        try:
            async with self._asking:
                reply = await self._call(STATUS, request, GetModelStatusResponse, self._look_seconds)
            statuses = list(reply.model_version_status)
            self.is_silent = False
        except grpc.aio.AioRpcError as error:
            self.is_silent = error.code() is not Code.NOT_FOUND
            if self.is_silent:
                raise
            statuses = []
        finally:
            if not self._closed:
                self._metrics.backend_up.labels(self.address).set(self.is_up)
        available = {(model, s.version) for s in statuses if s.state == ModelVersionStatus.AVAILABLE}
        for gone in [key for key in self.held if key[0] == model and key not in available]:
            del self.held[gone]
        connection = self._connection
        examined = await asyncio.gather(*(self._state(model, status) for status in statuses))
        states = [state for state in examined if state is not None]
        if connection == self._connection and not any(state.state is State.LOADING for state in states):
            self.looked_at.add(model)
        return states

    async def predict(self, request: PredictRequest, digest: str, deadline: float) -> PredictResponse | None:
        """Call the model once there is room here, until `deadline` on the loop's clock.

        Returns:
            None where the version, as `digest` names it, was gone by the time there was room, or where the
            connection ended meanwhile: then a server with other content may have answered.

        Raises:
            AioRpcError: as the server or the channel says.
            DeadlineExceeded: it passed before there was room.
        """
        loop = asyncio.get_running_loop()
        self.in_flight += 1
        self.last_call = loop.time()
        try:
            try:
                async with asyncio.timeout_at(deadline):
                    await self._room.acquire()
            except TimeoutError:
                raise errors.DeadlineExceeded("the deadline passed before the batch was run") from None
            try:
                if not self.has((request.model_spec.name, request.model_spec.version.value), digest):
                    return None
                left = deadline - loop.time()
                if left < SHORTEST_SECONDS:
                    raise errors.DeadlineExceeded("the deadline passed before the batch was run")
                connection = self._connection
                reply = await self._call(PREDICT, request, PredictResponse, left)
                return reply if connection == self._connection else None
            finally:
                self._room.release()
        finally:
            self.in_flight -= 1

    async def manifest(self, model: str, version: int) -> dict[str, bytes]:
        """Return a version's contract files, by its own signature.

        Raises:
            ManifestMissing, ManifestInvalid, BackendBatchingOn; what `translated` makes of anything else.
        """
        where = f"{model} version {version}"
        spec = ModelSpec(name=model, version=Int64Value(value=version), signature_name=MANIFEST_SIGNATURE)
        try:
            request = PredictRequest(model_spec=spec)
            async with self._reading:
                reply = await self._call(PREDICT, request, PredictResponse, MANIFEST_SECONDS)
        except grpc.aio.AioRpcError as error:
            raise _unreadable(error, where, self.address) from error
        names, contents = (reply.outputs[part].string_val for part in ("names", "contents"))
        try:
            return {name.decode(): content for name, content in zip(names, contents, strict=True)}
        except ValueError as error:
            raise errors.ManifestInvalid(f"{where}: its contract files cannot be separated") from error

    async def version_of(self, model: str, label: str) -> int:
        """Return the version that the server gives a label to: its answer names the version that ran.

        Raises:
            LabelNotFound; VersionNotFound where the label's version is not there; what `translated` makes of
            anything else.
        """
        spec = ModelSpec(name=model, version_label=label, signature_name=MANIFEST_SIGNATURE)
        request = PredictRequest(model_spec=spec, output_filter=["names"])
        try:
            reply = await self._call(PREDICT, request, PredictResponse, self._look_seconds)
        except grpc.aio.AioRpcError as error:
            if str(error.details()).startswith(NO_LABEL):
                raise errors.LabelNotFound(f"model {model!r} has no label {label[:60]!r}") from error
            if _is_gone(error):
                raise _points_nowhere(error, model, label) from error
            raise _unreadable(error, f"{model} label {label[:60]}", self.address) from error
        return reply.model_spec.version.value

    async def _state(self, model: str, version: ModelVersionStatus) -> VersionState | None:
        """Return a version's state; None where it has ended without an error."""
        number, status = version.version, version.status
        match version.state:
            case ModelVersionStatus.AVAILABLE:
                return await self._available(model, number)
            case ModelVersionStatus.END if status.error_code:
                if self._reported.get((model, number)) != status.error_code:
                    self._reported[model, number] = status.error_code
                    log.warning("%s: %s version %d: %s", self.address, model, number, status)
                fault = errors.BackendFailed("the model server could not load it; its log has the reason")
                return VersionState(number, State.FAILED, fault, has_ended=True)
            case ModelVersionStatus.START | ModelVersionStatus.LOADING:
                return VersionState(number, State.LOADING)
        return None

    async def _available(self, model: str, version: int) -> VersionState:
        key = (model, version)
        try:
            known = self.held.get(key) or await self._examined(key)
        except errors.BackendFailed as error:
            return VersionState(version, State.FAILED, error)  # and asked again at the next look
        except SeqserveError:
            return VersionState(version, State.LOADING)  # nothing can be said now
        if isinstance(known, SeqserveError):
            return VersionState(version, State.FAILED, known)
        return VersionState(version, State.AVAILABLE, stamp=known)

    async def _examined(self, key: Key) -> str | SeqserveError:
        """Return a version's digest, or why it can have none, and hold it for this connection."""
        connection = self._connection
        known: str | SeqserveError
        try:
            files = await self.manifest(*key)
            known = digest_of(files[FILE_NAME])
        except KeyError:
            known = errors.ManifestMissing(f"{key[0]} version {key[1]} carries no {FILE_NAME}")
        except errors.FailedPrecondition as error:
            known = error
        if connection != self._connection:
            raise errors.BackendUnavailable(f"the connection ended while {key[0]} was examined")
        self.held[key] = known
        return known

    async def _call(self, path: str, request: Message, answer: type[Answer], seconds: float) -> Answer:
        started, code = perf_counter(), Code.CANCELLED
        if self._closed:
            raise _lost("the address has been given up")
        self._is_connected()  # else this call would reconnect, and what was held would seem valid
        try:
            # parsed here: bytes that are no message are the model server's fault, not grpc's
            call = self._channel.unary_unary(path, type(request).SerializeToString, None)
            data = await call(request, timeout=max(0.0, seconds))
            code = Code.OK
            return answer.FromString(data)
        except grpc.aio.AioRpcError as error:
            code = error.code()
            raise
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            code = Code.UNAVAILABLE
            raise _lost("the channel was closed") from None  # the task itself was not cancelled
        except DecodeError as error:
            log.warning("%s answered bytes that are no message", self.address)
            raise errors.BackendFailed("the model server answered bytes that are no message") from error
        finally:
            if path == PREDICT:
                self._metrics.backend_seconds.labels(code.name).observe(perf_counter() - started)

    def _is_connected(self) -> bool:
        """Return whether there is a connection; where there is none, nothing is held any more."""
        is_connected = self._channel.get_state() is READY
        if not is_connected:
            self._forget()
        return is_connected

    def _forget(self) -> None:
        self._connection += 1
        self.held.clear()
        self.looked_at.clear()

    async def _follow(self) -> None:
        """Keep the channel connected, and forget what the address has whenever a connection ends."""
        while True:
            state = self._channel.get_state(try_to_connect=True)
            await self._channel.wait_for_state_change(state)
            if state is READY:
                log.warning("the connection to %s ended", self.address)
                self._forget()


def _lost(why: str) -> grpc.aio.AioRpcError:
    """Return what grpc should have raised."""
    none = grpc.aio.Metadata()
    return grpc.aio.AioRpcError(Code.UNAVAILABLE, none, none, why, None)


def _points_nowhere(error: grpc.aio.AioRpcError, model: str, label: str) -> errors.VersionNotFound:
    named = NUMBER.search(str(error.details()))
    version = f"version {named[1]}" if named is not None else "a version"
    where = f"label {label!r} of model {model!r}"
    return errors.VersionNotFound(f"{where} points to {version}, which the model server does not have")


def _unreadable(error: grpc.aio.AioRpcError, where: str, address: str) -> SeqserveError:
    """Say why the manifest signature does not answer."""
    if error.code() is Code.FAILED_PRECONDITION:
        return errors.ManifestMissing(f"{where} has no signature {MANIFEST_SIGNATURE!r}")
    if error.code() is Code.NOT_FOUND and not _is_gone(error):
        return errors.ManifestMissing(f"a contract file of {where} is not there")
    if error.code() is Code.INVALID_ARGUMENT and BATCHING_ON in str(error.details()):
        return errors.BackendBatchingOn(f"the model server batches {where}; start it with batching off")
    return translated(error, where, address)
