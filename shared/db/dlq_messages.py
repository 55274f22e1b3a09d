"""The dlq_messages table: dead letters tracked, listed, discarded. Requeueing moves a status, see notifications."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, LiteralString
from uuid import UUID

from psycopg import Connection
from psycopg.rows import class_row, scalar_row
from psycopg.types.json import Jsonb

from shared.db.pipelining import pipelined
from shared.model import FailureClass

MAX_PART_CHARS: Final = 300
"""Of a destination or a reason in a fingerprint: two of them, four bytes a character, stay within what a page of an
index takes (2,704 bytes). Only poison, whose headers anybody may have written, comes near it."""


@dataclass(frozen=True, slots=True)
class Tracked:
    """A dead letter as read from Kafka, with what triage decided. `retry_in_s` None: at rest, for `rest_reason`."""

    tenant_id: str
    notification_id: UUID | None  # None: bytes nobody can decode, known by topic, partition and offset
    channel: str | None
    attempt: int
    message_key: bytes | None
    original_payload: bytes | None
    headers: dict[str, str]
    topic: str | None
    partition: int | None
    offset: int | None
    failure_class: FailureClass
    reason: str
    destination: str | None
    error_message: str
    retry_in_s: float | None
    rest_reason: str | None

    @property
    def fingerprint(self) -> str:
        """Return what dead letters with one cause have in common; bounded, since an index holds it."""
        destination = (self.destination or "")[:MAX_PART_CHARS]
        return f"{self.failure_class}|{destination}|{self.reason[:MAX_PART_CHARS]}"


_INSERT: Final[LiteralString] = """
    INSERT INTO dlq_messages (tenant_id, notification_id, channel, attempt, message_key, original_payload, headers,
                              topic, partition, "offset", failure_class, reason, destination, fingerprint, first_error,
                              error_message, retry_at, rest_reason)
    SELECT %(tenant_id)s, %(notification_id)s::uuid, %(channel)s, %(attempt)s::int, %(message_key)s,
           %(original_payload)s, %(headers)s, %(topic)s, %(partition)s::int, %(offset)s::bigint, %(failure_class)s,
           %(reason)s, %(destination)s, %(fingerprint)s, %(error_message)s, %(error_message)s,
           now() + %(retry_in_s)s * interval '1 second', %(rest_reason)s
"""

_TRACK: Final[LiteralString] = (
    _INSERT
    + """
     WHERE EXISTS (SELECT FROM notifications WHERE id = %(notification_id)s::uuid FOR KEY SHARE)
    ON CONFLICT (notification_id) DO UPDATE
       SET attempt = EXCLUDED.attempt, failure_class = EXCLUDED.failure_class, reason = EXCLUDED.reason,
           destination = EXCLUDED.destination, fingerprint = EXCLUDED.fingerprint,
           error_message = EXCLUDED.error_message, status = 'failed', retry_at = EXCLUDED.retry_at,
           rest_reason = EXCLUDED.rest_reason, last_failed_at = now()
     WHERE dlq_messages.attempt < EXCLUDED.attempt AND dlq_messages.status <> 'resolved'
    """
)

_TRACK_UNDECODABLE: Final[LiteralString] = (
    _INSERT
    + """
    ON CONFLICT (topic, partition, "offset", coalesce(md5(original_payload), '')) WHERE notification_id IS NULL
    DO NOTHING
    """
)


def track(conn: Connection[Any], letters: Sequence[Tracked]) -> Sequence[UUID]:
    """Record dead letters; reading one again changes nothing, a later attempt of the same notification updates its row.

    The original (payload, key, headers, place) and the first error stay those of the first failure. Returned are the
    notifications that do not exist any more: a letter read again after its notification was pruned is left out.

    Raises psycopg.OperationalError when PostgreSQL is out of reach; calling again is safe. The batch is one pipeline
    and, on an autocommit connection, one transaction, which no stopped process leaves open: see pipelining.py.
    """
    with pipelined(conn):
        for letter in letters:
            conn.execute(_TRACK_UNDECODABLE if letter.notification_id is None else _TRACK, _parameters(letter))
    return _pruned(conn, letters)


def _pruned(conn: Connection[Any], letters: Sequence[Tracked]) -> Sequence[UUID]:
    query = """
        SELECT wanted.id FROM unnest(%s::uuid[]) AS wanted (id)
         WHERE NOT EXISTS (SELECT FROM notifications n WHERE n.id = wanted.id)
    """
    ids = {letter.notification_id for letter in letters if letter.notification_id}
    return conn.cursor(row_factory=scalar_row).execute(query, (list(ids),)).fetchall() if ids else []


def _parameters(letter: Tracked) -> dict[str, Any]:
    return {
        "tenant_id": letter.tenant_id,
        "notification_id": letter.notification_id,
        "channel": letter.channel,
        "attempt": letter.attempt,
        "message_key": letter.message_key,
        "original_payload": letter.original_payload,
        "headers": Jsonb(letter.headers),
        "topic": letter.topic,
        "partition": letter.partition,
        "offset": letter.offset,
        "failure_class": letter.failure_class.value,
        "reason": letter.reason,
        "destination": letter.destination,
        "fingerprint": letter.fingerprint,
        "error_message": letter.error_message,
        "retry_in_s": letter.retry_in_s,
        "rest_reason": letter.rest_reason,
    }


def retry_counts(conn: Connection[Any], notification_ids: Sequence[UUID]) -> dict[UUID, int]:
    """Return how often each of these was retried already; ids without a dead letter are left out."""
    query = "SELECT notification_id, retry_count FROM dlq_messages WHERE notification_id = ANY(%s::uuid[])"
    return dict(conn.execute(query, (list(notification_ids),)).fetchall())


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A dead letter as it stands."""

    id: UUID
    notification_id: UUID | None
    channel: str | None
    attempt: int
    message_key: bytes | None
    headers: dict[str, str]
    topic: str | None
    partition: int | None
    offset: int | None
    failure_class: str
    reason: str
    destination: str | None
    fingerprint: str
    first_error: str
    error_message: str
    retry_count: int
    status: str
    retry_at: datetime | None
    rest_reason: str | None
    first_failed_at: datetime
    last_failed_at: datetime
    resolved_at: datetime | None
    resolution: str | None
    resolved_by: str | None
    resolution_note: str | None
    retry_id: UUID | None  # the bulk retry that took it last
    payload_bytes: int
    original_payload: bytes | None = field(default=None, repr=False)


