"""Where a request comes from: the address of its client, and whether the client's side of the way is TLS.

A client may write any X-Forwarded-For it likes. So only what a proxy of ours says is believed: from the peer's own
address backwards through the header, as far as the hops are networks named in TRUSTED_PROXIES. werkzeug's ProxyFix
counts hops instead, which lets a client that gets around one of the proxies choose its address, and gunicorn knows
addresses of proxies but never reads the client's.
"""

import functools
import ipaddress
from collections.abc import Sequence
from typing import Final, NamedTuple
from wsgiref.types import WSGIEnvironment

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_MAPPED: Final = "::ffff:"
_KEPT: Final = 4096
_MAX_KEPT_CHARS: Final = 200
"""What is longer is looked at anew each time: nobody fills the memory with headers."""


class Client(NamedTuple):
    """Who a request came from, as far as that is known."""

    address: str  # IPv4 in its dotted form, also where it arrived within IPv6
    is_tls: bool = False


class TrustedProxies:
    """Finds the client behind the proxies whose word counts; by default there are none, and the client is the peer."""

    def __init__(self, networks: Sequence[Network] = ()) -> None:
        self._networks = tuple(networks)
        self._known = functools.lru_cache(_KEPT)(self._look)

    def client(self, environ: WSGIEnvironment) -> Client:
        """Return the client of a request."""
        peer: str = environ.get("REMOTE_ADDR", "")
        if not self._networks:
            return Client(_unmapped(peer))
        hops, schemes = environ.get("HTTP_X_FORWARDED_FOR", ""), environ.get("HTTP_X_FORWARDED_PROTO", "")
        if len(hops) + len(schemes) > _MAX_KEPT_CHARS:
            return self._look(peer, hops, schemes)
        return self._known(peer, hops, schemes)

    def _look(self, peer: str, hops: str, schemes: str) -> Client:
        address = _unmapped(peer)
        if not self._is_trusted(address):
            return Client(address)
        said = [scheme.strip().lower() for scheme in schemes.split(",")]
        return Client(self._behind(address, hops), all(scheme == "https" for scheme in said))

    def _behind(self, address: str, hops: str) -> str:
        """Return the last hop that is none of ours, else the first of ours; what comes before nonsense is not known."""
        for hop in reversed(hops.split(",")):
            found = _address_in(hop.strip())
            if found is None:
                return address
            address = found
            if not self._is_trusted(address):
                return address
        return address

    def _is_trusted(self, address: str) -> bool:
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(parsed in network for network in self._networks)


def neighbourhood(address: str) -> str:
    """Return what counts as one client where addresses are counted: one of IPv4, 64 bits of IPv6.

    A household, or a server, has that many addresses of IPv6 to choose from.
    """
    if ":" not in address:
        return address
    try:
        return str(ipaddress.IPv6Network((address.partition("%")[0], 64), strict=False).network_address)
    except ValueError:
        return address


def _unmapped(address: str) -> str:
    """Return an address, of IPv4 where it is one within IPv6."""
    if address[:7].lower() == _MAPPED and "." in address:
        return address[7:]
    return address


def _address_in(hop: str) -> str | None:
    """Return the address in an entry of X-Forwarded-For, which may have a port; None where it has none."""
    if hop.startswith("["):
        hop = hop[1:].partition("]")[0]
    elif hop.count(":") == 1:
        hop = hop.partition(":")[0]
    try:
        found = ipaddress.ip_address(hop)
    except ValueError:
        return None
    mapped = getattr(found, "ipv4_mapped", None)
    return str(mapped or found)
