"""Work on PostgreSQL within a bounded time: an answer, or 503 in about two seconds."""

import contextlib
import functools
import logging
import os
import socket
import time
from collections.abc import Callable
from typing import Any, Final, LiteralString, TypeVar

import psycopg
from psycopg import Connection, errors
from psycopg_pool import ConnectionPool

from api_service import metrics
from api_service.deadlines import Deadlines
from shared.db import OUTAGE, open_pool, tenancy

log = logging.getLogger(__name__)
T = TypeVar("T")

POOL_TIMEOUT_S: Final = 2.0
AWAY_FOR_S: Final = 1.0
AWAY_TIMEOUT_S: Final = 0.05
"""Once a wait for a connection was in vain, others wait this short for a second: a queue of requests drains quickly
instead of waiting two seconds each, and each second one of them looks properly."""
WORK_TIMEOUT_S: Final = 6.0
"""Just above statement_timeout, for servers that neither answer nor close, being frozen or cut off: TCP is content
while the other kernel acknowledges."""
SESSION_SETTINGS: Final[tuple[LiteralString, ...]] = (
    "SET statement_timeout = '5s'",
    "SET lock_timeout = '2s'",
    "SET idle_in_transaction_session_timeout = '10s'",
)
_NOT_NOW: Final = (*OUTAGE, errors.UndefinedTable, errors.TransactionRollback)
"""Faults of the moment: away, failing over to a standby, not installed yet, deadlocked. All else is a bug of ours."""


class DatabaseUnavailableError(Exception):
    """PostgreSQL did not do the work. `reason` is a constant.

    `may_be_done`: or has done it all the same, since a connection broke before the answer.
    """

    def __init__(self, reason: str, *, may_be_done: bool = False) -> None:
        super().__init__(reason)
        self.reason, self.may_be_done = reason, may_be_done


class _BrokenConnectionError(Exception):
    """The connection broke under the work."""


def open_api_pool(conninfo: str, *, threads: int) -> ConnectionPool:
    """Open one worker's pool, a connection per thread. After the fork."""
    return open_pool(
        conninfo,
        application_name="api_service",
        size=threads,
        timeout_s=POOL_TIMEOUT_S,
        settings=SESSION_SETTINGS,
    )


class Database:
    """Runs functions that take a connection, each statement a transaction of its own."""

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool
        self._deadlines = Deadlines("database-deadlines")
        self._away_until = 0.0

    def run(
        self,
        work: Callable[[Connection[Any]], T],
        *,
        tenant_id: str | None = None,
        repeatable: bool = True,
    ) -> T:
        """Return what `work` returns, on a connection of the pool; one that does not answer in six seconds is broken.

        With a tenant all of it is one transaction, in which no other tenant's rows are seen.

        When the connection turns out broken, all idle ones are replaced, since a restart of PostgreSQL breaks each of
        them, and the work is done again on a new one: a restart is then unseen by clients whose request meets a server
        that is back. Work that is not `repeatable` is done again only where nothing of it can have been committed: it
        is a tenant's one transaction, and had not come to its end. Raises DatabaseUnavailableError, or any
        psycopg.Error that is a bug.
        """
        has_ended = tenant_id is None  # a statement by itself is committed before it is known to be

        def once(conn: Connection[Any]) -> T:
            nonlocal has_ended
            result = work(conn)
            has_ended = True
            return result

        whole = work if tenant_id is None else functools.partial(tenancy.as_tenant, work=once, tenant_id=tenant_id)
        try:
            return self._run_once(whole)
        except _BrokenConnectionError as error:
            log.warning("connection_broke")
            self._pool.drain()
            if has_ended and not repeatable:
                raise unavailable("connection_broke", may_be_done=True) from error
        try:
            return self._run_once(whole)
        except _BrokenConnectionError as error:
            raise unavailable("connection_broke", may_be_done=True) from error
        except DatabaseUnavailableError as error:
            error.may_be_done = True  # on the connection before
            raise

    def close(self) -> None:
        """Close the pool."""
        self._deadlines.close()
        self._pool.close()

    def _run_once(self, work: Callable[[Connection[Any]], T]) -> T:
        is_away = time.monotonic() < self._away_until
        try:
            conn = self._pool.getconn(timeout=AWAY_TIMEOUT_S if is_away else POOL_TIMEOUT_S)
        except OUTAGE as error:
            if not is_away:
                self._away_until = time.monotonic() + AWAY_FOR_S
            raise unavailable("no_connection") from error
        metrics.CONNECTIONS_IN_USE.inc()
        try:
            with self._deadlines.on(lambda: _break(conn), WORK_TIMEOUT_S):
                return work(conn)
        except psycopg.Error as error:
            if conn.broken:
                raise _BrokenConnectionError from error
            if isinstance(error, _NOT_NOW):
                raise unavailable(_reason_of(error)) from error
            raise
        finally:
            metrics.CONNECTIONS_IN_USE.dec()
            self._pool.putconn(conn)


def _break(conn: Connection[Any]) -> None:
    """End a connection that another thread is waiting on: it gets psycopg.OperationalError."""
    with contextlib.suppress(psycopg.Error, OSError), socket.socket(fileno=os.dup(conn.fileno())) as shared:
        shared.shutdown(socket.SHUT_RDWR)


def _reason_of(error: psycopg.Error) -> str:
    if isinstance(error, errors.LockNotAvailable):
        return "lock_timeout"
    if isinstance(error, errors.QueryCanceled):
        return "statement_timeout"
    return "not_ready" if isinstance(error, errors.UndefinedTable | errors.ReadOnlySqlTransaction) else "refused"


def unavailable(reason: str, *, may_be_done: bool = False) -> DatabaseUnavailableError:
    """Return the error of a request that PostgreSQL failed, and count it."""
    metrics.DATABASE_ERRORS.labels(reason).inc()
    return DatabaseUnavailableError(reason, may_be_done=may_be_done)
