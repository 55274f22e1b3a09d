"""Which addresses webhooks may reach."""

import socket
from ipaddress import ip_network

import pytest

from shared.webhook_addresses import is_forbidden

FORBIDDEN = [
    "0.0.0.0", "0.0.0.1", "0.255.255.255", "10.0.0.1", "10.255.255.255", "100.64.0.0", "100.100.100.200",
    "100.127.255.255", "127.0.0.1", "127.0.0.53", "127.255.255.254", "168.63.129.16", "169.254.0.1",
    "169.254.169.254", "169.254.170.2", "172.16.0.1", "172.31.255.255", "192.0.0.1", "192.0.0.8", "192.0.0.192",
    "192.0.2.1", "192.88.99.1", "192.88.99.3", "192.168.0.1", "192.168.255.255", "198.18.0.1", "198.19.255.255",
    "198.51.100.7", "203.0.113.9", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255", "::", "::1", "::2",
    "::127.0.0.1", "::10.0.0.1", "::ffff:127.0.0.1", "::ffff:10.1.2.3", "::ffff:169.254.169.254", "::ffff:7f00:1",
    "0:0:0:0:0:ffff:c0a8:1", "::ffff:0:127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::127.0.0.1", "64:ff9b::a00:1",
    "64:ff9b::808:808", "64:ff9b:1::1", "64:ff9b:1:ffff::a9fe:a9fe", "100::1", "100:0:0:1::1", "2001::1",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2", "2001:2::1", "2001:10::1", "2001:20::1", "2001:db8::1", "2002:7f00:1::",
    "2002:a00:1::", "2002:a9fe:a9fe::1", "3ffe::1", "3fff::1", "3fff:fff::1", "4000::1", "5f00::1", "fc00::1",
    "fd00::1", "fd00:ec2::254", "fd20:ce::254", "fe80::1", "fe80::1%lo", "fe80::1%eth0", "febf::1", "fec0::1",
    "feff::1", "ff01::1", "ff02::1", "ff0e::1", "::ffff:0.0.0.0", "::ffff:100.64.0.1", "::ffff:192.88.99.1",
    "localhost", "127.1", "not-an-address", "1.2.3", "1.2.3.4.5",
]  # fmt: skip

ALLOWED = [
    "1.1.1.1", "8.8.8.8", "93.184.215.14", "100.63.255.255", "100.128.0.1", "126.255.255.255", "128.0.0.1",
    "172.15.255.255", "172.32.0.1", "192.167.255.255", "192.169.0.1", "198.17.255.255", "198.20.0.1",
    "223.255.255.255", "::ffff:8.8.8.8", "2606:4700:4700::1111", "2001:4860:4860::8888", "2001:200::1",
    "2a00:1450::1", "2400:cb00::1",
]  # fmt: skip

SPELLINGS = ["127.1", "127.0.1", "2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "017700000001", "0", "0.0",
             "127.0.0.1", "0x7f.0x0.0x0.0x1", "10.1", "167772161", "0xa9fea9fe", "2852039166",
             "169.254.43518"]  # fmt: skip
"""What the resolver takes for an IPv4 address."""


@pytest.mark.parametrize("address", FORBIDDEN)
def test_no_way_inside(address: str) -> None:
    """Loopback, private, link-local, metadata, translated, reserved, multicast and what is no address at all."""
    assert is_forbidden(address, 443)


@pytest.mark.parametrize("address", ALLOWED)
def test_public_addresses_are_reachable(address: str) -> None:
    """The neighbours of the denied ranges among them."""
    assert not is_forbidden(address, 443)


@pytest.mark.parametrize("text", SPELLINGS)
def test_the_judged_address_is_what_the_resolver_makes_of_a_spelling(text: str) -> None:
    """Odd spellings resolve to plain addresses, and those are refused."""
    address = socket.inet_ntoa(socket.inet_aton(text))

    assert is_forbidden(address, 80)


def test_exempt_networks_are_exempt() -> None:
    """Also in their IPv4-mapped form; what is beside them is not."""
    allowed = [ip_network("10.20.0.0/16"), ip_network("fd00:1::/32")]

    assert not is_forbidden("10.20.3.4", 443, allowed)
    assert not is_forbidden("::ffff:10.20.3.4", 443, allowed)
    assert not is_forbidden("fd00:1::5", 443, allowed)
    assert is_forbidden("10.21.0.1", 443, allowed)
    assert is_forbidden("fd00:2::5", 443, allowed)


@pytest.mark.parametrize("port", [22, 25, 465, 5432, 6379, 9092])
def test_ports_that_speak_no_http_are_refused(port: int) -> None:
    """A signed POST in a mail server's or database's ear is nobody's wish."""
    assert is_forbidden("1.1.1.1", port)
    assert not is_forbidden("10.0.0.1", port, [ip_network("10.0.0.0/8")])


def test_the_table_is_long_enough() -> None:
    """Eighty spellings at least."""
    assert len(set(FORBIDDEN) | set(SPELLINGS)) >= 80
