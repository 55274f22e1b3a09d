"""Rows planted as a bug would leave them."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
from psycopg import sql

from shared.db import accepting
from shared.db.ledger import id_at
from tests.integration.notifications import TOPICS, new_notification

Conn = psycopg.Connection[Any]
HOUR = timedelta(hours=1)


def insert(conn: Conn, table: str, **row: Any) -> None:
    """Insert one row."""
    statement = sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(
        sql.Identifier(table),
        sql.SQL(", ").join(map(sql.Identifier, row)),
        sql.SQL(", ").join(sql.Placeholder() * len(row)),
    )
    conn.execute(statement, list(row.values()))


def aged_id(age: timedelta) -> UUID:
    """An id as it was made that long ago."""
    return UUID(int=id_at((datetime.now(UTC) - age).timestamp()).int | 0x7 << 76 | uuid4().int & (1 << 62) - 1)


def notification(conn: Conn, status: str, *, age: timedelta = HOUR, **columns: Any) -> UUID:
    """A notification that has had a status for an hour, unless `age` says otherwise; nothing stands with it."""
    id_ = aged_id(age)
    now = datetime.now(UTC)
    row: dict[str, Any] = {
        "id": id_,
        "tenant_id": "default",
        "channel": "email",
        "recipient": "a@example.org",
        "priority": "normal",
        "on_unknown": "retry",
        "status": status,
        "created_at": now - age,
        "updated_at": now - age,
        "bucket": 0,
        "topic": "notifications.email",
        "record": b"{}",
    }
    insert(conn, "notifications", **row | columns)
    return id_


def attempt(conn: Conn, id_: UUID, number: int = 1, outcome: str = "accepted", **columns: Any) -> None:
    """An attempt of an hour ago, ended at once unless it is `begun`."""
    at = datetime.now(UTC) - HOUR - timedelta(seconds=1)
    row: dict[str, Any] = {
        "notification_id": id_,
        "attempt": number,
        "tenant_id": "default",
        "owner": uuid4(),
        "lease_until": at,
        "began_at": at,
        "ended_at": None if outcome == "begun" else at,
        "outcome": outcome,
        "receipt": "250 ok" if outcome == "accepted" else None,
    }
    insert(conn, "delivery_attempts", **row | columns)


def letter(conn: Conn, id_: UUID | None, **columns: Any) -> None:
    """A dead letter of attempt 1, at rest."""
    at = datetime.now(UTC) - HOUR
    row: dict[str, Any] = {
        "tenant_id": "default",
        "notification_id": id_,
        "attempt": 1,
        "failure_class": "transient",
        "reason": "http_503",
        "fingerprint": "f",
        "first_error": "busy",
        "error_message": "busy",
        "first_failed_at": at,
        "last_failed_at": at,
    }
    insert(conn, "dlq_messages", **row | columns)


def resolved(resolution: str, *, age: timedelta = HOUR) -> dict[str, Any]:
    """The columns of a dead letter that is resolved."""
    return {"status": "resolved", "resolution": resolution, "resolved_at": datetime.now(UTC) - age}


def sent(conn: Conn, *, age: timedelta = HOUR) -> UUID:
    """One that was sent, whole."""
    id_ = notification(conn, "sent", age=age)
    attempt(conn, id_)
    return id_


def failed(conn: Conn, *, age: timedelta = HOUR, **columns: Any) -> UUID:
    """One that failed and has its dead letter; keywords are columns of the letter."""
    id_ = notification(conn, "failed", age=age)
    attempt(conn, id_, outcome="transient")
    letter(conn, id_, **columns)
    return id_


def accepted(conn: Conn, **fields: Any) -> UUID:
    """One that was accepted a moment ago, as the API does it."""
    new = new_notification(**fields)
    accepting.insert_many(conn, [new])
    return new.id


def outbox_row(conn: Conn, id_: UUID, **headers: str) -> None:
    """An outbox row of attempt 1."""
    conn.execute(
        "INSERT INTO outbox (notification_id, bucket, topic, key, value, headers) VALUES (%s, 0, %s, %s, %s, %s)",
        (id_, TOPICS.dlq, b"k", b"{}", psycopg.types.json.Jsonb({"attempt": "1"} | headers)),
    )
