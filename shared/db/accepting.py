"""Accepting: notifications, their outbox rows and the idempotency key, written in one statement.

Each function uses the caller's connection and never commits. On an autocommit connection each is one transaction.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, LiteralString, NamedTuple
from uuid import UUID

import orjson
from psycopg import Connection, Cursor
from psycopg.types.json import Jsonb

from shared.db import copy_format, prepared
from shared.model import Channel, OnUnknown, Priority, Status

_PIECE_BYTES: Final = 64 * 1024


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
    values = {
        "id": str(new.id),
        "tenant_id": new.tenant_id,
        "channel": new.channel,
        "recipient": new.recipient,
        "priority": new.priority,
        "ordering_key": new.ordering_key,
        "on_unknown": new.on_unknown,
        "expires_at": None if new.expires_at is None else new.expires_at.isoformat(),
        "expires_in_s": None if new.expires_in_s is None else str(new.expires_in_s),
        "created_at": new.created_at.isoformat(),
        "bucket": str(new.bucket),
        "topic": new.topic,
        "traceparent": new.traceparent,
        "correlation_id": new.correlation_id,
        "record": new.record,
        "key": new.key,
        "headers": orjson.dumps(new.headers).decode(),
    }
    prepared.execute(conn, query, values)


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
    notifications, outbox = _rows_of(news)
    with conn.transaction(), conn.cursor() as cursor:
        _copy_notifications(cursor, notifications)
        _copy_outbox(cursor, outbox)


def _copy_notifications(cursor: Cursor[Any], rows: bytes) -> None:
    query = """
        COPY notifications (id, tenant_id, channel, priority, on_unknown, created_at, topic, traceparent,
                            correlation_id, ordering_key, expires_at, status, recipient, bucket, record)
        FROM STDIN (FORMAT binary)
    """
    _copy(cursor, query, rows)


def _copy_outbox(cursor: Cursor[Any], rows: bytes) -> None:
    query = "COPY outbox (notification_id, bucket, topic, key, value, headers) FROM STDIN (FORMAT binary)"
    _copy(cursor, query, rows)


def _copy(cursor: Cursor[Any], query: LiteralString, rows: bytes) -> None:
    """Send rows in pieces: PostgreSQL takes each into memory as a whole, and a megabyte is cold when it is read."""
    with cursor.copy(query) as copy:
        for start in range(0, len(rows), _PIECE_BYTES):
            copy.write(rows[start : start + _PIECE_BYTES])


def _rows_of(news: Sequence[NewNotification]) -> tuple[bytes, bytes]:
    """Return the rows for notifications and for outbox, their columns in the order of the two commands."""
    fields, length = copy_format.Fields(), copy_format.length
    notifications, outbox = [copy_format.SIGNATURE], [copy_format.SIGNATURE]
    to_notifications, to_outbox = copy_format.row(15) + length(16), copy_format.row(6) + length(16)
    kinds: dict[tuple[str | datetime | None, ...], bytes] = {}  # what many rows share, made once
    alike, headers = None, b""
    for (id_, tenant_id, channel, recipient, priority, on_unknown, created_at, bucket, topic, key, record, for_kafka,
         ordering_key, _, expires_at, _, traceparent, correlation_id) in news:  # fmt: skip
        kind = (tenant_id, channel, priority, on_unknown, created_at, topic, traceparent, correlation_id, ordering_key,
                expires_at, Status.PENDING)  # fmt: skip
        if (shared := kinds.get(kind)) is None:
            shared = kinds[kind] = b"".join([fields[value] for value in kind])
        if for_kafka is not alike:  # jsonb in binary form is a version and the text
            alike, headers = for_kafka, copy_format.field(b"\x01" + orjson.dumps(for_kafka))
        id16, to_whom, bucket2, of_record = id_.bytes, recipient.encode(), fields[bucket], length(len(record))
        notifications += (to_notifications, id16, shared, length(len(to_whom)), to_whom, bucket2, of_record, record)
        outbox += (to_outbox, id16, bucket2, fields[topic], length(len(key)), key, of_record, record, headers)
    notifications.append(copy_format.TRAILER)
    outbox.append(copy_format.TRAILER)
    return b"".join(notifications), b"".join(outbox)


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
