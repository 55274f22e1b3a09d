"""Nobody chooses the address that is counted, logged and audited."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api_service.clients import Client, TrustedProxies, neighbourhood

PROXIES = TrustedProxies([ipaddress.ip_network(one) for one in ("10.0.0.0/8", "fd00::/8")])


def seen(peer: str, hops: str | None = None, scheme: str | None = None, proxies: TrustedProxies = PROXIES) -> Client:
    """The client of a request with these headers."""
    environ = {"REMOTE_ADDR": peer}
    if hops is not None:
        environ["HTTP_X_FORWARDED_FOR"] = hops
    if scheme is not None:
        environ["HTTP_X_FORWARDED_PROTO"] = scheme
    return proxies.client(environ)


@pytest.mark.parametrize("peer", ["192.0.2.1", "10.0.0.1", "127.0.0.1", "2001:db8::1", ""])
def test_without_trusted_proxies_the_client_is_the_peer(peer: str) -> None:
    """Whatever the headers say."""
    assert seen(peer, "203.0.113.9", "https", TrustedProxies()) == Client(peer, is_tls=False)


def test_a_peer_that_is_no_proxy_is_not_believed() -> None:
    """Neither its address nor its scheme."""
    assert seen("192.0.2.1", "203.0.113.9", "https") == Client("192.0.2.1", is_tls=False)


@pytest.mark.parametrize(
    ("hops", "address"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("1.1.1.1, 203.0.113.9", "203.0.113.9"),
        ("1.1.1.1,203.0.113.9, 10.7.7.7", "203.0.113.9"),
        ("10.1.1.1, 203.0.113.9, 10.7.7.7 ,fd00::7", "203.0.113.9"),
        ("203.0.113.9:4711", "203.0.113.9"),
        ("[2001:db8::5]:443", "2001:db8::5"),
        ("2001:DB8:0::5", "2001:db8::5"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("203.0.113.9, ::ffff:10.7.7.7", "203.0.113.9"),
        ("10.7.7.7", "10.7.7.7"),
        ("10.1.1.1, 10.7.7.7", "10.1.1.1"),
        ("", "10.0.0.1"),
        ("unknown", "10.0.0.1"),
        ("203.0.113.9, _hidden", "10.0.0.1"),
        ("203.0.113.9, garbage, 10.7.7.7", "10.7.7.7"),
        ("203.0.113.9,", "10.0.0.1"),
        ("203.0.113.9\n", "203.0.113.9"),
    ],
)
def test_the_client_is_the_last_hop_that_is_none_of_ours(hops: str, address: str) -> None:
    """Nearer ones are proxies, farther ones are what that client wrote itself."""
    assert seen("10.0.0.1", hops).address == address


@pytest.mark.parametrize(
    ("scheme", "is_tls"),
    [("https", True), ("HTTPS", True), ("http", False), ("", False), ("https, http", False), ("https,https", True)],
)
def test_tls_is_what_a_proxy_says(scheme: str, is_tls: bool) -> None:
    """The whole way, where there are several."""
    assert seen("10.0.0.1", "203.0.113.9", scheme).is_tls is is_tls


def test_ipv4_within_ipv6_is_ipv4() -> None:
    """A server that listens on :: sees every peer so."""
    assert seen("::ffff:192.0.2.1", proxies=TrustedProxies()).address == "192.0.2.1"
    assert seen("::ffff:10.0.0.1", "203.0.113.9").address == "203.0.113.9"


def test_a_long_header_is_read_as_well() -> None:
    """It is not kept, that is all."""
    assert seen("10.0.0.1", "1.1.1.1, " * 500 + "203.0.113.9").address == "203.0.113.9"
    assert PROXIES._known.cache_info().maxsize == 4096


@given(st.text(max_size=40), st.text(max_size=20))
def test_what_a_client_writes_before_its_own_address_changes_nothing(forged: str, scheme: str) -> None:
    """A proxy adds the address it sees at the end."""
    assert seen("10.0.0.1", f"{forged}, 203.0.113.9", scheme).address == "203.0.113.9"


@pytest.mark.parametrize(
    ("address", "counted_as"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("fe80::1%eth0", "fe80::"),
        ("", ""),
        ("not:an address", "not:an address"),
    ],
)
def test_sixty_four_bits_of_ipv6_are_one_client(address: str, counted_as: str) -> None:
    """Who has one address there has them all."""
    assert neighbourhood(address) == counted_as
