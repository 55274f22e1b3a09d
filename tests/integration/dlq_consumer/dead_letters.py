"""Many dead letters at once, and the ends of their retries, written as the services would leave them."""

from typing import Any
from uuid import UUID

import psycopg

from shared.db import dlq_retries
from shared.db.dlq_retries import NewRetry, Retry, Selection
from shared.model import uuid7

Conn = psycopg.Connection[Any]


def many_failed(
    conn: Conn,
    count: int,
    *,
    reason: str = "http_503",
    failure_class: str = "transient",
    ago_s: float = 60,
    tenant_id: str = "default",
) -> list[UUID]:
    """Add failed notifications with a dead letter at rest each, a millisecond apart; return the dead letters' ids."""
    query = """
        WITH made AS (
            INSERT INTO notifications (id, tenant_id, channel, recipient, priority, on_unknown, status, created_at,
                                       bucket, topic, record)
            SELECT gen_random_uuid(), %(tenant_id)s, 'webhook', 'https://example.com/h', 'normal', 'retry', 'failed',
                   now(), 1, 'notifications.webhook', '{}' FROM generate_series(1, %(count)s) RETURNING id
        ), numbered AS (SELECT id, row_number() OVER () AS n FROM made)
        INSERT INTO dlq_messages (tenant_id, notification_id, channel, attempt, message_key, original_payload,
                                  failure_class, reason, destination, fingerprint, first_error, error_message,
                                  first_failed_at, last_failed_at, rest_reason)
        SELECT %(tenant_id)s, id, 'webhook', 1, 'k', '{}', %(failure_class)s, %(reason)s, 'https://example.com',
               %(failure_class)s || '|https://example.com|' || %(reason)s, 'busy', 'busy',
               now() - %(ago_s)s * interval '1 second' + n * interval '1 millisecond',
               now() - %(ago_s)s * interval '1 second' + n * interval '1 millisecond', 'retries_used_up'
          FROM numbered RETURNING id, last_failed_at
    """
    parameters = {"count": count, "reason": reason, "failure_class": failure_class, "ago_s": ago_s} | {
        "tenant_id": tenant_id
    }
    return [id_ for id_, _ in sorted(conn.execute(query, parameters).fetchall(), key=lambda row: row[1])]


def asked(conn: Conn, *, rate_per_s: float = 1000, canary: int = 0, **selected: Any) -> Retry:
    """Store a bulk retry; of everything that failed with http_503 unless told otherwise."""
    selection = Selection("default", **(selected or {"reason": "http_503"}))
    return dlq_retries.create(conn, NewRetry(uuid7(), selection, rate_per_s, canary, "ops", None))


def end_retrying(conn: Conn, outcome: str, *, limit: int = 1_000_000) -> int:
    """End what is being retried: `sent`, `failed` (a later attempt was tracked), or another resolution."""
    query = """
        WITH taken AS (
            SELECT * FROM dlq_messages WHERE status = 'retrying' ORDER BY last_failed_at, id LIMIT %(limit)s
        ), moved AS (
            UPDATE notifications n SET status = CASE WHEN %(outcome)s = 'failed' THEN 'failed' ELSE 'sent' END
              FROM taken WHERE n.id = taken.notification_id
        )
        UPDATE dlq_messages d
           SET status = CASE WHEN %(outcome)s = 'failed' THEN 'failed' ELSE 'resolved' END,
               attempt = d.attempt + CASE WHEN %(outcome)s = 'failed' THEN 1 ELSE 0 END,
               last_failed_at = CASE WHEN %(outcome)s = 'failed' THEN now() ELSE d.last_failed_at END,
               resolution = CASE WHEN %(outcome)s <> 'failed' THEN %(outcome)s END,
               resolved_at = CASE WHEN %(outcome)s <> 'failed' THEN now() END
          FROM taken WHERE d.id = taken.id
    """
    return conn.execute(query, {"outcome": outcome, "limit": limit}).rowcount


def pass_time(conn: Conn, seconds: float) -> None:
    """Let so much time pass for bulk retries: what was due at some instant was due that much earlier."""
    conn.execute("UPDATE dlq_retries SET next_at = next_at - %s * interval '1 second'", (seconds,))


def stands(conn: Conn, retry: Retry) -> Retry:
    """The bulk retry as it stands."""
    found = dlq_retries.find(conn, retry.id, tenant_id="default")
    assert found is not None
    return found
