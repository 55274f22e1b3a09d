"""What is known of endpoints, and whose secrets sign: looked up together, opened, and believed for a few seconds."""

import logging
import time
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

import orjson

from delivery_consumer.errors import PermanentDeliveryError, TransientDeliveryError
from delivery_consumer.providers import FindReceivers
from delivery_consumer.rates import Rate
from shared.db import receivers
from shared.db.receivers import Secret
from shared.endpoints import endpoint_id
from shared.records import Record
from shared.secrets import Keyring, SecretError

log = logging.getLogger(__name__)

ENDPOINT: Final = "ep_"
_MAX_KNOWN: Final = 20_000
_MAX_BYTES: Final = 32 * 1024 * 1024
"""Of URLs and headers: one endpoint may have 32 KiB of them, and one tenant many endpoints."""
_UNREADABLE_RETRY_S: Final = 60.0
_FORGOTTEN_RETRY_S: Final = 5.0
Keys = tuple[tuple[bytes, float], ...]
"""What signs, and until which instant; the newest first."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A receiver that has a name of its own."""

    url: str
    headers: dict[str, str] = field(repr=False)
    timeout_s: float | None
    rate: Rate | None


@dataclass(frozen=True, slots=True)
class _Known:
    """What was found, when: an endpoint, or none (it was deleted), or a tenant's secrets alone."""

    looked_up_at: float
    endpoint: Endpoint | None
    keys: Keys = field(repr=False)
    unreadable: bool  # something of it could not be opened
    size_bytes: int = 0


