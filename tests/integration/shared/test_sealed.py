"""Sealed values, locked batch by batch and put anew in their places, while others use the rows beside them."""

from uuid import UUID

import pytest

from shared.db import sealed
from shared.db.sealed import FIRST, Sealed
from shared.model import uuid7
from tests.integration.shared.conftest import Conn

HEAD = b"\x01\x03new"


def an_endpoint(conn: Conn, value: bytes | None) -> UUID:
    """An endpoint whose headers are sealed so, or that has none."""
    id_ = uuid7()
    query = (
        "INSERT INTO endpoints (id, tenant_id, url, sealed_headers) VALUES (%s, 'default', 'https://x.example/', %s)"
    )
    conn.execute(query, (id_, value))
    return id_


def a_secret(conn: Conn, value: bytes, *, expires_in_s: float | None = None) -> UUID:
    """A signing secret of the tenant's."""
    id_ = uuid7()
    query = """INSERT INTO signing_secrets (id, tenant_id, sealed, expires_at)
               VALUES (%s, 'default', %s, now() + %s * interval '1 second')"""
    conn.execute(query, (id_, value, expires_in_s))
    return id_


def one_in(conn: Conn, table: str, value: bytes) -> UUID:
    """A value in a table."""
    return (an_endpoint if table == "endpoints" else a_secret)(conn, value)


def older(conn: Conn, table: str) -> list[UUID]:
    """All that is to be sealed anew, read in batches of two."""
    found: list[UUID] = []
    while batch := sealed.lock_older(conn, table, head=HEAD, after=found[-1] if found else FIRST, limit=2):
        found += [one.id for one in batch]
    return found


def test_batches_hold_what_another_key_has_sealed_once_and_nothing_that_has_expired(conn: Conn) -> None:
    """In the order of their ids; what begins like the newest key's is left out, and only that."""
    headers = [an_endpoint(conn, b"\x01\x03old%d" % number) for number in range(5)]
    an_endpoint(conn, None)
    an_endpoint(conn, HEAD + b"...")
    signing = [a_secret(conn, b"\x01\x03ne"), a_secret(conn, b"\x01\x04new", expires_in_s=60)]
    a_secret(conn, b"\x01\x03old", expires_in_s=-1)

    assert {table: older(conn, table) for table in sealed.TABLES} == {"endpoints": headers, "signing_secrets": signing}
    counts = {table: sealed.count_older(conn, table, head=HEAD) for table in sealed.TABLES}
    assert counts == {"endpoints": 5, "signing_secrets": 2}


@pytest.mark.parametrize("table", sealed.TABLES)
def test_a_row_in_use_is_passed_over_and_is_there_the_next_time(conn: Conn, other: Conn, table: str) -> None:
    """Nobody waits; it is counted meanwhile, and what its user leaves is what is read."""
    used, free = one_in(conn, table, b"1"), one_in(conn, table, b"2")
    column = "sealed_headers" if table == "endpoints" else "sealed"

    with other.transaction():
        other.execute(f"UPDATE {table} SET {column} = 'changed' WHERE id = %s".encode(), (used,))
        with conn.transaction():
            batch = sealed.lock_older(conn, table, head=HEAD, after=FIRST, limit=9)
            sealed.replace(conn, table, [Sealed(free, "default", HEAD + b"2")])
            assert sealed.count_older(conn, table, head=HEAD) == 1

    assert [one.id for one in batch] == [free]
    [left] = sealed.lock_older(conn, table, head=HEAD, after=FIRST, limit=9)
    assert (left.id, left.tenant_id, left.value) == (used, "default", b"changed")
    assert "changed" not in repr(left)


@pytest.mark.parametrize("table", sealed.TABLES)
def test_each_value_is_put_into_its_own_row(conn: Conn, table: str) -> None:
    """Many in one statement, whatever their order."""
    ids = [one_in(conn, table, b"old") for _ in range(3)]
    column = "sealed_headers" if table == "endpoints" else "sealed"

    sealed.replace(conn, table, [Sealed(id_, "default", HEAD + id_.bytes) for id_ in reversed(ids)])

    found = conn.execute(f"SELECT id, {column} FROM {table} ORDER BY id".encode()).fetchall()
    assert found == [(id_, HEAD + id_.bytes) for id_ in ids]
    assert older(conn, table) == []


def test_every_sealed_column_there_is_is_sealed_anew(conn: Conn) -> None:
    """Or a key would be dropped while something needs it; whoever adds a column says here where it is."""
    query = "SELECT table_name::text FROM information_schema.columns WHERE column_name LIKE 'sealed%' ORDER BY 1"

    assert [name for (name,) in conn.execute(query)] == sorted(sealed.TABLES)
