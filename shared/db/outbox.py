"""The outbox tables: rows appended in the transaction that changes a status, read by cursor, deleted after the ack."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final, LiteralString, NamedTuple
from uuid import UUID

import orjson
from psycopg import Connection, Cursor
from psycopg.rows import class_row

from shared.db import prepared
from shared.model import BUCKETS

RECORD_KEY: Final[LiteralString] = "convert_to(coalesce(n.tenant_id || '/' || n.ordering_key, n.id::text), 'UTF8')"
"""shared.records.record_key in SQL, for a notifications row called n."""

RECORD_HEADERS: Final[LiteralString] = """jsonb_build_object(
    'attempt', n.attempt::text, 'content-type', 'application/json', 'schema-version', '1',
    'traceparent', n.traceparent, 'correlation-id', n.correlation_id)"""
"""shared.records.record_headers in SQL, nulls not yet stripped, for a notifications row called n."""

APPEND_PENDING: Final[LiteralString] = f"""
    INSERT INTO outbox (notification_id, bucket, topic, key, value, headers)
    SELECT n.id, n.bucket, n.topic, {RECORD_KEY}, n.record, jsonb_strip_nulls({RECORD_HEADERS})
      FROM moved n WHERE n.status = 'pending'
"""
"""Ends a statement whose CTE `moved` returns whole notifications rows: publish those that are pending."""

ENTER_QUEUE: Final[LiteralString] = """
    INSERT INTO ordering_queue (tenant_id, ordering_key, notification_id)
    SELECT n.tenant_id, n.ordering_key, n.id
      FROM moved n WHERE n.ordering_key IS NOT NULL AND n.status = 'pending' AND n.attempt = 1
"""
"""In such a statement too: queue those with an ordering key, in an order that the caller adds."""

PAGE_BYTES: Final = 8 * 1024 * 1024
"""A page of rows is full at this size, whatever their number."""


class OutboxRow(NamedTuple):
    """One row as the relay moves it; `value` is never opened. A tuple, since a dataclass costs three times as much."""

    seq: int
    bucket: int
    topic: str
    key: bytes
    value: bytes
    headers: list[tuple[str, str | bytes | None]]  # shared by rows with the same ones: not to be changed


@dataclass(frozen=True, slots=True)
class Page:
    """What one snapshot showed: rows in `seq` order, and `oldest_xid`, below which every transaction has ended."""

    rows: list[OutboxRow]
    oldest_xid: int
    last_number: int = 0  # the highest number that had been handed out by then
    passed: int = 0  # the page ends here: rows of other shares may follow the last of `rows`
    others: list[int] = field(default_factory=list)  # the numbers of those rows, as far as they were asked for
    full: bool = False  # there may be more behind it
    cut: bool = False  # the page was full in bytes: there may be rows it should have held and does not


@dataclass(frozen=True, slots=True)
class Refused:
    """A row Kafka refuses for good, and its error's name."""

    seq: int
    error: str


@dataclass(frozen=True, slots=True)
class Question:
    """A page that was asked for, and how; in a pipeline its answer may still be on its way."""

    conn: Connection[Any]
    limit: int
    parameters: dict[str, Any]
    answer: Cursor[Any]


_MINE: Final[LiteralString] = "(%(share)s::bigint IS NULL OR %(share)s::bigint >> bucket & 1 = 1)"
_HEAD: Final[LiteralString] = f"""
    SELECT NULL::bigint AS seq, NULL::smallint AS bucket, NULL::text AS topic, NULL::bytea AS key, NULL::bytea AS value,
           NULL::text AS headers, pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS oldest_xid,
           pg_sequence_last_value(pg_get_serial_sequence('outbox', 'seq')::regclass) AS last_number,
           w.passed, w.others, w.looked_at
      FROM (SELECT max(seq) AS passed, count(*) FILTER (WHERE seq > %(after)s) AS looked_at,
                   array_agg(seq) FILTER (WHERE NOT {_MINE} AND (seq > %(settled)s OR seq <= %(after)s)) AS others
              FROM ((SELECT seq, bucket FROM outbox WHERE seq = ANY(%(also)s::bigint[]))
                    UNION ALL
                    (SELECT seq, bucket FROM outbox WHERE seq > %(after)s ORDER BY seq LIMIT %(limit)s)) looked
             WHERE %(share)s::bigint IS NOT NULL) w
"""
"""A row about the page itself. Whoever has all buckets sees the page in its rows, and looks at nothing twice."""
_WINDOW: Final[LiteralString] = f"""
    SELECT seq, bucket, topic, key, value, headers FROM (
        (SELECT seq, bucket, topic, key, value, headers FROM outbox
          WHERE seq = ANY(%(also)s::bigint[]) ORDER BY seq)
        UNION ALL
        (SELECT seq, bucket, topic, key, value, headers FROM outbox
          WHERE seq > %(after)s ORDER BY seq LIMIT %(limit)s)
    ) looked WHERE {_MINE}
"""
_NO_HEAD_BUT_ONE: Final[LiteralString] = "NULL::bigint, NULL::bigint, NULL::bigint[], NULL::bigint"
_NO_HEAD: Final[LiteralString] = f"NULL::bigint, {_NO_HEAD_BUT_ONE}"


