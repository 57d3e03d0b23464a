"""What settings must say together: no contradiction, no door open by accident. For `service.settings`."""

import re
from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, NamedTuple

from seqserve.service.settings.environment import variable

if TYPE_CHECKING:
    from seqserve.service.settings import Settings

ROOT_PATH = re.compile(r"(/[^/?#\s]+)+")
REDIS = re.compile(r"(rediss?|unix)://.")
ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#\s]+")


class Wrong(NamedTuple):
    """A setting that does not do, and why."""

    field: str
    why: str


def wrong(settings: "Settings") -> list[Wrong]:
    """Return every setting that contradicts another, has no usable form, or opens the door by accident."""
    rules = (_model_server, _sessions, _tokens, _certificates, _ports, _proxies, _browsers, _public)
    return [found for rule in rules for found in rule(settings)]


def is_loopback(host: str) -> bool:
    """Tell whether only this machine can reach an address; a name counts as public, `localhost` apart."""
    try:
        address = ip_address(host.strip("[]"))
    except ValueError:
        return host.lower() == "localhost"
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def _model_server(settings: "Settings") -> Iterator[Wrong]:
    if settings.tfserving and not settings.model_names and settings.model_config_file is None:
        yield Wrong(
            "tfserving",
            f"needs {variable('models')} (NAME,…) or {variable('model_config_file')}: "
            "TensorFlow Serving does not list its own",
        )
    for address in settings.tfserving_addresses:
        host, _, port = address.rpartition(":")
        if not host or not port.isdecimal() or not 1 <= int(port) <= 65535:
            yield Wrong("tfserving", f"{address!r} is not HOST:PORT with a port of 1 to 65535")
    yield from _together(settings, "tfserving_cert", "tfserving_key")
    yield from _needs(settings, "tfserving_cert", "tfserving_ca")


def _sessions(settings: "Settings") -> Iterator[Wrong]:
    if settings.sessions and not REDIS.match(settings.sessions):
        yield Wrong("sessions", "redis://HOST:PORT or rediss://HOST:PORT (TLS) is wanted")
    yield from _needs(settings, "sessions_password_file", "sessions")


def _tokens(settings: "Settings") -> Iterator[Wrong]:
    for field in ("jwt_issuer", "jwt_audience"):
        yield from _together(settings, "jwt_jwks", field)


def _certificates(settings: "Settings") -> Iterator[Wrong]:
    yield from _together(settings, "tls_cert", "tls_key")
    yield from _needs(settings, "tls_client_ca", "tls_cert")


def _ports(settings: "Settings") -> Iterator[Wrong]:
    taken = {settings.rest_port: "rest_port"}
    for field in ("grpc_port", "ops_port"):
        port = getattr(settings, field)
        if port and port in taken:
            yield Wrong(field, f"is {variable(taken[port])} as well; each needs a port of its own")
        taken[port] = field


def _proxies(settings: "Settings") -> Iterator[Wrong]:
    for given in settings.trusted_proxy_networks:
        try:
            ip_network(given)
        except ValueError as error:
            yield Wrong("trusted_proxies", f"{error}: ADDRESS or NETWORK is wanted, as 10.0.0.0/8")
    if settings.root_path and not ROOT_PATH.fullmatch(settings.root_path):
        yield Wrong("root_path", "a path is wanted that begins with / and does not end with it, as /nlp")


def _browsers(settings: "Settings") -> Iterator[Wrong]:
    for origin in settings.origins:
        if origin != "*" and not ORIGIN.fullmatch(origin):
            yield Wrong(
                "cors_origins",
                f"{origin!r} is no origin: SCHEME://HOST[:PORT] is wanted, without a path, as https://app.example",
            )
    if "*" in settings.origins and len(settings.origins) > 1:
        yield Wrong("cors_origins", "* stands for any origin, so it stands alone")


def _public(settings: "Settings") -> Iterator[Wrong]:
    """An address that others reach asks callers who they are, and is encrypted, unless said otherwise."""
    field = "publish" if settings.publish else "host"
    if settings.open == "all" or is_loopback(getattr(settings, field)):
        return
    lacking = []
    if not any((settings.keys, settings.jwt_jwks, settings.tls_client_ca)):
        lacking.append(
            f"callers must be known: set {variable('keys')} (seqserve keys --help) or "
            f"{variable('jwt_jwks')}, or {variable('open')}=all to let everybody call"
        )
    if settings.tls_cert is None and settings.open != "tls":
        lacking.append(
            f"connections encrypted: set {variable('tls_cert')} and {variable('tls_key')}, or "
            f"{variable('open')}=tls where a proxy before this has TLS"
        )
    if lacking:
        yield Wrong(field, f"others reach this address, so {'; and '.join(lacking)}")


def _together(settings: "Settings", *fields: str) -> Iterator[Wrong]:
    """Each of two settings needs the other."""
    yield from _needs(settings, *fields)
    yield from _needs(settings, *reversed(fields))


def _needs(settings: "Settings", field: str, other: str) -> Iterator[Wrong]:
    if getattr(settings, field) and not getattr(settings, other):
        yield Wrong(field, f"needs {variable(other)} beside it")
