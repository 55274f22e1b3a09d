"""The audit log: rows as they are written and listed, and the chain that shows what was done to them afterwards."""

import hashlib
from datetime import timedelta
from typing import Any

import pytest

from shared.db import audit, audit_chain
from shared.db.audit import ActorKind, Entry, Filter, Noted
from shared.db.audit_chain import Anchor, Chain, Found, Wrong
from tests.servers import Database

Conn = Any


def entry(number: int = 1, **fields: Any) -> Entry:
    """What somebody did."""
    values: dict[str, Any] = {
        "tenant_id": "acme",
        "actor_kind": ActorKind.KEY,
        "actor_id": "k1",
        "actor_name": "operations",
        "action": "endpoint.changed",
        "entity_type": "endpoint",
        "entity_id": f"ep_{number}",
        "before": {"rate_per_s": number, "zone": None},
        "after": {"rate_per_s": number + 0.5, "names": ["ä", '"', "\\", "\n\x1f\u2028"]},
        "address": "198.51.100.7",
        "user_agent": "curl/8.5.0",
        "request_id": f"r{number}",
    }
    return Entry(**values | fields)


def written(conn: Conn, count: int = 9) -> None:
    """Fill the log, some rows with nothing that may be left out."""
    for number in range(1, count + 1):
        bare = {"before": None, "after": None, "address": None, "user_agent": None, "request_id": None}
        audit.append(conn, entry(number, **bare if number % 3 == 0 else {}))


def listed(conn: Conn, **where: Any) -> list[Noted]:
    return audit.list_page(conn, Filter(**{"tenant_id": "acme"} | where), limit=100)


def found(conn: Conn, **arguments: Any) -> list[Found]:
    """What is wrong with the log, on a connection that goes on as before."""
    try:
        return list(Chain(conn, **arguments).faults())
    finally:
        conn.isolation_level = None


def test_a_row_comes_back_as_it_was_written(conn: Conn) -> None:
    """With its number, its instant and its hash."""
    said = entry(before=None)

    seq = audit.append(conn, said)

    [row] = listed(conn)
    kept = {name: getattr(row, name) for name in Entry.__dataclass_fields__}
    assert kept == {name: getattr(said, name) for name in Entry.__dataclass_fields__}
    assert (seq, row.seq, len(row.hash)) == (1, 1, 32)


def test_a_row_is_there_exactly_if_the_change_is(conn: Conn) -> None:
    """It is rolled back with it, and the chain goes on without a gap."""
    written(conn, 2)
    with pytest.raises(ZeroDivisionError), conn.transaction():
        audit.append(conn, entry(3))
        raise ZeroDivisionError
    written(conn, 1)

    assert [row.seq for row in listed(conn)] == [3, 2, 1]
    assert found(conn) == []


def test_rows_are_listed_by_filters_newest_first(conn: Conn) -> None:
    """Own tenant alone; those that belong to no tenant for operators."""
    for number, fields in enumerate(
        [
            {"action": "endpoint.deleted"},
            {"actor_id": "k2", "entity_type": "suppression", "entity_id": "s"},
            {"tenant_id": "b-ltd"},
            {"tenant_id": audit.OF_NO_TENANT, "actor_kind": ActorKind.COMMAND},
            {},
        ],
        start=1,
    ):
        audit.append(conn, entry(number, **fields))
    third = conn.execute("SELECT at FROM audit_log WHERE seq = 3").fetchone()[0]

    def seqs(**where: Any) -> list[int]:
        return [row.seq for row in listed(conn, **where)]

    assert seqs() == [5, 2, 1]
    assert seqs(of_no_tenant=True) == [5, 4, 2, 1]
    assert seqs(of_no_tenant=True, before=5) == [4, 2, 1]
    assert seqs(action="endpoint.deleted") == [1]
    assert seqs(actor_id="k2") == seqs(entity_type="suppression") == seqs(entity_id="s") == [2]
    assert (seqs(since=third), seqs(until=third), seqs(before=2)) == ([5], [2, 1], [1])
    assert seqs(since=third + timedelta(days=1)) == seqs(tenant_id="'; --") == []
    assert [row.seq for row in audit.list_page(conn, Filter("acme", of_no_tenant=True), limit=2)] == [5, 4]