class Endpoints:
    """Directory: endpoints by tenant and recipient, and tenants' own secrets."""

    def __init__(
        self,
        find: FindReceivers,
        keyring: Keyring,
        *,
        default_keys: Sequence[bytes],
        processes: Callable[[], int] = lambda: 1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._find, self._keyring, self._clock, self._processes = find, keyring, clock, processes
        self._default_keys = tuple(default_keys)
        self._known: OrderedDict[tuple[str, str], _Known] = OrderedDict()  # recipient empty: the tenant's own
        self._known_bytes = 0
        self._rates: OrderedDict[tuple[str, str], Rate] = OrderedDict()  # not forgotten with what is large

    def is_known(self, record: Record, *, within_s: float) -> bool:
        """Say whether what a record needs was looked up so lately."""
        recipient = record.recipient if record.recipient.startswith(ENDPOINT) else ""
        known = self._known.get((record.tenant_id, recipient))
        return known is not None and self._clock() - known.looked_up_at < within_s

    def check(self, record: Record) -> bool:
        """Say whether everything a record needs is still known; raise what `endpoint` and `keys` would."""
        own = self._known.get((record.tenant_id, ""))
        if not record.recipient.startswith(ENDPOINT):
            if own is not None and own.unreadable:
                raise _unreadable()
            return own is not None
        if own is None or (record.tenant_id, record.recipient) not in self._known:
            return False
        self.endpoint(record)
        self.keys(record)
        return True

    def endpoint(self, record: Record) -> Endpoint:
        """Return the endpoint that is a record's recipient; raise PermanentDeliveryError where there is none."""
        endpoint = self._get(record, record.recipient).endpoint
        if endpoint is None:
            raise PermanentDeliveryError("endpoint_deleted")
        return endpoint

    def keys(self, record: Record) -> Sequence[bytes]:
        """Return what signs a record: its endpoint's secrets, else its tenant's, else those of the settings.

        Raises TransientDeliveryError where one of them, or a header, does not open: nothing goes out signed by another.
        """
        now = self._clock()
        for recipient in (record.recipient, "") if record.recipient.startswith(ENDPOINT) else ("",):
            known = self._get(record, recipient)
            if known.unreadable:
                raise _unreadable()
            if keys := [key for key, until in known.keys if now < until]:
                return keys
        return self._default_keys

    def _get(self, record: Record, recipient: str) -> _Known:
        known = self._known.get((record.tenant_id, recipient))
        if known is None:  # so many are in use that it was forgotten between two tries of an attempt
            raise TransientDeliveryError("endpoint_forgotten", retry_after_s=_FORGOTTEN_RETRY_S)
        return known

    async def look_up(self, records: Sequence[Record]) -> None:
        """Ask for what these records need, in one question."""
        wanted = {(one.tenant_id, one.recipient) for one in records if one.recipient.startswith(ENDPOINT)}
        tenants = {one.tenant_id for one in records}
        ids = {key: id_ for key in wanted if (id_ := endpoint_id(key[1]))}
        asked_at = self._clock()
        found = await self._find([(tenant_id, id_) for (tenant_id, _), id_ in ids.items()], list(tenants))
        endpoints = {(one.tenant_id, one.id): one for one in found.endpoints if not one.deleted}
        secrets = defaultdict[tuple[str, UUID | None], list[Secret]](list)
        for secret in found.secrets:
            secrets[secret.tenant_id, secret.endpoint_id].append(secret)
        for key in wanted:
            id_ = ids.get(key)
            row = endpoints.get((key[0], id_)) if id_ else None
            self._keep(key, asked_at, row, secrets[key[0], id_] if row else ())
        for tenant_id in tenants:  # after their endpoints, so that these are forgotten first
            keys, readable = self._opened(secrets[tenant_id, None], asked_at)
            self._remember((tenant_id, ""), _Known(asked_at, None, keys, not readable))

    def _keep(self, key: tuple[str, str], at: float, row: receivers.Endpoint | None, secrets: Iterable[Secret]) -> None:
        if row is None:
            self._remember(key, _Known(at, None, (), unreadable=False))
            return
        keys, readable = self._opened(secrets, at)
        headers: dict[str, str] = {}
        if row.sealed_headers is not None:
            try:
                plain = self._keyring.open(
                    row.sealed_headers, table="endpoints", row_id=str(row.id), tenant_id=row.tenant_id
                )
                headers = orjson.loads(plain)
            except (SecretError, orjson.JSONDecodeError):
                _log_unreadable("endpoints", row.id, row.tenant_id)
                readable = False
        rate = self._rate(key, row.rate_per_s)
        size_bytes = len(row.url) + len(row.sealed_headers or b"")
        endpoint = Endpoint(row.url, headers, row.timeout_s, rate)
        self._remember(key, _Known(at, endpoint, keys, not readable, size_bytes))

    def _rate(self, key: tuple[str, str], per_s: float | None) -> Rate | None:
        """Return this process's share of an endpoint's rate; its turns go on where they were."""
        if per_s is None:
            self._rates.pop(key, None)
            return None
        rate = self._rates.setdefault(key, Rate(per_s))
        rate.per_s = per_s / self._processes()
        self._rates.move_to_end(key)
        if len(self._rates) > _MAX_KNOWN:
            self._rates.popitem(last=False)
        return rate

    def _opened(self, secrets: Iterable[Secret], at: float) -> tuple[Keys, bool]:
        """Return the keys of some secrets, and whether all of them opened."""
        keys: list[tuple[bytes, float]] = []
        readable = True
        for one in secrets:
            try:
                key = self._keyring.open(
                    one.sealed, table="signing_secrets", row_id=str(one.id), tenant_id=one.tenant_id
                )
            except SecretError:
                _log_unreadable("signing_secrets", one.id, one.tenant_id)
                readable = False
            else:
                keys.append((key, float("inf") if one.expires_in_s is None else at + one.expires_in_s))
        return tuple(keys), readable

    def _remember(self, key: tuple[str, str], known: _Known) -> None:
        if before := self._known.pop(key, None):
            self._known_bytes -= before.size_bytes
        self._known[key] = known
        self._known_bytes += known.size_bytes
        while len(self._known) > _MAX_KNOWN or self._known_bytes > _MAX_BYTES:
            _, oldest = self._known.popitem(last=False)
            self._known_bytes -= oldest.size_bytes


def _unreadable() -> TransientDeliveryError:
    return TransientDeliveryError("secret_unreadable", retry_after_s=_UNREADABLE_RETRY_S)


def _log_unreadable(table: str, row_id: UUID, tenant_id: str) -> None:
    log.error("secret_not_opened", extra={"table": table, "row_id": str(row_id), "tenant_id": tenant_id})
