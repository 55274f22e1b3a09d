"""Which endpoints a tenant has, as far as that was seen within the last seconds: asked for with each notification."""

import threading
from collections.abc import Sequence
from typing import Final

from cachetools import TTLCache

from api_service.accept import NotificationRequest
from api_service.database import Database
from shared.db import endpoints
from shared.endpoints import endpoint_id
from shared.model import Channel

SEEN_FOR_S: Final = 5.0
"""What is deleted meanwhile fails when it is delivered."""
MOST_SEEN: Final = 10_000


def names_endpoint(request: NotificationRequest | None) -> bool:
    """Say whether a request is for an endpoint: no URL begins as their names do."""
    return request is not None and request.recipient.startswith("ep_") and request.channel is Channel.WEBHOOK


class KnownEndpoints:
    """Remembers endpoints that were found, never that one was not: one just made is there at once. Thread-safe."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._seen: TTLCache[tuple[str, str], bool] = TTLCache(MOST_SEEN, SEEN_FOR_S)
        self._lock = threading.Lock()

    def unknown(self, requests: Sequence[NotificationRequest | None], *, tenant_id: str) -> list[int]:
        """Return the places of those requests that name an endpoint which the tenant does not have.

        Another tenant's is as unknown as any. Raises DatabaseUnavailableError; where no request names one, or all have
        been seen, nobody is asked.
        """
        places = {place: one.recipient for place, one in enumerate(requests) if one and names_endpoint(one)}
        if not places:
            return []
        with self._lock:
            unseen = {name for name in places.values() if (tenant_id, name) not in self._seen}
        missing = self._missing(unseen, tenant_id) if unseen else set()
        return [place for place, name in places.items() if name in missing]

    def _missing(self, names: set[str], tenant_id: str) -> set[str]:
        ids = {id_: name for name in names if (id_ := endpoint_id(name)) is not None}
        known = self._database.run(lambda conn: endpoints.known(conn, ids, tenant_id=tenant_id), tenant_id=tenant_id)
        with self._lock:
            for id_ in known:
                self._seen[tenant_id, ids[id_]] = True
        return names - {ids[id_] for id_ in known}
