"""What notifications name that their tenant has to have: endpoints, and domains that e-mail is from.

Asked for with each notification that names one, so what was found is remembered for some seconds.
"""

import threading
from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from typing import Any, Final

from cachetools import TTLCache
from psycopg import Connection

from api_service.accept import NotificationRequest
from api_service.addresses import NO_ENDPOINT
from api_service.database import Database
from api_service.faults import Fault, FieldFault
from shared.db import endpoints, sender_domains
from shared.endpoints import endpoint_id
from shared.mailboxes import domain_of
from shared.model import Channel

SEEN_FOR_S: Final = 5.0
"""An endpoint that is deleted meanwhile fails when it is delivered to; e-mail from a domain still goes out."""
MOST_SEEN: Final = 10_000
NOT_YOUR_DOMAIN: Final = Fault("unverified_domain", "its domain is none that this tenant has verified")


class Kind(Enum):
    """What is named, with the fault of naming what the tenant does not have."""

    ENDPOINT = FieldFault("/endpoint", NO_ENDPOINT)
    SENDER_DOMAIN = FieldFault("/sender", NOT_YOUR_DOMAIN)


_Named = tuple[Kind, str]


def named(request: NotificationRequest) -> _Named | None:
    """Return what a request names; no URL begins as the names of endpoints do."""
    if request.sender is not None:
        return Kind.SENDER_DOMAIN, domain_of(request.sender)
    if request.recipient.startswith("ep_") and request.channel is Channel.WEBHOOK:
        return Kind.ENDPOINT, request.recipient
    return None


class Known:
    """Remembers what was found, never that something was not: what has just been made is there at once. Thread-safe."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._seen: TTLCache[tuple[str, _Named], bool] = TTLCache(MOST_SEEN, SEEN_FOR_S)
        self._lock = threading.Lock()

    def faults(self, requests: Sequence[NotificationRequest | None], *, tenant_id: str) -> dict[int, FieldFault]:
        """Return the faults, by their places, of those requests that name what the tenant does not have.

        What is another tenant's is as unknown as anything. Raises DatabaseUnavailableError; where no request names
        something, or all has been seen, nobody is asked.
        """
        places = {place: name for place, one in enumerate(requests) if one and (name := named(one))}
        if not places:
            return {}
        with self._lock:
            unseen = {name for name in places.values() if (tenant_id, name) not in self._seen}
        missing = self._missing(unseen, tenant_id) if unseen else set()
        return {place: name[0].value for place, name in places.items() if name in missing}

    def _missing(self, names: set[_Named], tenant_id: str) -> set[_Named]:
        def ask(conn: Connection[Any]) -> set[_Named]:
            return {
                (kind, text)
                for kind, find in _FIND.items()
                if (texts := [text for of, text in names if of is kind])
                for text in find(conn, texts, tenant_id)
            }

        found = self._database.run(ask, tenant_id=tenant_id)
        with self._lock:
            for name in found:
                self._seen[tenant_id, name] = True
        return names - found


def _endpoints(conn: Connection[Any], names: Iterable[str], tenant_id: str) -> set[str]:
    ids = {id_: name for name in names if (id_ := endpoint_id(name)) is not None}
    return {ids[id_] for id_ in endpoints.known(conn, ids, tenant_id=tenant_id)}


def _sender_domains(conn: Connection[Any], names: Iterable[str], tenant_id: str) -> set[str]:
    return sender_domains.allowed(conn, list(names), tenant_id=tenant_id)


_FIND: Final[dict[Kind, Callable[[Connection[Any], Iterable[str], str], set[str]]]] = {
    Kind.ENDPOINT: _endpoints,
    Kind.SENDER_DOMAIN: _sender_domains,
}
