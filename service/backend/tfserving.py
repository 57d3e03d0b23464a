"""The model server as a backend: TensorFlow Serving's gRPC API, at one address or several.

Speaks the messages of `seqserve.tfserving`, so neither tensorflow nor tensorflow-serving-api is needed here.
Rows go only to addresses that have the very version, by its digest, because replicas see a new version at
different moments.
"""

import asyncio
import itertools
import logging
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc
from google.protobuf.wrappers_pb2 import Int64Value
from seqserve.tfserving.predict_pb2 import ModelSpec, PredictRequest, PredictResponse

from service import errors
from service.backend.base import Spec, State, Tensors, VersionState
from service.backend.replica import RETRY_SECONDS, Code, Key, Replica, translated
from service.backend.tensors import from_wire, to_wire
from service.contract.padding import Array
from service.errors import SeqserveError
from service.metrics import Metrics

log = logging.getLogger(__name__)
ATTEMPTS = 3
LARGEST_MESSAGE = 2**31 - 1
"""TensorFlow Serving's own limit; grpc's default of 4 MB for answers is soon met by alignments."""
CHANNEL_OPTIONS = (
    ("grpc.max_send_message_length", LARGEST_MESSAGE),
    ("grpc.max_receive_message_length", LARGEST_MESSAGE),
    ("grpc.keepalive_time_ms", 10_000),  # a peer that hangs is found, though TCP would not tell for minutes
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),  # an address that comes back is used again within a second
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_retries", 0),  # grpc's own would take a call to a server whose content nobody has seen
)


@dataclass(frozen=True, slots=True)
class Tls:
    """What the channels trust and show, as PEM; `cert` and `key` for mutual TLS."""

    ca: bytes
    cert: bytes | None = None
    key: bytes | None = None

    @classmethod
    def read(cls, ca: Path, cert: Path | None, key: Path | None) -> "Tls":
        """Read the files; raises ValueError, naming the one that cannot be read."""
        mine = (_pem(path) if path is not None else None for path in (cert, key))
        return cls(_pem(ca), *mine)


