"""Connections to PostgreSQL. The SQL itself is in this package's modules, one per table."""

from typing import Any, LiteralString

import orjson
import psycopg
from psycopg.types.json import set_json_dumps, set_json_loads
from psycopg_pool import ConnectionPool

from shared.db.outages import outage_reason

OUTAGE = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    psycopg.errors.InternalError_,  # XX000: its disk failed it, and it is about to end
    psycopg.errors.ReadOnlySqlTransaction,  # a standby, until it is promoted
)
"""What a statement raises when PostgreSQL is away, restarting, or the connection broke: wait, connect anew, repeat."""

_CONNECT: dict[str, Any] = {
    "autocommit": True,
    "connect_timeout": 5,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,  # a server that vanished without a word is noticed within ten seconds
}


def configure(conn: psycopg.Connection[Any]) -> None:
    """Give a fresh connection our JSON codec and UTC."""
    set_json_loads(orjson.loads, conn)
    set_json_dumps(orjson.dumps, conn)
    conn.execute("SET timezone = 'UTC'")


def connect(
    conninfo: str, *, application_name: str, settings: tuple[LiteralString, ...] = ()
) -> psycopg.Connection[Any]:
    """Open one autocommit connection. `settings` are statements such as `SET synchronous_commit = off`.

    Statements are prepared at first use. Raises psycopg.OperationalError when PostgreSQL is out of reach.
    """
    conn = psycopg.connect(conninfo, application_name=application_name, prepare_threshold=0, **_CONNECT)
    try:
        configure(conn)
        for statement in settings:
            conn.execute(statement)
    except BaseException:
        conn.close()
        raise
    return conn


class DatabaseNotReadyError(psycopg.OperationalError):
    """PostgreSQL answers, and cannot be used yet: waited out like an outage."""


class Session:
    """One connection that a loop keeps, opened at first use and again after it broke. For one thread at a time."""

    def __init__(self, conninfo: str, *, application_name: str, settings: tuple[LiteralString, ...] = ()) -> None:
        self._conninfo, self._application_name, self._settings = conninfo, application_name, settings
        self._conn: psycopg.Connection[Any] | None = None
        self._fault: str | None = "not connected"

    def connection(self) -> psycopg.Connection[Any]:
        """Return the connection. Raises psycopg.OperationalError when PostgreSQL cannot be reached or used."""
        if self._conn is None or self._conn.closed:
            try:
                self._conn = self._open()
            except psycopg.OperationalError as error:
                self._fault = f"not connected: {outage_reason(error)}"
                raise
            self._fault = None
        return self._conn

    def _open(self) -> psycopg.Connection[Any]:
        conn = connect(self._conninfo, application_name=self._application_name, settings=self._settings)
        if fault := readiness_fault(conn):
            conn.close()
            raise DatabaseNotReadyError(fault)
        return conn

    def drop(self) -> None:
        """Close the connection; the next use opens another."""
        self._fault = self._fault or "not connected"
        if self._conn is not None:
            self._conn.close()
            self._conn = None

    def fault(self) -> str | None:
        """Say what is wrong, as a readiness check does; None while connected. Safe from any thread."""
        return self._fault


def open_pool(
    conninfo: str, *, application_name: str, size: int, timeout_s: float, settings: tuple[LiteralString, ...] = ()
) -> ConnectionPool:
    """Open a pool of `size` autocommit connections; taking one waits at most `timeout_s`, then raises PoolTimeout.

    Each connection runs the statements of `settings` first. Call it after the fork. It opens without waiting for
    PostgreSQL and goes on trying while that is away.
    """

    def prepare(conn: psycopg.Connection[Any]) -> None:
        configure(conn)
        for statement in settings:
            conn.execute(statement)

    return ConnectionPool(
        conninfo,
        kwargs=_CONNECT | {"application_name": application_name, "prepare_threshold": 0},
        configure=prepare,
        check=None,
        min_size=size,
        max_size=size,
        timeout=timeout_s,
        reconnect_timeout=5.0,
        open=True,
    )


def readiness_fault(conn: psycopg.Connection[Any]) -> str | None:
    """Say why this database cannot be written to, as a readiness check does; None when it can."""
    row = conn.execute("SELECT to_regclass('outbox') IS NOT NULL, pg_is_in_recovery()").fetchone()
    has_schema, is_standby = row or (False, False)
    if not has_schema:
        return "the schema is missing: run init.sql"
    return "read only: this server is a standby" if is_standby else None
