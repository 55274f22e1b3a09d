"""The statements of shared/db for an asyncio loop: two threads, a connection each; an outage is waited out."""

import asyncio
import contextlib
import logging
import os
import socket
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, LiteralString, Protocol, TypeVar
from uuid import UUID

import psycopg

from shared.db import OUTAGE, Session, attempts, notifications, outbox, receivers
from shared.db.notifications import Claimed, Ended, Ticket
from shared.db.outages import OutageLog, outage_reason
from shared.db.receivers import Found

log = logging.getLogger(__name__)
T = TypeVar("T")
STATEMENT_ROWS: Final = 500
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.05, 1.0
_CANCEL_S: Final = 1.0
WATCH_EVERY_S: Final = 3.0
_SILENT_S: Final = 10.0  # twice statement_timeout: the server itself does not answer
_SETTINGS: Final[tuple[LiteralString, ...]] = (
    "SET lock_timeout = '1s'",  # a row that somebody holds delays one statement, and is asked for again
    "SET statement_timeout = '5s'",  # what takes longer will not end soon: SIGTERM must not wait for it
)
_ROLLED_BACK: Final = (
    psycopg.errors.DeadlockDetected,
    psycopg.errors.SerializationFailure,
    psycopg.errors.LockNotAvailable,
    psycopg.errors.QueryCanceled,
)
"""Outages of one statement: it did nothing for certain, and its connection is sound."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a claim gave. Leases count from `asked_at`, the monotonic instant before the statement went out.

    `repeated`: an earlier sending of the same claim may have succeeded without our hearing of it.
    """

    claimed: list[Claimed]
    asked_at: float
    repeated: bool


class Store(Protocol):
    """What the engine asks of PostgreSQL. Each call returns once it is done, however long the outage."""

    async def claim(self, tickets: Sequence[Ticket]) -> Answer:
        """Begin what may be sent now."""
        ...

    async def write_back(self, outcomes: Sequence[Ended]) -> int:
        """End attempts; return how many were still ours."""
        ...

    async def release(self, tickets: Sequence[Ticket], *, republish: bool) -> int:
        """Give attempts back that were never sent."""
        ...

    async def put_off(self, asked: Sequence[tuple[Ticket, float]]) -> None:
        """Have each published again after so many seconds if it is still pending then."""
        ...

    async def renew(self, tickets: Sequence[Ticket]) -> tuple[set[Ticket], float]:
        """Extend leases; return those still ours and the monotonic instant they count from."""
        ...


class PostgresStore:
    """The store over PostgreSQL. Claims, and what is looked up for them, have a thread of their own, so that a long
    write-back holds up no intake.
    """

    def __init__(self, conninfo: str, *, owner: UUID, lease_s: float, dlq_topic: str) -> None:
        self._owner, self._lease_s, self._dlq_topic = owner, lease_s, dlq_topic
        self._claims = _Worker(conninfo, "claims")
        self._writes = _Worker(conninfo, "writes")

    async def claim(self, tickets: Sequence[Ticket]) -> Answer:
        """Begin what may be sent now; an outage is waited out."""

        def run(conn: psycopg.Connection[Any]) -> tuple[list[Claimed], float]:
            asked_at = time.monotonic()
            return notifications.claim(conn, tickets, owner=self._owner, lease_s=self._lease_s), asked_at

        (claimed, asked_at), repeated = await self._claims.run(run)
        return Answer(claimed, asked_at, repeated)

    async def write_back(self, outcomes: Sequence[Ended]) -> int:
        """End attempts; an outage is waited out."""
        ended, _ = await self._writes.run(
            lambda conn: notifications.write_back(conn, outcomes, owner=self._owner, dlq_topic=self._dlq_topic)
        )
        return ended

    async def release(self, tickets: Sequence[Ticket], *, republish: bool) -> int:
        """Give attempts back that were never sent; an outage is waited out."""
        given, _ = await self._writes.run(
            lambda conn: notifications.release(conn, tickets, owner=self._owner, republish=republish)
        )
        return given

    async def renew(self, tickets: Sequence[Ticket]) -> tuple[set[Ticket], float]:
        """Extend leases; an outage is waited out."""

        def run(conn: psycopg.Connection[Any]) -> tuple[set[Ticket], float]:
            asked_at = time.monotonic()
            return attempts.renew(conn, tickets, owner=self._owner, lease_s=self._lease_s), asked_at

        renewed, _ = await self._writes.run(run)
        return renewed

    async def put_off(self, asked: Sequence[tuple[Ticket, float]]) -> None:
        """Have some published again later; an outage is waited out."""
        waits = [(ticket.id, ticket.attempt, delay_s) for ticket, delay_s in asked]
        await self._writes.run(lambda conn: outbox.put_off(conn, waits))

    async def find_receivers(self, endpoints: Sequence[tuple[str, UUID]], tenant_ids: Sequence[str]) -> Found:
        """Return endpoints and secrets; an outage is waited out."""
        found, _ = await self._claims.run(lambda conn: receivers.find(conn, endpoints, tenant_ids))
        return found

    async def has_several_tenants(self) -> bool:
        """Say whether more than one tenant has notifications; an outage is waited out."""
        several, _ = await self._writes.run(notifications.has_several_tenants)
        return several

    async def connect(self) -> None:
        """Open both connections; an outage is waited out."""
        await asyncio.gather(self._claims.run(_ping), self._writes.run(_ping))

    async def watch(self) -> None:
        """Ask each connection something when nobody else did for a while: a dead one shows, and is replaced."""
        while True:
            await asyncio.sleep(WATCH_EVERY_S)
            await asyncio.gather(*(worker.run(_ping) for worker in (self._claims, self._writes) if worker.is_idle()))

    def fault(self) -> str | None:
        """Say what is wrong, as a readiness check does."""
        return self._claims.fault() or self._writes.fault()

    async def aclose(self) -> None:
        """Close the connections within about a second; a statement under way is cancelled."""
        await asyncio.gather(self._claims.aclose(), self._writes.aclose())


