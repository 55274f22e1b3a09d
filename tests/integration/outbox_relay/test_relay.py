"""The relay against real PostgreSQL and real Kafka: what commits late, what is open for long, who owns what."""

import random
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import Mock, patch
from uuid import uuid4

import psycopg
import pytest
from confluent_kafka import Consumer

from outbox_relay import buckets, metrics
from outbox_relay.relay import Relay
from outbox_relay.settings import Settings
from shared.db import outbox
from shared.db.outbox import PAGE_BYTES, Page
from shared.model import Channel, bucket_of
from shared.settings import GroupProtocol, KafkaSettings, LogLevel, ServiceSettings
from tests.servers import Database, FreshTopics

APPEND = """INSERT INTO outbox (notification_id, bucket, topic, key, value, headers)
            VALUES (gen_random_uuid(), %s, %s, %s, %s, '{"attempt": "1"}')"""


def settings_for(database: Database, topics: FreshTopics, *, batch_rows: int = 200) -> Settings:
    """Settings of a relay on this database and these topics."""
    return Settings(
        service=ServiceSettings(database.dsn_of("outbox_relay"), "127.0.0.1", 1, LogLevel.INFO),
        kafka=KafkaSettings(topics.bootstrap_servers, topics.names.prefix, GroupProtocol.CONSUMER),
        batch_rows=batch_rows,
        topic_partitions=4,
        topic_replication=1,
        sweep_after_s=300,
        idempotency_keep_s=86_400,
        outage_wait_s=0.05,
    )


@contextmanager
def running(*relays: Relay, stop: threading.Event) -> Iterator[None]:
    """Run relays on threads until the block ends."""
    threads = [threading.Thread(target=relay.run, daemon=True) for relay in relays]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join(timeout=30)
        assert not any(thread.is_alive() for thread in threads)


def consume(topics: FreshTopics, topic: str, count: int, *, timeout_s: float = 30) -> list[tuple[str, bytes]]:
    """Read `count` records of a topic, and whatever else arrives within a moment."""
    consumer = Consumer(
        {
            "bootstrap.servers": topics.bootstrap_servers,
            "group.id": uuid4().hex,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
    )
    consumer.subscribe([topic])
    got: list[tuple[str, bytes]] = []
    deadline = time.monotonic() + timeout_s
    try:
        while time.monotonic() < deadline:
            messages = consumer.consume(1000, 0.5)
            got.extend(((m.key() or b"").decode(), m.value() or b"") for m in messages if m.error() is None)
            if len(got) >= count and not messages:
                break
    finally:
        consumer.close()
    return got


def until(condition: Callable[[], bool], *, timeout_s: float = 20) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.02)


def rows_left(database: Database) -> int:
    """How many rows the outbox holds."""
    with database.connect() as conn:
        row = conn.execute("SELECT count(*) FROM outbox").fetchone()
        return int(row[0]) if row else 0


class Writers:
    """Eight connections that commit late, out of seq order, and roll back; and one that stays open for long."""

    def __init__(self, database: Database, topic: str, *, seed: int, seconds: float) -> None:
        self._database, self._topic, self._seed = database, topic, seed
        self._end = time.monotonic() + seconds
        self._seconds = seconds
        self.committed: dict[str, int] = {}

    def run(self) -> None:
        """Write until the time is over."""
        threads = [threading.Thread(target=self._write, args=(number,)) for number in range(8)]
        threads.append(threading.Thread(target=self._hold_open))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _write(self, number: int) -> None:
        rng, counts = random.Random(self._seed * 100 + number), dict[str, int]()
        with self._database.connect() as conn:
            while time.monotonic() < self._end:
                keys = [f"w{number}-{rng.randrange(25)}" for _ in range(rng.randrange(1, 4))]
                ahead = dict(counts)
                conn.execute("BEGIN")
                for key in keys:
                    ahead[key] = ahead.get(key, 0) + 1
                    self._append(conn, key, ahead[key])
                time.sleep(rng.random() * 0.005)
                if rng.random() < 0.1:
                    conn.execute("ROLLBACK")
                else:
                    conn.execute("COMMIT")
                    counts = ahead
        self.committed.update(counts)

    def _hold_open(self) -> None:
        with self._database.connect() as conn:
            conn.execute("BEGIN")
            self._append(conn, "long", 1)
            time.sleep(self._seconds * 0.6)
            conn.execute("COMMIT")
        self.committed["long"] = 1

    def _append(self, conn: psycopg.Connection[Any], key: str, count: int) -> None:
        conn.execute("SELECT pg_current_xact_id()")  # as accepting does: the xid exists before nextval
        conn.execute(APPEND, (bucket_of(key.encode()), self._topic, key.encode(), str(count).encode()))


