"""The suppressions table: recipients nothing is sent to, and what is held for them until a person lifts it.

The write-back adds what receivers ask for, the claim holds back: see shared.db.notifications.
"""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, LiteralString
from uuid import UUID

from psycopg import Connection
from psycopg.rows import class_row

from shared.db.outbox import APPEND_PENDING, ENTER_QUEUE
from shared.model import Channel


@dataclass(frozen=True, slots=True)
class Suppression:
    """A suppression as it stands. `lifted_at` None: it is active."""

    id: UUID
    tenant_id: str
    channel: str
    recipient: str
    reason: str
    detail: str | None
    notification_id: UUID | None
    created_by: str
    created_at: datetime
    lifted_at: datetime | None
    lifted_by: str | None
    changed: bool = field(default=False, compare=False)  # whether the call that returned it has changed it

    @property
    def active(self) -> bool:
        """Say whether it holds anything back."""
        return self.lifted_at is None


@dataclass(frozen=True, slots=True)
class Filter:
    """Which suppressions to list; None means any. `before` is (created_at, id) of the last row of the page before."""

    tenant_id: str
    channel: Channel | None = None
    recipient: str | None = None
    reason: str | None = None
    active: bool | None = None
    before: tuple[datetime, UUID] | None = None


DELETED_FOR_S: Final = 20.0
"""What a consumer knows of an endpoint is five seconds old at most; the rest is for a delete that commits late."""

_COLUMNS: Final[LiteralString] = """id, tenant_id, channel, recipient, reason, detail, notification_id, created_by,
    created_at, lifted_at, lifted_by"""


def add(
    conn: Connection[Any], *, tenant_id: str, channel: Channel, recipient: str, by: str, detail: str | None = None
) -> Suppression:
    """Suppress a recipient at a person's word and return the row; one that is active already is left as it is.

    A lifted one is active again under its old id, as of now. Attempts that have begun are not called back.
    """
    query = f"""
        INSERT INTO suppressions AS s (tenant_id, channel, recipient, reason, detail, created_by)
        VALUES (%(tenant_id)s, %(channel)s, %(recipient)s, 'manual', %(detail)s, %(by)s)
        ON CONFLICT (tenant_id, channel, recipient) DO UPDATE
           SET (reason, detail, notification_id, created_by, created_at, lifted_at, lifted_by) = (
               SELECT r.* FROM (
                   SELECT s.reason, s.detail, s.notification_id, s.created_by, s.created_at, s.lifted_at, s.lifted_by
                    WHERE s.lifted_at IS NULL
                    UNION ALL
                   SELECT EXCLUDED.reason, EXCLUDED.detail, NULL, EXCLUDED.created_by, EXCLUDED.created_at, NULL, NULL
                    WHERE s.lifted_at IS NOT NULL) r)
        RETURNING {_COLUMNS}, created_at = now() AS changed
    """
    parameters = {"tenant_id": tenant_id, "channel": channel.value, "recipient": recipient, "detail": detail, "by": by}
    return conn.cursor(row_factory=class_row(Suppression)).execute(query, parameters).fetchall()[0]


def lift(conn: Connection[Any], suppression_id: UUID, *, tenant_id: str, by: str) -> Suppression | None:
    """Lift a suppression and return it; lifting it again changes nothing; None where the tenant has no such id.

    What was held for it goes on by and by: see resume_held.
    """
    query = f"""
        UPDATE suppressions SET lifted_at = coalesce(lifted_at, now()), lifted_by = coalesce(lifted_by, %(by)s)
         WHERE id = %(id)s AND tenant_id = %(tenant_id)s RETURNING {_COLUMNS}, lifted_at = now() AS changed
    """
    parameters = {"id": suppression_id, "tenant_id": tenant_id, "by": by}
    return conn.cursor(row_factory=class_row(Suppression)).execute(query, parameters).fetchone()


def find(conn: Connection[Any], suppression_id: UUID, *, tenant_id: str) -> Suppression | None:
    """Return one suppression of a tenant; None where it has no such id."""
    query = f"SELECT {_COLUMNS} FROM suppressions WHERE id = %(id)s AND tenant_id = %(tenant_id)s"
    parameters = {"id": suppression_id, "tenant_id": tenant_id}
    return conn.cursor(row_factory=class_row(Suppression)).execute(query, parameters).fetchone()


