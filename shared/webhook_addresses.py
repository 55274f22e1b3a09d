"""Which addresses a webhook may reach. Judged by resolved address, never by the text of a URL. Pure."""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

from shared.webhooks import PORTS_WITHOUT_HTTP

Network = IPv4Network | IPv6Network

_DENIED_V4: Final = tuple(
    IPv4Network(text)
    for text in (
        "0.0.0.0/8",  # this host
        "10.0.0.0/8",
        "100.64.0.0/10",  # carrier-grade NAT; 100.100.100.200 is one cloud's metadata service
        "127.0.0.0/8",
        "168.63.129.16/32",  # one cloud's host agent, on a public address
        "169.254.0.0/16",  # link-local, and most clouds' metadata
        "172.16.0.0/12",
        "192.0.0.0/24",  # protocol assignments
        "192.0.2.0/24",
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",
        "198.18.0.0/15",  # benchmarking
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and broadcast
    )
)
_GLOBAL_V6: Final = IPv6Network("2000::/3")
"""The only part of IPv6 handed out for use. All else is denied by that alone: loopback, unspecified, IPv4-compatible,
NAT64 (64:ff9b::/96 and 64:ff9b:1::/48), discard-only, unique local, link-local, site-local, multicast."""
_DENIED_V6: Final = tuple(
    IPv6Network(text)
    for text in (
        "2001::/23",  # protocol assignments, among them Teredo, benchmarking and ORCHID
        "2001:db8::/32",
        "2002::/16",  # 6to4: an IPv4 address in disguise
        "3ffe::/16",  # the 6bone, given back
        "3fff::/20",  # documentation
    )
)


def is_forbidden(address: str, port: int, allowed: Iterable[Network] = ()) -> bool:
    """Say whether a connection to a resolved address is refused; `allowed` networks are exempt, whatever the port.

    The address is what the resolver returned, a zone such as `%eth0` included. IPv4-mapped ones are judged as IPv4.
    Text that is no address is forbidden.
    """
    try:
        ip = ip_address(address.partition("%")[0])
    except ValueError:
        return True
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    if any(ip in network for network in allowed if network.version == ip.version):
        return False
    return port in PORTS_WITHOUT_HTTP or _is_denied(ip)


def _is_denied(ip: IPv4Address | IPv6Address) -> bool:
    if isinstance(ip, IPv4Address):
        return any(ip in network for network in _DENIED_V4)
    return ip not in _GLOBAL_V6 or any(ip in network for network in _DENIED_V6)
