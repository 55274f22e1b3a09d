"""A limit on how long a connection may be at work, for servers that neither answer nor close: frozen, or cut off.

statement_timeout is the server's to keep, and TCP is content while the other kernel acknowledges; without this such
a server would hold every thread of the API for ever.
"""

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any, Final

import psycopg

_LOOK_EVERY_S: Final = 0.5


class Deadlines:
    """Breaks connections that are at work for too long; who waits on one gets psycopg.OperationalError."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._ends: dict[psycopg.Connection[Any], float] = {}
        self._stop = threading.Event()
        threading.Thread(target=self._run, name="deadlines", daemon=True).start()

    @contextlib.contextmanager
    def on(self, conn: psycopg.Connection[Any]) -> Iterator[None]:
        """Limit the work done on a connection inside this block."""
        with self._lock:
            self._ends[conn] = time.monotonic() + self._timeout_s
        try:
            yield
        finally:
            with self._lock:
                del self._ends[conn]

    def close(self) -> None:
        """Stop looking."""
        self._stop.set()

    def _run(self) -> None:
        while not self._stop.wait(_LOOK_EVERY_S):
            now = time.monotonic()
            with self._lock:
                for conn, end in self._ends.items():
                    if end < now:
                        _break(conn)


def _break(conn: psycopg.Connection[Any]) -> None:
    with contextlib.suppress(psycopg.Error, OSError), socket.socket(fileno=os.dup(conn.fileno())) as shared:
        shared.shutdown(socket.SHUT_RDWR)
