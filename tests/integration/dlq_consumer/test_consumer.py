"""The DLQ consumer against real PostgreSQL and real Kafka."""

import random
import threading
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import psycopg
import pytest
from confluent_kafka import Producer, TopicPartition

from dlq_consumer import metrics
from dlq_consumer.consumer import DlqConsumer
from dlq_consumer.settings import Settings
from shared import db
from shared.db import accepting, notifications, pruning
from shared.db.accepting import NewNotification
from shared.db.notifications import Ended, Ticket
from shared.model import Outcome, uuid7
from shared.settings import GroupProtocol, KafkaSettings, LogLevel, ServiceSettings
from tests.integration.notifications import new_notification
from tests.servers import Database, FreshTopics

Made = Callable[..., DlqConsumer]


@pytest.fixture(params=list(GroupProtocol))
def consumer(request: pytest.FixtureRequest, database: Database, topics: FreshTopics) -> Iterator[Made]:
    """Make consumers on this test's database and topics, for both group protocols."""
    made: list[DlqConsumer] = []

    def make(*, ladder_s: tuple[float, ...] = (0.01,)) -> DlqConsumer:
        settings = Settings(
            service=ServiceSettings(database.dsn_of("dlq_consumer"), "127.0.0.1", 1, LogLevel.INFO),
            kafka=KafkaSettings(topics.bootstrap_servers, topics.prefix, request.param),
            retry_ladder_s=ladder_s,
            poll_s=0.05,
        )
        made.append(DlqConsumer(settings, threading.Event(), rng=random.Random(1)))
        return made[-1]

    yield make
    for one in made:
        one.close()


def produce(topics: FreshTopics, *records: tuple[bytes | None, bytes | None, dict[str, str]]) -> None:
    """Put records on the DLQ topic."""
    producer = Producer({"bootstrap.servers": topics.bootstrap_servers})
    for key, value, headers in records:
        producer.produce(topics.names.dlq, value, key, headers=list(headers.items()))
    assert producer.flush(10) == 0


def run_until(consumer: DlqConsumer, condition: Callable[[], bool]) -> None:
    """Run single steps until a condition holds."""
    for _ in range(200):
        consumer.run_once()
        if condition():
            return
    raise AssertionError("it did not come true in 200 steps")


def failed(conn: psycopg.Connection[Any]) -> tuple[NewNotification, dict[str, str]]:
    """A notification whose first attempt failed, and the headers of its dead letter."""
    one = new_notification()
    accepting.insert(conn, one)
    notifications.claim(conn, [Ticket(one.id, 1)], owner=uuid7(), lease_s=30)
    owner = conn.execute("SELECT owner FROM delivery_attempts WHERE notification_id = %s", (one.id,)).fetchall()[0][0]
    notifications.write_back(
        conn, [Ended(one.id, 1, Outcome.TRANSIENT, "http_503", detail="busy")], owner=owner, dlq_topic="dlq"
    )
    headers = conn.execute("SELECT headers FROM outbox WHERE topic = 'dlq'").fetchall()[0][0]
    conn.execute("DELETE FROM outbox")
    return one, headers


def letters(conn: psycopg.Connection[Any], columns: str) -> list[tuple[Any, ...]]:
    """The dead letters."""
    return conn.execute(f"SELECT {columns} FROM dlq_messages ORDER BY first_failed_at, id").fetchall()


def test_dead_letter_is_tracked_and_requeued_when_due(
    conn: psycopg.Connection[Any], topics: FreshTopics, consumer: Made
) -> None:
    """From the topic to dlq_messages, and back into the outbox as attempt 2."""
    one, headers = failed(conn)
    produce(topics, (one.key, one.record, headers))

    run_until(consumer(), lambda: letters(conn, "status") == [("retrying",)])

    assert letters(conn, "notification_id, original_payload, reason, retry_count") == [
        (one.id, one.record, "http_503", 1)
    ]
    assert conn.execute("SELECT value, headers ->> 'attempt' FROM outbox").fetchall() == [(one.record, "2")]


def test_undecodable_bytes_are_kept_and_harm_no_neighbour(
    conn: psycopg.Connection[Any], topics: FreshTopics, consumer: Made
) -> None:
    """I15: poison is tracked by its place, unchanged, and the dead letters around it as well."""
    one, headers = failed(conn)
    produce(topics, (None, b"\xff\x00", {}), (one.key, one.record, headers), (b"k", None, {"error-class": "poison"}))

    run_until(consumer(ladder_s=(3600,)), lambda: len(letters(conn, "1")) == 3)

    found = letters(conn, "failure_class, original_payload, rest_reason")
    assert sorted(found, key=repr) == sorted(
        [("poison", b"\xff\x00", "poison"), ("poison", None, "poison"), ("transient", one.record, None)], key=repr
    )


def test_reading_again_changes_nothing(conn: psycopg.Connection[Any], topics: FreshTopics, consumer: Made) -> None:
    """I11: a crash between recording and committing repeats the reading; so does a lost offset."""
    one, headers = failed(conn)
    produce(topics, (one.key, one.record, headers), (one.key, one.record, headers))
    first = consumer(ladder_s=(3600,))
    first._commit = lambda messages: None  # type: ignore[method-assign]
    run_until(first, lambda: len(letters(conn, "1")) == 1)
    before = letters(conn, "*")
    first.close()

    second = consumer(ladder_s=(3600,))
    read = 0
    for _ in range(200):
        read += second.run_once()
        if read >= 2:
            break

    assert read >= 2
    assert letters(conn, "*") == before


