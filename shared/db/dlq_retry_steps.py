"""The steps of bulk retries. Each is one statement that locks its dlq_retries row, so any number of executors may run.

All state is in the row: an executor that dies between two steps leaves nothing behind, another one goes on.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, LiteralString
from uuid import UUID

from psycopg import Connection
from psycopg.rows import class_row, scalar_row

from shared.db.dlq_retries import CAN_BE_SENT, FITS
from shared.db.outbox import APPEND_PENDING


def open_ids(conn: Connection[Any]) -> Sequence[UUID]:
    """Return the bulk retries that have something left to publish or to count, the oldest first."""
    query = """
        SELECT id FROM dlq_retries
         WHERE finished_at IS NULL OR sent + failed + ended_otherwise < retried ORDER BY created_at
    """
    return conn.cursor(row_factory=scalar_row).execute(query).fetchall()


def settle(conn: Connection[Any], retry_id: UUID) -> str | None:
    """Count what has ended since the last look, and draw the conclusion; return the status if that changed it.

    A canary that failed stops the retry. Once enough canaries have been sent it runs; where some ended otherwise
    (cancelled, expired), as many others go first in their place. It is done when nothing is left and all have ended.
    """
    query = """
        WITH turn AS (
            SELECT * FROM dlq_retries WHERE id = %(id)s FOR UPDATE SKIP LOCKED
        ), ended AS (
            UPDATE dlq_actions a SET outcome = CASE WHEN d.attempt >= a.attempt THEN 'failed' ELSE d.resolution END
              FROM turn, dlq_messages d
             WHERE a.retry_id = turn.id AND a.outcome IS NULL AND d.id = a.dead_letter_id
               AND (d.attempt >= a.attempt OR d.status = 'resolved')
            RETURNING a.outcome
        ), counted AS (
            SELECT turn.*, e.sent_now, e.failed_now, e.all_now,
                   turn.failed + e.failed_now AS failed_so_far, turn.sent + e.sent_now AS sent_so_far,
                   turn.retried - turn.sent - turn.failed - turn.ended_otherwise - e.all_now AS under_way
              FROM turn, (SELECT count(*) FILTER (WHERE outcome = 'sent') AS sent_now,
                                 count(*) FILTER (WHERE outcome = 'failed') AS failed_now, count(*) AS all_now
                            FROM ended) e
        ), concluded AS (
            SELECT *, CASE
                WHEN finished_at IS NOT NULL THEN status
                WHEN status IN ('canary', 'waiting') AND failed_so_far > 0 THEN 'stopped'
                WHEN exhausted AND under_way = 0 THEN 'done'
                WHEN status = 'waiting' AND under_way = 0 AND NOT exhausted
                     THEN CASE WHEN sent_so_far >= canary THEN 'running' ELSE 'canary' END
                ELSE status END AS concluded
              FROM counted
        )
        UPDATE dlq_retries r
           SET sent = r.sent + c.sent_now, failed = r.failed + c.failed_now,
               ended_otherwise = r.ended_otherwise + c.all_now - c.sent_now - c.failed_now, status = c.concluded,
               stop_reason = CASE WHEN c.concluded = 'stopped' THEN coalesce(r.stop_reason, 'canary_failed') END,
               finished_at = CASE WHEN c.concluded IN ('done', 'stopped', 'cancelled')
                                  THEN coalesce(r.finished_at, now()) END,
               next_at = CASE WHEN c.concluded = c.status THEN r.next_at ELSE greatest(r.next_at, now()) END
          FROM concluded c WHERE r.id = c.id AND (c.all_now > 0 OR c.concluded <> c.status)
        RETURNING CASE WHEN c.concluded <> c.status THEN c.concluded END
    """
    rows = conn.cursor(row_factory=scalar_row).execute(query, {"id": retry_id}).fetchall()
    return rows[0] if rows else None


@dataclass(frozen=True, slots=True)
class Sent:
    """What one step published, by failure class. `looked`: it was this executor's turn, and something was due."""

    retried: int = 0
    by_failure_class: dict[str, int] | None = None
    looked: bool = False


_TURN: Final[LiteralString] = """
    SELECT *, CASE status WHEN 'canary' THEN least(allowed, greatest(canary + ended_otherwise - retried, 1))
                          ELSE allowed END AS take
      FROM (
        SELECT r.*, least(floor(extract(epoch FROM now() - r.next_at)::float8 * r.rate_per_s) + 1,
                          greatest(floor(r.rate_per_s), 1))::int AS allowed,
               extract(epoch FROM now() - r.next_at)::float8 * r.rate_per_s >= greatest(floor(r.rate_per_s), 1)
                   AS was_paused
          FROM dlq_retries r
         WHERE r.id = %(id)s AND r.status IN ('canary', 'running') AND NOT r.exhausted AND r.next_at <= now()
           FOR UPDATE SKIP LOCKED
      ) r
"""
"""Whose turn it is and how many letters may go: the rate since next_at, but no more than one second's worth."""


