"""A prepared statement of ours does what psycopg would do with it, and ends as it would."""

import threading
from typing import Final, LiteralString

import psycopg
import pytest

from shared.db import prepared
from tests.integration.shared.conftest import Conn

ADD: Final[LiteralString] = """
    INSERT INTO tenants (id, name)
    SELECT %(id)s, %(name)s WHERE octet_length(%(proof)s::bytea) = 2 AND %(id)s::text <> ''
"""


def add(conn: Conn, name: str, tenant_id: str = "a") -> None:
    prepared.execute(conn, ADD, {"id": tenant_id, "name": name, "proof": b"\x00\xff"})


def names(conn: Conn) -> list[str]:
    return [name for (name,) in conn.execute("SELECT name FROM tenants WHERE id <> 'default' ORDER BY id").fetchall()]


def test_text_bytes_and_names_that_come_twice_are_sent(conn: Conn) -> None:
    """Also what would mean something in a query."""
    add(conn, "Ä'); \\x00 $1 %(id)s")

    assert names(conn) == ["Ä'); \\x00 $1 %(id)s"]


def test_it_says_how_many_rows_it_found_or_wrote(conn: Conn) -> None:
    """None of them is read."""
    counts = [prepared.execute(conn, "SELECT FROM generate_series(1, %(count)s)", {"count": n}) for n in ("3", "0")]
    counts.append(prepared.execute(conn, ADD, {"id": "a", "name": "b", "proof": b"\x00\xff"}))

    assert counts == [3, 0, 1]


def test_null_is_null(conn: Conn) -> None:
    """As anywhere."""
    with pytest.raises(psycopg.errors.NotNullViolation):
        prepared.execute(conn, ADD, {"id": "a", "name": None, "proof": b"\x00\xff"})


def test_connections_that_meet_at_the_first_use_of_a_statement_prepare_it_once_each(
    conn: Conn, other: Conn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the threads of a process do that has just started: one that prepared twice would fail from then on."""
    met, read = threading.Barrier(2, timeout=10), prepared._read

    def read_together(query: str) -> prepared._Statement:
        met.wait()
        return read(query)

    monkeypatch.setattr(prepared, "_read", read_together)
    query: LiteralString = "SELECT %(met)s::int"
    threads = [threading.Thread(target=prepared.execute, args=(one, query, {"met": "1"})) for one in (conn, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [prepared.execute(one, query, {"met": "2"}) for one in (conn, other)] == [1, 1]


@pytest.mark.parametrize("forget", ["DEALLOCATE ALL", "DISCARD ALL"])
def test_a_server_that_forgot_the_statement_is_told_again(conn: Conn, forget: LiteralString) -> None:
    """psycopg has it forget all statements after a rollback."""
    add(conn, "one")

    conn.execute(forget)
    add(conn, "two", "b")

    assert names(conn) == ["one", "two"]


def test_an_error_is_psycopgs_own_and_leaves_the_connection_fit_for_more(conn: Conn) -> None:
    """With what PostgreSQL said of it."""
    add(conn, "one")

    with pytest.raises(psycopg.errors.UniqueViolation) as raised:
        add(conn, "again")
    add(conn, "two", "b")

    assert raised.value.diag.constraint_name == "tenants_pkey"
    assert names(conn) == ["one", "two"]


def test_inside_a_transaction_it_is_part_of_it(conn: Conn, other: Conn) -> None:
    """Whether the caller began one or psycopg has to, also where the server has not seen the statement."""
    with pytest.raises(ZeroDivisionError), conn.transaction():
        add(conn, "one")
        raise ZeroDivisionError
    other.autocommit = False
    add(other, "two")
    unseen = names(conn)
    other.rollback()
    other.autocommit = True

    assert unseen == names(conn) == []


def test_a_connection_that_breaks_meanwhile_is_known_to_be_broken(conn: Conn, other: Conn) -> None:
    """The error is that of an outage."""
    with conn.transaction():
        add(conn, "one")
        kill = threading.Timer(0.3, conn.execute, ["SELECT pg_terminate_backend(%s)", (other.info.backend_pid,)])
        kill.start()
        with pytest.raises(psycopg.OperationalError):
            add(other, "waits for the other")
        kill.join()

    assert other.broken
    assert names(conn) == ["one"]


def test_a_text_with_nul_is_refused(conn: Conn) -> None:
    """libpq would end the text there, and write something else than was asked for."""
    with pytest.raises(psycopg.DataError, match="name"):
        add(conn, "a\0b")

    assert names(conn) == []


def test_inside_a_pipeline_psycopg_runs_it(conn: Conn) -> None:
    """libpq has no answer there to wait for."""
    with conn.pipeline():
        add(conn, "one")

    assert names(conn) == ["one"]


def test_a_new_connection_prepares_it_without_an_error(conn: Conn, other: Conn) -> None:
    """Finding out by an error would be a line in the server's log for each connection."""
    for each in (conn, other):
        before = each.execute("SELECT count(*) FROM pg_prepared_statements WHERE name LIKE 'prepared%'").fetchall()
        add(each, "one", each.info.dsn[-3:] + str(each.info.backend_pid))
        after = each.execute("SELECT count(*) FROM pg_prepared_statements WHERE name LIKE 'prepared%'").fetchall()
        assert (before, after) == ([(0,)], [(1,)])

    rollbacks = "SELECT xact_rollback FROM pg_stat_database WHERE datname = current_database()"
    conn.execute("SELECT pg_stat_force_next_flush()")
    assert conn.execute(rollbacks).fetchall() == [(0,)]
