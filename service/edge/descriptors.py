"""How many connections the process' file descriptors leave room for, at each door."""

import logging
import resource

log = logging.getLogger(__name__)
OPS_CONNECTIONS = 32
"""Connections of the operators' port: probes, a few who scrape, a few who read."""
RESERVED = 96 + OPS_CONNECTIONS
"""Descriptors for everything but these: models' files, the backend's channels, logs, and those
who are told that there is no room."""


def room_for_rest(wanted: int) -> int:
    """Return how many REST connections may be open: `wanted`, or else three quarters of the descriptors."""
    return _room("rest_connections", wanted, 3)


def room_for_grpc(wanted: int) -> int:
    """Return how many gRPC connections may be open: `wanted`, or else a quarter of the descriptors."""
    return _room("grpc_connections", wanted, 1)


def _room(setting: str, wanted: int, quarters: int) -> int:
    """Return what a share of the descriptors leaves, one at least; the process' limit is raised before."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard == resource.RLIM_INFINITY:
        return wanted
    most = max(1, min(wanted, (hard - RESERVED) * quarters // 4))
    if most < wanted:
        fields = {setting: wanted, "taken": most}
        log.warning("the limit of open files leaves room for fewer connections", extra={"fields": fields})
    return most
