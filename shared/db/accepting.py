"""Accepting: notifications, their outbox rows and the idempotency key, written in one statement.

Each function uses the caller's connection and never commits. On an autocommit connection each is one transaction.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

import orjson
from psycopg import Connection, Cursor
from psycopg.types.json import Jsonb

from shared.model import Channel, OnUnknown, Priority, Status


class NewNotification(NamedTuple):
    """A notification about to be accepted, with its record and routing ready."""

    id: UUID
    tenant_id: str
    channel: Channel
    recipient: str
    priority: Priority
    on_unknown: OnUnknown
    created_at: datetime
    bucket: int
    topic: str
    key: bytes
    record: bytes
    headers: dict[str, str]
    ordering_key: str | None = None
    scheduled_for: datetime | None = None
    expires_at: datetime | None = None
    expires_in_s: float | None = None  # counted from now() of PostgreSQL; used where expires_at is None
    traceparent: str | None = None
    correlation_id: str | None = None

    @property
    def status(self) -> Status:
        """Return the state it is accepted in."""
        return Status.SCHEDULED if self.scheduled_for else Status.PENDING


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """The answer to a keyed request, kept with the key in the transaction that accepts."""

    tenant_id: str
    key: str
    request_sha256: bytes
    status: int
    body: bytes
    path: str | None


def insert(conn: Connection[Any], new: NewNotification) -> None:
    """Accept one pending notification that has no idempotency key: row and outbox row, one round trip.

    The outbox SELECT reads from `n`, so the transaction has its xid before `nextval` hands out a seq: the relay's
    bound on gaps rests on that.
    """
    query = """
        WITH n AS (
            INSERT INTO notifications (id, tenant_id, channel, recipient, priority, ordering_key, on_unknown, status,
                                       expires_at, created_at, bucket, topic, traceparent, correlation_id, record)
            VALUES (%(id)s, %(tenant_id)s, %(channel)s, %(recipient)s, %(priority)s, %(ordering_key)s, %(on_unknown)s,
                    'pending', coalesce(%(expires_at)s, now() + %(expires_in_s)s * interval '1 second'),
                    %(created_at)s, %(bucket)s, %(topic)s, %(traceparent)s, %(correlation_id)s, %(record)s)
            RETURNING id, bucket, topic, record
        )
        INSERT INTO outbox (notification_id, bucket, topic, key, value, headers)
        SELECT id, bucket, topic, %(key)s, record, %(headers)s::jsonb FROM n
    """
    conn.execute(query, new._asdict() | {"headers": orjson.dumps(new.headers).decode()})


def insert_many(conn: Connection[Any], news: Sequence[NewNotification], answer: StoredAnswer | None = None) -> bool:
    """Accept any number of notifications, all or none, in one round trip; with `answer`, under its idempotency key.

    Returns False, having written nothing, where that key exists already: read its answer with
    shared.db.idempotency_keys.find. While another transaction is writing the same key this waits for its end, up to
    the session's lock_timeout, then raises psycopg.errors.LockNotAvailable. The rows go as one jsonb parameter, which
    costs a tenth of lists of columns.
    """
    query = """
        WITH k AS (
            INSERT INTO idempotency_keys (tenant_id, key, request_sha256, response_status, response_body, response_path)
            SELECT %(tenant_id)s, %(key)s, %(sha256)s, %(status)s, %(body)s, %(path)s WHERE %(key)s::text IS NOT NULL
            ON CONFLICT DO NOTHING RETURNING key
        ), item AS (
            SELECT * FROM jsonb_to_recordset(%(items)s) AS item(
                id uuid, tenant_id text, channel text, recipient text, priority text, ordering_key text,
                on_unknown text, scheduled_for timestamptz, expires_at timestamptz, expires_in_s float8,
                created_at timestamptz, bucket smallint, topic text, traceparent text, correlation_id text, record text,
                key text, headers jsonb)
             WHERE %(key)s::text IS NULL OR EXISTS (SELECT FROM k)
        ), n AS (
            INSERT INTO notifications (id, tenant_id, channel, recipient, priority, ordering_key, on_unknown, status,
                                       scheduled_for, expires_at, created_at, bucket, topic, traceparent,
                                       correlation_id, record)
            SELECT id, tenant_id, channel, recipient, priority, ordering_key, on_unknown,
                   CASE WHEN scheduled_for IS NULL THEN 'pending' ELSE 'scheduled' END, scheduled_for,
                   coalesce(expires_at, now() + expires_in_s * interval '1 second'), created_at, bucket, topic,
                   traceparent, correlation_id, convert_to(record, 'UTF8') FROM item
            RETURNING id, tenant_id, status, scheduled_for, bucket, topic, record
        ), due AS (
            INSERT INTO outbox_due (notification_id, tenant_id, due_at)
            SELECT id, tenant_id, scheduled_for FROM n WHERE status = 'scheduled'
        ), o AS (
            INSERT INTO outbox (notification_id, bucket, topic, key, value, headers)
            SELECT n.id, n.bucket, n.topic, convert_to(item.key, 'UTF8'), n.record, item.headers
              FROM n JOIN item USING (id) WHERE n.status = 'pending' ORDER BY n.id
        )
        SELECT %(key)s::text IS NULL OR EXISTS (SELECT FROM k)
    """
    parameters = {
        "tenant_id": answer and answer.tenant_id,
        "key": answer and answer.key,
        "sha256": answer and answer.request_sha256,
        "status": answer and answer.status,
        "body": answer and answer.body,
        "path": answer and answer.path,
        "items": Jsonb([_as_item(new) for new in news], orjson.dumps),
    }
    row = conn.execute(query, parameters).fetchone()
    return bool(row and row[0])


def can_copy(news: Sequence[NewNotification]) -> bool:
    """Say whether COPY can write them: none is scheduled, none has a lifetime that counts from PostgreSQL's now()."""
    return all(new.scheduled_for is None and new.expires_in_s is None for new in news)


