"""Steps the tests of the statements share: take a notification to a state, look where it stands."""

from typing import Any
from uuid import UUID

from shared.db import accepting, dlq_messages, notifications
from shared.db.accepting import NewNotification
from shared.db.dlq_messages import Tracked
from shared.db.notifications import Ended, Ticket
from shared.model import FailureClass, Outcome
from tests.integration.notifications import TOPICS
from tests.integration.shared.conftest import Conn

OWNER = UUID(int=1)
LEASE_S = 30.0


def rows(conn: Conn, query: Any, *parameters: Any) -> list[tuple[Any, ...]]:
    """All rows of a query."""
    return conn.execute(query, parameters or None).fetchall()


def status_of(conn: Conn, id_: UUID) -> str:
    """The status of a notification."""
    return str(rows(conn, "SELECT status FROM notifications WHERE id = %s", id_)[0][0])


def begin(conn: Conn, new: NewNotification, *, owner: UUID = OWNER, lease_s: float = LEASE_S) -> Ticket:
    """Accept and claim one."""
    accepting.insert(conn, new)
    ticket = Ticket(new.id, 1)
    assert [claimed.id for claimed in notifications.claim(conn, [ticket], owner=owner, lease_s=lease_s)] == [new.id]
    conn.execute("DELETE FROM outbox")
    return ticket


def end(conn: Conn, ticket: Ticket, outcome: Outcome, **fields: Any) -> int:
    """Write one outcome back."""
    ended = Ended(ticket.id, ticket.attempt, outcome, fields.pop("reason", "http_500"), **fields)
    return notifications.write_back(conn, [ended], owner=OWNER, dlq_topic=TOPICS.dlq)


def fail_and_track(conn: Conn, new: NewNotification, *, retry_in_s: float | None = 0.0, attempt: int = 1) -> UUID:
    """Take a notification to failed with a tracked dead letter; return the dead letter's id."""
    if attempt == 1:
        begin(conn, new)
    end(conn, Ticket(new.id, attempt), Outcome.TRANSIENT)
    conn.execute("DELETE FROM outbox")
    dlq_messages.track(conn, [tracked(new, attempt=attempt, retry_in_s=retry_in_s)])
    id_ = dlq_messages.find_id(conn, new.id)
    assert id_ is not None
    return id_


def tracked(new: NewNotification | None, *, attempt: int = 1, retry_in_s: float | None = 0.0, **fields: Any) -> Tracked:
    """A dead letter as the DLQ consumer records it."""
    values: dict[str, Any] = {
        "tenant_id": "default",
        "notification_id": new.id if new else None,
        "channel": "email",
        "attempt": attempt,
        "message_key": b"k",
        "original_payload": new.record if new else b"\xff\x00",
        "headers": {"attempt": str(attempt)},
        "topic": "notifications.email",
        "partition": 0,
        "offset": 7,
        "failure_class": FailureClass.TRANSIENT,
        "reason": "http_500",
        "destination": "http://example.org",
        "error_message": "busy",
        "retry_in_s": retry_in_s,
        "rest_reason": None if retry_in_s is not None else "permanent",
    }
    return Tracked(**values | fields)