class _Worker:
    """One thread with one connection."""

    def __init__(self, conninfo: str, name: str) -> None:
        self.session = Session(conninfo, application_name=f"delivery_consumer {name}", settings=_SETTINGS)
        self._outages = OutageLog(log)
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._asking: psycopg.Connection[Any] | None = None
        self._asked_at = time.monotonic()
        self._closing = False

    def is_idle(self) -> bool:
        """Say whether nothing was asked for some time."""
        return self._asking is None and time.monotonic() - self._asked_at >= WATCH_EVERY_S

    def fault(self) -> str | None:
        """Say what is wrong, as a readiness check does. Safe from any thread."""
        if self._asking is not None and time.monotonic() - self._asked_at > _SILENT_S:
            return "no answer for too long"
        return self.session.fault()

    async def run(self, ask: Callable[[psycopg.Connection[Any]], T]) -> tuple[T, bool]:
        """Run statements until they come through; say whether an earlier try may have come through unheard."""
        loop, wait_s, repeated = asyncio.get_running_loop(), _FIRST_WAIT_S, False
        while True:
            try:
                return await loop.run_in_executor(self._executor, self._once, ask), repeated
            except _ROLLED_BACK as error:
                log.warning("postgres_busy", extra={"reason": outage_reason(error)})
            except OUTAGE as error:
                self._outages.note(error)
                repeated = True
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, _LONGEST_WAIT_S)

    def _once(self, ask: Callable[[psycopg.Connection[Any]], T]) -> T:
        if self._closing:
            raise psycopg.InterfaceError("closed")
        try:
            conn = self.session.connection()
            self._asked_at, self._asking = time.monotonic(), conn
            return ask(conn)
        except OUTAGE as error:
            if not isinstance(error, _ROLLED_BACK):
                self.session.drop()
            raise
        finally:
            self._asking = None

    async def aclose(self) -> None:
        self._closing = True
        if (conn := self._asking) is not None:
            await asyncio.to_thread(_interrupt, conn)
        self._executor.submit(self.session.drop)
        self._executor.shutdown(wait=False)


def _interrupt(conn: psycopg.Connection[Any]) -> None:
    """End a statement that another thread waits for; a server that does not even hear of it loses its socket."""
    try:
        conn.cancel_safe(timeout=_CANCEL_S)
    except psycopg.Error:
        with contextlib.suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(conn.fileno())) as own:
            own.shutdown(socket.SHUT_RDWR)


def _ping(conn: psycopg.Connection[Any]) -> None:
    conn.execute("SELECT 1")
