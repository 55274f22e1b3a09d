"""The statements of shared/db for an asyncio loop: two threads, a connection each; an outage is waited out."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar
from uuid import UUID

import psycopg

from shared.db import OUTAGE, Session, attempts, notifications
from shared.db.notifications import Claimed, Ended, Ticket

log = logging.getLogger(__name__)
T = TypeVar("T")
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.05, 1.0


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

    async def renew(self, tickets: Sequence[Ticket]) -> tuple[set[Ticket], float]:
        """Extend leases; return those still ours and the monotonic instant they count from."""
        ...


class PostgresStore:
    """The store over PostgreSQL. Claims have a thread of their own, so that a long write-back holds up no intake."""

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

    async def connect(self) -> None:
        """Open both connections; an outage is waited out."""
        await asyncio.gather(self._claims.run(_ping), self._writes.run(_ping))

    def fault(self) -> str | None:
        """Say what is wrong, as a readiness check does."""
        return self._claims.session.fault() or self._writes.session.fault()

    def close(self) -> None:
        """Close the connections; call it when nothing is asked any more."""
        self._claims.close()
        self._writes.close()


class _Worker:
    """One thread with one connection."""

    def __init__(self, conninfo: str, name: str) -> None:
        self.session = Session(conninfo, application_name=f"delivery_consumer {name}")
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=name)

    async def run(self, ask: Callable[[psycopg.Connection[Any]], T]) -> tuple[T, bool]:
        """Run statements until they come through; say whether they had to be repeated."""
        loop, wait_s, repeated = asyncio.get_running_loop(), _FIRST_WAIT_S, False
        while True:
            try:
                return await loop.run_in_executor(self._executor, self._once, ask), repeated
            except OUTAGE as error:
                log.warning("postgres_unreachable", extra={"error": type(error).__name__})
            await asyncio.sleep(wait_s)
            wait_s, repeated = min(2 * wait_s, _LONGEST_WAIT_S), True

    def _once(self, ask: Callable[[psycopg.Connection[Any]], T]) -> T:
        try:
            return ask(self.session.connection())
        except OUTAGE as error:
            if not isinstance(error, psycopg.errors.TransactionRollback):  # a deadlock spares the connection
                self.session.drop()
            raise

    def close(self) -> None:
        self._executor.submit(self.session.drop)
        self._executor.shutdown()


def _ping(conn: psycopg.Connection[Any]) -> None:
    conn.execute("SELECT 1")
