"""The grpc.aio server over one gateway: services, health, reflection, limits, and the edge round them."""

import asyncio
import contextlib
import logging

import grpc
from grpc_reflection.v1alpha import reflection

from seqserve.service.core.gateway import Gateway
from seqserve.service.edge.bytes_in_flight import BytesInFlight
from seqserve.service.edge.entrance import Entrance
from seqserve.service.edge.tls import Chain, Tls
from seqserve.service.rpc import health
from seqserve.service.rpc.accepting import Server
from seqserve.service.rpc.calls import Calls
from seqserve.service.rpc.edge import Edge
from seqserve.service.rpc.grpc_log import hush
from seqserve.service.rpc.health import Health
from seqserve.service.rpc.options import channel_options
from seqserve.service.rpc.reading import Reader
from seqserve.service.rpc.servicers import services
from seqserve.service.rpc.sockets import close, sever
from seqserve.service.rpc.surfaces import surface_services
from seqserve.service.rpc.tasks import RPCS, Rpcs
from seqserve.service.settings import Settings

log = logging.getLogger(__name__)


class RpcServer:
    """Serves one gateway: `start`, `publish` whenever the catalog or the gateway changed, `stop`.

    Build it inside the running event loop.

    Args:
        entrance: what every call crosses.
        in_flight: what all requests may hold, at both doors.
        rpcs: the messages of the gateway's tasks.
        tls: the certificates to show; None: no TLS.
        watcher_patience: seconds after which a health watcher that does not read is dropped.
    """

    def __init__(
        self,
        gateway: Gateway,
        settings: Settings,
        entrance: Entrance,
        in_flight: BytesInFlight,
        rpcs: Rpcs = RPCS,
        tls: Tls | None = None,
        *,
        watcher_patience: float = health.PATIENCE,
    ) -> None:
        hush()
        self._gateway = gateway
        self._tls = tls
        self._address = _address(settings.host, settings.grpc_port)
        self._port = 0
        self._dropped: set[str] = set()
        self._dropping: asyncio.Task[None] | None = None
        ours = services(gateway, rpcs)
        methods = {**ours, **surface_services(gateway)}
        self._health = Health(tuple(methods), settings.grpc_calls // 2, self._drop, watcher_patience)
        self._calls = Calls(settings.grpc_calls)
        reader = Reader(in_flight, settings.grpc_message_bytes, settings.body_seconds)
        edge = Edge(entrance, self._calls, reader, settings)
        self._server = Server(edge.around, channel_options(settings))
        for service, of_service in {**methods, health.SERVICE: self._health.methods}.items():
            self._server.add_registered_method_handlers(service, of_service)
        names = (*ours, health.SERVICE, reflection.SERVICE_NAME)  # others' messages are described by others
        reflection.enable_server_reflection(names, self._server)  # type: ignore[arg-type]  # it is one

    async def start(self) -> int:
        """Listen, and return the port: the one of the settings, or the one taken where that is 0.

        Raises:
            OSError: the address cannot be bound.
        """
        try:
            self._port = self._add_port()
        except RuntimeError as error:
            raise OSError(f"{self._address} is taken, or no address of this machine") from error
        self._health.publish(self._gateway)
        await self._server.start()
        return self._port

    def _add_port(self) -> int:
        if self._tls is None:
            return self._server.add_insecure_port(self._address)
        return self._server.add_secure_port(self._address, _credentials(self._tls))

    def publish(self) -> None:
        """Bring health up to date with the gateway; cheap where nothing changed. Nobody is waited for."""
        self._health.publish(self._gateway)

    async def stop(self, grace: float) -> None:
        """End every connection once the calls of now have their answers, or after `grace` seconds.

        Calls are taken to the last, so that none is CANCELLED: one that comes too late is UNAVAILABLE.
        """
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._calls.quiet(), grace)
        await asyncio.to_thread(close, self._port)
        await self._server.stop(None)

    def _drop(self, peer: str) -> None:
        """End a peer's connection soon, together with others'."""
        log.warning("a health watcher that does not read is dropped")
        self._dropped.add(peer)
        if self._dropping is None or self._dropping.done():
            self._dropping = asyncio.create_task(self._drop_all(), name="grpc drop")

    async def _drop_all(self) -> None:
        while self._dropped:
            peers, self._dropped = frozenset(self._dropped), set()
            await asyncio.to_thread(sever, self._port, peers)


def _credentials(tls: Tls) -> grpc.ServerCredentials:
    """Return credentials that show each new connection the certificates of its time."""
    shown = tls.chain()

    def renewed() -> grpc.ServerCertificateConfiguration | None:
        nonlocal shown
        latest = tls.chain()
        if latest is shown:
            return None  # nothing to set up again
        shown = latest
        return _configuration(latest)

    return grpc.dynamic_ssl_server_credentials(
        _configuration(shown),
        renewed,  # type: ignore[arg-type]  # grpc-stubs lack that None is no change
        require_client_authentication=shown.client_ca is not None,
    )


def _configuration(chain: Chain) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([(chain.key, chain.cert)], chain.client_ca)


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
