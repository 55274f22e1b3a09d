"""What an outage of PostgreSQL is called, and how often it is mentioned."""

import logging
import time
from collections.abc import Callable
from typing import Final

import psycopg

_BY_SQLSTATE: Final = {
    "28P01": "password_refused",
    "28000": "login_refused",
    "3D000": "no_such_database",
    "53300": "too_many_connections",
    "57P01": "server_stopping",
    "57P02": "server_crashed",
    "57P03": "server_starting",
    "57P05": "session_idle",
    "40P01": "deadlock",
    "55P03": "lock_timeout",
    "57014": "statement_timeout",
    "53100": "disk_full",
    "25006": "read_only",
    "XX000": "server_failed",
}
_BY_WORDS: Final = (  # libpq gives a failed connection no SQLSTATE, only a sentence
    ("password authentication failed", "password_refused"),
    ("no password supplied", "password_refused"),
    ("invalid port number", "connection_string_refused"),
    ("invalid integer value", "connection_string_refused"),
    ("pg_hba.conf", "login_refused"),
    ("not permitted to log in", "login_refused"),
    ("unexpected eof", "connection_lost"),
    ("certificate", "tls_failed"),
    ("ssl error", "tls_failed"),
    ("not support ssl", "tls_failed"),
    ('" does not exist', "no_such_database_or_role"),
    ("too many clients", "too_many_connections"),
    ("starting up", "server_starting"),
    ("shutting down", "server_stopping"),
    ("connection refused", "refused"),
    ("timeout", "timeout"),
    ("timed out", "timeout"),
    ("resolve", "host_unknown"),
    ("translate host name", "host_unknown"),
    ("schema is missing", "schema_missing"),
    ("standby", "read_only"),
)


def outage_reason(error: psycopg.Error) -> str:
    """Return a constant for why PostgreSQL could not be used; never the error's words, which may quote a value."""
    if error.sqlstate:
        return _BY_SQLSTATE.get(error.sqlstate, f"sqlstate_{error.sqlstate}")
    words = str(error).lower()
    return next((reason for part, reason in _BY_WORDS if part in words), "connection_lost")


class OutageLog:
    """Mentions an outage when it begins, when its reason changes, and once a minute while it lasts."""

    def __init__(self, log: logging.Logger, clock: Callable[[], float] = time.monotonic) -> None:
        self._log, self._clock = log, clock
        self._last: tuple[str, float] | None = None

    def note(self, error: psycopg.Error) -> None:
        """Take one failed statement or connection."""
        reason, now = outage_reason(error), self._clock()
        if self._last is not None and self._last[0] == reason and now - self._last[1] < 60:
            return
        self._last = (reason, now)
        self._log.warning("postgres_unreachable", extra={"reason": reason})
