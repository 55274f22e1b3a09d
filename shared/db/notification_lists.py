"""Reading notifications: one, or a page of them."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, LiteralString
from uuid import UUID

from psycopg import Connection
from psycopg.rows import class_row

from shared.model import Channel, Status


@dataclass(frozen=True, slots=True)
class Summary:
    """A notification as it stands, without its content."""

    id: UUID
    tenant_id: str
    channel: str
    recipient: str
    priority: str
    ordering_key: str | None
    on_unknown: str
    status: str
    attempt: int
    scheduled_for: datetime | None
    expires_at: datetime | None
    created_at: datetime
    updated_at: datetime
    correlation_id: str | None
    traceparent: str | None


@dataclass(frozen=True, slots=True)
class Notification(Summary):
    """A notification with its content."""

    record: bytes


_SUMMARY: Final[LiteralString] = """id, tenant_id, channel, recipient, priority, ordering_key, on_unknown, status,
    attempt, scheduled_for, expires_at, created_at, updated_at, correlation_id, traceparent"""


def find(conn: Connection[Any], notification_id: UUID, *, tenant_id: str) -> Notification | None:
    """Return one notification of a tenant; None where it has no such id."""
    query = f"SELECT {_SUMMARY}, record FROM notifications WHERE id = %(id)s AND tenant_id = %(tenant_id)s"
    parameters = {"id": notification_id, "tenant_id": tenant_id}
    return conn.cursor(row_factory=class_row(Notification)).execute(query, parameters).fetchone()


@dataclass(frozen=True, slots=True)
class Held:
    """The suppression that a notification is held for, and its reason."""

    id: UUID
    reason: str


def held_for(conn: Connection[Any], notification_id: UUID) -> Held | None:
    """Return what a suppressed notification waits for; None where it does not wait, or no longer."""
    query = """
        SELECT s.id, s.reason FROM outbox_held h JOIN suppressions s ON s.id = h.suppression_id
         WHERE h.notification_id = %s
    """
    return conn.cursor(row_factory=class_row(Held)).execute(query, (notification_id,)).fetchone()


@dataclass(frozen=True, slots=True)
class Filter:
    """Which notifications to list; None means any. `low` and `high` bound the id, whose first bits are its time."""

    tenant_id: str
    status: Status | None = None
    channel: Channel | None = None
    recipient: str | None = None
    low: UUID | None = None  # inclusive
    high: UUID | None = None  # exclusive; a cursor lowers it


@dataclass(frozen=True, slots=True)
class Listed:
    """A page, newest first; `next_before` is the next page's `high`, None where nothing is left to look at."""

    notifications: list[Summary]
    next_before: UUID | None


def list_page(conn: Connection[Any], where: Filter, *, limit: int, look_at: int = 20_000) -> Listed:
    """Return up to `limit` notifications that fit, having looked at no more than about `look_at` rows.

    No index names status, so a rare status may leave a page short, or empty, with more to come: the bound keeps each
    call cheap. Records, which may be large, are not read. Failed ones are found by their dead letters, scheduled ones
    by outbox_due, whatever the table's size.
    """
    parameters = {
        "tenant_id": where.tenant_id,
        "status": where.status,
        "channel": where.channel,
        "recipient": where.recipient,
        "low": where.low or UUID(int=0),
        "high": where.high or UUID(int=2**128 - 1),
        "limit": limit,
        "look_at": look_at,
    }
    candidates = _candidates(where)
    query = f"""
        SELECT {_SUMMARY} FROM ({candidates} LIMIT %(look_at)s) seen
         WHERE (%(status)s::text IS NULL OR status = %(status)s)
           AND (%(channel)s::text IS NULL OR channel = %(channel)s)
         LIMIT %(limit)s
    """
    rows = conn.cursor(row_factory=class_row(Summary)).execute(query, parameters).fetchall()
    if len(rows) == limit:
        return Listed(rows, rows[-1].id)
    last = conn.execute(f"SELECT id FROM ({candidates} OFFSET %(look_at)s - 1 LIMIT 1) seen", parameters).fetchone()
    return Listed(rows, last[0] if last else None)


def _candidates(where: Filter) -> LiteralString:
    bounds: LiteralString = "n.tenant_id = %(tenant_id)s AND n.id >= %(low)s AND n.id < %(high)s"
    if where.recipient is not None:
        bounds = "n.recipient = %(recipient)s AND " + bounds
    if where.status is Status.FAILED:
        bounds += " AND n.id IN (SELECT notification_id FROM dlq_messages WHERE tenant_id = %(tenant_id)s)"
    elif where.status is Status.SCHEDULED:
        bounds += " AND n.id IN (SELECT notification_id FROM outbox_due WHERE tenant_id = %(tenant_id)s)"
    return "SELECT * FROM notifications n WHERE " + bounds + " ORDER BY n.id DESC"
