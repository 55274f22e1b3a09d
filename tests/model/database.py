"""Real SQL for the model: sessions that can break at any statement, time that moves, a database emptied in a moment."""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, LiteralString

import orjson
import psycopg
from psycopg import sql

from shared import db
from shared.db.pipelining import Pipeline, pipelined

Before = Literal["before", "after"]


class Crash(BaseException):
    """A process ends here, with its memory."""


@dataclass(slots=True)
class Trap:
    """Ends a session, or its process, right before or after the statement so many from now."""

    statements: int
    when: Before
    crash: bool


class Link:
    """A session of a service. It stands in for psycopg's Connection; the one behind it is used again by others."""

    autocommit = False  # it is, but then shared.db.prepared would go past `execute`

    def __init__(self, links: "Links", name: str, real: psycopg.Connection[Any]) -> None:
        self._links, self.name, self._real = links, name, real
        self.closed = False

    def execute(self, query: Any, params: Any = None, **options: Any) -> psycopg.Cursor[Any]:
        """Run a statement, unless a trap is sprung."""
        trap = self._reach("before")
        result: psycopg.Cursor[Any] = self._real.execute(query, params, **options)
        self._links.statements += 1
        if trap is not None:
            self._spring(trap)
        return result

    def cursor(self, **options: Any) -> psycopg.Cursor[Any]:
        """Return a cursor; what it runs counts as one statement."""
        if (trap := self._reach("before")) is not None:
            trap.statements = 0  # after this one is before the next
            self._links.trap = trap
        self._links.statements += 1
        cursor: psycopg.Cursor[Any] = self._real.cursor(**options)
        return cursor

    @contextmanager
    def pipelined(self) -> Iterator[Pipeline]:
        """Run a block as a pipeline; each statement in it counts as one when it is sent."""
        self._reach_open()
        with pipelined(self._real) as pipeline:
            yield pipeline

    @contextmanager
    def transaction(self) -> Iterator[Any]:
        """Run a block as one transaction."""
        trap = self._reach("before")
        with self._real.transaction() as transaction:
            yield transaction
        if trap is not None:
            self._spring(trap)

    def close(self) -> None:
        """End the session: its locks are free."""
        if not self.closed:
            self.closed = True
            self._links.take_back(self.name, self._real)

    def _reach_open(self) -> None:
        if self.closed:
            raise psycopg.OperationalError("the connection is lost")

    def _reach(self, when: Before) -> Trap | None:
        self._reach_open()
        trap = self._links.trap
        if trap is None:
            return None
        trap.statements -= 1
        if trap.statements > 0:
            return None
        self._links.trap = None
        if trap.when == when:
            self._spring(trap)
        return trap

    def _spring(self, trap: Trap) -> None:
        self.close()
        self._links.sprung += 1
        if trap.crash:
            raise Crash
        raise psycopg.OperationalError("the connection was lost")


