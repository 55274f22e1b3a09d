"""Sealed secrets wherever they are kept, for sealing them anew while everybody goes on using them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, LiteralString
from uuid import UUID

from psycopg import Connection
from psycopg.rows import class_row


@dataclass(frozen=True, slots=True)
class Sealed:
    """A sealed value and the row it belongs to."""

    id: UUID
    tenant_id: str
    value: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class _Place:
    lock: LiteralString
    replace: LiteralString
    count: LiteralString


_PLACES: Final = {
    "endpoints": _Place(
        lock="""
            SELECT id, tenant_id, sealed_headers AS value FROM endpoints
             WHERE id > %(after)s AND sealed_headers IS NOT NULL
               AND substr(sealed_headers, 1, length(%(head)s::bytea)) <> %(head)s
             ORDER BY id LIMIT %(limit)s FOR UPDATE SKIP LOCKED
        """,
        replace="""
            UPDATE endpoints AS e SET sealed_headers = anew.value
              FROM unnest(%(ids)s::uuid[], %(values)s::bytea[]) AS anew (id, value) WHERE e.id = anew.id
        """,
        count="""
            SELECT count(*) FROM endpoints
             WHERE sealed_headers IS NOT NULL AND substr(sealed_headers, 1, length(%(head)s::bytea)) <> %(head)s
        """,
    ),
    "signing_secrets": _Place(
        lock="""
            SELECT id, tenant_id, sealed AS value FROM signing_secrets
             WHERE id > %(after)s AND (expires_at IS NULL OR expires_at > now())
               AND substr(sealed, 1, length(%(head)s::bytea)) <> %(head)s
             ORDER BY id LIMIT %(limit)s FOR UPDATE SKIP LOCKED
        """,
        replace="""
            UPDATE signing_secrets AS s SET sealed = anew.value
              FROM unnest(%(ids)s::uuid[], %(values)s::bytea[]) AS anew (id, value) WHERE s.id = anew.id
        """,
        count="""
            SELECT count(*) FROM signing_secrets
             WHERE (expires_at IS NULL OR expires_at > now())
               AND substr(sealed, 1, length(%(head)s::bytea)) <> %(head)s
        """,
    ),
}
TABLES: Final = tuple(_PLACES)
"""Where sealed values are. The name is part of what each is bound to."""

FIRST: Final = UUID(int=0)


def lock_older(conn: Connection[Any], table: str, *, head: bytes, after: UUID, limit: int) -> list[Sealed]:
    """Return up to `limit` values of a table that do not begin with `head`, with ids greater than `after`, in order.

    Their rows stay locked until the caller's transaction ends. One that somebody is changing is passed over, so that
    nobody waits: it is there the next time. What no longer signs is left out.
    """
    parameters = {"head": head, "after": after, "limit": limit}
    return conn.cursor(row_factory=class_row(Sealed)).execute(_PLACES[table].lock, parameters).fetchall()


def replace(conn: Connection[Any], table: str, anew: Sequence[Sealed]) -> None:
    """Put other sealings of the same secrets in their places, in rows that this transaction has locked."""
    parameters = {"ids": [one.id for one in anew], "values": [one.value for one in anew]}
    conn.execute(_PLACES[table].replace, parameters)


def count_older(conn: Connection[Any], table: str, *, head: bytes) -> int:
    """Return how many values of a table do not begin with `head`, whoever is using them."""
    row = conn.execute(_PLACES[table].count, {"head": head}).fetchone()
    return int(row[0]) if row else 0
