"""Statements that a process runs all day, their parameters ready to send.

psycopg finds out with each execute what a statement and each of its parameters are, which takes longer than all that
libpq does for it. Here that is known beforehand, and libpq is called through `psycopg.pq`.
"""

import re
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any, Final, LiteralString, NamedTuple
from weakref import WeakSet

from psycopg import Connection, DataError, OperationalError, errors, pq
from psycopg.adapt import Dumper

from shared.db.binary import Binary

_NAMED: Final = re.compile(r"%\((\w+)\)s")
_NO_SUCH_STATEMENT: Final = b"26000"


class _BinaryDumper(Dumper):
    format = pq.Format.BINARY
    oid = 0  # what the statement says

    def dump(self, obj: Binary) -> Binary:
        return obj


class _Statement(NamedTuple):
    name: bytes
    text: bytes  # with $1, $2 and so on
    parameters: tuple[str, ...]
    known_to: WeakSet[Connection[Any]]


def execute(conn: Connection[Any], query: LiteralString, values: Mapping[str, str | bytes | None]) -> int:
    """Run a statement, its parameters named: text as PostgreSQL reads it, bytes of a bytea, or Binary.

    Return how many rows it has written or found, -1 where a pipeline does not know yet; what is in them is not for who
    asks so.

    On an autocommit connection, outside a transaction, it is one of its own, prepared at its first use. Anywhere else
    psycopg runs it: it begins a transaction where there has to be one, and a statement that the server does not know
    would end one. Raises psycopg.Error.
    """
    if conn.autocommit and _waits_for_nothing(conn.pgconn):
        with conn.lock:
            return _execute_alone(conn, _statement(query), values)
    cursor = conn.cursor()
    cursor.adapters.register_dumper(Binary, _BinaryDumper)
    return cursor.execute(query, values).rowcount


def _waits_for_nothing(pgconn: pq.abc.PGconn) -> bool:
    return pgconn.transaction_status == pq.TransactionStatus.IDLE and pgconn.pipeline_status == pq.PipelineStatus.OFF


_STATEMENTS: Final[dict[str, _Statement]] = {}


def _statement(query: str) -> _Statement:
    """Return what is known of a query: the same to threads that ask at the same time, since it knows who prepared it.

    functools.cache would give each its own, and a connection that is noted in the one that is not kept prepares twice.
    """
    known = _STATEMENTS.get(query)
    return _STATEMENTS.setdefault(query, _read(query)) if known is None else known


def _read(query: str) -> _Statement:
    names = tuple(dict.fromkeys(_NAMED.findall(query)))
    text = _NAMED.sub(lambda match: f"${names.index(match[1]) + 1}", query).encode()
    return _Statement(b"prepared_" + blake2b(text, digest_size=8).hexdigest().encode(), text, names, WeakSet())


def _execute_alone(conn: Connection[Any], statement: _Statement, values: Mapping[str, str | bytes | None]) -> int:
    sent: list[Any] = []
    formats: list[int] = []
    for name in statement.parameters:
        value = values[name]
        is_binary = isinstance(value, bytes)
        if isinstance(value, str) and "\0" in value:
            raise DataError(f"{name}: PostgreSQL has no text with NUL in it")  # and libpq would end it there
        sent.append(value.encode() if isinstance(value, str) else value)
        formats.append(pq.Format.BINARY if is_binary else pq.Format.TEXT)
    if conn not in statement.known_to:
        _prepare(conn, statement)
    result = conn.pgconn.exec_prepared(statement.name, sent, formats)
    if result.error_field(pq.DiagnosticField.SQLSTATE) == _NO_SUCH_STATEMENT:
        _prepare(conn, statement)  # psycopg, after a rollback, had the server forget all statements
        result = conn.pgconn.exec_prepared(statement.name, sent, formats)
    _check(conn, result)
    return result.command_tuples or 0


def _prepare(conn: Connection[Any], statement: _Statement) -> None:
    _check(conn, conn.pgconn.prepare(statement.name, statement.text))
    statement.known_to.add(conn)


def _check(conn: Connection[Any], result: pq.abc.PGresult) -> None:
    if result.status in (pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK):
        return
    if conn.pgconn.status == pq.ConnStatus.BAD:
        raise OperationalError(result.get_error_message())
    raise errors.error_from_result(result)
