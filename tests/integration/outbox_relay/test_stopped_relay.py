"""A relay that is stopped wherever it may be: PostgreSQL ends its session, so that its buckets are free for another."""

import time

import psycopg
import pytest

from outbox_relay.relay import SESSION_SETTINGS
from shared.db import connect, outbox
from shared.db.pipelining import pipelined
from tests.servers import Database

SHORT: tuple[str, ...] = tuple(setting.replace("'10s'", "'1s'") for setting in SESSION_SETTINGS)


def append(conn: psycopg.Connection, *, count: int, value_bytes: int) -> None:
    """Append rows with values of this size."""
    query = """INSERT INTO outbox (notification_id, bucket, topic, key, value, headers)
               SELECT gen_random_uuid(), 1, 't', 'k', convert_to(repeat('x', %s), 'UTF8'), '{"attempt": "1"}'
                 FROM generate_series(1, %s)"""
    conn.execute(query, (value_bytes, count))


def with_lock(database: Database) -> psycopg.Connection:
    """A session as a relay's, that holds a lock as a relay holds its buckets."""
    conn = connect(database.dsn, application_name="stopped", settings=SHORT)
    conn.execute("SELECT pg_advisory_lock(1)")
    return conn


def is_free_within(other: psycopg.Connection, limit_s: float) -> bool:
    """Say whether the lock becomes free for another session."""
    deadline, free = time.monotonic() + limit_s, False
    while not free and time.monotonic() < deadline:
        time.sleep(0.1)
        free = other.execute("SELECT pg_try_advisory_lock(1)").fetchall()[0][0]
    return free


@pytest.mark.parametrize(("count", "value_bytes"), [(3, 10), (1000, 8_000)], ids=["a small page", "a large page"])
def test_relay_stopped_with_an_answer_on_its_way_loses_its_session(
    database: Database, count: int, value_bytes: int
) -> None:
    """I12: neither a page that nobody takes nor a pipeline that nobody ends keeps its locks from the next relay."""
    with database.connect() as other:
        append(other, count=count, value_bytes=value_bytes)
        stopped = with_lock(database)

        with pytest.raises(psycopg.OperationalError), pipelined(stopped) as pipeline:
            outbox.ask(stopped, after=0, also=(), limit=1000)
            pipeline.send_off()
            free = is_free_within(other, 10.0)

        stopped.close()
    assert free


def test_relay_stopped_after_an_exchange_loses_its_session(database: Database) -> None:
    """I12: nothing that ends a pipeline stops the clock of the session, which is idle from then on."""
    with database.connect() as other:
        append(other, count=3, value_bytes=10)
        stopped = with_lock(database)
        with pipelined(stopped) as pipeline:
            outbox.ask(stopped, after=0, also=(), limit=1000)
            pipeline.send_off()

        free = is_free_within(other, 5.0)

        stopped.close()
    assert free


def test_what_was_sent_off_is_committed_while_the_pipeline_is_open(database: Database) -> None:
    """A deletion does not wait for what is produced meanwhile; its xid is there in the end."""
    with database.connect() as conn, database.connect() as other:
        append(conn, count=2, value_bytes=10)

        with pipelined(conn) as pipeline:
            deleted = outbox.delete(conn, [row.seq for row in outbox.read(other, after=0, also=(), limit=10).rows])
            pipeline.send_off()
            deadline = time.monotonic() + 5
            while outbox.read(other, after=0, also=(), limit=10).rows and time.monotonic() < deadline:
                time.sleep(0.02)
            left = outbox.read(other, after=0, also=(), limit=10).rows

        assert (left, outbox.xid(deleted) > 0) == ([], True)
