"""Verifying audit_log: each row carries its own hash and that of the row before, and audit_head says where it ends.

The hashes are made anew here, from what built-in functions of PostgreSQL say of a row: audit_hash() of the schema is
as much within reach of whoever changes rows as the rows are. What is beyond any chain is one that was written anew from
some row to its end, with audit_head; for that an anchor helps, the number and hash of a row noted elsewhere.
"""

import hashlib
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from psycopg import Connection, IsolationLevel
from psycopg.rows import class_row

from shared.db.tenancy import require_all_of

STEP_ROWS: Final = 5_000
FIRST_PREVIOUS: Final = hashlib.sha256(b"").digest()
"""What row 1 carries as the hash of the row before it."""


class Wrong(StrEnum):
    """What can be wrong with the log."""

    CHANGED = "changed"  # a row does not have its hash
    REWRITTEN = "rewritten"  # it has, but not the one that the next row, or the head, knows
    MISSING = "missing"  # a row between two others is gone
    CUT_OFF = "cut_off"  # the newest rows are gone
    ADDED = "added"  # there is a row behind the end, or before the beginning
    HEADLESS = "headless"  # the end is not known: audit_head has no row
    UNANCHORED = "unanchored"  # a row is not the one that was noted elsewhere


@dataclass(frozen=True, slots=True)
class Found:
    """Something wrong, and with which rows, first and last."""

    what: Wrong
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Anchor:
    """A row as it was noted elsewhere."""

    seq: int
    hash: bytes


@dataclass(frozen=True, slots=True)
class _Link:
    """A row as far as the chain goes by it."""

    seq: int
    previous_hash: bytes
    hash: bytes
    content: str

    @property
    def is_whole(self) -> bool:
        return hashlib.sha256(self.content.encode()).digest() == self.hash


class Chain:
    """One look at the log. Needs an autocommit connection; all of it is one snapshot, so it may grow meanwhile."""

    def __init__(self, conn: Connection[Any], *, newest: int | None = None, anchor: Anchor | None = None) -> None:
        self._conn, self._newest, self._anchor = conn, newest, anchor
        self.rows = 0  # looked at so far
        self.head: Anchor | None = None  # where the log ends, by audit_head

    def faults(self) -> Iterator[Found]:
        """Yield what is wrong, in order. `newest` looks at so many rows only, and takes the one before at its word.

        Raises HiddenRowsError, and psycopg.errors.InsufficientPrivilege, for a role that may not see every row.
        """
        require_all_of(self._conn, "audit_log")
        self._conn.isolation_level = IsolationLevel.REPEATABLE_READ
        with self._conn.transaction():
            self.head = head = _head(self._conn)
            last = yield from self._walk(self._start(head))
            yield from _ended(head, last)
            if self._anchor and _hash_of(self._conn, self._anchor.seq) != self._anchor.hash:
                yield Found(Wrong.UNANCHORED, self._anchor.seq, self._anchor.seq)

    def _start(self, head: Anchor | None) -> Anchor:
        if self._newest is not None and head is not None and head.seq > self._newest:
            return _last_until(self._conn, head.seq - self._newest)
        return Anchor(0, FIRST_PREVIOUS)

    def _walk(self, last: Anchor) -> Generator[Found, None, Anchor]:
        """Yield what is wrong behind a row; return the last one there is."""
        after, is_whole = last.seq or -(2**63), True
        while links := _links(self._conn, after):
            for link in links:
                if link.seq < 1:
                    yield Found(Wrong.ADDED, link.seq, link.seq)
                    continue
                yield from _linked(last, link, is_blamed=not is_whole)
                last, is_whole = Anchor(link.seq, link.hash), link.is_whole
            self.rows += len(links)
            after = links[-1].seq
        return last


def _linked(last: Anchor, link: _Link, *, is_blamed: bool) -> Iterator[Found]:
    """Yield what is wrong with a row and its link to the last; `is_blamed`: that of the last is known already."""
    if link.seq > last.seq + 1:
        yield Found(Wrong.MISSING, last.seq + 1, link.seq - 1)
    elif link.is_whole and link.previous_hash != last.hash and not is_blamed:
        yield Found(Wrong.REWRITTEN, max(last.seq, 1), max(last.seq, 1))
    if not link.is_whole:
        yield Found(Wrong.CHANGED, link.seq, link.seq)


def _ended(head: Anchor | None, last: Anchor) -> Iterator[Found]:
    if head is None:
        if last.seq:
            yield Found(Wrong.HEADLESS, last.seq, last.seq)
    elif last.seq < head.seq:
        yield Found(Wrong.CUT_OFF, last.seq + 1, head.seq)
    elif last.seq > head.seq:
        yield Found(Wrong.ADDED, head.seq + 1, last.seq)
    elif last.hash != head.hash:
        yield Found(Wrong.REWRITTEN, last.seq, last.seq)


def _head(conn: Connection[Any]) -> Anchor | None:
    return conn.cursor(row_factory=class_row(Anchor)).execute("SELECT seq, hash FROM audit_head").fetchone()


def _hash_of(conn: Connection[Any], seq: int) -> bytes | None:
    row = conn.execute("SELECT hash FROM audit_log WHERE seq = %s", (seq,)).fetchone()
    return bytes(row[0]) if row else None


def _last_until(conn: Connection[Any], seq: int) -> Anchor:
    """Return the last row up to a number; where there is none, what comes before the first."""
    query = "SELECT seq, hash FROM audit_log WHERE seq BETWEEN 1 AND %s ORDER BY seq DESC LIMIT 1"
    found = conn.cursor(row_factory=class_row(Anchor)).execute(query, (seq,)).fetchone()
    return found or Anchor(0, FIRST_PREVIOUS)


def _links(conn: Connection[Any], after: int) -> list[_Link]:
    """Return the next rows with what their hash is of, as audit_hash() in init.sql puts it together."""
    query = """
        SELECT seq, previous_hash, hash, pg_catalog.jsonb_build_array(
                   pg_catalog.encode(previous_hash, 'hex'), seq, extract(epoch FROM at), tenant_id, actor_kind,
                   actor_id, actor_name, action, entity_type, entity_id, before, after, address, user_agent,
                   request_id)::text AS content
          FROM audit_log WHERE seq > %(after)s ORDER BY seq LIMIT %(limit)s
    """
    parameters = {"after": after, "limit": STEP_ROWS}
    return conn.cursor(row_factory=class_row(_Link)).execute(query, parameters).fetchall()