def test_what_was_written_is_found_whole(conn: Conn, monkeypatch: pytest.MonkeyPatch) -> None:
    """In steps of any size, whatever characters there are; an empty log is whole too."""
    assert found(conn) == []
    written(conn)
    monkeypatch.setattr(audit_chain, "STEP_ROWS", 4)

    chain = Chain(conn)
    assert list(chain.faults()) == []
    assert (chain.rows, chain.head and chain.head.seq) == (9, 9)


def test_the_hash_is_the_one_that_the_schema_makes(conn: Conn) -> None:
    """Two makings of one sum: this program's, and that of the function which writes."""
    written(conn)

    rows = conn.execute("SELECT l.hash, audit_hash(l), previous_hash FROM audit_log l ORDER BY seq").fetchall()
    assert [row[0] for row in rows] == [row[1] for row in rows]
    assert [row[2] for row in rows] == [hashlib.sha256(b"").digest(), *(row[0] for row in rows[:-1])]


REHASH = "UPDATE audit_log l SET hash = audit_hash(l) WHERE seq = 4"
TAMPERINGS: dict[str, tuple[list[str], list[Found]]] = {
    "changed": (["UPDATE audit_log SET actor_name = 'nobody' WHERE seq = 4"], [Found(Wrong.CHANGED, 4, 4)]),
    "another's": (["UPDATE audit_log SET tenant_id = 'b-ltd' WHERE seq = 4"], [Found(Wrong.CHANGED, 4, 4)]),
    "dated back": (["UPDATE audit_log SET at = at - interval '1 us' WHERE seq = 4"], [Found(Wrong.CHANGED, 4, 4)]),
    "emptied": (["UPDATE audit_log SET after = NULL WHERE seq = 4"], [Found(Wrong.CHANGED, 4, 4)]),
    "the last": (["UPDATE audit_log SET action = 'x' WHERE seq = 9"], [Found(Wrong.CHANGED, 9, 9)]),
    "hashed anew": (["UPDATE audit_log SET action = 'x' WHERE seq = 4", REHASH], [Found(Wrong.REWRITTEN, 4, 4)]),
    "the first": (
        ["UPDATE audit_log l SET previous_hash = sha256('x') WHERE seq = 1"],
        [Found(Wrong.CHANGED, 1, 1)],
    ),
    "the last hashed anew": (
        ["UPDATE audit_log SET action = 'x' WHERE seq = 9", REHASH.replace("4", "9")],
        [Found(Wrong.REWRITTEN, 9, 9)],
    ),
    "its hash alone": (["UPDATE audit_log SET hash = sha256('x') WHERE seq = 4"], [Found(Wrong.CHANGED, 4, 4)]),
    "missing": (["DELETE FROM audit_log WHERE seq = 4"], [Found(Wrong.MISSING, 4, 4)]),
    "several missing": (["DELETE FROM audit_log WHERE seq IN (1, 2, 5, 6, 7)"], [
        Found(Wrong.MISSING, 1, 2), Found(Wrong.MISSING, 5, 7)]),
    "reordered": (
        [
            "UPDATE audit_log SET seq = -1 WHERE seq = 4",
            "UPDATE audit_log SET seq = 4 WHERE seq = 5",
            "UPDATE audit_log SET seq = 5 WHERE seq = -1",
        ],
        [Found(Wrong.CHANGED, 4, 4), Found(Wrong.CHANGED, 5, 5)],
    ),
    "missing, and counted down": (
        ["DELETE FROM audit_log WHERE seq = 4", "UPDATE audit_log SET seq = seq - 1 WHERE seq > 4",
         "UPDATE audit_head SET seq = 8"],
        [Found(Wrong.CHANGED, seq, seq) for seq in (4, 5, 6, 7, 8)],
    ),
    "cut off": (["DELETE FROM audit_log WHERE seq > 7"], [Found(Wrong.CUT_OFF, 8, 9)]),
    "cut off whole": (["DELETE FROM audit_log"], [Found(Wrong.CUT_OFF, 1, 9)]),
    "cut off with its head": (
        ["DELETE FROM audit_log WHERE seq > 7", "UPDATE audit_head SET seq = 7"],
        [Found(Wrong.REWRITTEN, 7, 7)],
    ),
    "added": (
        ["INSERT INTO audit_log SELECT 10, at, tenant_id, actor_kind, actor_id, actor_name, action, entity_type,"
         " entity_id, before, after, address, user_agent, request_id, hash, hash FROM audit_log WHERE seq = 9",
         REHASH.replace("4", "10")],
        [Found(Wrong.ADDED, 10, 10)],
    ),
    "added in front": (
        ["INSERT INTO audit_log SELECT 0, at, tenant_id, actor_kind, actor_id, actor_name, action, entity_type,"
         " entity_id, before, after, address, user_agent, request_id, hash, hash FROM audit_log WHERE seq = 9"],
        [Found(Wrong.ADDED, 0, 0)],
    ),
    "headless": (["DELETE FROM audit_head"], [Found(Wrong.HEADLESS, 9, 9)]),
}  # fmt: skip


