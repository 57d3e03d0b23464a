"""The address that a call comes from: the peer's, or the one that trusted proxies say they had it from."""

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
IPV6_PREFIX = 64
"""What one customer is given at least: who has a /64 has all of its addresses."""
MOST_KEPT = 4096
LONGEST = 2048
"""Characters of a header that is believed; more than that no chain of proxies writes."""
_PAIR = re.compile(r'\s*([\w!#$%&\'*+.^`|~-]+)=("(?:[^"\\]|\\.)*+"|[^\s",;=]*)\s*([;,]|$)')
_PORT = re.compile(r"(?:\[(?P<six>[^\]]*)\]|(?P<four>[\d.]+))(?::\w+)?")


class Addresses:
    """Names callers by their addresses.

    Args:
        trusted: networks of proxies, as `10.0.0.0/8,::1`. Each of them must write or append to `Forwarded`
            (RFC 7239) or `X-Forwarded-For`, else callers could say what they like.
    """

    def __init__(self, trusted: Sequence[str] = ()) -> None:
        """Raises ValueError, naming the network that is none."""
        self._trusted = [ip_network(network) for network in trusted]
        self._named = lru_cache(MOST_KEPT)(_named)
        self._vouches = lru_cache(MOST_KEPT)(self._lies_in_a_trusted_network)
        self._is_address = lru_cache(MOST_KEPT)(_is_address)

    def caller(self, peer: str, forwarded: str = "", forwarded_for: str = "") -> str:
        """Return the caller's address, for IPv6 its network: `192.0.2.7`, `2001:db8:0:1::/64`.

        Args:
            peer: without port; what is no address (a socket in the file system) is returned as it is.
            forwarded: value of `Forwarded`; several headers' joined by commas, in order.
            forwarded_for: likewise of `X-Forwarded-For`.
        """
        if not self._trusted or not (forwarded or forwarded_for):
            return self._named(peer)
        said = {
            self._origin(peer, hops(header)) if len(header) <= LONGEST else peer
            for header, hops in ((forwarded, _forwarded), (forwarded_for, _listed))
            if header
        }
        # A proxy writes one of the two, and passes on what a caller wrote into the other.
        return self._named(said.pop() if len(said) == 1 else peer)

    def _origin(self, peer: str, hops: Iterator[str]) -> str:
        """Return the first hop from the right that is no trusted proxy; those vouch for the next."""
        trusted = peer
        for hop in hops:
            if not self.is_trusted(trusted) or not self._is_address(hop):
                break
            trusted = hop
        return trusted

    def is_trusted(self, text: str) -> bool:
        """Tell whether an address is a trusted proxy's."""
        return self._vouches(text)

    def _lies_in_a_trusted_network(self, text: str) -> bool:
        address = _parsed(text)
        return address is not None and any(address in network for network in self._trusted)


def _forwarded(header: str) -> Iterator[str]:
    """Yield the `for` of each element of `Forwarded`, from the right; nothing where it is malformed.

    It is read from the left, with its quotes: a proxy may quote a caller's Host, which may hold anything.
    """
    elements: list[dict[str, str]] = [{}]
    place = 0
    while place < len(header):
        match = _PAIR.match(header, place)
        if match is None:
            return
        elements[-1][match[1].lower()] = match[2].strip('"')
        if match[3] == ",":
            elements.append({})
        place = match.end()
    for element in reversed(elements):
        yield _host(element.get("for", ""))


def _listed(header: str) -> Iterator[str]:
    """Yield the addresses of `X-Forwarded-For`, from the right."""
    return (_host(part.strip()) for part in reversed(header.split(",")))


def _host(node: str) -> str:
    """Return an address without brackets and port."""
    match = _PORT.fullmatch(node)
    return (match["six"] or match["four"] or "") if match is not None else node


def _parsed(text: str) -> Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _is_address(text: str) -> bool:
    return _parsed(text) is not None


def _named(text: str) -> str:
    address = _parsed(text)
    if isinstance(address, IPv6Address):
        return str(ip_network((address.packed, IPV6_PREFIX), strict=False))
    return str(address) if address is not None else text
