"""The delivery_attempts table: leases kept, histories read. Attempts begin in notifications.claim."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection
from psycopg.rows import class_row

from shared.db.notifications import Ticket, ticket_arrays


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try at a provider; `outcome` is `begun` until it ended."""

    attempt: int
    outcome: str
    provider: str | None
    destination: str | None
    reason: str | None
    detail: str | None
    receipt: str | None
    tries: int | None
    began_at: datetime
    ended_at: datetime | None


def history(conn: Connection[Any], notification_id: UUID) -> list[Attempt]:
    """Return the attempts of a notification, first to last."""
    query = """
        SELECT attempt, outcome, provider, destination, reason, detail, receipt, tries, began_at, ended_at
          FROM delivery_attempts WHERE notification_id = %s ORDER BY attempt
    """
    return conn.cursor(row_factory=class_row(Attempt)).execute(query, (notification_id,)).fetchall()


def renew(conn: Connection[Any], tickets: Sequence[Ticket], *, owner: UUID, lease_s: float) -> set[Ticket]:
    """Extend the leases of attempts still open and this owner's; return those. What is missing was taken over."""
    query = """
        UPDATE delivery_attempts a SET lease_until = now() + %(lease_s)s * interval '1 second'
          FROM unnest(%(ids)s::uuid[], %(attempts)s::smallint[]) AS t(id, attempt)
         WHERE a.notification_id = t.id AND a.attempt = t.attempt AND a.owner = %(owner)s AND a.outcome = 'begun'
        RETURNING a.notification_id, a.attempt
    """
    parameters = {"owner": owner, "lease_s": lease_s} | ticket_arrays(tickets)
    return {Ticket(*row) for row in conn.execute(query, parameters)}