_COLUMNS: Final[
    LiteralString
] = """id, notification_id, channel, attempt, message_key, headers, topic, partition, "offset",
    failure_class, reason, destination, fingerprint, first_error, error_message, retry_count, status, retry_at,
    rest_reason, first_failed_at, last_failed_at, resolved_at, resolution, resolved_by, resolution_note, retry_id,
    coalesce(octet_length(original_payload), 0) AS payload_bytes"""


@dataclass(frozen=True, slots=True)
class Filter:
    """Which dead letters to list; None means any. `before` is the last row of the page before."""

    tenant_id: str
    status: str | None = None
    failure_class: str | None = None
    channel: str | None = None
    fingerprint: str | None = None
    before: tuple[datetime, UUID] | None = None


def list_page(conn: Connection[Any], where: Filter, *, limit: int) -> list[DeadLetter]:
    """Return up to `limit` dead letters that fit, newest first by (first_failed_at, id), without their payloads."""
    query = f"""
        SELECT {_COLUMNS} FROM dlq_messages
         WHERE tenant_id = %(tenant_id)s
           AND (%(status)s::text IS NULL OR status = %(status)s)
           AND (%(failure_class)s::text IS NULL OR failure_class = %(failure_class)s)
           AND (%(channel)s::text IS NULL OR channel = %(channel)s)
           AND (%(fingerprint)s::text IS NULL OR fingerprint = %(fingerprint)s)
           AND (%(before_at)s::timestamptz IS NULL OR (first_failed_at, id) < (%(before_at)s, %(before_id)s::uuid))
         ORDER BY first_failed_at DESC, id DESC LIMIT %(limit)s
    """
    before_at, before_id = where.before or (None, None)
    parameters = {
        "tenant_id": where.tenant_id,
        "status": where.status,
        "failure_class": where.failure_class,
        "channel": where.channel,
        "fingerprint": where.fingerprint,
        "before_at": before_at,
        "before_id": before_id,
        "limit": limit,
    }
    return conn.cursor(row_factory=class_row(DeadLetter)).execute(query, parameters).fetchall()


def find(conn: Connection[Any], dead_letter_id: UUID, *, tenant_id: str) -> DeadLetter | None:
    """Return one dead letter of a tenant with its original payload; None where it has no such id."""
    query = f"SELECT {_COLUMNS}, original_payload FROM dlq_messages WHERE id = %(id)s AND tenant_id = %(tenant_id)s"
    parameters = {"id": dead_letter_id, "tenant_id": tenant_id}
    return conn.cursor(row_factory=class_row(DeadLetter)).execute(query, parameters).fetchone()


def find_id(conn: Connection[Any], notification_id: UUID) -> UUID | None:
    """Return the id of a notification's dead letter, None where it has none."""
    query = "SELECT id FROM dlq_messages WHERE notification_id = %s"
    return conn.cursor(row_factory=scalar_row).execute(query, (notification_id,)).fetchone()
