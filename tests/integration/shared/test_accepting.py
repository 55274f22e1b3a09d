"""Accepting one by one and many at once: the same rows, the same promises."""

import itertools
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from shared.db import accepting
from shared.db.accepting import NewNotification
from shared.model import Channel, OnUnknown, Priority
from shared.records import record_headers
from tests.integration.shared.conftest import Conn

New = Callable[..., NewNotification]
Accept = Callable[[Conn, Sequence[NewNotification]], object]
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def one_by_one(conn: Conn, news: Sequence[NewNotification]) -> None:
    """As single requests are."""
    for new in news:
        accepting.insert(conn, new)


def by_origin(conn: Conn, news: Sequence[NewNotification]) -> None:
    """As batches are: each of one origin."""
    for _, some in itertools.groupby(news, lambda one: (one.traceparent, one.correlation_id)):
        accepting.insert_many(conn, list(some))


each_way = pytest.mark.parametrize("way", [one_by_one, by_origin], ids=["insert", "insert_many"])


def variety(new: New) -> list[NewNotification]:
    """What can be written in each way."""
    shared = record_headers(attempt=1, traceparent=TRACE, correlation_id="c")
    return [
        new(),
        new(ordering_key="Ключ \\N \\. '"),
        new(ordering_key="Ключ \\N \\. '", priority=Priority.URGENT, on_unknown=OnUnknown.HOLD),
        new(channel=Channel.WEBHOOK, recipient="https://example.com/?a=\\t&b=%00", topic="t.webhook.high"),
        new(traceparent=TRACE, correlation_id="c", headers=shared),
        new(traceparent=TRACE, correlation_id="c", headers=shared, record=b'{"message":"tab\\t\xc3\xa9 \\\\N"}'),
        new(expires_at=datetime.now(UTC) + timedelta(hours=1)),
    ]


def rows(conn: Conn, query: str) -> list[tuple[Any, ...]]:
    return conn.execute(query).fetchall()


@each_way
def test_each_way_of_accepting_writes_the_same(conn: Conn, new: New, way: Accept) -> None:
    """Each column of each row, the outbox in the order given, and the queue of each ordering key."""
    news = variety(new)

    way(conn, news)

    wanted = ("id", "tenant_id", "channel", "recipient", "priority", "ordering_key", "on_unknown", "expires_at")
    routing = ("created_at", "bucket", "topic", "traceparent", "correlation_id", "record")
    found = rows(conn, f"SELECT {', '.join(wanted + routing)}, status, attempt FROM notifications ORDER BY id")
    assert found == [(*(getattr(one, name) for name in wanted + routing), "pending", 1) for one in news]
    assert rows(conn, "SELECT notification_id, bucket, topic, key, value, headers FROM outbox ORDER BY seq") == [
        (one.id, one.bucket, one.topic, one.key, one.record, one.headers) for one in news
    ]
    assert rows(conn, "SELECT notification_id FROM ordering_queue ORDER BY seq") == [(news[1].id,), (news[2].id,)]


@each_way
def test_a_second_time_is_refused_whole(conn: Conn, new: New, way: Accept) -> None:
    """By the id that is there already; the connection is fit for more."""
    once, other = new(), new()
    accepting.insert(conn, once)

    with pytest.raises(psycopg.errors.UniqueViolation):
        way(conn, [once, other])

    accepting.insert(conn, other)
    assert rows(conn, "SELECT (SELECT count(*) FROM notifications), (SELECT count(*) FROM outbox)") == [(2, 2)]


@each_way
def test_each_way_ends_with_the_callers_transaction(conn: Conn, other: Conn, new: New, way: Accept) -> None:
    """Nothing is seen before its commit, and nothing is left after its rollback."""
    with pytest.raises(ZeroDivisionError), conn.transaction():
        way(conn, variety(new))
        seen = rows(other, "SELECT count(*) FROM notifications")
        raise ZeroDivisionError

    assert seen == [(0,)]
    assert rows(conn, "SELECT (SELECT count(*) FROM notifications), (SELECT count(*) FROM outbox)") == [(0, 0)]


def test_many_that_end_halfway_leave_nothing(conn: Conn, other: Conn, new: New) -> None:
    """A backend that dies takes all of them with it; what is tried again is written once."""
    news = [new() for _ in range(3)]
    conn.execute(
        """
        CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END $$;
    """,
        prepare=False,
    )
    conn.execute("CREATE TRIGGER die AFTER INSERT ON notifications FOR EACH STATEMENT EXECUTE FUNCTION die()")

    with pytest.raises(psycopg.OperationalError):
        accepting.insert_many(other, news)
    left = rows(conn, "SELECT (SELECT count(*) FROM notifications), (SELECT count(*) FROM outbox)")
    conn.execute("DROP TRIGGER die ON notifications")
    accepting.insert_many(conn, news)

    assert left == [(0, 0)]
    assert rows(conn, "SELECT (SELECT count(*) FROM notifications), (SELECT count(*) FROM outbox)") == [(3, 3)]


def test_many_are_of_one_origin(conn: Conn, new: New) -> None:
    """Those of several tenants or traces are refused, as is nothing at all."""
    for news in ([new(), new(tenant_id="acme")], [new(), new(traceparent=TRACE)], [new(), new(correlation_id="c")], []):
        with pytest.raises(ValueError, match="one"):
            accepting.insert_many(conn, news)

    assert rows(conn, "SELECT count(*) FROM notifications") == [(0,)]


def test_many_may_be_scheduled_and_expire_by_either_clock(conn: Conn, new: New) -> None:
    """In one request with others: each has what it asked for, and only what is pending is published."""
    later = datetime.now(UTC) + timedelta(hours=1)
    news = [new(), new(scheduled_for=later), new(expires_at=later), new(expires_in_s=60.0), new(ordering_key="k")]

    accepting.insert_many(conn, news)

    found = rows(
        conn, "SELECT status, scheduled_for, expires_at - now() < interval '2 minutes' FROM notifications ORDER BY id"
    )
    assert found == [
        ("pending", None, None),
        ("scheduled", later, None),
        ("pending", None, False),
        ("pending", None, True),
        ("pending", None, None),
    ]
    assert rows(conn, "SELECT notification_id, due_at FROM outbox_due") == [(news[1].id, later)]
    published = rows(conn, "SELECT notification_id FROM outbox ORDER BY seq")
    assert published == [(news[n].id,) for n in (0, 2, 3, 4)]


@each_way
def test_the_xid_is_there_before_a_number_is_taken(conn: Conn, other: Conn, new: New, way: Accept) -> None:
    """The relay gives a gap up once all transactions have ended that were under way when it saw it."""
    pid = other.info.backend_pid
    waits = "SELECT count(*) FROM pg_locks WHERE pid = %s AND NOT granted"
    xids = "SELECT count(*) FROM pg_locks WHERE pid = %s AND locktype = 'transactionid' AND granted"
    numbers = "SELECT pg_sequence_last_value(pg_get_serial_sequence('outbox', 'seq')::regclass)"
    with ThreadPoolExecutor(1) as threads:
        with conn.transaction():
            conn.execute("ALTER SEQUENCE outbox_seq_seq INCREMENT BY 1")  # nextval waits for its end
            writing = threads.submit(way, other, [new()])
            while conn.execute(waits, (pid,)).fetchone() == (0,):
                time.sleep(0.01)
            seen = conn.execute(xids, (pid,)).fetchone(), conn.execute(numbers).fetchone()
        writing.result(timeout=10)

    assert seen == ((1,), (None,))
    assert rows(conn, numbers) == [(1,)]
