"""The upkeep on real PostgreSQL: one leader, tasks when they are due, leases after a grace."""

import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from outbox_relay import metrics
from outbox_relay.upkeep import LEASE_GRACE_S, Upkeep
from shared.db import accepting, attempts, notifications, suppressions
from shared.db.notifications import Ticket
from shared.model import Channel
from tests.integration import ledger_rows
from tests.integration.notifications import TOPICS, new_notification
from tests.integration.outbox_relay.test_relay import settings_for, until
from tests.servers import Database, FreshTopics


@pytest.fixture
def upkeep(database: Database) -> Iterator[Callable[[], Upkeep]]:
    """Make upkeeps of one database; they need no Kafka."""
    made: list[Upkeep] = []
    topics = FreshTopics(TOPICS, "127.0.0.1:1")

    def make() -> Upkeep:
        made.append(Upkeep(settings_for(database, topics), threading.Event(), passed=lambda: 0, front=lambda: 0))
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


def test_a_clock_that_jumps_ends_no_lease_before_its_owner_could_renew(
    conn: psycopg.Connection[Any], upkeep: Callable[[], Upkeep], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server's clock leaps by three hours: all leases look over, and all owners are alive."""
    one = new_notification()
    accepting.insert(conn, one)
    owner = uuid4()
    notifications.claim(conn, [Ticket(one.id, 1)], owner=owner, lease_s=10)
    keeper = upkeep()
    keeper.lead()
    keeper._rescue_from = 0.0
    keeper.run_once()
    keeper._server_clock._last = moved_back(keeper._server_clock._last, 3 * 3600)
    conn.execute("UPDATE delivery_attempts SET lease_until = lease_until - interval '3 hours'")

    again(keeper)
    jumped = notification_status(conn)
    attempts.renew(conn, [Ticket(one.id, 1)], owner=owner, lease_s=60)
    monkeypatch.setattr("outbox_relay.upkeep.time.monotonic", lambda: keeper._rescue_from + 1)
    again(keeper)
    renewed = notification_status(conn)
    conn.execute("UPDATE delivery_attempts SET lease_until = now() - interval '1 second'")
    again(keeper)

    assert (jumped, renewed, notification_status(conn)) == ("processing", "processing", "failed")


def moved_back(look: tuple[float, float, float] | None, seconds: float) -> tuple[float, float, float]:
    """A look at the server's clock as it would have been, had the clock jumped by so much since."""
    assert look
    return look[0], look[1], look[2] - seconds


def again(keeper: Upkeep) -> None:
    """Run every task once more, at once."""
    for task in keeper._tasks:
        task.next_at = 0.0
    keeper.run_once()


def test_what_was_held_goes_on_once_its_suppression_is_lifted(
    conn: psycopg.Connection[Any], upkeep: Callable[[], Upkeep]
) -> None:
    """Within a second or so, as part of the upkeep."""
    one = new_notification()
    accepting.insert(conn, one)
    suppression = suppressions.add(
        conn, tenant_id="default", channel=Channel.EMAIL, recipient="a@example.org", by="test"
    )
    conn.execute("UPDATE notifications SET status = 'suppressed'")
    conn.execute("INSERT INTO outbox_held (notification_id, suppression_id) VALUES (%s, %s)", (one.id, suppression.id))
    keeper = upkeep()
    keeper.lead()

    keeper.run_once()
    held = notification_status(conn)
    suppressions.lift(conn, suppression.id, tenant_id="default", by="test")
    again(keeper)

    assert (held, notification_status(conn)) == ("suppressed", "pending")


def test_the_old_is_pruned_unless_the_relay_is_behind(
    conn: psycopg.Connection[Any], upkeep: Callable[[], Upkeep]
) -> None:
    """RETENTION_DAYS after it ended; not while the outbox waits for Kafka."""
    ledger_rows.sent(conn, age=timedelta(days=40))
    keeper = upkeep()
    keeper.lead()
    keeper._oldest_age_s = 1e6

    behind = (keeper._prune(conn), conn.execute("SELECT count(*) FROM notifications").fetchall())
    again(keeper)
    again(keeper)

    assert behind == (0, [(1,)])
    assert conn.execute("SELECT count(*) FROM notifications").fetchall() == [(0,)]
