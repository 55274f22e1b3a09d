"""The audit_log table: who did what to which row, from where.

Rows are chained by hashes, which shared.db.audit_chain verifies, and written by one function of the schema alone: no
service may write to the table itself.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, LiteralString

from psycopg import Connection
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

OF_NO_TENANT: Final = ""
"""The tenant_id of what concerns the installation and no tenant of it."""


class ActorKind(StrEnum):
    """How whoever did something has said who it is."""

    KEY = "key"
    USER = "user"
    COMMAND = "command"  # a person at a prompt of the installation's machines
    OPEN = "open"  # not at all: the API serves a closed network


@dataclass(frozen=True, slots=True)
class Entry:
    """What somebody did. `before` and `after` hold states and names of fields, never a secret or a recipient."""

    tenant_id: str
    actor_kind: ActorKind
    actor_id: str
    actor_name: str
    action: str
    entity_type: str
    entity_id: str
    before: Mapping[str, Any] | None = None
    after: Mapping[str, Any] | None = None
    address: str | None = None
    user_agent: str | None = None
    request_id: str | None = None


def append(conn: Connection[Any], entry: Entry) -> int:
    """Add a row in the caller's transaction and return its number: it is there exactly if the change is.

    Writers take turns by the lock of one row, which is held until the transaction ends: let this be its last statement.
    """
    query = """
        SELECT audit_append(%(tenant_id)s, %(actor_kind)s, %(actor_id)s, %(actor_name)s, %(action)s, %(entity_type)s,
                            %(entity_id)s, %(before)s, %(after)s, %(address)s, %(user_agent)s, %(request_id)s)
    """
    parameters = {
        "tenant_id": entry.tenant_id,
        "actor_kind": entry.actor_kind.value,
        "actor_id": entry.actor_id,
        "actor_name": entry.actor_name,
        "action": entry.action,
        "entity_type": entry.entity_type,
        "entity_id": entry.entity_id,
        "before": None if entry.before is None else Jsonb(dict(entry.before)),
        "after": None if entry.after is None else Jsonb(dict(entry.after)),
        "address": entry.address,
        "user_agent": entry.user_agent,
        "request_id": entry.request_id,
    }
    return int(conn.execute(query, parameters).fetchall()[0][0])


@dataclass(frozen=True, slots=True)
class Noted:
    """A row of the log."""

    seq: int
    at: datetime
    tenant_id: str
    actor_kind: str
    actor_id: str
    actor_name: str
    action: str
    entity_type: str
    entity_id: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    address: str | None
    user_agent: str | None
    request_id: str | None
    hash: bytes


@dataclass(frozen=True, slots=True)
class Filter:
    """Which rows to list; None means any. `before` is the number of the last row of the page before."""

    tenant_id: str
    of_no_tenant: bool = False  # those that belong to no tenant as well
    action: str | None = None
    actor_id: str | None = None
    entity_type: str | None = None
    entity_id: str | None = None
    since: datetime | None = None  # inclusive
    until: datetime | None = None  # exclusive
    before: int | None = None


_COLUMNS: Final[LiteralString] = """seq, at, tenant_id, actor_kind, actor_id, actor_name, action, entity_type,
    entity_id, before, after, address, user_agent, request_id, hash"""
_FITS: Final[LiteralString] = """
       (%(action)s::text IS NULL OR action = %(action)s)
   AND (%(actor_id)s::text IS NULL OR actor_id = %(actor_id)s)
   AND (%(entity_type)s::text IS NULL OR entity_type = %(entity_type)s)
   AND (%(entity_id)s::text IS NULL OR entity_id = %(entity_id)s)
   AND (%(since)s::timestamptz IS NULL OR at >= %(since)s)
   AND (%(until)s::timestamptz IS NULL OR at < %(until)s)
   AND (%(before)s::bigint IS NULL OR seq < %(before)s)
 ORDER BY seq DESC LIMIT %(limit)s
"""


def list_page(conn: Connection[Any], where: Filter, *, limit: int) -> list[Noted]:
    """Return up to `limit` rows that fit, newest first."""
    query: LiteralString = f"SELECT {_COLUMNS} FROM audit_log WHERE tenant_id = %(tenant_id)s AND {_FITS}"
    if where.of_no_tenant:  # apart, so that each half is read by the index, in order
        others = f"SELECT {_COLUMNS} FROM audit_log WHERE tenant_id = '{OF_NO_TENANT}' AND {_FITS}"
        query = f"SELECT * FROM (({query}) UNION ALL ({others})) both_kinds ORDER BY seq DESC LIMIT %(limit)s"
    parameters = {
        "tenant_id": where.tenant_id,
        "action": where.action,
        "actor_id": where.actor_id,
        "entity_type": where.entity_type,
        "entity_id": where.entity_id,
        "since": where.since,
        "until": where.until,
        "before": where.before,
        "limit": limit,
    }
    return conn.cursor(row_factory=class_row(Noted)).execute(query, parameters).fetchall()
