"""Whose address a call goes by: nobody can choose it, whatever they write into a proxy's headers."""

import pytest
from hypothesis import given, strategies as st

from seqserve.service.edge.addresses import LONGEST, Addresses

PROXY, INNER, CALLER = "10.0.0.9", "10.0.0.8", "192.0.2.7"
TRUSTED = Addresses(["10.0.0.0/8", "::1"])
GARBAGE = st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=60)
FORGED = st.one_of(
    GARBAGE,
    GARBAGE.map(lambda text: f"for=6.6.6.6;host={text}"),
    st.sampled_from(
        [
            'for=6.6.6.6;host="',
            "6.6.6.6",
            'for="[::6]"',
            ",",
            '"',
            'x="\\',
            "for=6.6.6.6",
            ";for=6.6.6.6",
            ", for=6.6.6.6;x=",
            'x="\\"',
        ]
    ),
    st.just("x" * LONGEST),
)


def quoted(text: str) -> str:
    """Return a quoted string (RFC 9110), as a proxy writes what a caller gave it."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


@given(FORGED, FORGED)
def test_a_caller_behind_a_proxy_cannot_choose_its_address(header: str, host: str) -> None:
    """Proxies append to what they are sent, and quote the Host: it goes by its address or the proxy's."""
    before = f"{header}," if header else ""
    after = f"for={CALLER};proto=https;host={quoted(host)}, for={INNER};by={PROXY}"
    chosen = {CALLER, PROXY, INNER}
    assert TRUSTED.caller(PROXY, before + after) in chosen
    assert TRUSTED.caller(PROXY, "", f"{before}{CALLER}, {INNER}") in chosen
    # a proxy that writes one of the headers passes on what a caller wrote into the other
    assert TRUSTED.caller(PROXY, header, f"{CALLER}, {INNER}") in chosen
    assert TRUSTED.caller(PROXY, after, header) in chosen
    assert TRUSTED.caller(CALLER, before + after, header) == CALLER  # no proxy that is trusted


@pytest.mark.parametrize(
    ("peer", "forwarded", "forwarded_for", "name"),
    [
        (PROXY, f"for={CALLER}", "", CALLER),
        (PROXY, f'For="{CALLER}:4711";proto=http;by=203.0.113.43', "", CALLER),
        (PROXY, f"for=198.51.100.1, for={CALLER} , for={INNER}", "", CALLER),
        (PROXY, 'for="[2001:db8:cafe:1::17]:4711"', "", "2001:db8:cafe:1::/64"),
        (PROXY, f'proto=https;host="a,b;for=6.6.6.6";for={CALLER}', "", CALLER),
        (PROXY, "for=unknown", "", PROXY),
        (PROXY, "for=_hidden, for=10.1.1.1", "", "10.1.1.1"),
        (PROXY, "by=10.0.0.9", "", PROXY),
        (PROXY, "", f"198.51.100.1, {CALLER}, {INNER}", CALLER),
        (PROXY, "", f"{CALLER}:5000", CALLER),
        (PROXY, "", "[2001:db8:cafe:1::17]:4711", "2001:db8:cafe:1::/64"),
        (PROXY, "", "2001:db8:cafe:1::17", "2001:db8:cafe:1::/64"),
        (PROXY, f"for={CALLER}", CALLER, CALLER),
        (PROXY, "for=6.6.6.6", CALLER, PROXY),
        (PROXY, f"for={INNER}", "", INNER),
        (f"::ffff:{PROXY}", f'for="[::ffff:{CALLER}]"', "", CALLER),
        ("::1", f"for={CALLER}", "", CALLER),
        ("2001:db8::1", f"for={CALLER}", f"{CALLER}", "2001:db8::/64"),
        ("fe80::1%eth0", "", "", "fe80::/64"),
        ("", f"for={CALLER}", "", ""),
        ("/run/seqserve.sock", "", "", "/run/seqserve.sock"),
    ],
)
def test_the_address_that_a_call_goes_by(peer: str, forwarded: str, forwarded_for: str, name: str) -> None:
    """From the right, past the trusted; IPv6 by its network; IPv4 in an IPv6 socket as itself."""
    assert TRUSTED.caller(peer, forwarded, forwarded_for) == name


def test_two_of_one_network_are_one_caller() -> None:
    """Who has a /64 has all of it; the neighbour has the next."""
    one, same, other = ("2001:db8:0:1::7", "2001:db8:0:1:ffff::", "2001:db8:0:2::7")
    names = [Addresses().caller(peer) for peer in (one, same, other)]
    assert names[0] == names[1] != names[2]