def _pem(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error


class RetryBudget:
    """Bounds retries to a tenth of the calls, with ten in hand: a dying server is not called to death.

    After gRPC's retry throttling (gRFC A6).
    """

    MOST, PRICE = 100, 10

    def __init__(self) -> None:
        self._tokens = self.MOST

    def earn(self) -> None:
        """Count a call that succeeded."""
        self._tokens = min(self.MOST, self._tokens + 1)

    def spend(self) -> bool:
        """Take a retry's price, or tell that there is none left."""
        if self._tokens < self.PRICE:
            return False
        self._tokens -= self.PRICE
        return True


class TfServingBackend:
    """Serves the models that `names` gives, at every address that the hosts of `addresses` resolve to.

    Args:
        addresses: HOST:PORT each; a host with several addresses is several replicas (IPv4 if it has any).
        names: called at each look, so that a model config file may change.
        calls: how many batches an address gets at once.
    """

    def __init__(
        self,
        addresses: Sequence[str],
        names: Callable[[], Sequence[str]],
        metrics: Metrics,
        *,
        calls: int = 2,
        tls: Tls | None = None,
    ) -> None:
        self._addresses = addresses
        self._names = names
        self._metrics = metrics
        self._calls = calls
        self._tls = tls
        self._replicas: dict[tuple[str, str], Replica] = {}  # by (address as given, address as resolved)
        self._budget = RetryBudget()
        self._arrivals: dict[Key, int] = {}  # the how-manieth arrival a version's present stay is
        self._arrival = itertools.count()

    @property
    def slots(self) -> int:
        """Some batches for each address that answers."""
        return self._calls * max(1, sum(replica.is_up for replica in self._replicas.values()))

    async def models(self) -> list[str]:
        """Return the configured names, after finding out which addresses there are now."""
        await asyncio.gather(*(self._resolve(address) for address in self._addresses))
        return list(self._names())

    async def versions(self, model: str) -> list[VersionState]:
        """Return the versions that any address has, newest first.

        A version is AVAILABLE where one address can run it. Its stamp changes when its content does, and
        when it comes back after no address had it: then its examples are to be run again.

        Raises:
            BackendUnavailable: no address answers.
        """
        self._forget_lost(model)
        replicas = list(self._replicas.values())
        looks = await asyncio.gather(*(r.look(model) for r in replicas), return_exceptions=True)
        told: dict[int, list[VersionState]] = {}
        for look in looks:
            if isinstance(look, list):
                for state in look:
                    told.setdefault(state.version, []).append(state)
            elif not isinstance(look, (grpc.aio.AioRpcError, SeqserveError)):
                raise look
        if not any(isinstance(look, list) for look in looks):
            raise self._unreachable(model)
        return [self._merged(model, number, told[number]) for number in sorted(told, reverse=True)]

    async def label(self, model: str, label: str) -> int:
        """Ask the addresses, in order, which version a label stands for; the first that knows decides."""
        error: SeqserveError = self._unreachable(model)
        for replica in self._replicas.values():
            try:
                return await replica.version_of(model, label)
            except errors.LabelNotFound:
                raise
            except SeqserveError as told:
                error = told
        raise error

    async def manifest(self, model: str, version: int) -> dict[str, bytes]:
        """Return the contract files, as the version's own signature gives them."""
        for replica in self._replicas.values():
            known = replica.held.get((model, version))
            if isinstance(known, SeqserveError):
                raise known.at()
            if known is not None:
                return await replica.manifest(model, version)
        raise self._missing(model, version)

    async def predict(self, spec: Spec, inputs: Tensors, deadline: float) -> dict[str, Array]:
        """Run one batch at an address that has the version.

        UNAVAILABLE is tried again, elsewhere if possible, while the budget lasts; an address that has the
        version no longer is left for one that has.
        """
        if deadline <= asyncio.get_running_loop().time():
            raise errors.DeadlineExceeded("the deadline passed before the batch was run")
        request = PredictRequest(
            model_spec=ModelSpec(
                name=spec.model, version=Int64Value(value=spec.version), signature_name=spec.signature
            ),
            inputs={name: to_wire(array) for name, array in inputs.items()},
        )
        reply = await self._routed(spec, request, deadline)
        return _outputs(spec, reply)

    async def close(self) -> None:
        """End every channel."""
        await asyncio.gather(*(replica.close() for replica in self._replicas.values()))
        self._replicas.clear()

    async def _routed(self, spec: Spec, request: PredictRequest, deadline: float) -> PredictResponse:
        tried: list[Replica] = []
        key, failed = (spec.model, spec.version), None
        for attempt in range(1, ATTEMPTS + 1):
            holders = [r for r in self._replicas.values() if r.has(key, spec.digest)]
            if not holders:
                break
            replica = min(holders, key=lambda r: (tried.count(r), not r.is_up, r.in_flight))
            tried.append(replica)
            try:
                reply = await replica.predict(request, spec.digest, deadline)
                if reply is not None:
                    self._budget.earn()
                    return reply
            except grpc.aio.AioRpcError as error:
                failed = translated(error, f"{spec.model} version {spec.version} at {replica.address}")
                failed.__cause__ = error
                if isinstance(failed, errors.VersionNotFound):
                    replica.held.pop(key, None)
                elif error.code() is Code.UNAVAILABLE and attempt < ATTEMPTS and self._budget.spend():
                    self._metrics.backend_retries.inc()
                else:
                    raise failed from error
        raise failed or self._missing(spec.model, spec.version)

    async def _resolve(self, address: str) -> None:
        """Follow what a host stands for; while it cannot be resolved, what it was last stays."""
        host, _, port = address.rpartition(":")
        host, loop = host.strip("[]"), asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)
        except OSError as error:
            log.warning("%s cannot be resolved: %s", address, error)
            return
        ips = {info[4][0] for info in found if info[0] == socket.AF_INET}
        targets = {f"ipv4:{ip}:{port}" for ip in ips}
        if not targets:
            targets = {f"ipv6:[{info[4][0]}]:{port}" for info in found}
        for target in targets:
            if (address, target) not in self._replicas:
                channel = self._channel(host, target)
                self._replicas[address, target] = Replica(target, channel, self._calls, self._metrics)
        gone = [key for key in self._replicas if key[0] == address and key[1] not in targets]
        for key in gone:
            await self._replicas.pop(key).close()

    def _channel(self, host: str, target: str) -> grpc.aio.Channel:
        if self._tls is None:
            return grpc.aio.insecure_channel(target, options=CHANNEL_OPTIONS)
        tls = grpc.ssl_channel_credentials(self._tls.ca, self._tls.key, self._tls.cert)
        named = ("grpc.ssl_target_name_override", host)  # the certificate is for the name, not the number
        return grpc.aio.secure_channel(target, tls, options=(*CHANNEL_OPTIONS, named))

    def _merged(self, model: str, number: int, told: list[VersionState]) -> VersionState:
        """Sum up what the addresses say of one version: whatever the first that can run it says."""
        able = [state for state in told if state.state is State.AVAILABLE]
        if not able:
            loading = (state for state in told if state.state is State.LOADING)
            return next(loading, told[0])
        if any(state.stamp != able[0].stamp for state in able):
            log.warning("%s version %d is not the same at every address", model, number)
        arrival = self._arrivals.setdefault((model, number), next(self._arrival))
        return VersionState(number, State.AVAILABLE, stamp=(able[0].stamp, arrival))

    def _forget_lost(self, model: str) -> None:
        for key in [key for key in self._arrivals if key[0] == model]:
            if not any(key in replica.held for replica in self._replicas.values()):
                del self._arrivals[key]

    def _missing(self, model: str, version: int) -> SeqserveError:
        """Say why no address can run a version: it is gone, or those that may have it cannot be reached."""
        if self._replicas and all(replica.is_up for replica in self._replicas.values()):
            return errors.VersionNotFound(f"model {model!r} has no version {version}")
        return self._unreachable(model)

    def _unreachable(self, model: str) -> SeqserveError:
        message = f"no model server that has {model!r} can be reached"
        return errors.BackendUnavailable(message, retry_after=RETRY_SECONDS)


def _outputs(spec: Spec, reply: PredictResponse) -> dict[str, Array]:
    """Return the answer's arrays; raises BackendFailed where it is not an answer to this call."""
    where, told = f"{spec.model} version {spec.version}", reply.model_spec.version.value
    if told != spec.version:
        raise errors.BackendFailed(f"version {told} answered for {where}")
    try:
        return {name: from_wire(tensor) for name, tensor in reply.outputs.items()}
    except ValueError as error:
        raise errors.BackendFailed(f"{where} answered an output that cannot be read: {error}") from error