def list_page(conn: Connection[Any], where: Filter, *, limit: int) -> list[Suppression]:
    """Return up to `limit` suppressions that fit, newest first by (created_at, id)."""
    query = f"""
        SELECT {_COLUMNS} FROM suppressions
         WHERE tenant_id = %(tenant_id)s
           AND (%(channel)s::text IS NULL OR channel = %(channel)s)
           AND (%(recipient)s::text IS NULL OR recipient = %(recipient)s)
           AND (%(reason)s::text IS NULL OR reason = %(reason)s)
           AND (%(active)s::bool IS NULL OR (lifted_at IS NULL) = %(active)s)
           AND (%(before_at)s::timestamptz IS NULL OR (created_at, id) < (%(before_at)s, %(before_id)s::uuid))
         ORDER BY created_at DESC, id DESC LIMIT %(limit)s
    """
    before_at, before_id = where.before or (None, None)
    parameters = {
        "tenant_id": where.tenant_id,
        "channel": where.channel and where.channel.value,
        "recipient": where.recipient,
        "reason": where.reason,
        "active": where.active,
        "before_at": before_at,
        "before_id": before_id,
        "limit": limit,
    }
    return conn.cursor(row_factory=class_row(Suppression)).execute(query, parameters).fetchall()


def held_count(conn: Connection[Any], suppression_id: UUID, *, at_most: int) -> int:
    """Return how many notifications are held for a suppression; counting ends at `at_most`.

    What was cancelled since keeps its row until the suppression is lifted, and is not counted. Four times as many rows
    are looked at as are counted at most, so that many cancelled ones cannot make this a long walk.
    """
    query = """
        SELECT count(*) FROM (
            SELECT FROM (SELECT notification_id FROM outbox_held WHERE suppression_id = %(id)s
                          LIMIT %(at_most)s::bigint * 4) h
              JOIN notifications n ON n.id = h.notification_id AND n.status = 'suppressed' LIMIT %(at_most)s) held
    """
    return int(conn.execute(query, {"id": suppression_id, "at_most": at_most}).fetchall()[0][0])


def lift_deleted(conn: Connection[Any], *, limit: int) -> int:
    """Lift the suppressions of endpoints that were deleted DELETED_FOR_S ago; return how many.

    What was held goes on then, and fails as `endpoint_deleted`: by now every consumer knows. One that a 410 made after
    the delete ends here too. Safe to repeat; rows another session holds are skipped.
    """
    query = """
        UPDATE suppressions SET lifted_at = now(), lifted_by = 'outbox_relay'
         WHERE id IN (
               SELECT s.id FROM suppressions s
                 JOIN endpoints e ON e.tenant_id = s.tenant_id AND e.id =
                      CASE WHEN s.recipient ~ '^ep_[0-9a-f]{32}$' THEN substr(s.recipient, 4)::uuid END
                WHERE s.lifted_at IS NULL AND s.channel = 'webhook' AND starts_with(s.recipient, 'ep_')
                  AND e.deleted_at < now() - %(deleted_for_s)s * interval '1 second'
                LIMIT %(limit)s FOR UPDATE OF s SKIP LOCKED)
    """
    return conn.execute(query, {"deleted_for_s": DELETED_FOR_S, "limit": limit}).rowcount


def resume_held(conn: Connection[Any], *, limit: int) -> int:
    """Publish held notifications whose suppression is lifted, in the order accepted; return how many were let go.

    Suppressed to pending of the same attempt, which was never begun, with its outbox row, and the dead letter of a
    retry is retrying again: one statement, safe to repeat. Rows another session holds are skipped. What is held for
    active suppressions costs nothing: the look goes by those that are lifted. The range of one id is an `=` that
    leaves PostgreSQL the one index: where most rows are held for one suppression it would walk all of them by the
    other for each that is lifted.
    """
    query = f"""
        WITH free AS (
            DELETE FROM outbox_held WHERE notification_id IN (
                SELECT h.notification_id FROM suppressions s CROSS JOIN LATERAL (
                    SELECT notification_id FROM outbox_held WHERE suppression_id BETWEEN s.id AND s.id
                     ORDER BY suppression_id, notification_id LIMIT %(limit)s FOR UPDATE SKIP LOCKED) h
                 WHERE s.lifted_at IS NOT NULL ORDER BY h.notification_id LIMIT %(limit)s)
            RETURNING notification_id
        ), moved AS (
            UPDATE notifications n SET status = 'pending', updated_at = now()
              FROM free WHERE n.id = free.notification_id AND n.status = 'suppressed'
            RETURNING n.*
        ), retrying AS (
            UPDATE dlq_messages d SET status = 'retrying', resolution = NULL, resolved_at = NULL
              FROM moved WHERE d.notification_id = moved.id AND d.resolution = 'suppressed'
        ), queued AS ({ENTER_QUEUE} ORDER BY n.id
        ), published AS ({APPEND_PENDING} ORDER BY n.id)
        SELECT count(*) FROM free
    """
    return int(conn.execute(query, {"limit": limit}).fetchall()[0][0])
