"""The connection a loop keeps."""

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from shared.db import Session
from tests.servers import Database, PostgresServer


def test_database_without_the_schema_is_waited_for(postgres: PostgresServer) -> None:
    """init.sql was not run yet: every service says so and goes on once it was."""
    empty = postgres.create_database("without_schema", template="template0")
    session = Session(empty.dsn, application_name="test")

    with pytest.raises(psycopg.OperationalError, match="schema is missing"):
        session.connection()

    assert session.fault() == "not connected: schema_missing"
    postgres.drop_database("without_schema")


def test_reason_of_a_failed_connection_is_named(database: Database) -> None:
    """A wrong password is not an outage of the network."""
    session = Session(make_conninfo(database.dsn, password="wrong"), application_name="test")

    with pytest.raises(psycopg.OperationalError):
        session.connection()

    assert session.fault() == "not connected: password_refused"


def test_session_is_opened_anew_after_it_broke(database: Database) -> None:
    """One connection at a time, another after a drop."""
    session = Session(database.dsn, application_name="test")
    first = session.connection()
    assert (session.connection() is first, session.fault()) == (True, None)

    session.drop()

    assert session.fault() == "not connected"
    assert session.connection() is not first
    session.drop()