def has_beyond(conn: Connection[Any], after: int) -> bool:
    """Say whether there is a row beyond seq `after`, whoever's it is."""
    query = "SELECT FROM outbox WHERE seq > %(after)s ORDER BY seq LIMIT 1"
    return prepared.execute(conn, query, {"after": str(after)}) > 0


def read(conn: Connection[Any], *, after: int, also: Sequence[int], limit: int) -> Page:
    """Read up to `limit` rows beyond seq `after`, and those of `also` that have become visible, in one snapshot."""
    return take(ask(conn, after=after, also=also, limit=limit))


def ask(
    conn: Connection[Any],
    *,
    after: int,
    also: Sequence[int],
    limit: int,
    share: frozenset[int] | None = None,
    settled: int = 0,
) -> Question:
    """Send the statement that reads a page. In a pipeline PostgreSQL works on it while the caller goes on.

    One statement on purpose: a row that committed late can never be read after a later row of its key that way.
    The rows are not locked. Source: docs/decisions/0002-cursor-and-gap-set-relay.md

    Of buckets that are not in `share` the numbers alone are read, and none that is `settled` or lower and lies beyond
    `after`; None: all buckets are the caller's. Memory is bounded whatever the size of rows: a value larger than its
    part of PAGE_BYTES is left behind.
    """
    query = f"""
        {_HEAD}
         UNION ALL
        SELECT seq, bucket, topic, key, CASE WHEN octet_length(value) <= %(part)s THEN value END, headers::text,
               {_NO_HEAD}
          FROM ({_WINDOW} ORDER BY seq) o
    """
    expected = limit if share is None else -(-limit * len(share) // BUCKETS)
    parameters = {
        "also": _array(also),
        "after": after,
        "limit": limit,
        "share": None if share is None else _mask(share),
        "settled": settled,
        "part": PAGE_BYTES // (expected + len(also) or 1),
    }
    return Question(conn, limit, parameters, conn.cursor(binary=True).execute(query, parameters))


def take(question: Question) -> Page:
    """Take the page that was asked for; where values were left behind, another statement reads all of it."""
    head, *found = question.answer.fetchall()
    if None in [row[4] for row in found]:
        return _read_large(question)
    return _page(question, head, found)


def _read_large(question: Question) -> Page:
    """Read as `ask` does, and end with the row that makes it PAGE_BYTES or more; the sum costs a third of a read."""
    query = f"""
        {_HEAD}
         UNION ALL
        SELECT seq, bucket, topic, key, value, headers::text, bytes_up_to, {_NO_HEAD_BUT_ONE}
          FROM (SELECT *, (sum(octet_length(value)) OVER (ORDER BY seq))::bigint AS bytes_up_to FROM ({_WINDOW}) r) o
         WHERE bytes_up_to - octet_length(value) < %(page_bytes)s
    """
    parameters = question.parameters | {"page_bytes": PAGE_BYTES}
    head, *found = question.conn.cursor(binary=True).execute(query, parameters).fetchall()
    cut = bool(found) and found[-1][6] >= PAGE_BYTES
    return _page(question, head, found, cut=cut)


def _page(question: Question, head: tuple[Any, ...], found: list[tuple[Any, ...]], *, cut: bool = False) -> Page:
    """Return the page of some rows; what lies beyond the last of a page that was cut has not been looked at."""
    rows = [
        OutboxRow(seq, bucket, topic, key, value, _headers(headers))
        for seq, bucket, topic, key, value, headers, *_ in found
    ]
    *_, oldest_xid, last_number, passed, others, looked_at = head
    last = rows[-1].seq if rows else 0
    passed = last if cut else max(passed or 0, last)
    return Page(
        rows,
        oldest_xid,
        last_number or 0,
        passed,
        sorted(seq for seq in others or () if seq <= passed),
        full=(looked_at or len(rows)) >= question.limit,
        cut=cut,
    )


def _mask(share: frozenset[int]) -> int:
    """Write a set of buckets as the bits of a signed bigint."""
    bits = sum(1 << bucket for bucket in share)
    return bits - (1 << BUCKETS) if bits >> (BUCKETS - 1) else bits


@lru_cache(maxsize=256)
def _headers(text: str) -> list[tuple[str, str | bytes | None]]:
    """Read headers as Kafka's client takes them; most rows that come together have the same."""
    return list(orjson.loads(text).items())


def delete(conn: Connection[Any], seqs: Sequence[int]) -> Cursor[Any]:
    """Delete rows by their very numbers, never by range; `xid` takes the answer.

    A range would take rows that became visible after the read and were never published. In a pipeline this only sends
    the statement: the rows are gone when the pipeline has ended.
    """
    query = "WITH gone AS (DELETE FROM outbox WHERE seq = ANY(%s::bigint[])) SELECT pg_current_xact_id()::text::bigint"
    return conn.execute(query, (_array(seqs),))


def xid(answer: Cursor[Any]) -> int:
    """Take the answer to `delete`: the xid of the transaction that did.

    It is younger than every transaction that was open when the deletion was sent: the reader uses it as the bound of
    the gaps it knew by then.
    """
    return int(answer.fetchall()[0][0])


def fresh_xid(conn: Connection[Any]) -> int:
    """Return a new transaction's xid, for a reader that has gaps to bound and nothing to delete."""
    return _one_number(conn, "SELECT pg_current_xact_id()::text::bigint", ())


def refuse(conn: Connection[Any], refused: Sequence[Refused]) -> None:
    """Set rows aside that Kafka refuses for good, and fail what they stood for; one statement, safe to repeat.

    A refused first send or retry fails its notification, which rests as a dead letter of class poison. A refused dead
    letter (the same bytes with larger headers) is tracked here and now, at rest, since no consumer will ever read it.
    """
    query = """
        WITH gone AS (
            DELETE FROM outbox o USING unnest(%(seqs)s::bigint[], %(errors)s::text[]) AS r(seq, error)
             WHERE o.seq = r.seq RETURNING o.*, r.error
        ), kept AS (
            INSERT INTO outbox_dead (seq, notification_id, bucket, topic, key, value, headers, created_at, error)
            SELECT seq, notification_id, bucket, topic, key, value, headers, created_at, error FROM gone
        ), moved AS (
            UPDATE notifications n SET status = 'failed', updated_at = now()
              FROM gone WHERE n.id = gone.notification_id AND n.status = 'pending'
                          AND n.attempt = (gone.headers ->> 'attempt')::smallint
            RETURNING n.id, n.tenant_id, n.channel, n.attempt, gone.key, gone.value, gone.headers, gone.topic,
                      gone.error, 'poison' AS failure_class, 'refused_by_kafka' AS reason
        ), dead AS (
            SELECT * FROM moved
            UNION ALL
            SELECT n.id, n.tenant_id, n.channel, n.attempt, gone.key, gone.value, gone.headers, gone.topic, gone.error,
                   gone.headers ->> 'error-class', gone.headers ->> 'error-reason'
              FROM gone JOIN notifications n ON n.id = gone.notification_id AND n.status = 'failed'
               AND n.attempt = (gone.headers ->> 'attempt')::smallint WHERE gone.headers ? 'error-class'
        )
        INSERT INTO dlq_messages (tenant_id, notification_id, channel, attempt, message_key, original_payload, headers,
                                  topic, failure_class, reason, fingerprint, first_error, error_message, rest_reason)
        SELECT tenant_id, id, channel, attempt, key, value, headers, topic, failure_class, reason,
               failure_class || '|' || topic || '|' || reason, error, error, 'refused_by_kafka' FROM dead
        ON CONFLICT (notification_id) DO UPDATE
           SET status = 'failed', attempt = EXCLUDED.attempt, failure_class = EXCLUDED.failure_class,
               reason = EXCLUDED.reason,
               fingerprint = EXCLUDED.fingerprint, error_message = EXCLUDED.error_message, retry_at = NULL,
               rest_reason = EXCLUDED.rest_reason, last_failed_at = now()
    """
    conn.execute(query, {"seqs": [row.seq for row in refused], "errors": [row.error for row in refused]})


@dataclass(frozen=True, slots=True)
class OutboxState:
    """Gauges of the outbox."""

    last_seq: int  # the highest number handed out so far
    first_seq: int | None
    oldest_age_s: float


def state(conn: Connection[Any], *, front: int) -> OutboxState:
    """Return where the outbox begins, at the number `front` or behind it, and where it ends; never counts rows.

    It costs one look at the first row, and one at each dead row between `front` and there.
    """
    query = """
        SELECT coalesce(pg_sequence_last_value(pg_get_serial_sequence('outbox', 'seq')::regclass), 0) AS last_seq,
               first.seq AS first_seq,
               coalesce(extract(epoch FROM now() - first.created_at), 0)::float8 AS oldest_age_s
          FROM (SELECT 1) one LEFT JOIN (SELECT seq, created_at FROM outbox WHERE seq >= %s ORDER BY seq LIMIT 1) first
            ON true
    """
    return conn.cursor(row_factory=class_row(OutboxState)).execute(query, (front,)).fetchall()[0]


def put_off(conn: Connection[Any], waits: Sequence[tuple[UUID, int, float]]) -> int:
    """Have notifications published again after so many seconds: their ids, the attempts they wait for, the seconds.

    One that expires before that is published then, so that it ends on time. What is not pending for that attempt any
    more is left out, as a claim would. Returns how many wait now; a repeat changes nothing.
    """
    query = """
        WITH put AS (
            INSERT INTO outbox_due (notification_id, tenant_id, due_at)
            SELECT n.id, n.tenant_id,
                   least(now() + t.seconds * interval '1 second', CASE WHEN n.expires_at > now() THEN n.expires_at END)
              FROM unnest(%(ids)s::uuid[], %(attempts)s::smallint[], %(seconds)s::float8[]) AS t(id, attempt, seconds)
              JOIN notifications n ON n.id = t.id AND n.attempt = t.attempt AND n.status = 'pending'
            ON CONFLICT (notification_id) DO NOTHING
            RETURNING 1
        )
        SELECT count(*) FROM put
    """
    parameters = {
        "ids": "{" + ",".join(str(id_) for id_, _, _ in waits) + "}",
        "attempts": _array([attempt for _, attempt, _ in waits]),
        "seconds": "{" + ",".join(str(seconds) for _, _, seconds in waits) + "}",
    }
    return _one_number(conn, query, parameters)


def promote_due(conn: Connection[Any], *, limit: int) -> int:
    """Publish what has come due: scheduled notifications, pending from now on, and those that were put off.

    They go out in the order they are due, then in the order accepted. A row whose notification was cancelled meanwhile
    is dropped, as is one that was put off and claimed all the same. One statement; rows another session holds are
    skipped. Returns how many rows left the wait.
    """
    query = f"""
        WITH due AS (
            DELETE FROM outbox_due WHERE notification_id IN (
                SELECT notification_id FROM outbox_due WHERE due_at <= now()
                 ORDER BY due_at, notification_id LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
            RETURNING notification_id
        ), moved AS (
            UPDATE notifications n SET status = 'pending', updated_at = now()
              FROM due WHERE n.id = due.notification_id AND n.status IN ('scheduled', 'pending')
            RETURNING n.*
        ), queued AS ({ENTER_QUEUE} ORDER BY n.scheduled_for, n.id ON CONFLICT (notification_id) DO NOTHING
        ), published AS ({APPEND_PENDING} ORDER BY n.scheduled_for, n.id RETURNING 1)
        SELECT count(*) FROM due
    """
    return _one_number(conn, query, {"limit": limit})


def _array(numbers: Sequence[int]) -> str:
    """Write an array literal: a Python list as a parameter costs ten times as much to encode."""
    return "{" + ",".join(map(str, numbers)) + "}"


def _one_number(conn: Connection[Any], query: LiteralString, parameters: Any) -> int:
    return int(conn.execute(query, parameters).fetchall()[0][0])
