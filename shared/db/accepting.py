"""Accepting: notifications, their outbox rows and the idempotency key, written in one statement.

Each function uses the caller's connection and never commits. On an autocommit connection each is one transaction.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import orjson
from psycopg import Connection

from shared.db import binary, prepared
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
        WITH t AS (
            SELECT set_config('notify.tenant', %(tenant_id)s, true) AS tenant_id
        ), n AS (
            INSERT INTO notifications (id, tenant_id, channel, recipient, priority, ordering_key, on_unknown, status,
                                       expires_at, created_at, bucket, topic, traceparent, correlation_id, record)
            SELECT %(id)s::uuid, tenant_id, %(channel)s, %(recipient)s, %(priority)s, %(ordering_key)s,
                   %(on_unknown)s, 'pending',
                   coalesce(%(expires_at)s::timestamptz, now() + %(expires_in_s)s::float8 * interval '1 second'),
                   %(created_at)s::timestamptz, %(bucket)s::smallint, %(topic)s, %(traceparent)s, %(correlation_id)s,
                   %(record)s::bytea FROM t
            RETURNING id, bucket, topic, record
        )
        INSERT INTO outbox (notification_id, bucket, topic, key, value, headers)
        SELECT id, bucket, topic, %(key)s::bytea, record, %(headers)s::jsonb FROM n
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
    """Accept notifications of one origin, all or none, in one round trip; with `answer`, under its idempotency key.

    Returns False, having written nothing, where that key exists already: read its answer with
    shared.db.idempotency_keys.find. While another transaction is writing the same key this waits for its end, up to
    the session's lock_timeout, then raises psycopg.errors.LockNotAvailable. Raises ValueError for notifications of
    several tenants or traces.

    The rows go as an array a column, which costs PostgreSQL half of what one jsonb parameter does, and no more than
    COPY, which row-level security rules out. They are published in the order given. The outbox asks for the xid, so
    that it exists before `nextval` hands out a seq, as in insert.
    """
    if not news:
        raise ValueError("at least one notification")
    query = """
        WITH t AS (
            SELECT set_config('notify.tenant', %(tenant_id)s, true) AS tenant_id
        ), k AS (
            INSERT INTO idempotency_keys (tenant_id, key, request_sha256, response_status, response_body, response_path)
            SELECT tenant_id, %(key)s, %(sha256)s::bytea, %(status)s::smallint, %(body)s::bytea, %(path)s
              FROM t WHERE %(key)s::text IS NOT NULL
            ON CONFLICT DO NOTHING RETURNING key
        ), due AS (
            INSERT INTO outbox_due (notification_id, tenant_id, due_at)
            SELECT item.id, t.tenant_id, item.scheduled_for
              FROM t, unnest(%(ids)s::uuid[], %(scheduled_for)s::timestamptz[]) AS item(id, scheduled_for)
             WHERE item.scheduled_for IS NOT NULL AND (%(key)s::text IS NULL OR EXISTS (SELECT FROM k))
        ), o AS (
            INSERT INTO outbox (notification_id, bucket, topic, key, value, headers)
            SELECT item.id, item.bucket, item.topic, item.key, item.record, %(headers)s::jsonb
              FROM unnest(%(ids)s::uuid[], %(buckets)s::smallint[], %(topics)s::text[], %(keys)s::bytea[],
                          %(records)s::bytea[], %(scheduled_for)s::timestamptz[])
                     AS item(id, bucket, topic, key, record, scheduled_for)
             WHERE item.scheduled_for IS NULL AND (%(key)s::text IS NULL OR EXISTS (SELECT FROM k))
               AND pg_current_xact_id() IS NOT NULL
        )
        INSERT INTO notifications (id, tenant_id, channel, recipient, priority, ordering_key, on_unknown, status,
                                   scheduled_for, expires_at, created_at, bucket, topic, traceparent, correlation_id,
                                   record)
        SELECT item.id, t.tenant_id, item.channel, item.recipient, item.priority, item.ordering_key, item.on_unknown,
               CASE WHEN item.scheduled_for IS NULL THEN 'pending' ELSE 'scheduled' END, item.scheduled_for,
               coalesce(item.expires_at, now() + item.expires_in_s * interval '1 second'), item.created_at,
               item.bucket, item.topic, %(traceparent)s, %(correlation_id)s, item.record
          FROM t, unnest(%(ids)s::uuid[], %(channels)s::text[], %(recipients)s::text[], %(priorities)s::text[],
                         %(ordering_keys)s::text[], %(on_unknowns)s::text[], %(scheduled_for)s::timestamptz[],
                         %(expires_at)s::timestamptz[], %(expires_in_s)s::float8[], %(created_at)s::timestamptz[],
                         %(buckets)s::smallint[], %(topics)s::text[], %(records)s::bytea[])
                    AS item(id, channel, recipient, priority, ordering_key, on_unknown, scheduled_for, expires_at,
                            expires_in_s, created_at, bucket, topic, record)
         WHERE %(key)s::text IS NULL OR EXISTS (SELECT FROM k)
    """
    return prepared.execute(conn, query, _columns(news) | _kept(answer)) > 0


def _columns(news: Sequence[NewNotification]) -> dict[str, str | bytes | None]:
    (ids, tenant_ids, channels, recipients, priorities, on_unknowns, created_at, buckets, topics, keys, records,
     headers, ordering_keys, scheduled_for, expires_at, expires_in_s, traceparents, correlation_ids) = zip(
         *news, strict=True)  # fmt: skip
    if len(set(tenant_ids)) > 1 or len(set(traceparents)) > 1 or len(set(correlation_ids)) > 1:
        raise ValueError("notifications of one origin go together")
    return {
        "tenant_id": tenant_ids[0],
        "traceparent": traceparents[0],
        "correlation_id": correlation_ids[0],
        "headers": orjson.dumps(headers[0]).decode(),
        "ids": binary.uuids(ids),
        "channels": binary.texts(channels),
        "recipients": binary.texts(recipients),
        "priorities": binary.texts(priorities),
        "on_unknowns": binary.texts(on_unknowns),
        "created_at": binary.instants(created_at),
        "buckets": binary.int2s(buckets),
        "topics": binary.texts(topics),
        "keys": binary.byteas(keys),
        "records": binary.byteas(records),
        "ordering_keys": binary.texts(ordering_keys),
        "scheduled_for": binary.instants(scheduled_for),
        "expires_at": binary.instants(expires_at),
        "expires_in_s": binary.float8s(expires_in_s),
    }


def _kept(answer: StoredAnswer | None) -> dict[str, str | bytes | None]:
    if answer is None:
        return dict.fromkeys(("key", "sha256", "status", "body", "path"))
    return {
        "key": answer.key,
        "sha256": answer.request_sha256,
        "status": str(answer.status),
        "body": answer.body,
        "path": answer.path,
    }
