"""The dlq_actions table: what persons did about dead letters, written in the transaction that did it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from psycopg import Connection
from psycopg.rows import class_row

from shared.db import notifications


class Done(StrEnum):
    """Who did what was asked for: this call, or one before it."""

    NOW = "now"
    BEFORE = "before"


@dataclass(frozen=True, slots=True)
class Action:
    """One thing a person did: `retried`, `discarded`, or `retried_by_filter`, which names its bulk retry."""

    action: str
    at: datetime
    by: str
    note: str | None
    attempt: int | None  # the attempt that a retry began
    retry_id: UUID | None
    outcome: str | None  # how that attempt ended, noted for bulk retries


def history(conn: Connection[Any], dead_letter_id: UUID) -> list[Action]:
    """Return what persons did about a dead letter, first to last."""
    query = """
        SELECT action, at, by, note, attempt, retry_id, outcome FROM dlq_actions WHERE dead_letter_id = %s ORDER BY id
    """
    return conn.cursor(row_factory=class_row(Action)).execute(query, (dead_letter_id,)).fetchall()


def replay(conn: Connection[Any], dead_letter_id: UUID, *, tenant_id: str, by: str, note: str | None) -> bool:
    """Publish one failed dead letter again at a person's word and note who it was, in one transaction.

    Returns False, having changed nothing, where it is not failed, or unknown.
    """
    query = """
        INSERT INTO dlq_actions (dead_letter_id, action, by, note, attempt)
        SELECT id, 'retried', %(by)s, %(note)s, attempt + 1 FROM dlq_messages WHERE id = %(id)s
    """
    with conn.transaction():
        if not notifications.replay(conn, dead_letter_id, tenant_id=tenant_id):
            return False
        conn.execute(query, {"id": dead_letter_id, "by": by, "note": note})
    return True


def discard(conn: Connection[Any], dead_letter_id: UUID, *, tenant_id: str, by: str, note: str) -> Done | None:
    """Resolve a failed dead letter without another attempt; None where neither this call nor an earlier one did.

    Only the call that did it is noted, in the statement that does it.
    """
    query = """
        WITH moved AS (
            UPDATE dlq_messages SET status = 'resolved', resolution = 'discarded', resolved_at = now(), retry_at = NULL,
                                    rest_reason = NULL, resolved_by = %(by)s, resolution_note = %(note)s
             WHERE id = %(id)s AND tenant_id = %(tenant_id)s AND status = 'failed' RETURNING id
        ), noted AS (
            INSERT INTO dlq_actions (dead_letter_id, action, by, note)
            SELECT id, 'discarded', %(by)s, %(note)s FROM moved
        )
        SELECT FROM moved
    """
    earlier = "SELECT FROM dlq_messages WHERE id = %(id)s AND tenant_id = %(tenant_id)s AND resolution = 'discarded'"
    parameters = {"id": dead_letter_id, "tenant_id": tenant_id, "by": by, "note": note}
    if conn.execute(query, parameters).rowcount:
        return Done.NOW
    # A statement of its own, which sees what the one above has waited for.
    return Done.BEFORE if conn.execute(earlier, parameters).rowcount else None


def failed_letters(conn: Connection[Any], retry_id: UUID, *, groups: int) -> Sequence[dict[str, Any]]:
    """Return what of a bulk retry failed, by cause as it stands now, the most frequent first; with three ids each."""
    query = """
        SELECT coalesce(jsonb_agg(to_jsonb(f) ORDER BY f.count DESC, f.fingerprint), '[]') FROM (
            SELECT d.fingerprint, count(*) AS count, (array_agg(d.id ORDER BY a.id))[1:3] AS example_ids
              FROM dlq_actions a JOIN dlq_messages d ON d.id = a.dead_letter_id
             WHERE a.retry_id = %(retry_id)s AND a.outcome = 'failed'
             GROUP BY d.fingerprint ORDER BY 2 DESC, 1 LIMIT %(groups)s
        ) f
    """
    row = conn.execute(query, {"retry_id": retry_id, "groups": groups}).fetchone()
    found: list[dict[str, Any]] = row[0] if row else []
    return found