class Links:
    """Sessions by name; opening one anew costs as much as twenty statements, so they are kept."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._connect = db.connect
        self._idle: dict[str, list[psycopg.Connection[Any]]] = defaultdict(list)
        self._all: list[tuple[str, psycopg.Connection[Any]]] = []
        self.trap: Trap | None = None
        self.statements = self.sprung = 0

    def connect(self, _conninfo: str, *, application_name: str, settings: tuple[LiteralString, ...] = ()) -> Link:
        """Stand in for shared.db.connect."""
        idle = self._idle[application_name]
        if idle:
            return Link(self, application_name, idle.pop())
        real = self._connect(self._dsn, application_name=application_name, settings=settings)
        real.execute("SET idle_session_timeout = 0")
        self._all.append((application_name, real))
        return Link(self, application_name, real)

    def take_back(self, name: str, real: psycopg.Connection[Any]) -> None:
        """Let the next session of this name have a connection whose session is over."""
        real.execute("SELECT pg_advisory_unlock_all()")
        self._idle[name].append(real)

    def in_transaction(self) -> list[str]:
        """The names of sessions whose transaction is open."""
        idle = psycopg.pq.TransactionStatus.IDLE
        return [name for name, real in self._all if real.info.transaction_status is not idle]

    def sort(self) -> None:
        """Hand connections out in the same order in every example: relays are ranked by the pid of their backend."""
        self.trap = None
        for idle in self._idle.values():
            idle.sort(key=lambda real: -real.info.backend_pid)

    def close(self) -> None:
        """Close all there ever were."""
        for _, real in self._all:
            real.close()


class Administrator:
    """What only the model does to the database."""

    def __init__(self, dsn: str) -> None:
        self._conn = db.connect(dsn, application_name="model")
        self._conn.execute("SET session_replication_role = replica")  # no trigger sees the model's hand
        self._instants: dict[str, list[str]] = defaultdict(list)
        rows = self._conn.execute(
            """SELECT c.table_name, c.column_name, c.data_type FROM information_schema.columns c
                 JOIN information_schema.tables t USING (table_schema, table_name)
                WHERE c.table_schema = 'public' AND t.table_type = 'BASE TABLE'
                  AND c.table_name NOT IN ('tenants', 'api_keys')"""
        ).fetchall()
        for table, column, kind in rows:
            self._instants[table].extend([column] if kind == "timestamp with time zone" else [])
        self._shift, self._empty = self._shift_statement(), self._empty_statement()

    def _shift_statement(self) -> sql.Composed:
        updates = [
            sql.SQL("{cte} AS (UPDATE {table} SET {sets})").format(
                cte=sql.Identifier(f"shifted_{table}"),
                table=sql.Identifier(table),
                sets=sql.SQL(", ").join(
                    sql.SQL("{c} = {c} - %(s)s * interval '1 second'").format(c=sql.Identifier(column))
                    for column in columns
                ),
            )
            for table, columns in self._instants.items()
            if columns
        ]
        return sql.SQL("WITH {} SELECT 1").format(sql.SQL(", ").join(updates))

    def _empty_statement(self) -> sql.Composed:
        deletes = [
            sql.SQL("{} AS (DELETE FROM {})").format(sql.Identifier(f"emptied_{table}"), sql.Identifier(table))
            for table in self._instants
        ]
        return sql.SQL("WITH {} SELECT setval(pg_get_serial_sequence('outbox', 'seq'), 1, false)").format(
            sql.SQL(", ").join(deletes)
        )

    def empty(self) -> None:
        """Begin an example: no rows, and the outbox counts from 1."""
        self._conn.execute(self._empty)

    def pass_time(self, seconds: float) -> None:
        """Move every instant there is into the past, which is what a later now() amounts to."""
        self._conn.execute(self._shift, {"s": seconds})

    def snapshot(self) -> "Snapshot":
        """Read what the promises are about, as one statement sees it."""
        row = self._conn.execute(_SNAPSHOT).fetchone()
        assert row is not None
        return Snapshot(*(orjson.loads(part) if isinstance(part, str | bytes) else part for part in row))

    def rows(self, query: LiteralString, *parameters: Any) -> list[tuple[Any, ...]]:
        """Ask anything else."""
        return self._conn.execute(query, parameters).fetchall()

    @contextmanager
    def holding_rows(self) -> Iterator[None]:
        """Hold a lock on every notification, as a transaction of somebody else may."""
        with self._conn.transaction(force_rollback=True):
            self._conn.execute("SELECT 1 FROM notifications FOR UPDATE")
            yield

    def close(self) -> None:
        """End the session."""
        self._conn.close()


_SNAPSHOT: LiteralString = """
    SELECT (SELECT coalesce(json_agg(json_build_array(id, status, attempt, ordering_key)), '[]') FROM notifications),
           (SELECT coalesce(json_agg(json_build_array(notification_id, topic, (headers ->> 'attempt')::int,
                                                      headers ? 'error-class')), '[]') FROM outbox),
           (SELECT coalesce(json_agg(notification_id), '[]') FROM outbox_due),
           (SELECT coalesce(json_agg(json_build_array(notification_id, attempt, outcome, receipt,
                                                      extract(epoch FROM began_at), extract(epoch FROM ended_at))),
                            '[]') FROM delivery_attempts),
           (SELECT coalesce(json_agg(json_build_array(notification_id, attempt, status, retry_count,
                                                      retry_at IS NOT NULL, resolution, id, topic, partition, "offset",
                                                      encode(original_payload, 'hex'), encode(message_key, 'hex'),
                                                      rest_reason, failure_class, first_error)), '[]')
              FROM dlq_messages),
           (SELECT coalesce(json_agg(q.notification_id), '[]') FROM ordering_queue q
             WHERE q.passed AND EXISTS (SELECT FROM ordering_queue e WHERE e.tenant_id = q.tenant_id
                                           AND e.ordering_key = q.ordering_key AND e.seq < q.seq)),
           (SELECT coalesce(json_agg(notification_id), '[]') FROM outbox_held)
"""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Rows as lists; the order of fields is that of the statement above."""

    notifications: list[list[Any]]
    outbox: list[list[Any]]
    due: list[str]
    attempts: list[list[Any]]
    dead_letters: list[list[Any]]
    passed: list[str]  # not their turn: published again by whoever makes them the first of their key
    held: list[str]
