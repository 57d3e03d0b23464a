"""The grpc.aio server over one gateway: services, health, reflection, limits, and the edge round them."""

import grpc
from grpc_health.v1 import health, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from seqserve.service.core.gateway import Gateway
from seqserve.service.edge.entrance import Entrance
from seqserve.service.edge.tls import Chain, Tls
from seqserve.service.rpc.edge import Edge
from seqserve.service.rpc.health import Health
from seqserve.service.rpc.servicers import services
from seqserve.service.rpc.tasks import RPCS, Rpcs
from seqserve.service.settings import Settings


class RpcServer:
    """Serves one gateway: `start`, `publish` whenever the catalog changed, `leave`, `stop`.

    Build it inside the running event loop.

    Args:
        entrance: what every call crosses.
        rpcs: the messages of the gateway's tasks.
        tls: the certificates to show; None: no TLS.
    """

    def __init__(
        self,
        gateway: Gateway,
        settings: Settings,
        entrance: Entrance,
        rpcs: Rpcs = RPCS,
        tls: Tls | None = None,
    ) -> None:
        self._gateway = gateway
        self._tls = tls
        self._address = _address(settings.host, settings.grpc_port)
        methods = services(gateway, rpcs)
        self._health = Health(tuple(methods))
        edge = Edge(entrance, settings.default_timeout, settings.max_timeout)
        self._server = grpc.aio.server(interceptors=(edge,), options=_options(settings))
        for service, of_service in methods.items():
            generic = grpc.method_handlers_generic_handler(service, {**of_service})
            self._server.add_generic_rpc_handlers((generic,))
        health_pb2_grpc.add_HealthServicer_to_server(self._health.servicer, self._server)
        names = (*methods, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._server)

    async def start(self) -> int:
        """Listen, and return the port: the one of the settings, or the one taken where that is 0.

        Raises:
            OSError: the address cannot be bound.
        """
        try:
            port = self._add_port()
        except RuntimeError as error:
            raise OSError(f"{self._address} is taken, or no address of this machine") from error
        self._health.publish(self._gateway)
        await self._health.settle()
        await self._server.start()
        return port

    def _add_port(self) -> int:
        if self._tls is None:
            return self._server.add_insecure_port(self._address)
        return self._server.add_secure_port(self._address, _credentials(self._tls))

    def publish(self) -> None:
        """Bring health up to date with the gateway; cheap where nothing changed. For `Catalog.on_change`."""
        self._health.publish(self._gateway)

    async def leave(self) -> None:
        """Tell health checkers NOT_SERVING, for good; calls are still answered. Comes before the draining."""
        await self._health.leave()

    async def stop(self, grace: float) -> None:
        """Take no new call and cancel, after `grace` seconds, those that are still open."""
        await self.leave()
        await self._server.stop(grace)


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


def _options(settings: Settings) -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", settings.grpc_message_bytes),
        ("grpc.max_send_message_length", -1),
        ("grpc.so_reuseport", 0),  # else two servers may share a port unnoticed
    ]
