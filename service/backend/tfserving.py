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
from ipaddress import IPv4Address, IPv6Address, ip_address

import grpc
from google.protobuf.wrappers_pb2 import Int64Value

from seqserve.service import errors
from seqserve.service.backend.base import Spec, State, Tensors, VersionState
from seqserve.service.backend.failed_loads import FailedLoads
from seqserve.service.backend.replica import LOOK_SECONDS, RETRY_SECONDS, Code, Key, Replica, translated
from seqserve.service.backend.tensors import from_wire, to_wire
from seqserve.service.contract.padding import Array
from seqserve.service.errors import SeqserveError
from seqserve.service.metrics import Metrics
from seqserve.tfserving.predict_pb2 import ModelSpec, PredictRequest, PredictResponse

log = logging.getLogger(__name__)
ATTEMPTS = 3
LEAVE_SECONDS = 60.0
RESOLVE_SECONDS = 2.0
LARGEST_MESSAGE = 2**31 - 1
"""TensorFlow Serving's own limit; answers with alignments soon exceed grpc's default of 4 MB."""
CHANNEL_OPTIONS = (
    ("grpc.max_send_message_length", LARGEST_MESSAGE),
    ("grpc.max_receive_message_length", LARGEST_MESSAGE),
    ("grpc.keepalive_time_ms", 10_000),  # detects a peer that hangs, which TCP would take minutes to do
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),  # an address that comes back is used again within a second
    ("grpc.min_reconnect_backoff_ms", 2_000),  # what answers a connection with rubbish: 20 s by default
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_retries", 0),  # grpc's own might call a server whose content has not been examined
)


@dataclass(frozen=True, slots=True)
class Tls:
    """The certificates of the channels, as PEM: the authority to trust, and for mutual TLS our own."""

    ca: bytes
    cert: bytes | None = None
    key: bytes | None = None


