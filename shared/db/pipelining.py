"""A pipeline whose caller goes on while PostgreSQL works, and after which a stopped session still ends.

PostgreSQL takes the time of an idle session from the Sync that it answers up to the next message of any kind. psycopg's
own pipeline ends with a Flush behind its Sync: a process that is stopped after that keeps its session, and the locks of
that session, past `idle_session_timeout` and for as long as it stands.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg.abc import PQGen
from psycopg.generators import send


class Pipeline(psycopg.Pipeline):
    """A pipeline of which every part ends with a Sync, and nothing follows the last one."""

    def send_off(self) -> None:
        """Send what the pipeline holds, to be committed as soon as it is done, and do not wait for the answers.

        psycopg's own `sync` waits for them, and without either the transaction would stay open until the pipeline
        ends: the session of a process that is stopped meanwhile would be neither idle nor busy, and outlive every
        timeout.
        """
        self._enqueue_sync()
        self._conn.wait(self._communicate_gen())
        self._conn.wait(send(self.pgconn))  # of much, that has sent what the socket took

    def _exit_gen(self) -> PQGen[None]:
        try:
            self._enqueue_sync()
            yield from self._communicate_gen()
        finally:
            yield from self._fetch_gen(flush=False)


@contextmanager
def pipelined(conn: psycopg.Connection[Any]) -> Iterator[Pipeline]:
    """Have the statements of the block go to PostgreSQL without waiting for one another; all are answered at its end.

    A connection is in one pipeline at a time. Raises what the first statement that failed raised, and OperationalError
    when the connection broke: to a pipeline libpq reports that as a failed statement without a SQLSTATE.
    """
    if conn._pipeline is not None:
        raise psycopg.ProgrammingError("the connection is in a pipeline already")
    pipeline = conn._pipeline = Pipeline(conn)
    try:
        with pipeline:
            yield pipeline
    except psycopg.DatabaseError as error:
        if conn.closed and error.sqlstate is None and not isinstance(error, psycopg.OperationalError):
            raise psycopg.OperationalError(str(error)) from error
        raise
    finally:
        conn._pipeline = None