@pytest.mark.parametrize("what", TAMPERINGS)
@pytest.mark.parametrize("step_rows", [2, 5_000])
def test_what_the_owner_did_to_it_is_found(
    conn: Conn, monkeypatch: pytest.MonkeyPatch, what: str, step_rows: int
) -> None:
    """Changed, missing, cut off, reordered, added: each row is named; hashing a row anew does not help."""
    written(conn)
    monkeypatch.setattr(audit_chain, "STEP_ROWS", step_rows)
    statements, wrong = TAMPERINGS[what]
    for statement in statements:
        conn.execute(statement)

    assert found(conn) == wrong


def test_a_function_that_lies_is_not_asked(conn: Conn) -> None:
    """Who may change rows may change audit_hash() as well."""
    written(conn)
    conn.execute("UPDATE audit_log SET action = 'x' WHERE seq = 4")
    conn.execute(
        "CREATE OR REPLACE FUNCTION audit_hash(entry audit_log) RETURNS bytea LANGUAGE sql AS 'SELECT entry.hash'"
    )

    assert found(conn) == [Found(Wrong.CHANGED, 4, 4)]


def test_a_log_that_was_written_anew_is_found_by_an_anchor(conn: Conn) -> None:
    """No chain shows what was done to all of it; a head that was noted elsewhere does."""
    written(conn)
    [noted] = [Anchor(row.seq, row.hash) for row in listed(conn) if row.seq == 6]
    assert found(conn, anchor=noted) == []

    conn.execute("TRUNCATE audit_log, audit_head")
    for number in range(1, 10):
        audit.append(conn, entry(number, actor_name="nobody"))

    assert found(conn) == []
    assert found(conn, anchor=noted) == [Found(Wrong.UNANCHORED, 6, 6)]
    assert found(conn, anchor=Anchor(77, noted.hash)) == [Found(Wrong.UNANCHORED, 77, 77)]


@pytest.mark.parametrize(("newest", "wrong"), [(3, []), (4, [Found(Wrong.REWRITTEN, 5, 5)]), (100, [5])])
def test_the_newest_rows_can_be_looked_at_alone(conn: Conn, newest: int, wrong: list[Any]) -> None:
    """From the row before them on, whose hash is taken at its word."""
    written(conn)
    conn.execute("UPDATE audit_log l SET action = 'x' WHERE seq = 5")
    conn.execute("UPDATE audit_log l SET hash = audit_hash(l) WHERE seq = 5")

    expected = [Found(Wrong.REWRITTEN, 5, 5)] if wrong else []
    assert found(conn, newest=newest) == expected


def test_what_is_written_meanwhile_is_no_fault(conn: Conn, database: Database) -> None:
    """A look is one snapshot."""
    written(conn)
    conn.execute("UPDATE audit_log SET action = 'x' WHERE seq = 1")
    faults = Chain(conn).faults()
    assert next(faults) == Found(Wrong.CHANGED, 1, 1)

    with database.connect(autocommit=True) as other:
        written(other, 3)

    assert list(faults) == []
    conn.isolation_level = None
    assert found(conn) == [Found(Wrong.CHANGED, 1, 1)]


def test_writers_take_turns(conn: Conn, database: Database) -> None:
    """From one row's insertion to the end of its transaction; afterwards the chain is one."""
    with database.connect(autocommit=True) as other:
        other.execute("SET lock_timeout = '100ms'")
        with conn.transaction():
            audit.append(conn, entry())
            with pytest.raises(Exception, match="lock timeout"):
                audit.append(other, entry(2))
        audit.append(other, entry(3))

    assert ([row.seq for row in listed(conn)], found(conn)) == ([2, 1], [])