class RetryBudget:
    """Bounds retries to a tenth of the calls, with ten to begin with, so that they do not kill a weak server.

    After gRPC's retry throttling (gRFC A6).
    """

    MOST, PRICE = 100, 10

    def __init__(self) -> None:
        self._tokens = self.MOST

    def earn(self) -> None:
        """Count a call that succeeded."""
        self._tokens = min(self.MOST, self._tokens + 1)

    def spend(self) -> bool:
        """Take a retry's price; return False where too little is left."""
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
        look_seconds: how long an address may take to answer a question about a model.
        failed_loads: drops the versions that failed and are gone; absent: by the policy `latest 2` alone.
    """

    def __init__(
        self,
        addresses: Sequence[str],
        names: Callable[[], Sequence[str]],
        metrics: Metrics,
        *,
        calls: int = 2,
        tls: Tls | None = None,
        look_seconds: float = LOOK_SECONDS,
        failed_loads: FailedLoads | None = None,
    ) -> None:
        self._addresses = addresses
        self._names = names
        self._metrics = metrics
        self._calls = calls
        self._tls = tls
        self._look_seconds = look_seconds
        self._failed_loads = failed_loads or FailedLoads()
        self._replicas: dict[tuple[str, str], Replica] = {}  # by (address as given, address as resolved)
        self._leaving: set[asyncio.Task[None]] = set()  # given up, and closed once their calls have ended
        self._unresolved: set[str] = set()
        self._budget = RetryBudget()
        self._arrivals: dict[Key, int] = {}  # a serial number for each time that a version appears
        self._arrival_numbers = itertools.count()

    @property
    def slots(self) -> int:
        """The batches that the answering addresses may get, and those under way at the silent ones."""
        replicas = self._replicas.values()
        used = (self._calls if r.is_up else min(self._calls, r.in_flight) for r in replicas)
        return max(self._calls, sum(used))

    @property
    def is_reachable(self) -> bool:
        """Whether any address answers."""
        return any(replica.is_up for replica in self._replicas.values())

    @property
    def has_named_models(self) -> bool:
        """True: the settings or a config file name them."""
        return True

    async def models(self) -> list[str]:
        """Return the configured names, after resolving the addresses anew."""
        await self._resolve()
        return list(self._names())

    async def versions(self, model: str) -> list[VersionState]:
        """Return the versions that any address has, newest first.

        A version is AVAILABLE where at least one address can run it. Its stamp changes when its content does,
        and when it comes back after no address had it: then its examples must be run again.

        Raises:
            BackendUnavailable: no address answers.
        """
        self._forget_lost(model)
        replicas = list(self._replicas.values())
        looks = await asyncio.gather(*(r.look(model) for r in replicas), return_exceptions=True)
        states: dict[int, list[VersionState]] = {}
        for replica, look in zip(replicas, looks, strict=True):
            if isinstance(look, BaseException) and not isinstance(
                look, (grpc.aio.AioRpcError, SeqserveError)
            ):
                raise look
            for state in look if isinstance(look, list) else replica.known(model):
                states.setdefault(state.version, []).append(state)
        if not any(isinstance(look, list) for look in looks):
            raise self._unreachable(model)
        merged = [self._merged(model, number, states[number]) for number in sorted(states, reverse=True)]
        return await self._failed_loads.without_gone(model, merged)

    async def label(self, model: str, label: str) -> int:
        """Ask the addresses, in order, which version a label stands for; the first that knows decides."""
        error: SeqserveError = self._unreachable(model)
        for replica in self._by_health():
            try:
                return await replica.version_of(model, label)
            except errors.LabelNotFound:
                raise
            except SeqserveError as failure:
                error = error if isinstance(error, errors.VersionNotFound) else failure
        raise error

    async def manifest(self, model: str, version: int) -> dict[str, bytes]:
        """Return the contract files, as the version's own signature gives them."""
        error: SeqserveError = self._missing(model, version)
        for replica in self._by_health():
            known = replica.held.get((model, version))
            if isinstance(known, SeqserveError):
                raise known.at()
            try:
                if known is not None:
                    return await replica.manifest(model, version)
            except (errors.Unavailable, errors.DeadlineExceeded) as failure:
                error = failure
        raise error

    async def predict(self, spec: Spec, inputs: Tensors, deadline: float) -> dict[str, Array]:
        """Run one batch at an address that has the version.

        UNAVAILABLE is tried again, elsewhere if possible, while the budget lasts; an address that no longer
        has the version is passed over.
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
        for task in self._leaving:
            task.cancel()
        closing = (replica.close() for replica in self._replicas.values())
        await asyncio.gather(*closing, *self._leaving, return_exceptions=True)
        self._replicas.clear()

    async def _routed(self, spec: Spec, request: PredictRequest, deadline: float) -> PredictResponse:
        key, tried, owes = (spec.model, spec.version), list[Replica](), False
        failed: SeqserveError | None = None
        while len(tried) < ATTEMPTS:
            holders = [replica for replica in self._replicas.values() if replica.has(key, spec.digest)]
            if not holders:
                break
            replica = min(holders, key=lambda r: (tried.count(r), not r.is_up, r.in_flight, r.last_call))
            if owes and not self._may_retry():
                break
            try:
                reply = await replica.predict(request, spec.digest, deadline)
                if reply is not None:
                    self._budget.earn()
                    return reply
            except grpc.aio.AioRpcError as error:
                failed = translated(error, f"{spec.model} version {spec.version}", replica.address)
                if isinstance(failed, errors.VersionNotFound):
                    replica.held.pop(key, None)
                    failed = self._missing(*key)
                    continue
                if error.code() is not Code.UNAVAILABLE:
                    raise failed from error
                owes = True
            tried.append(replica)
        raise failed or self._missing(*key)

    def _may_retry(self) -> bool:
        if not self._budget.spend():
            return False
        self._metrics.backend_retries.inc()
        return True

    async def _resolve(self) -> None:
        """Resolve the hosts anew; an address that is gone is closed once its calls under way have ended."""
        resolved = await asyncio.gather(*(self._targets(address) for address in self._addresses))
        wanted = [(address, target) for address, targets in resolved for target in targets]
        gone = [key for key in self._replicas if key not in wanted]
        for key in gone:
            leaving = asyncio.create_task(self._replicas[key].close(LEAVE_SECONDS))
            self._leaving.add(leaving)
            leaving.add_done_callback(self._leaving.discard)
        self._replicas = {key: self._replicas.get(key) or self._replica(*key) for key in wanted}

    async def _targets(self, address: str) -> tuple[str, list[str]]:
        """Return an address with what it resolves to now, or did last if it cannot be resolved."""
        host, port = _host_and_port(address)
        if (number := _number(host)) is not None:
            return address, [f"ipv4:{number}:{port}" if number.version == 4 else f"ipv6:[{number}]:{port}"]
        try:
            async with asyncio.timeout(RESOLVE_SECONDS):
                infos = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
            self._unresolved.discard(address)
        except (OSError, UnicodeError) as error:  # a timeout is an OSError
            if address not in self._unresolved:
                log.warning("%s cannot be resolved: %s", address, error or "no answer in time")
            self._unresolved.add(address)
            return address, [target for given, target in self._replicas if given == address]
        ips = sorted({str(info[4][0]) for info in infos if info[0] == socket.AF_INET})
        others = sorted({str(info[4][0]) for info in infos})
        return address, [f"ipv4:{ip}:{port}" for ip in ips] or [f"ipv6:[{ip}]:{port}" for ip in others]

    def _replica(self, address: str, target: str) -> Replica:
        channel = self._channel(_host_and_port(address)[0], target)
        return Replica(target, channel, self._calls, self._metrics, self._look_seconds)

    def _channel(self, host: str, target: str) -> grpc.aio.Channel:
        if self._tls is None:
            return grpc.aio.insecure_channel(target, options=CHANNEL_OPTIONS)
        tls = grpc.ssl_channel_credentials(self._tls.ca, self._tls.key, self._tls.cert)
        named = ("grpc.ssl_target_name_override", host)  # the certificate is for the name, not the number
        return grpc.aio.secure_channel(target, tls, options=(*CHANNEL_OPTIONS, named))

    def _merged(self, model: str, number: int, states: list[VersionState]) -> VersionState:
        """Return one state for what the addresses say of a version: that of the first that can run it."""
        able = [state for state in states if state.state is State.AVAILABLE]
        if not able:
            return min(states, key=lambda state: (state.state is not State.LOADING, state.has_ended))
        if (model, number) not in self._arrivals:
            self._arrivals[model, number] = next(self._arrival_numbers)
            if any(state.stamp != able[0].stamp for state in able):
                log.warning("%s version %d is not the same at every address", model, number)
        arrival = self._arrivals[model, number]
        return VersionState(number, State.AVAILABLE, stamp=(able[0].stamp, arrival))

    def _forget_lost(self, model: str) -> None:
        for key in [key for key in self._arrivals if key[0] == model]:
            if not any(replica.known(model) and key in replica.held for replica in self._replicas.values()):
                del self._arrivals[key]

    def _by_health(self) -> list[Replica]:
        return sorted(self._replicas.values(), key=lambda replica: not replica.is_up)

    def _missing(self, model: str, version: int) -> SeqserveError:
        """Say why no address can run a version: it is gone, or those that may have it cannot be reached."""
        replicas = self._replicas.values()
        if replicas and all(replica.is_up and model in replica.looked_at for replica in replicas):
            return errors.VersionNotFound(f"model {model!r} has no version {version}")
        return self._unreachable(model)

    def _unreachable(self, model: str) -> SeqserveError:
        message = f"no model server that has {model!r} can be reached"
        return errors.BackendUnavailable(message, retry_after=RETRY_SECONDS)


def _number(host: str) -> IPv4Address | IPv6Address | None:
    """Return a host that is given by its number, which nobody has to be asked for."""
    try:
        return ip_address(host)
    except ValueError:
        return None


def _host_and_port(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def _outputs(spec: Spec, reply: PredictResponse) -> dict[str, Array]:
    """Return the answer's arrays; raises BackendFailed where it is not an answer to this call."""
    where, answered = f"{spec.model} version {spec.version}", reply.model_spec.version.value
    if answered != spec.version:
        raise errors.BackendFailed(f"version {answered} answered for {where}")
    try:
        return {name: from_wire(tensor) for name, tensor in reply.outputs.items()}
    except ValueError as error:
        raise errors.BackendFailed(f"{where} answered an output that cannot be read: {error}") from error