def copy_many(conn: Connection[Any], news: Sequence[NewNotification]) -> None:
    """Accept pending notifications that have no idempotency key, all or none, with COPY.

    PostgreSQL has a third less to do than in insert_many; in return it takes six round trips. What COPY cannot do is
    refused with ValueError: see can_copy.

    One transaction, of its own on an autocommit connection, a savepoint of the caller's otherwise. The notifications
    come first: their rows give it its xid before the outbox asks `nextval` for a seq, as in insert.
    """
    if not can_copy(news):
        raise ValueError("COPY takes what is pending, with an absolute expiry or none")
    with conn.transaction(), conn.cursor() as cursor:
        _copy_notifications(cursor, news)
        _copy_outbox(cursor, news)


def _copy_notifications(cursor: Cursor[Any], news: Sequence[NewNotification]) -> None:
    query = """
        COPY notifications (id, tenant_id, channel, recipient, priority, ordering_key, on_unknown, status, expires_at,
                            created_at, bucket, topic, traceparent, correlation_id, record)
        FROM STDIN (FORMAT binary)
    """
    with cursor.copy(query) as copy:
        copy.set_types(("uuid", *("text",) * 7, "timestamptz", "timestamptz", "int2", *("text",) * 3, "bytea"))
        for new in news:
            routing = new.created_at, new.bucket, new.topic, new.traceparent, new.correlation_id, new.record
            asked = new.recipient, new.priority, new.ordering_key, new.on_unknown, "pending", new.expires_at
            copy.write_row((new.id, new.tenant_id, new.channel, *asked, *routing))


def _copy_outbox(cursor: Cursor[Any], news: Sequence[NewNotification]) -> None:
    query = "COPY outbox (notification_id, bucket, topic, key, value, headers) FROM STDIN (FORMAT binary)"
    with cursor.copy(query) as copy:
        # The headers are bytes here: jsonb's binary form, a version and the text, made once where a batch shares them.
        copy.set_types(("uuid", "int2", "text", "bytea", "bytea", "bytea"))
        of, headers = None, b""
        for new in news:
            if new.headers is not of:
                of, headers = new.headers, b"\x01" + orjson.dumps(new.headers)
            copy.write_row((new.id, new.bucket, new.topic, new.key, new.record, headers))


def _as_item(new: NewNotification) -> dict[str, Any]:
    item = {
        "id": new.id,
        "tenant_id": new.tenant_id,
        "channel": new.channel,
        "recipient": new.recipient,
        "priority": new.priority,
        "on_unknown": new.on_unknown,
        "created_at": new.created_at,
        "bucket": new.bucket,
        "topic": new.topic,
        "record": new.record.decode(),
        "key": new.key.decode(),
        "headers": new.headers,
    }
    for name in _SELDOM:
        if (value := getattr(new, name)) is not None:
            item[name] = value
    return item


_SELDOM: Final = ("ordering_key", "scheduled_for", "expires_at", "expires_in_s", "traceparent", "correlation_id")
