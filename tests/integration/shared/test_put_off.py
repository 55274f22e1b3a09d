"""What is put off: pending all the while, published again when it is due, and left alone until then."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from shared.db import accepting, notifications, outbox, sweeping
from shared.db.accepting import NewNotification
from shared.db.notifications import Ticket
from shared.model import Outcome
from tests.integration.notifications import TOPICS, new_notification
from tests.integration.shared.conftest import Conn
from tests.integration.shared.steps import LEASE_S, OWNER, begin, end, fail_and_track, rows, status_of

New = Callable[..., NewNotification]
FIRST, LAST = UUID(int=0), UUID(int=2**128 - 1)


def published(conn: Conn) -> list[Any]:
    """The ids in the outbox, and the attempts they are published for."""
    return rows(conn, "SELECT notification_id, headers ->> 'attempt' FROM outbox ORDER BY seq")


def relayed(conn: Conn, *news: NewNotification) -> None:
    """Accept some and let their records be in Kafka."""
    accepting.insert_many(conn, news)
    conn.execute("DELETE FROM outbox")


def test_what_is_put_off_stays_pending_and_is_published_when_it_is_due(conn: Conn, new: New) -> None:
    """No sooner, in the order put off, each with its record as it was accepted."""
    first, second, later = new(), new(), new()
    relayed(conn, first, second, later)

    assert outbox.put_off(conn, [(second.id, 1, -1.0), (first.id, 1, -2.0), (later.id, 1, 60.0)]) == 3
    assert {status_of(conn, one.id) for one in (first, second, later)} == {"pending"}
    assert outbox.promote_due(conn, limit=10) == 2

    assert sorted(rows(conn, "SELECT notification_id, key, value, headers FROM outbox")) == sorted(
        (one.id, one.key, one.record, one.headers) for one in (first, second)
    )
    assert outbox.promote_due(conn, limit=10) == 0


def test_what_expires_sooner_comes_back_to_expire(conn: Conn, new: New) -> None:
    """Once: where many do at once, and it is put off again, it has to wait its time."""
    one = new(expires_at=datetime.now(UTC) + timedelta(seconds=60))
    relayed(conn, one)
    outbox.put_off(conn, [(one.id, 1, 600.0)])
    [(in_s,)] = rows(conn, "SELECT extract(epoch FROM due_at - now())::int FROM outbox_due")
    conn.execute("DELETE FROM outbox_due")
    conn.execute("UPDATE notifications SET expires_at = now() - interval '1 second'")
    outbox.put_off(conn, [(one.id, 1, 600.0)])
    [(again_in_s,)] = rows(conn, "SELECT extract(epoch FROM due_at - now())::int FROM outbox_due")

    assert (55 <= in_s <= 60, 595 <= again_in_s <= 600) == (True, True)


def test_only_what_is_pending_for_that_attempt_is_put_off(conn: Conn, new: New) -> None:
    """A cancelled, claimed or retried one is passed over, as by a claim; and once is enough."""
    cancelled, claimed, retried, twice = new(), new(), new(), new()
    relayed(conn, cancelled, twice)
    notifications.cancel(conn, cancelled.id, tenant_id="default")
    begin(conn, claimed)
    fail_and_track(conn, retried)
    notifications.requeue_due(conn, limit=10)
    conn.execute("DELETE FROM outbox")

    asked = [(one.id, 1, 1.0) for one in (cancelled, claimed, retried, twice)]
    assert outbox.put_off(conn, asked) == 1
    assert outbox.put_off(conn, [*asked, (retried.id, 2, -1.0)]) == 1
    assert outbox.promote_due(conn, limit=10) == 1

    assert published(conn) == [(retried.id, "2")]


def test_what_moved_on_meanwhile_is_not_published_again(conn: Conn, new: New) -> None:
    """Another record of it was claimed, or it was cancelled: its wait ends, and that is all."""
    sent, cancelled = new(), new()
    relayed(conn, sent, cancelled)
    outbox.put_off(conn, [(sent.id, 1, -1.0), (cancelled.id, 1, -1.0)])
    notifications.claim(conn, [Ticket(sent.id, 1)], owner=OWNER, lease_s=LEASE_S)
    end(conn, Ticket(sent.id, 1), Outcome.ACCEPTED, receipt="yes")
    notifications.cancel(conn, cancelled.id, tenant_id="default")

    assert outbox.promote_due(conn, limit=10) == 2

    assert published(conn) == []
    assert [status_of(conn, one.id) for one in (sent, cancelled)] == ["sent", "cancelled"]


def test_a_key_keeps_its_order_though_its_first_is_put_off(conn: Conn) -> None:
    """I12: those behind it are early until it has had its turn."""
    first, second = (new_notification(ordering_key="k") for _ in range(2))
    relayed(conn, first, second)
    outbox.put_off(conn, [(first.id, 1, -1.0)])

    def claim(one: NewNotification) -> str:
        return notifications.claim(conn, [Ticket(one.id, 1)], owner=OWNER, lease_s=LEASE_S)[0].state

    assert claim(second) == "early"
    outbox.promote_due(conn, limit=10)
    assert (published(conn), claim(first)) == ([(first.id, "1")], "claimed")
    conn.execute("DELETE FROM outbox")
    end(conn, Ticket(first.id, 1), Outcome.ACCEPTED, receipt="yes")
    assert (published(conn), claim(second)) == ([(second.id, "1")], "claimed")


def test_the_sweeper_leaves_what_is_put_off_alone(conn: Conn, new: New) -> None:
    """It has not stood still: it waits for its time."""
    put_off, lost = new(), new()
    relayed(conn, put_off, lost)
    outbox.put_off(conn, [(put_off.id, 1, 600.0)])
    conn.execute("UPDATE notifications SET updated_at = now() - interval '1 hour'")

    chunk = sweeping.look(conn, after=FIRST, before=LAST, limit=10, older_than_s=60)

    assert chunk.stalled == [lost.id]
    assert sweeping.publish_again(conn, chunk.stalled, dlq_topic=TOPICS.dlq) == 1


def test_whether_there_are_several_tenants(conn: Conn) -> None:
    """By their notifications: one that has none is nobody to be fair to."""
    assert not notifications.has_several_tenants(conn)
    relayed(conn, *(new_notification() for _ in range(3)))
    assert not notifications.has_several_tenants(conn)
    relayed(conn, new_notification(tenant_id="other"))
    assert notifications.has_several_tenants(conn)
