"""TXT records, looked up while a request waits."""

from collections.abc import Sequence
from typing import Final

import dns.exception
import dns.nameserver
import dns.resolver

LOOKUP_S: Final = 5.0
"""In all, whatever servers there are to ask."""
LOOKUPS_AT_ONCE: Final = 1
"""In one process: who names a domain may run its name server, which can be silent for as long as it is asked."""


class LookupFailedError(Exception):
    """No server gave an answer, not even that there is none."""


def txt_records(name: str, *, servers: Sequence[tuple[str, int]] = ()) -> list[str]:
    """Return the TXT records of a name, each as one text; none where there are none, or no such name.

    `servers`: addresses and ports of those to ask, one after the other; without, those of the host. Raises
    LookupFailedError.
    """
    try:
        resolver = dns.resolver.Resolver(configure=not servers)
        if servers:
            resolver.nameservers = [dns.nameserver.Do53Nameserver(address, port) for address, port in servers]
        found = resolver.resolve(name, "TXT", search=False, lifetime=LOOKUP_S)
    except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
        return []
    except (dns.exception.DNSException, OSError) as error:
        raise LookupFailedError from error
    return [b"".join(record.strings).decode("utf-8", "replace") for record in found]
