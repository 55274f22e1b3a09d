"""The session's servers: one of each, shared by all workers, and none of them left behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest
from confluent_kafka import Consumer, Producer

from infra.local import testbed, watchdog
from tests.servers import Database, FreshTopics

LEASE_HOLDER = """
import sys, time
from pathlib import Path
from infra.local import testbed
with testbed.lease("postgres", Path(sys.argv[1])) as server:
    print(server["host_pid"], flush=True)
    time.sleep(600)
"""


def test_each_test_gets_a_database_with_the_schema_and_no_rows(database: Database) -> None:
    """A clone of the template holds init.sql's tables."""
    with database.connect() as conn:
        conn.execute("CREATE TABLE mine (x int)")
        row = conn.execute("SELECT count(*) FROM notifications").fetchone()

    assert row == (0,)


def test_a_second_database_knows_nothing_of_the_first(database: Database) -> None:
    """What the test before created is in a database that is gone."""
    with database.connect() as conn, pytest.raises(psycopg.errors.UndefinedTable):
        conn.execute("SELECT * FROM mine")


def test_fresh_topics_carry_records(topics: FreshTopics) -> None:
    """A record produced to a fresh topic is consumed from it."""
    producer = Producer({"bootstrap.servers": topics.bootstrap_servers})
    consumer = Consumer(
        {"bootstrap.servers": topics.bootstrap_servers, "group.id": topics.prefix, "auto.offset.reset": "earliest"}
    )

    producer.produce(topics.names.dlq, b"bytes", key=b"key")
    producer.flush(10)
    consumer.subscribe([topics.names.dlq])
    message = consumer.poll(10)
    consumer.close()

    assert message is not None
    assert (message.key(), message.value(), message.error()) == (b"key", b"bytes", None)


def test_a_server_ends_with_its_last_user_even_if_that_was_killed(tmp_path: Path) -> None:
    """Two processes share one server; it outlives the first and ends after the second, both killed with -9."""
    first, second = _lease_holder(tmp_path), _lease_holder(tmp_path)
    hosts = {int(_first_line(holder)) for holder in (first, second)}
    assert len(hosts) == 1
    [host] = hosts
    servers = watchdog.descendants(host)

    _kill(first)
    time.sleep(1.0)
    alive_with_one_user = watchdog.is_alive(host)
    _kill(second)
    _wait_for_end([host, *servers])

    assert alive_with_one_user
    assert not (tmp_path / "postgres.json").exists()


def test_a_host_that_was_killed_takes_its_server_along(tmp_path: Path) -> None:
    """The watchdog ends PostgreSQL when its host gets SIGKILL, and the next lease starts a new one."""
    with testbed.lease("postgres", tmp_path) as server:
        servers = watchdog.descendants(server["host_pid"])
        os.kill(server["host_pid"], signal.SIGKILL)
        _wait_for_end([server["host_pid"], *servers])

    with testbed.lease("postgres", tmp_path) as again:
        assert again["host_pid"] != server["host_pid"]


def _lease_holder(directory: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", LEASE_HOLDER, str(directory)],
        cwd=testbed.REPOSITORY,
        stdout=subprocess.PIPE,
        text=True,
    )


def _first_line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def _kill(process: "subprocess.Popen[str]") -> None:
    process.kill()
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


def _wait_for_end(pids: list[int]) -> None:
    deadline = time.monotonic() + 20
    while left := [pid for pid in pids if watchdog.is_alive(pid)]:
        assert time.monotonic() < deadline, f"still running: {left}"
        time.sleep(0.05)
