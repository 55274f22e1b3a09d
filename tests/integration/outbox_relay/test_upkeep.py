"""The upkeep on real PostgreSQL: one leader, tasks when they are due, leases after a grace."""

import threading
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from outbox_relay import metrics
from outbox_relay.upkeep import LEASE_GRACE_S, Upkeep
from shared.db import accepting, notifications
from shared.db.notifications import Ticket
from tests.integration.notifications import TOPICS, new_notification
from tests.integration.outbox_relay.test_relay import settings_for, until
from tests.servers import Database, FreshTopics


@pytest.fixture
def upkeep(database: Database) -> Iterator[Callable[[], Upkeep]]:
    """Make upkeeps of one database; they need no Kafka."""
    made: list[Upkeep] = []
    topics = FreshTopics(TOPICS, "127.0.0.1:1")

    def make() -> Upkeep:
        made.append(Upkeep(settings_for(database, topics), threading.Event(), passed=lambda: 0))
        return made[-1]

    yield make
    for one in made:
        one._session.drop()


def test_one_upkeep_leads_and_another_takes_over(upkeep: Callable[[], Upkeep]) -> None:
    """Two relays run, one does the upkeep; when its session ends the other does."""
    one, two = upkeep(), upkeep()

    together = (one.lead(), two.lead(), one.lead())
    one._session.drop()
    until(two.lead)

    assert together == (True, False, True)
    assert not one.lead()


def test_leases_are_called_over_only_after_a_grace(
    conn: psycopg.Connection[Any], upkeep: Callable[[], Upkeep], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a start, or an outage, owners get the time to write back what they hold."""
    one = new_notification()
    accepting.insert(conn, one)
    notifications.claim(conn, [Ticket(one.id, 1)], owner=uuid4(), lease_s=-1)
    keeper = upkeep()
    keeper.lead()

    early = (keeper.run_once(), notification_status(conn))
    monkeypatch.setattr("outbox_relay.upkeep.time.monotonic", lambda: keeper._rescue_from + 1)
    keeper.run_once()

    assert LEASE_GRACE_S > 0
    assert early == (0, "processing")
    assert notification_status(conn) == "failed"


def test_depth_and_age_of_the_outbox_are_measured(conn: psycopg.Connection[Any], upkeep: Callable[[], Upkeep]) -> None:
    """The gauges follow the table without counting it."""
    for _ in range(3):
        accepting.insert(conn, new_notification())
    conn.execute("UPDATE outbox SET created_at = now() - interval '1 minute' WHERE seq = 1")
    keeper = upkeep()
    keeper.lead()

    keeper.run_once()
    full = (metrics.OUTBOX_DEPTH._value.get(), metrics.OUTBOX_OLDEST_AGE._value.get() >= 60)
    conn.execute("DELETE FROM outbox")
    keeper._measure(conn)

    assert full == (3, True)
    assert metrics.OUTBOX_DEPTH._value.get() == 0


def test_nothing_is_swept_while_the_relay_is_behind(
    conn: psycopg.Connection[Any], upkeep: Callable[[], Upkeep]
) -> None:
    """With Kafka away what waits is late, not lost; looking for it among all that waits would only cost."""
    lost, waiting = new_notification(), new_notification()
    for one in (lost, waiting):
        accepting.insert(conn, one)
    conn.execute("DELETE FROM outbox WHERE notification_id = %s", (lost.id,))
    conn.execute("UPDATE notifications SET updated_at = now() - interval '1 hour'")
    conn.execute("UPDATE outbox SET created_at = now() - interval '1 hour'")
    keeper = upkeep()
    keeper._measure(conn)

    behind = keeper._sweep(conn)
    conn.execute("DELETE FROM outbox WHERE notification_id = %s", (waiting.id,))
    keeper._measure(conn)

    assert (behind, keeper._sweep(conn)) == (0, 2)


def notification_status(conn: psycopg.Connection[Any]) -> str:
    """The status of the one notification there is."""
    return str(conn.execute("SELECT status FROM notifications").fetchall()[0][0])