def test_reading_again_what_was_pruned_makes_no_letter(
    conn: psycopg.Connection[Any], topics: FreshTopics, consumer: Made
) -> None:
    """The topic keeps dead letters on after retention has taken their notification: sent at the second attempt here."""
    one, headers = failed(conn)
    other, other_headers = failed(conn)
    produce(topics, (one.key, one.record, headers))
    reader = consumer(ladder_s=(0.01,))
    run_until(reader, lambda: letters(conn, "status") == [("retrying",)])
    owner = uuid7()
    notifications.claim(conn, [Ticket(one.id, 2)], owner=owner, lease_s=30)
    notifications.write_back(conn, [Ended(one.id, 2, Outcome.ACCEPTED, "sent")], owner=owner, dlq_topic="dlq")
    conn.execute("UPDATE notifications SET updated_at = now() - interval '40 days' WHERE id = %s", (one.id,))
    conn.execute("UPDATE notifications SET created_at = now() - interval '40 days' WHERE id = %s", (one.id,))
    conn.execute("DELETE FROM outbox")
    pruned = pruning.prune(conn, after=UUID(int=0), before=UUID(int=2**128 - 1), older_than_s=86_400, limit=9)
    assert (pruned.rows, letters(conn, "1")) == (1, [])
    counted = metrics.PRUNED._value.get()

    produce(topics, (one.key, one.record, headers), (other.key, other.record, other_headers))
    run_until(reader, lambda: len(letters(conn, "1")) == 1 and metrics.PRUNED._value.get() > counted)

    assert letters(conn, "notification_id") == [(other.id,)]
    assert metrics.PRUNED._value.get() == counted + 1


def test_retries_end_with_the_ladder(conn: psycopg.Connection[Any], topics: FreshTopics, consumer: Made) -> None:
    """I16: after the last rung the dead letter rests and says why."""
    one, headers = failed(conn)
    conn.execute("UPDATE notifications SET attempt = 3")
    produce(topics, (one.key, one.record, headers))
    reader = consumer(ladder_s=(3600,))
    run_until(reader, lambda: len(letters(conn, "1")) == 1)
    conn.execute("UPDATE dlq_messages SET retry_count = 1, status = 'retrying', retry_at = NULL")

    produce(topics, (one.key, one.record, {**headers, "attempt": "3"}))
    run_until(reader, lambda: letters(conn, "status") == [("failed",)])

    assert letters(conn, "retry_at, rest_reason, retry_count, attempt") == [(None, "retries_used_up", 1, 3)]


def test_the_original_is_kept_and_nothing_returns_to_the_topic(
    conn: psycopg.Connection[Any], topics: FreshTopics, consumer: Made
) -> None:
    """I15, I16: bytes, key, headers, place and first error are the first failure's; the topic only ever grew by us."""
    one, headers = failed(conn)
    place = {"original-topic": "t", "original-partition": "1", "original-offset": "7"}
    first = {**headers, **place, "error-message": "first"}
    produce(topics, (one.key, one.record, first), (None, b"\xff", {}))
    reader = consumer()
    run_until(reader, lambda: ("retrying",) in letters(conn, "status"))
    columns = 'original_payload, message_key, headers, topic, partition, "offset", first_error, first_failed_at'
    query = f"SELECT {columns} FROM dlq_messages WHERE notification_id IS NOT NULL"
    [before] = conn.execute(query).fetchall()
    conn.execute("UPDATE notifications SET status = 'failed'")

    later = {**first, "attempt": "2", "original-offset": "9", "error-message": "last", "error-reason": "http_500"}
    produce(topics, (b"other", one.record, later))
    run_until(reader, lambda: ("last",) in letters(conn, "error_message"))

    assert conn.execute(query).fetchall() == [before]
    assert before[:7] == (one.record, one.key, first, "t", 1, 7, "first")
    assert conn.execute("SELECT max(retry_count), max(attempt) FROM dlq_messages").fetchall() == [(1, 2)]
    assert conn.execute("SELECT count(*) FROM outbox WHERE topic = %s", (topics.names.dlq,)).fetchall() == [(0,)]
    ends = [
        reader._consumer.get_watermark_offsets(TopicPartition(topics.names.dlq, number), timeout=10)[1]
        for number in range(3)
    ]
    assert sum(ends) == 3


def test_readiness_names_a_kafka_that_is_away(database: Database) -> None:
    """A loop that polls in vain is not ready, though it polls."""
    settings = Settings(
        service=ServiceSettings(database.dsn_of("dlq_consumer"), "127.0.0.1", 1, LogLevel.INFO),
        kafka=KafkaSettings("127.0.0.1:9", "t", GroupProtocol.CONSUMER),
        retry_ladder_s=(1,),
        poll_s=0.05,
    )
    reader = DlqConsumer(settings, threading.Event())

    run_until(reader, lambda: reader.kafka_fault() is not None)

    assert reader.kafka_fault() == "brokers out of reach"
    reader.close()


def test_outage_of_postgres_loses_no_dead_letter(
    conn: psycopg.Connection[Any], topics: FreshTopics, consumer: Made
) -> None:
    """A batch read when PostgreSQL went away is recorded by a later step; its offsets wait for that."""
    one, headers = failed(conn)
    produce(topics, (one.key, one.record, headers))
    reader = consumer(ladder_s=(3600,))
    session = reader._session.connection()
    session.execute("SET statement_timeout = 0")
    conn.execute("SELECT pg_terminate_backend(%s)", (session.info.backend_pid,))

    for _ in range(200):
        try:
            reader.run_once()
        except db.OUTAGE:
            reader._session.drop()
        if letters(conn, "1"):
            break

    assert letters(conn, "notification_id") == [(one.id,)]
