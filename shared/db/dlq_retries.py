"""The dlq_retries table, for whoever asks: bulk retries previewed, created, shown, cancelled. See dlq_retry_steps."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, LiteralString
from uuid import UUID

from psycopg import Connection
from psycopg.rows import class_row

from shared.db.dlq_actions import Done

FITS: Final[LiteralString] = """
        d.tenant_id = r.tenant_id AND d.status = 'failed' AND d.last_failed_at < r.created_at
    AND (r.failure_class IS NULL OR d.failure_class = r.failure_class)
    AND (r.channel IS NULL OR d.channel = r.channel)
    AND (r.fingerprint IS NULL OR d.fingerprint = r.fingerprint)
    AND (r.reason IS NULL OR d.reason = r.reason)
    AND (r.destination IS NULL OR d.destination = r.destination)
    AND (r.failed_from IS NULL OR d.last_failed_at >= r.failed_from)
    AND (r.failed_to IS NULL OR d.last_failed_at < r.failed_to)
"""
"""Whether a dlq_messages row d fits a dlq_retries row r."""

CAN_BE_SENT: Final[LiteralString] = """
    d.notification_id IS NOT NULL AND d.rest_reason IS DISTINCT FROM 'notification_moved_on'
"""
"""Whether it can be sent again: bytes that nobody can decode name no notification."""

_WANTED: Final[LiteralString] = """
    SELECT %(tenant_id)s::text AS tenant_id, %(failure_class)s::text AS failure_class, %(channel)s::text AS channel,
           %(fingerprint)s::text AS fingerprint, %(reason)s::text AS reason, %(destination)s::text AS destination,
           %(failed_from)s::timestamptz AS failed_from, %(failed_to)s::timestamptz AS failed_to, now() AS created_at
