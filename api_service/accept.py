"""Accepting: a request that has been checked becomes a row and an outbox row, on the caller's connection.

Any program that shares the database can do what the HTTP API does, inside a transaction of its own:

    with conn.transaction():
        orders.insert(conn, order)
        accept(conn, schemas.load({"channel": "email", ...}), topics=Topics())

Either both are there afterwards or neither is. Nothing here commits, and nothing talks to Kafka.
"""

import contextlib
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

from psycopg import Connection, errors

from shared.db import accepting, idempotency_keys, tenancy
from shared.db.accepting import NewNotification, StoredAnswer
from shared.model import Channel, OnUnknown, Priority, bucket_of, uuid7, uuid7_unix_ms, uuid_texts
from shared.records import Topics, encode_fields, record_headers, record_key

DEFAULT_TENANT: Final = "default"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class NotificationRequest(NamedTuple):
    """What a client asks for, checked by schemas.load; built by hand it is taken at its word.

    A tuple, as is all else that is made for each item of a batch: a frozen dataclass takes three times as long.
    """

    channel: Channel
    recipient: str
    message: str
    subject: str | None = None
    payload: dict[str, Any] | None = None
    headers: dict[str, str] | None = None
    metadata: dict[str, Any] | None = None
    ordering_key: str | None = None
    priority: Priority = Priority.NORMAL
    on_unknown: OnUnknown = OnUnknown.RETRY
    scheduled_for: datetime | None = None
    expires_at: datetime | None = None
    expires_in_s: float | None = None  # from now() of PostgreSQL; where expires_at is None
    sender: str | None = None  # a mailbox, see shared.mailboxes; None: the installation's own


@dataclass(frozen=True, slots=True)
class Origin:
    """Whose request this is, and the trace it belongs to."""

    tenant_id: str = DEFAULT_TENANT
    traceparent: str | None = None
    correlation_id: str | None = None


def accept(
    conn: Connection[Any], request: NotificationRequest, *, topics: Topics, origin: Origin | None = None
) -> NewNotification:
    """Write one notification with its outbox row in the caller's transaction and return it, with its id.

    On an autocommit connection that is one transaction, one round trip. Raises psycopg.Error; then nothing is written.
    """
    new = prepare(request, topics=topics, origin=origin or Origin())
    write(conn, [new])
    return new


def prepare(request: NotificationRequest, *, topics: Topics, origin: Origin) -> NewNotification:
    """Give a request its id, record and routing. Pure but for the clock inside the id.

    Writing the result twice writes it once: the second time fails on its id.
    """
    return prepare_many([request], topics=topics, origin=origin)[0]


def prepare_many(requests: Sequence[NotificationRequest], *, topics: Topics, origin: Origin) -> list[NewNotification]:
    """Prepare requests of one origin; their ids rise in the order given."""
    tenant_id, traceparent, correlation_id = origin.tenant_id, origin.traceparent, origin.correlation_id
    headers = record_headers(attempt=1, traceparent=traceparent, correlation_id=correlation_id)
    ids = uuid7.many(len(requests))
    news: list[NewNotification] = []
    created_ms, created_at, created_text = -1, _EPOCH, ""
    for request, id_, id_text in zip(requests, ids, uuid_texts(ids), strict=True):
        if (ms := uuid7_unix_ms(id_)) != created_ms:
            created_ms, created_at = ms, _EPOCH + timedelta(milliseconds=ms)
            created_text = rfc3339(created_at)
        (channel, recipient, message, subject, payload, own_headers, metadata, ordering_key,
         priority, on_unknown, scheduled_for, expires_at, expires_in_s, sender) = request  # fmt: skip
        key = record_key(tenant_id, id_text, ordering_key)
        topic = topics.of(channel, priority, ordered=ordering_key is not None)
        record = encode_fields(
            id=id_text,
            tenant_id=tenant_id,
            channel=channel,
            recipient=recipient,
            message=message,
            created_at=created_text,
            subject=subject,
            payload=payload,
            headers=own_headers,
            metadata=metadata,
            ordering_key=ordering_key,
            priority=priority,
            on_unknown=on_unknown,
            sender=sender,
        )
        # By position: by name it takes twice as long.
        news.append(NewNotification(
            id_, tenant_id, channel, recipient, priority, on_unknown, created_at, bucket_of(key), topic, key, record,
            headers, ordering_key, scheduled_for, expires_at, expires_in_s, traceparent, correlation_id,
        ))  # fmt: skip
    return news


def write(conn: Connection[Any], news: Sequence[NewNotification]) -> None:
    """Write prepared notifications, all or none, in one transaction."""
    if len(news) == 1 and news[0].scheduled_for is None:
        accepting.insert(conn, news[0])
    else:
        accepting.insert_many(conn, news)


def write_once(conn: Connection[Any], news: Sequence[NewNotification]) -> None:
    """Write prepared notifications, all or none, unless they were written before; on an autocommit connection."""
    with contextlib.suppress(errors.UniqueViolation):
        # Only these very ids can be in the way: the connection broke after a first attempt had been committed.
        write(conn, news)


def write_keyed(conn: Connection[Any], news: Sequence[NewNotification], answer: StoredAnswer) -> StoredAnswer:
    """Write prepared notifications under an idempotency key; return the answer that now belongs to the key.

    That is `answer` itself, or the one of whoever came first, and then nothing was written: compare `request_sha256`.
    Raises psycopg.errors.LockNotAvailable when whoever came first has not ended within the session's lock_timeout.
    """
    while not accepting.insert_many(conn, news, answer):
        find = functools.partial(idempotency_keys.find, key=answer.key, tenant_id=answer.tenant_id)
        if earlier := tenancy.as_tenant(conn, work=find, tenant_id=answer.tenant_id):
            return earlier
        # It was pruned between the two statements, so the key is free again.
    return answer


def rfc3339(instant: datetime) -> str:
    """Return a UTC instant with milliseconds, as in 2030-01-31T09:00:00.000Z."""
    return instant.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"