@pytest.mark.parametrize("relays", [1, 2, 3])
def test_rows_that_commit_late_are_neither_lost_nor_doubled_nor_inverted(
    database: Database, topics: FreshTopics, relays: int
) -> None:
    """I9, I12: eight late committers, rollbacks, a long writer; each key's rows arrive once and in commit order."""
    stop = threading.Event()
    topic = topics.names.lanes(Channel.EMAIL)[0]
    writers = Writers(database, topic, seed=relays, seconds=4)

    with running(*(Relay(settings_for(database, topics), stop) for _ in range(relays)), stop=stop):
        writers.run()
        until(lambda: rows_left(database) == 0)
        expected = sum(writers.committed.values())
        records = consume(topics, topic, expected)

    by_key: dict[str, list[int]] = defaultdict(list)
    for key, value in records:
        by_key[key].append(int(value))
    assert len(records) > 100
    assert by_key == {key: list(range(1, count + 1)) for key, count in writers.committed.items()}


def append(database: Database, topic: str, count: int, *, key: str = "k", first: int = 0) -> None:
    """Append committed rows of one key, numbered."""
    with database.connect() as conn, conn.transaction():
        for number in range(first, first + count):
            conn.execute(APPEND, (bucket_of(key.encode()), topic, key.encode(), str(number).encode()))