"""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which failed dead letters of a tenant; None means any. From and to are about the last failure."""

    tenant_id: str
    failure_class: str | None = None
    channel: str | None = None
    fingerprint: str | None = None
    reason: str | None = None
    destination: str | None = None
    failed_from: datetime | None = None
    failed_to: datetime | None = None

    def parameters(self) -> dict[str, Any]:
        """Return the parameters of a statement."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class Preview:
    """What a bulk retry would take, with its first letters and largest causes, and what it could not."""

    matched: int
    cannot_be_sent: int
    dead_letter_ids: list[UUID]
    groups: list[dict[str, Any]]  # fingerprint, count


def preview(conn: Connection[Any], selection: Selection, *, shown: int) -> Preview:
    """Return what a bulk retry created now would take, and change nothing. One statement, so all of one moment."""
    query = f"""
        WITH fits AS MATERIALIZED (
            SELECT d.id, d.fingerprint, d.last_failed_at, {CAN_BE_SENT} AS can_be_sent
              FROM ({_WANTED}) r JOIN dlq_messages d ON {FITS}
        )
        SELECT count(*) FILTER (WHERE can_be_sent) AS matched,
               count(*) FILTER (WHERE NOT can_be_sent) AS cannot_be_sent,
               ARRAY(SELECT id FROM fits WHERE can_be_sent ORDER BY last_failed_at, id LIMIT %(shown)s)
                   AS dead_letter_ids,
               (SELECT coalesce(jsonb_agg(to_jsonb(g) ORDER BY g.count DESC, g.fingerprint), '[]') FROM (
                    SELECT fingerprint, count(*) AS count FROM fits WHERE can_be_sent
                     GROUP BY fingerprint ORDER BY 2 DESC, 1 LIMIT %(shown)s) g) AS groups
          FROM fits
    """
    parameters = selection.parameters() | {"shown": shown}
    return conn.cursor(row_factory=class_row(Preview)).execute(query, parameters).fetchall()[0]


@dataclass(frozen=True, slots=True)
class NewRetry:
    """A bulk retry as a person asks for it."""

    id: UUID
    selection: Selection
    rate_per_s: float
    canary: int  # how many go first; the others wait for how they end
    by: str
    note: str | None


@dataclass(frozen=True, slots=True)
class Retry:
    """A bulk retry as it stands; the counts are those of the last look, a fraction of a second ago."""

    id: UUID
    status: str
    failure_class: str | None
    channel: str | None
    fingerprint: str | None
    reason: str | None
    destination: str | None
    failed_from: datetime | None
    failed_to: datetime | None
    rate_per_s: float
    canary: int
    by: str
    note: str | None
    matched: int  # when it was created
    retried: int
    sent: int
    failed: int
    ended_otherwise: int
    stop_reason: str | None
    created_at: datetime
    finished_at: datetime | None
    ended_by: str | None
    ended_note: str | None

    @property
    def under_way(self) -> int:
        """Return how many letters were published again and have not ended."""
        return self.retried - self.sent - self.failed - self.ended_otherwise


_COLUMNS: Final[LiteralString] = """id, status, failure_class, channel, fingerprint, reason, destination, failed_from,
    failed_to, rate_per_s, canary, by, note, matched, retried, sent, failed, ended_otherwise, stop_reason, created_at,
    finished_at, ended_by, ended_note"""


def create(conn: Connection[Any], new: NewRetry) -> Retry:
    """Store a bulk retry, for a dlq_consumer to take up; it takes what has failed before this instant."""
    query = f"""
        INSERT INTO dlq_retries (id, tenant_id, status, failure_class, channel, fingerprint, reason, destination,
                                 failed_from, failed_to, rate_per_s, canary, by, note, created_at, matched)
        SELECT %(id)s, r.tenant_id, CASE WHEN %(canary)s::int > 0 THEN 'canary' ELSE 'running' END, r.failure_class,
               r.channel, r.fingerprint, r.reason, r.destination, r.failed_from, r.failed_to, %(rate_per_s)s,
               %(canary)s, %(by)s, %(note)s, r.created_at,
               (SELECT count(*) FROM dlq_messages d WHERE {FITS} AND {CAN_BE_SENT})
          FROM ({_WANTED}) r
        RETURNING {_COLUMNS}
    """
    parameters = new.selection.parameters() | {
        "id": new.id,
        "rate_per_s": new.rate_per_s,
        "canary": new.canary,
        "by": new.by,
        "note": new.note,
    }
    return conn.cursor(row_factory=class_row(Retry)).execute(query, parameters).fetchall()[0]


def find(conn: Connection[Any], retry_id: UUID, *, tenant_id: str) -> Retry | None:
    """Return one bulk retry of a tenant; None where it has no such id."""
    query = f"SELECT {_COLUMNS} FROM dlq_retries WHERE id = %(id)s AND tenant_id = %(tenant_id)s"
    return conn.cursor(row_factory=class_row(Retry)).execute(query, {"id": retry_id, "tenant_id": tenant_id}).fetchone()


def list_page(
    conn: Connection[Any], *, tenant_id: str, status: str | None, before: UUID | None, limit: int
) -> list[Retry]:
    """Return up to `limit` bulk retries of a tenant, newest first by id."""
    query = f"""
        SELECT {_COLUMNS} FROM dlq_retries
         WHERE tenant_id = %(tenant_id)s AND (%(status)s::text IS NULL OR status = %(status)s)
           AND (%(before)s::uuid IS NULL OR id < %(before)s)
         ORDER BY id DESC LIMIT %(limit)s
    """
    parameters = {"tenant_id": tenant_id, "status": status, "before": before, "limit": limit}
    return conn.cursor(row_factory=class_row(Retry)).execute(query, parameters).fetchall()


def cancel(conn: Connection[Any], retry_id: UUID, *, tenant_id: str, by: str, note: str | None) -> Done | None:
    """End a bulk retry before its end; None where neither this call nor an earlier one did.

    After either it publishes nothing more; what is under way goes on and is counted.
    """
    query = """
        UPDATE dlq_retries SET status = 'cancelled', finished_at = now(), ended_by = %(by)s, ended_note = %(note)s
         WHERE id = %(id)s AND tenant_id = %(tenant_id)s AND finished_at IS NULL
    """
    earlier = "SELECT FROM dlq_retries WHERE id = %(id)s AND tenant_id = %(tenant_id)s AND status = 'cancelled'"
    parameters = {"id": retry_id, "tenant_id": tenant_id, "by": by, "note": note}
    if conn.execute(query, parameters).rowcount:
        return Done.NOW
    # A statement of its own, which sees what the one above has waited for.
    return Done.BEFORE if conn.execute(earlier, parameters).rowcount else None
