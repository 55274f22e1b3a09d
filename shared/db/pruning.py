"""Retention: notifications that ended long ago are deleted with all that belongs to them, and stay counted.

What is deleted is added to the ledger's books in the same transaction (shared/db/ledger.py says how they add up).
"""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from psycopg import Connection

from shared.db.ledger import AUDIT_LOCK


@dataclass(frozen=True, slots=True)
class Pruned:
    """What a chunk did: how many notifications it deleted, and where it ended (None: at the end of the walk)."""

    rows: int
    last: UUID | None


def prune(conn: Connection[Any], *, after: UUID, before: UUID, older_than_s: float, limit: int) -> Pruned:
    """Look at the next `limit` notifications of (after, before), in order of id, and delete those that may go.

    That is what ended, by `updated_at`, longer than `older_than_s` ago: sent, cancelled or expired; failed once its
    dead letter is resolved. Never what is live or may be again: held for a suppression, a dead letter that waits for a
    retry or a person, an open attempt, an outbox row; nor what a bulk retry still counts. Never one that was accepted
    within the idempotency window: as long as a key of its hour, or an older one, is stored, a repeat could still be
    answered with its id.
    `before` comes from another clock than `older_than_s` is measured by, so neither alone can make the young look old.
    One transaction, on an autocommit connection; rows another session holds are skipped, and all are while a run of
    the ledger is under way.
    """
    query = """
        WITH mark AS (
            SELECT coalesce((SELECT mark FROM audit_marks), '00000000-0000-0000-0000-000000000000') AS mark,
                   coalesce((SELECT min(created_at) FROM idempotency_keys), 'infinity') AS first_key
        ), seen AS (
            SELECT id FROM notifications WHERE id > %(after)s AND id < %(before)s ORDER BY id LIMIT %(limit)s
        ), doomed AS (
            SELECT n.id, n.status, n.id <= mark.mark AS behind FROM mark, seen JOIN notifications n USING (id)
             WHERE n.updated_at < now() - %(older_than_s)s * interval '1 second'
               AND n.created_at < mark.first_key - interval '1 hour'
               AND (n.status IN ('sent', 'cancelled', 'expired') OR n.status = 'failed' AND EXISTS (
                    SELECT FROM dlq_messages d WHERE d.notification_id = n.id AND d.status = 'resolved'))
               AND NOT EXISTS (SELECT FROM dlq_messages d WHERE d.notification_id = n.id AND d.status <> 'resolved')
               AND NOT EXISTS (SELECT FROM dlq_messages d JOIN dlq_actions a ON a.dead_letter_id = d.id
                                 JOIN dlq_retries r ON r.id = a.retry_id
                                WHERE d.notification_id = n.id
                                  AND (r.finished_at IS NULL OR r.sent + r.failed + r.ended_otherwise < r.retried))
               AND NOT EXISTS (SELECT FROM delivery_attempts a WHERE a.notification_id = n.id AND a.outcome = 'begun')
               AND NOT EXISTS (SELECT FROM outbox o WHERE o.notification_id = n.id)
               FOR UPDATE OF n SKIP LOCKED
        ), gone AS (
            DELETE FROM notifications n USING doomed WHERE n.id = doomed.id
        ), attempts AS (
            DELETE FROM delivery_attempts a USING doomed WHERE a.notification_id = doomed.id
        ), letters AS (
            DELETE FROM dlq_messages d USING doomed WHERE d.notification_id = doomed.id RETURNING d.id
        ), actions AS (
            DELETE FROM dlq_actions a USING letters WHERE a.dead_letter_id = letters.id
        ), waits AS (
            DELETE FROM outbox_due u USING doomed WHERE u.notification_id = doomed.id
        ), holds AS (
            DELETE FROM outbox_held h USING doomed WHERE h.notification_id = doomed.id
        ), refused AS (
            DELETE FROM outbox_dead r USING doomed WHERE r.notification_id = doomed.id
        ), listed AS (
            DELETE FROM audit_open o USING doomed WHERE o.notification_id = doomed.id RETURNING o.notification_id
        ), booked AS (
            INSERT INTO audit_books (status, settled, pruned, ahead)
            SELECT d.status, count(l.notification_id), count(*) FILTER (WHERE d.behind),
                   count(*) FILTER (WHERE NOT d.behind)
              FROM doomed d LEFT JOIN listed l ON l.notification_id = d.id GROUP BY d.status
            ON CONFLICT (status) DO UPDATE
               SET settled = audit_books.settled + EXCLUDED.settled, pruned = audit_books.pruned + EXCLUDED.pruned,
                   ahead = audit_books.ahead + EXCLUDED.ahead
        )
        SELECT (SELECT count(*) FROM doomed), (SELECT count(*) FROM seen), (SELECT max(id::text)::uuid FROM seen)
    """
    parameters = {"after": after, "before": before, "older_than_s": older_than_s, "limit": limit}
    with conn.transaction():
        if not conn.execute("SELECT pg_try_advisory_xact_lock(%s)", (AUDIT_LOCK,)).fetchall()[0][0]:
            return Pruned(0, after)
        rows, seen, last = conn.execute(query, parameters).fetchall()[0]
    return Pruned(rows, last if seen == limit else None)


def prune_undecodable(conn: Connection[Any], *, older_than_s: float, limit: int) -> int:
    """Delete dead letters that belong to no notification and were resolved longer ago; return how many."""
    query = """
        WITH letters AS (
            DELETE FROM dlq_messages WHERE id IN (
                SELECT id FROM dlq_messages
                 WHERE notification_id IS NULL AND status = 'resolved'
                   AND resolved_at < now() - %(older_than_s)s * interval '1 second'
                 LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
            RETURNING id
        ), actions AS (
            DELETE FROM dlq_actions a USING letters WHERE a.dead_letter_id = letters.id
        )
        SELECT count(*) FROM letters
    """
    return int(conn.execute(query, {"older_than_s": older_than_s, "limit": limit}).fetchall()[0][0])
