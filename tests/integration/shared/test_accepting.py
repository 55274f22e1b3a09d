"""Accepting one by one, in one statement, and by COPY: the same rows, the same promises."""

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


WAYS: list[Accept] = [one_by_one, accepting.insert_many, accepting.copy_many]
each_way = pytest.mark.parametrize("way", WAYS, ids=["insert", "insert_many", "copy_many"])


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


def test_copy_refuses_what_it_cannot_write(conn: Conn, new: New) -> None:
    """A schedule, and a lifetime by PostgreSQL's clock."""
    later = new(scheduled_for=datetime.now(UTC) + timedelta(hours=1))
    for one in (later, new(expires_in_s=60.0)):
        assert not accepting.can_copy([new(), one])
        with pytest.raises(ValueError, match="pending"):
            accepting.copy_many(conn, [new(), one])

    assert rows(conn, "SELECT count(*) FROM notifications") == [(0,)]


def test_copy_that_ends_halfway_leaves_nothing(
    conn: Conn, other: Conn, new: New, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backend that dies between the two commands takes the first with it; what is tried again is written once."""
    news, copy_outbox = variety(new), accepting._copy_outbox
    pid = other.info.backend_pid

    def die(*_: Any) -> None:
        conn.execute("SELECT pg_terminate_backend(%s)", (pid,))
        monkeypatch.setattr(accepting, "_copy_outbox", copy_outbox)
        other.execute("SELECT 1")

    monkeypatch.setattr(accepting, "_copy_outbox", die)
    with pytest.raises(psycopg.OperationalError):
        accepting.copy_many(other, news)
    left = rows(conn, "SELECT count(*) FROM notifications")
    accepting.copy_many(conn, news)

    assert left == [(0,)]
    assert rows(conn, "SELECT (SELECT count(*) FROM notifications), (SELECT count(*) FROM outbox)") == [(7, 7)]


def test_copy_has_its_xid_before_it_takes_a_number(conn: Conn, other: Conn, new: New) -> None:
    """The relay gives a gap up once all transactions have ended that were under way when it saw it."""
    pid = other.info.backend_pid
    waits = "SELECT count(*) FROM pg_locks WHERE pid = %s AND NOT granted"
    xids = "SELECT count(*) FROM pg_locks WHERE pid = %s AND locktype = 'transactionid' AND granted"
    numbers = "SELECT pg_sequence_last_value(pg_get_serial_sequence('outbox', 'seq')::regclass)"
    with ThreadPoolExecutor(1) as threads:
        with conn.transaction():
            conn.execute("LOCK TABLE outbox")
            writing = threads.submit(accepting.copy_many, other, [new()])
            while conn.execute(waits, (pid,)).fetchone() == (0,):
                time.sleep(0.01)
            seen = conn.execute(xids, (pid,)).fetchone(), conn.execute(numbers).fetchone()
        writing.result(timeout=10)

    assert seen == ((1,), (None,))
    assert rows(conn, numbers) == [(1,)]
