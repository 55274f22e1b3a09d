"""Locks held by somebody else: whole tables, and the very rows that are to be moved."""

import time
from typing import TYPE_CHECKING, LiteralString

import psycopg

from tests.chaos.faults import Bites, Kind, Planned

if TYPE_CHECKING:
    from tests.chaos.world import World

_TABLES: tuple[LiteralString, ...] = (
    "notifications",
    "outbox",
    "delivery_attempts",
    "dlq_messages",
    "idempotency_keys",
)
_WAITING = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
_LOCK_TIMEOUT = "SET lock_timeout = '3s'"


class _Holding:
    """Holds locks for `for_s`, and counts how many sessions were seen waiting for them."""

    def __init__(self, planned: Planned) -> None:
        self.planned = planned
        self.waited, self.held = 0, 0

    def take(self, conn: "psycopg.Connection[tuple[object, ...]]") -> int:
        """Take the locks; return how many."""
        raise NotImplementedError

    def inject(self, world: "World") -> None:
        """Hold them in one transaction."""
        try:
            with world.connection() as conn, conn.transaction():
                conn.execute(_LOCK_TIMEOUT)
                self.held = self.take(conn)
                until = time.monotonic() + self.planned.for_s
                while time.monotonic() < until:
                    self.waited = max(self.waited, int(world.value(_WAITING, default=0)))
                    time.sleep(0.1)
        except psycopg.OperationalError:
            return  # PostgreSQL went away, and the locks with it

    def heal(self, world: "World") -> None:
        """They went with their transaction."""

    def bites(self, world: "World") -> Bites:
        """Somebody had to wait, or there were rows in hand that others step over."""
        return Bites(self.waited, {"sessions_waiting": self.waited, "locks": self.held})


class LockTable(_Holding):
    """A table nobody else may even read, as during a careless migration."""

    def take(self, conn: "psycopg.Connection[tuple[object, ...]]") -> int:
        """Lock one table."""
        conn.execute(b"LOCK TABLE " + self.planned.rng().choice(_TABLES).encode() + b" IN ACCESS EXCLUSIVE MODE")
        return 1


class LockRows(_Holding):
    """Rows that wait or are under way, held by a transaction that takes its time."""

    def take(self, conn: "psycopg.Connection[tuple[object, ...]]") -> int:
        """Lock what is about to move: attempts under way and their notifications, and what is pending."""
        rows = conn.execute("""
            SELECT n.id FROM notifications n WHERE n.id IN (
                SELECT notification_id FROM delivery_attempts WHERE outcome = 'begun' LIMIT 200)
               FOR UPDATE OF n SKIP LOCKED
        """).fetchall()
        rows += conn.execute("""
            SELECT n.id FROM notifications n JOIN outbox o ON o.notification_id = n.id WHERE n.status = 'pending'
             LIMIT 200 FOR UPDATE OF n SKIP LOCKED
        """).fetchall()
        return len(rows)

    def bites(self, world: "World") -> Bites:
        """A claim steps over rows that are held, and asks again: nobody is seen waiting."""
        return Bites(int(self.held > 0), {"sessions_waiting": self.waited, "rows": self.held})


KINDS = (
    Kind("lock_table", ("postgres",), LockTable, 0.6, (0.5, 3.5)),
    Kind("lock_rows", ("postgres_rows",), LockRows, 0.6, (0.5, 3.0)),
)
