"""What an outage is called, and how often."""

import logging

import psycopg
import pytest
from psycopg import errors

from shared.db.outages import OutageLog, outage_reason


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (psycopg.OperationalError('connection failed: FATAL:  password authentication failed for user "x"'),
         "password_refused"),
        (psycopg.OperationalError('FATAL:  database "x" does not exist'), "no_such_database_or_role"),
        (psycopg.OperationalError('FATAL:  no pg_hba.conf entry for host "x", user "y"'), "login_refused"),
        (psycopg.OperationalError('FATAL:  role "x" is not permitted to log in'), "login_refused"),
        (psycopg.OperationalError('invalid port number: "hunter2"'), "connection_string_refused"),
        (psycopg.OperationalError("connection to server failed: Connection refused"), "refused"),
        (psycopg.OperationalError("could not translate host name: unknown"), "host_unknown"),
        (psycopg.OperationalError("connection timeout expired"), "timeout"),
        (psycopg.OperationalError("SSL error: certificate verify failed"), "tls_failed"),
        (psycopg.OperationalError('root certificate file "/x/root.crt" does not exist'), "tls_failed"),
        (psycopg.OperationalError("SSL error: unexpected eof while reading"), "connection_lost"),
        (psycopg.OperationalError("SSL connection has been closed unexpectedly"), "connection_lost"),
        (psycopg.OperationalError('no pg_hba.conf entry for host "x", user "y", SSL encryption'), "login_refused"),
        (psycopg.OperationalError('server certificate for "db1" does not match host name "db2"'), "tls_failed"),
        (psycopg.OperationalError("server does not support SSL, but SSL was required"), "tls_failed"),
        (psycopg.OperationalError("the schema is missing: run init.sql"), "schema_missing"),
        (psycopg.OperationalError("server closed the connection unexpectedly"), "connection_lost"),
        (errors.DeadlockDetected("hunter2"), "deadlock"),
        (errors.AdminShutdown(), "server_stopping"),
        (errors.DiskFull(), "disk_full"),
        (errors.TooManyColumns(), "sqlstate_54011"),
    ],
)  # fmt: skip
def test_reason_is_a_constant_not_the_errors_words(error: psycopg.Error, reason: str) -> None:
    """An operator can tell a wrong password from a server that is away; no value is quoted."""
    assert outage_reason(error) == reason


def test_outage_is_mentioned_when_it_begins_changes_and_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    """Not twice a second for as long as it lasts."""
    now = 0.0
    outages = OutageLog(logging.getLogger("test"), lambda: now)
    refused, starting = psycopg.OperationalError("connection refused"), errors.CannotConnectNow()
    seen = []

    for second in range(0, 130, 5):
        now = float(second)
        caplog.clear()
        outages.note(starting if second >= 100 else refused)
        if caplog.records:
            seen.append((second, caplog.records[0].__dict__["reason"]))

    assert seen == [(0, "refused"), (60, "refused"), (100, "server_starting")]
