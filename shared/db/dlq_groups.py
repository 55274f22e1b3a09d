"""Dead letters that have not been resolved, counted by their cause."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection
from psycopg.rows import tuple_row


@dataclass(frozen=True, slots=True)
class Group:
    """Dead letters with one cause. `retrying`: tried again by themselves; `at_rest`: waiting for a person."""

    fingerprint: str
    failure_class: str
    destination: str | None
    reason: str
    count: int
    retrying: int
    at_rest: int
    first_failed_at: datetime
    last_failed_at: datetime
    next_retry_at: datetime | None
    example_ids: list[UUID]  # up to three, those that failed last


def largest(
    conn: Connection[Any], *, tenant_id: str, status: str, failure_class: str | None, channel: str | None, limit: int
) -> tuple[list[Group], int]:
    """Return the largest groups of what is `failed` or `retrying`, and how many groups there are in all.

    Counted from the index dlq_messages_by_cause alone; what it does not hold, destination and reason, is read from one
    example each.
    """
    query = """
        WITH counted AS (
            SELECT fingerprint, count(*) AS letters,
                   count(*) FILTER (WHERE status = 'retrying' OR retry_at IS NOT NULL) AS retrying,
                   min(first_failed_at) AS first_failed_at, max(last_failed_at) AS last_failed_at,
                   min(retry_at) AS next_retry_at
              FROM dlq_messages
             WHERE tenant_id = %(tenant_id)s AND status <> 'resolved' AND status = %(status)s
               AND (%(failure_class)s::text IS NULL OR failure_class = %(failure_class)s)
               AND (%(channel)s::text IS NULL OR channel = %(channel)s)
             GROUP BY fingerprint
        ), top AS (
            SELECT *, count(*) OVER () AS groups FROM counted ORDER BY letters DESC, fingerprint LIMIT %(limit)s
        )
        SELECT top.groups, top.fingerprint, one.failure_class, one.destination, one.reason, top.letters, top.retrying,
               top.letters - top.retrying, top.first_failed_at, top.last_failed_at, top.next_retry_at, examples.ids
          FROM top CROSS JOIN LATERAL (
               SELECT array_agg(id) AS ids FROM (
                    SELECT id FROM dlq_messages d
                     WHERE d.tenant_id = %(tenant_id)s AND d.fingerprint = top.fingerprint
                       AND d.status <> 'resolved' AND d.status = %(status)s
                       AND (%(channel)s::text IS NULL OR d.channel = %(channel)s)
                     ORDER BY last_failed_at DESC, id DESC LIMIT 3) newest
               ) examples
          JOIN dlq_messages one ON one.id = examples.ids[1]
         ORDER BY top.letters DESC, top.fingerprint
    """
    parameters = {
        "tenant_id": tenant_id,
        "status": status,
        "failure_class": failure_class,
        "channel": channel,
        "limit": limit,
    }
    rows = conn.cursor(row_factory=tuple_row).execute(query, parameters).fetchall()
    return [Group(*row[1:]) for row in rows], rows[0][0] if rows else 0
