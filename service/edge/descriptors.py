"""How many connections the process' file descriptors leave room for."""

import resource

RESERVED = 64
"""Descriptors for everything but connections: models' files, the backend's channels, logs."""


def room_for_connections(wanted: int) -> int:
    """Return how many REST connections may be open, after raising this process' limit as far as it goes.

    Args:
        wanted: the most; where the limit is low it is three quarters of what others leave, the rest is for
            gRPC, which cannot be told how many connections to take.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard == resource.RLIM_INFINITY:
        return wanted
    return max(1, min(wanted, (hard - RESERVED) * 3 // 4))