def send(conn: Connection[Any], retry_id: UUID) -> Sent:
    """Publish again what the rate allows by now, and the canary; return what was published.

    Letters are taken in the order of their last failure. One that somebody else holds is passed over and looked for
    again at the end; one whose notification has moved on rests for a person. A second's worth is the most that goes at
    once, however long nobody came by.
    """
    query = f"""
        WITH turn AS ({_TURN}), due AS (
            SELECT d.* FROM turn r CROSS JOIN LATERAL (
                SELECT d.id, d.notification_id, d.attempt, d.failure_class, d.last_failed_at FROM dlq_messages d
                 WHERE {FITS} AND {CAN_BE_SENT} AND (d.last_failed_at, d.id) > (r.after_at, r.after_id)
                 ORDER BY d.last_failed_at, d.id LIMIT r.take FOR UPDATE OF d SKIP LOCKED) d
        ), moved AS (
            UPDATE notifications n SET status = 'pending', attempt = n.attempt + 1, updated_at = now()
              FROM due WHERE n.id = due.notification_id AND n.status = 'failed' AND n.attempt = due.attempt
            RETURNING n.*
        ), marked AS (
            UPDATE dlq_messages d
               SET status = CASE WHEN moved.id IS NULL THEN 'failed' ELSE 'retrying' END, retry_at = NULL,
                   retry_count = d.retry_count + CASE WHEN moved.id IS NULL THEN 0 ELSE 1 END,
                   rest_reason = CASE WHEN moved.id IS NULL THEN 'notification_moved_on' END,
                   retry_id = CASE WHEN moved.id IS NULL THEN d.retry_id ELSE turn.id END
              FROM turn, due LEFT JOIN moved ON moved.id = due.notification_id WHERE d.id = due.id
        ), noted AS (
            INSERT INTO dlq_actions (dead_letter_id, action, by, note, retry_id, attempt)
            SELECT due.id, 'retried_by_filter', turn.by, turn.note, turn.id, moved.attempt
              FROM turn, due JOIN moved ON moved.id = due.notification_id
        ), published AS ({APPEND_PENDING}), counted AS (
            SELECT (SELECT count(*) FROM due) AS found, (SELECT count(*) FROM moved) AS retried,
                   (SELECT jsonb_object_agg(failure_class, letters) FROM (
                        SELECT due.failure_class, count(*) AS letters
                          FROM due JOIN moved ON moved.id = due.notification_id GROUP BY 1) c) AS by_failure_class,
                   (SELECT last_failed_at FROM due ORDER BY last_failed_at DESC, id DESC LIMIT 1) AS last_at,
                   (SELECT id FROM due ORDER BY last_failed_at DESC, id DESC LIMIT 1) AS last_id
        ), left_over AS (
            SELECT c.*, turn.id, turn.take, turn.was_paused, turn.status, turn.canary,
                   c.found = 0 AND turn.after_at = '-infinity' AND NOT EXISTS (
                       SELECT FROM turn r JOIN dlq_messages d ON {FITS} AND {CAN_BE_SENT}) AS is_exhausted
              FROM turn, counted c
        )
        UPDATE dlq_retries r
           SET retried = r.retried + l.retried, exhausted = l.is_exhausted,
               after_at = CASE WHEN l.found < l.take THEN '-infinity' ELSE l.last_at END,
               after_id = CASE WHEN l.found < l.take THEN '00000000-0000-0000-0000-000000000000' ELSE l.last_id END,
               status = CASE WHEN l.status = 'canary' AND (
                                 l.is_exhausted OR r.retried + l.retried - r.ended_otherwise >= r.canary)
                             THEN 'waiting' ELSE r.status END,
               next_at = CASE WHEN l.found = 0 AND r.after_at = '-infinity' THEN now() + interval '1 second'
                              WHEN l.found = 0 THEN r.next_at
                              WHEN l.was_paused THEN now() + interval '1 second' / r.rate_per_s
                              ELSE r.next_at + l.found * interval '1 second' / r.rate_per_s END
          FROM left_over l WHERE r.id = l.id
        RETURNING l.retried, l.by_failure_class, true AS looked
    """
    rows = conn.cursor(row_factory=class_row(Sent)).execute(query, {"id": retry_id}).fetchall()
    return rows[0] if rows else Sent()
