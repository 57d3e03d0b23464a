"""Ends connections of a server from outside it: grpc cannot, not even where a caller does not read."""

import contextlib
import os
import socket
import stat
from collections.abc import Iterator
from ipaddress import ip_address
from urllib.parse import unquote


def close(port: int) -> None:
    """End listening at a port of this process, and every connection to it; see `sever`."""
    for found in _sockets():
        with found, contextlib.suppress(OSError):
            if found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) and found.getsockname()[1] == port:
                found.shutdown(socket.SHUT_RDWR)
    sever(port)


def sever(port: int, peers: frozenset[str] | None = None) -> None:
    """End connections to a port of this process. What was written before still arrives.

    Args:
        peers: whose connections, as grpc names peers: `ipv4:127.0.0.1:5000`; None: all.
    """
    wanted = None if peers is None else {_place(unquote(peer).partition(":")[2]) for peer in peers}
    for found in _sockets():
        with found, contextlib.suppress(OSError):  # one that listens, or has ended by itself
            at, place = found.getsockname()[1], _placed(found.getpeername())
            if at == port and (wanted is None or place in wanted):
                found.shutdown(socket.SHUT_RDWR)


def _sockets() -> Iterator[socket.socket]:
    """Yield this process's internet sockets, each under a descriptor of our own that nobody else closes."""
    for name in os.listdir("/dev/fd"):
        try:
            if not stat.S_ISSOCK(os.fstat(int(name)).st_mode):
                continue
            found = socket.socket(fileno=os.dup(int(name)))
        except OSError:
            continue  # closed meanwhile
        if found.family in (socket.AF_INET, socket.AF_INET6):
            yield found
        else:
            found.close()


def _placed(name: tuple[str, int]) -> tuple[str, int]:
    """Return address and port, those of IPv4 in its own form."""
    address = ip_address(name[0].partition("%")[0])
    return str(getattr(address, "ipv4_mapped", None) or address), name[1]


def _place(peer: str) -> tuple[str, int]:
    host, _, port = peer.rpartition(":")
    return _placed((host.strip("[]"), int(port)))
