"""Finding what was lost on the way: notifications that wait for a record which Kafka no longer has.

Kafka is a disposable carrier: topics may be deleted, records expire, offsets jump. PostgreSQL still knows what has not
ended, and whatever has stood still for too long with no outbox row is published again. The claim drops what was not
lost after all.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from psycopg import Connection

from shared.db.notifications import APPEND_DEAD_LETTERS
from shared.db.outbox import RECORD_HEADERS, RECORD_KEY


@dataclass(frozen=True, slots=True)
class Chunk:
    """A stretch of the walk by id: where it ended (None: at the end of the table), and what stood still in it."""

    last: UUID | None
    stalled: list[UUID]


def look(conn: Connection[Any], *, after: UUID, before: UUID, limit: int, older_than_s: float) -> Chunk:
    """Look at the next `limit` notifications in (after, before), in order of id.

    Stalled is what has been pending, or failed without a tracked dead letter, for longer than `older_than_s`; what was
    put off waits for its time.
    """
    query = """
        WITH seen AS (
            SELECT id, status, attempt, updated_at FROM notifications
             WHERE id > %(after)s AND id < %(before)s ORDER BY id LIMIT %(limit)s
        )
        SELECT id, updated_at < now() - %(older_than_s)s * interval '1 second'
               AND (status = 'pending' AND NOT EXISTS (SELECT FROM outbox_due u WHERE u.notification_id = seen.id)
                    OR status = 'failed' AND NOT EXISTS (
                    SELECT FROM dlq_messages d WHERE d.notification_id = seen.id AND d.attempt >= seen.attempt))
          FROM seen ORDER BY id
    """
    parameters = {"after": after, "before": before, "limit": limit, "older_than_s": older_than_s}
    rows = conn.execute(query, parameters).fetchall()
    return Chunk(rows[-1][0] if len(rows) == limit else None, [row[0] for row in rows if row[1]])


def publish_again(conn: Connection[Any], ids: Sequence[UUID], *, dlq_topic: str) -> int:
    """Append an outbox row for each of `ids` that is still pending, or failed and untracked, and has none.

    Those of one ordering key go out in its order; one that was passed over and has others before it waits for them.
    Returns how many. A record that was not lost after all makes this a duplicate, which the claim or the tracker drops.
    """
    query = f"""
        WITH stalled AS (
            SELECT n.*, q.seq FROM notifications n LEFT JOIN ordering_queue q ON q.notification_id = n.id
             WHERE n.id = ANY(%(ids)s::uuid[]) AND n.status IN ('pending', 'failed')
               AND NOT (coalesce(q.passed, false) AND EXISTS (
                   SELECT FROM ordering_queue e
                    WHERE e.tenant_id = q.tenant_id AND e.ordering_key = q.ordering_key AND e.seq < q.seq))
               AND pg_current_xact_id() IS NOT NULL  -- the xid exists before nextval, as the relay's gaps demand
               AND NOT EXISTS (SELECT FROM outbox o WHERE o.notification_id = n.id)
        ), moved AS (
            SELECT * FROM stalled n WHERE n.status = 'failed' AND NOT EXISTS (
                SELECT FROM dlq_messages d WHERE d.notification_id = n.id AND d.attempt >= n.attempt)
        ), ended AS (
            SELECT n.id AS notification_id, coalesce(a.outcome, 'unknown') AS outcome,
                   coalesce(a.reason, 'attempt_gone') AS reason, a.detail, a.destination,
                   NULL::float8 AS retry_after_s, NULL::text AS topic, NULL::int AS partition, NULL::bigint AS "offset"
              FROM moved n LEFT JOIN delivery_attempts a ON a.notification_id = n.id AND a.attempt = n.attempt
        ), pending AS (
            INSERT INTO outbox (notification_id, bucket, topic, key, value, headers)
            SELECT n.id, n.bucket, n.topic, {RECORD_KEY}, n.record, jsonb_strip_nulls({RECORD_HEADERS})
              FROM stalled n WHERE n.status = 'pending' ORDER BY n.seq, n.id
            RETURNING 1
        ), dead AS ({APPEND_DEAD_LETTERS} RETURNING 1)
        SELECT (SELECT count(*) FROM pending) + (SELECT count(*) FROM dead)
    """
    row = conn.execute(query, {"ids": list(ids), "dlq_topic": dlq_topic}).fetchone()
    return int(row[0]) if row else 0
