"""What grpc's core is told of a server: what it takes, and how long it waits.

What it refuses is answered before any code of ours runs, and so in its own words: a message or metadata past
its limit as RESOURCE_EXHAUSTED, a call past its connection's limit as UNAVAILABLE. A connection too many
is closed.
"""

from seqserve.service.edge.descriptors import room_for_grpc
from seqserve.service.settings import Settings

OWN_METADATA = 2048
"""Bytes of metadata that are not the caller's to choose: path, authority, user agent, deadline."""
PINGS_MS = 5_000
"""Clients may ping this often, with or without calls: behind NAT, each 10 s is the usual advice."""
KEEPALIVE_MS, KEEPALIVE_TIMEOUT_MS = 60_000, 20_000
"""When a connection is silent we ping, and when that is not answered we close it."""


def channel_options(settings: Settings) -> list[tuple[str, int]]:
    """Return the options of a server."""
    metadata = settings.max_metadata_bytes + OWN_METADATA
    waiting = 2 * settings.grpc_calls  # past it grpc cancels calls, without a word: our own limit comes first
    return [
        *_size(settings, metadata),
        ("grpc.server.max_pending_requests", waiting),
        ("grpc.server.max_pending_requests_hard_limit", waiting),
        ("grpc.max_concurrent_streams", settings.grpc_streams),
        ("grpc.max_allowed_incoming_connections", room_for_grpc(settings.grpc_connections)),
        ("grpc.server_handshake_timeout_ms", _ms(settings.head_seconds)),
        ("grpc.http2.min_ping_interval_without_data_ms", PINGS_MS),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.keepalive_time_ms", KEEPALIVE_MS),
        ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS),
        *_age(settings),
        ("grpc.so_reuseport", 0),  # else two servers may share a port unnoticed
    ]


def _size(settings: Settings, metadata: int) -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", settings.grpc_message_bytes),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_metadata_size", metadata),
        ("grpc.absolute_max_metadata_size", metadata),
        ("grpc.http2.bdp_probe", 0),  # else 4 MiB of each call are taken in before anybody asks for them
    ]


def _age(settings: Settings) -> list[tuple[str, int]]:
    if not settings.grpc_age_seconds:
        return []
    return [
        ("grpc.max_connection_age_ms", _ms(settings.grpc_age_seconds)),
        ("grpc.max_connection_age_grace_ms", _ms(settings.max_timeout)),
    ]


def _ms(seconds: float) -> int:
    return min(round(seconds * 1000), 2**31 - 1)