def test_relay_killed_before_delete_publishes_again(
    database: Database, topics: FreshTopics, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I9: acknowledged and not yet deleted when the relay dies: the rows are still there and go out once more."""
    topic = topics.names.lanes(Channel.EMAIL)[0]
    append(database, topic, 50)
    dying = Relay(settings_for(database, topics), threading.Event())
    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="killed"):
        patch.setattr(outbox, "delete", Mock(side_effect=RuntimeError("killed")))
        while True:
            dying.run_once()
    dying._session.drop()
    left_behind = rows_left(database)
    stop = threading.Event()
    with running(Relay(settings_for(database, topics), stop), stop=stop):
        until(lambda: rows_left(database) == 0)

    values = [int(value) for _, value in consume(topics, topic, 100)]
    assert left_behind == 50
    assert sorted(values) == sorted([*range(50), *range(50)])
    assert list(dict.fromkeys(values)) == list(range(50))  # first occurrences keep the order


def test_relay_at_rest_asks_for_no_page_and_misses_nothing(database: Database, topics: FreshTopics) -> None:
    """Neither a row that is new, nor one that commits behind it when there has been nothing to do for long."""
    stop = threading.Event()
    relay = Relay(settings_for(database, topics), stop)
    topic = topics.names.lanes(Channel.EMAIL)[0]
    with running(relay, stop=stop), database.connect() as late:
        until(lambda: relay._pause.is_long)
        with patch.object(relay._reader, "ask", wraps=relay._reader.ask) as ask:
            time.sleep(0.3)
            asked_at_rest = ask.call_count
        late.autocommit = False
        late.execute(APPEND, (1, topic, b"k", b"late"))
        append(database, topic, 1)
        until(lambda: rows_left(database) == 0)
        until(lambda: relay._pause.is_long)
        late.commit()
        until(lambda: rows_left(database) == 0)

    assert asked_at_rest == 0
    assert [value for _, value in consume(topics, topic, 2)] == [b"0", b"late"]


def test_the_gauges_look_for_the_first_row_from_the_front(database: Database, topics: FreshTopics) -> None:
    """Not over dead rows that the relay has gone over; and a relay that rests knows that there is nothing before."""
    topic = topics.names.lanes(Channel.EMAIL)[0]
    append(database, topic, 3)
    stop = threading.Event()
    relay = Relay(settings_for(database, topics), stop)

    with database.connect() as conn:
        firsts = [outbox.state(conn, front=front).first_seq for front in (0, 2, 4)]
    with running(relay, stop=stop):
        until(lambda: rows_left(database) == 0)
        relay._next_look = 0.0
        until(lambda: relay.front == 3)

    assert firsts == [1, 2, None]


def test_row_too_large_for_kafka_is_set_aside_and_its_neighbours_go_on(database: Database, topics: FreshTopics) -> None:
    """What Kafka refuses for good rests in outbox_dead; the rows around it are published."""
    topic = topics.names.lanes(Channel.EMAIL)[0]
    append(database, topic, 3)
    with database.connect() as conn:
        conn.execute(APPEND, (bucket_of(b"k"), topic, b"k", b"x" * (3 * 1024 * 1024)))
    append(database, topic, 3, first=3)
    stop = threading.Event()

    with running(Relay(settings_for(database, topics), stop), stop=stop):
        until(lambda: rows_left(database) == 0)

    with database.connect() as conn:
        dead = conn.execute("SELECT octet_length(value), error FROM outbox_dead").fetchall()
    assert [int(value) for _, value in consume(topics, topic, 6)] == list(range(6))
    assert dead == [(3 * 1024 * 1024, "MSG_SIZE_TOO_LARGE")]


def test_large_rows_are_taken_a_bounded_number_of_bytes_at_a_time(database: Database, topics: FreshTopics) -> None:
    """I19: a page is full at PAGE_BYTES, however many rows are asked for; all of them go out, in order."""
    topic = topics.names.lanes(Channel.EMAIL)[0]
    with database.connect() as conn:
        for number in range(24):
            value = str(number).encode().ljust(1024 * 1024)
            conn.execute(APPEND, (bucket_of(b"k"), topic, b"k", value))
    with database.connect() as conn:
        page = outbox.read(conn, after=0, also=range(1, 25), limit=1000)
    stop = threading.Event()

    with running(Relay(settings_for(database, topics), stop), stop=stop):
        until(lambda: rows_left(database) == 0)

    assert (len(page.rows), page.cut) == (PAGE_BYTES // (1024 * 1024), True)
    assert [int(value) for _, value in consume(topics, topic, 24)] == list(range(24))


def test_page_with_large_values_is_read_again_up_to_its_bound(database: Database) -> None:
    """I19: one value beyond its share, and the page ends by its bytes; the rows are the same, in order."""
    large = 2 * PAGE_BYTES // 1000
    with database.connect() as conn:
        for size in (10, 10, 10, 10, large, 10):
            conn.execute(APPEND, (1, "t", b"k", b"x" * size))

        page = outbox.read(conn, after=3, also=range(1, 4), limit=1000)

    sizes = {row.seq: len(row.value) for row in page.rows}
    assert list(sizes.items()) == [(1, 10), (2, 10), (3, 10), (4, 10), (5, large), (6, 10)]


@pytest.mark.parametrize("size", [10, 2 * PAGE_BYTES // 6], ids=["small values", "large values"])
def test_of_other_shares_a_page_shows_the_numbers_alone(database: Database, size: int) -> None:
    """And those that are settled not even so; where the page ends is known though its last row is another's."""
    with database.connect() as conn:
        for bucket in (0, 63, 1, 63, 0, 2, 63):
            conn.execute(APPEND, (bucket, "t", b"k", b"x" * (size if bucket == 63 else 10)))

        def asked(**how: Any) -> Page:
            return outbox.take(outbox.ask(conn, **{"also": (), "share": frozenset({63}), **how}))

        first = asked(after=0, limit=6)
        second = asked(after=3, limit=6, also=[1, 2, 3], settled=5)
        alone = asked(after=0, limit=2, share=frozenset({1}))
        nothing = asked(after=7, limit=6)

    shown = [([row.seq for row in page.rows], page.others, page.passed, page.full) for page in (first, second, alone)]
    assert shown == [
        ([2, 4], [1, 3, 5, 6], 6, True),
        ([2, 4, 7], [1, 3, 6], 7, False),
        ([], [1, 2], 2, True),
    ]
    assert {row.value for row in first.rows} == {b"x" * size}
    assert (nothing.rows, nothing.others, nothing.passed, nothing.last_number) == ([], [], 0, 7)


def test_what_landed_is_deleted_before_its_bucket_is_given_up(
    database: Database, topics: FreshTopics, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I12: another relay that takes the bucket at once would publish it a second time."""
    append(database, topics.names.lanes(Channel.EMAIL)[0], 50)
    seen = Mock()
    seen.attach_mock(Mock(side_effect=outbox.delete), "delete")
    seen.attach_mock(Mock(side_effect=buckets.give_up), "give_up")
    monkeypatch.setattr(outbox, "delete", seen.delete)
    monkeypatch.setattr(buckets, "give_up", seen.give_up)
    relay = Relay(settings_for(database, topics), threading.Event())

    while not relay._flight:
        relay.run_once()
    relay._surplus, relay._next_rebalance = frozenset(range(32)), float("inf")
    while not seen.give_up.called:
        relay.run_once()
    relay._session.drop()

    assert [name for name, *_ in seen.mock_calls] == ["delete", "give_up"]


def test_a_bug_in_a_deletion_is_not_taken_for_an_outage(
    database: Database, topics: FreshTopics, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An outage would be waited out for ever; a bug ends the process."""
    append(database, topics.names.lanes(Channel.EMAIL)[0], 50)
    monkeypatch.setattr(outbox, "delete", lambda conn, _: conn.execute("DELETE FROM outbox WHERE nonsense"))
    relay = Relay(settings_for(database, topics), threading.Event())

    with pytest.raises(psycopg.errors.UndefinedColumn):
        while True:
            relay.run_once()
    relay._session.drop()


def test_buckets_move_to_the_relay_that_stays(database: Database, topics: FreshTopics) -> None:
    """Of two relays one stops: the other takes its buckets over and the keys keep their order."""
    topic = topics.names.lanes(Channel.EMAIL)[0]
    stop_one, stop_two = threading.Event(), threading.Event()
    one = Relay(settings_for(database, topics), stop_one)
    two = Relay(settings_for(database, topics), stop_two)

    with running(one, stop=stop_one):
        with running(two, stop=stop_two):
            until(lambda: len(one._mine) == 32 and len(two._mine) == 32)
            for number in range(200):
                append(database, topic, 1, key=f"k{number % 20}", first=number)
        until(lambda: len(one._mine) == 64)
        for number in range(200, 400):
            append(database, topic, 1, key=f"k{number % 20}", first=number)
        until(lambda: rows_left(database) == 0)

    by_key: dict[str, list[int]] = defaultdict(list)
    for key, value in consume(topics, topic, 400):
        by_key[key].append(int(value))
    assert by_key == {f"k{k}": list(range(k, 400, 20)) for k in range(20)}


def test_row_that_commits_after_the_relay_restarted_far_beyond_it_is_found(
    database: Database, topics: FreshTopics
) -> None:
    """The table is the truth: a row no gap remembers is found by the look at the front of the table."""
    topic = topics.names.lanes(Channel.EMAIL)[0]
    late = database.connect()
    late.execute("BEGIN")
    late.execute(APPEND, (bucket_of(b"late"), topic, b"late", b"0"))
    with database.connect() as conn:
        conn.execute("SELECT setval(pg_get_serial_sequence('outbox', 'seq'), 50000)")
    append(database, topic, 5)
    stop = threading.Event()
    relay = Relay(settings_for(database, topics), stop)

    with running(relay, stop=stop):
        until(lambda: rows_left(database) == 0)
        late.execute("COMMIT")
        relay._next_look = 0.0
        until(lambda: rows_left(database) == 0)
    late.close()

    assert sorted(key for key, _ in consume(topics, topic, 6)) == ["k"] * 5 + ["late"]


@pytest.mark.parametrize("sqlstate", ["XX000", "25006", "53100"])
def test_relay_waits_out_a_server_that_fails(database: Database, topics: FreshTopics, sqlstate: str) -> None:
    """A disk that is full or failing, a standby: the relay asks again, and goes on as soon as it may."""
    topic = topics.names.lanes(Channel.EMAIL)[0]
    stop = threading.Event()
    append(database, topic, 10)
    with database.connect() as conn:
        conn.execute(
            f"""CREATE FUNCTION fails() RETURNS trigger LANGUAGE plpgsql
                    AS $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '{sqlstate}'; END $$;
                CREATE TRIGGER fails BEFORE DELETE ON outbox EXECUTE FUNCTION fails()"""
        )

    started_over = metrics.STARTS_OVER.labels("postgres_unreachable")._value
    before = started_over.get()

    with running(Relay(settings_for(database, topics), stop), stop=stop):
        until(lambda: started_over.get() >= before + 2)  # published, and published again, as they cannot be deleted
        with database.connect() as conn:
            conn.execute("DROP TRIGGER fails ON outbox")
        until(lambda: rows_left(database) == 0)


def test_relay_waits_out_postgres_cutting_its_sessions(database: Database, topics: FreshTopics) -> None:
    """Every session of the database is ended, again and again, while rows come in: none is lost, order stays."""
    topic = topics.names.lanes(Channel.EMAIL)[0]
    stop = threading.Event()

    with running(Relay(settings_for(database, topics), stop), stop=stop):
        for round_ in range(5):
            append(database, topic, 100, first=round_ * 100)
            with database.connect() as conn:
                conn.execute(
                    """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                        WHERE datname = current_database() AND pid <> pg_backend_pid()
                          AND application_name = 'outbox_relay'"""
                )
        until(lambda: rows_left(database) == 0)

    values = [int(value) for _, value in consume(topics, topic, 500)]
    assert list(dict.fromkeys(values)) == list(range(500))
