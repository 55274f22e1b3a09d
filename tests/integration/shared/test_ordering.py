"""I12, where it is made true: the claim lets the first attempts of a key begin in order, one at a time."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from shared.db import accepting, notifications, outbox, suppressions, sweeping
from shared.db.accepting import NewNotification
from shared.db.notifications import Ticket
from shared.model import Channel, Outcome
from tests.integration.notifications import TOPICS
from tests.integration.shared.conftest import Conn
from tests.integration.shared.steps import LEASE_S, OWNER, end, fail_and_track, rows, status_of

New = Callable[..., NewNotification]


def accept(conn: Conn, new: New, count: int, key: str = "k") -> list[NewNotification]:
    """Accept some of a key; their outbox rows are lost."""
    batch = [new(ordering_key=key) for _ in range(count)]
    accepting.insert_many(conn, batch)
    conn.execute("DELETE FROM outbox")
    return batch


def ask(conn: Conn, *news: NewNotification, attempt: int = 1, lease_s: float = LEASE_S) -> list[str]:
    """Claim in one statement; return what became of each, in their order."""
    told = notifications.claim(conn, [Ticket(one.id, attempt) for one in news], owner=OWNER, lease_s=lease_s)
    states = {claimed.id: claimed.state for claimed in told}
    return [states.get(one.id, "-") for one in news]


def published(conn: Conn) -> list[UUID]:
    """Take what has been published, in order."""
    return [id_ for (id_,) in rows(conn, "WITH o AS (DELETE FROM outbox RETURNING *) SELECT notification_id FROM o "
                                         "WHERE NOT headers ? 'error-class' ORDER BY seq")]  # fmt: skip


def queue(conn: Conn) -> list[UUID]:
    """The ids in the queues, in order."""
    return [id_ for (id_,) in rows(conn, "SELECT notification_id FROM ordering_queue ORDER BY seq")]


def turns(conn: Conn) -> list[UUID]:
    """The ids whose turn it is."""
    return [id_ for (id_,) in rows(conn, "SELECT notification_id FROM ordering_turns")]


def test_only_first_attempts_with_a_key_are_queued_in_the_order_accepted(conn: Conn, new: New) -> None:
    """One by one or in a batch; without a key, and while scheduled, there is no row."""
    first, later = new(ordering_key="a"), datetime.now(UTC) + timedelta(hours=1)
    batch = [new(ordering_key=key) for key in "bababbb"]
    accepting.insert(conn, first)
    accepting.insert_many(conn, [*batch, new(), new(ordering_key="a", scheduled_for=later)])

    assert queue(conn) == [first.id, *(one.id for one in batch)]


def test_promoted_ones_are_queued_in_the_order_they_are_due(conn: Conn, new: New) -> None:
    """The queue agrees with the order of publication."""
    now = datetime.now(UTC)
    made = [new(ordering_key="k", scheduled_for=now - timedelta(milliseconds=n * 37 % 100)) for n in range(1, 50)]
    accepting.insert_many(conn, made)
    assert queue(conn) == []

    outbox.promote_due(conn, limit=100)

    assert queue(conn) == [one.id for one in sorted(made, key=lambda one: (one.scheduled_for, one.id))]
    assert queue(conn) == published(conn)


def test_of_one_key_only_the_first_of_a_batch_is_claimed(conn: Conn, new: New) -> None:
    """Whatever their order in the batch; another key and no key are not concerned."""
    first, second, third = accept(conn, new, 3)
    (other,) = accept(conn, new, 1, "other")
    plain = new()
    accepting.insert(conn, plain)

    told = ask(conn, third, first, second, other, plain)

    assert told == ["early", "claimed", "early", "claimed", "claimed"]
    assert set(turns(conn)) == {first.id, other.id}


def test_what_came_early_is_published_when_its_turn_comes(conn: Conn, new: New) -> None:
    """The record that was dropped is carried again, byte for byte, and one at a time."""
    first = new(ordering_key="k")
    second, third = new(ordering_key="k", traceparent="00-x", correlation_id="c"), new(ordering_key="k")
    for one in (first, second, third):
        accepting.insert(conn, one)
    conn.execute("DELETE FROM outbox")
    assert ask(conn, third, second) == ["early", "early"]
    assert ask(conn, first) == ["claimed"]

    end(conn, Ticket(first.id, 1), Outcome.ACCEPTED)

    ((id_, bucket, topic, key, value, headers),) = rows(
        conn, "SELECT notification_id, bucket, topic, key, value, headers FROM outbox"
    )
    assert (id_, bucket, topic, key, value) == (second.id, second.bucket, second.topic, second.key, second.record)
    assert headers == second.headers | {"traceparent": "00-x", "correlation-id": "c"}
    assert ask(conn, third, second) == ["early", "claimed"]


def refuse(conn: Conn, one: NewNotification) -> None:
    """Have Kafka refuse its record."""
    sweeping.publish_again(conn, [one.id], dlq_topic=TOPICS.dlq)
    outbox.refuse(conn, [outbox.Refused(seq, "too large") for (seq,) in rows(conn, "SELECT seq FROM outbox")])


ENDS: dict[str, Callable[[Conn, NewNotification], object]] = {
    "sent": lambda conn, one: end(conn, Ticket(one.id, 1), Outcome.ACCEPTED),
    "failed": lambda conn, one: end(conn, Ticket(one.id, 1), Outcome.TRANSIENT),
    "unknown": lambda conn, one: end(conn, Ticket(one.id, 1), Outcome.UNKNOWN),
    "lease over": lambda conn, one: (
        conn.execute("UPDATE delivery_attempts SET lease_until = now() - interval '1 s'"),
        notifications.end_overdue_leases(conn, dlq_topic=TOPICS.dlq, limit=9),
    ),
}
PENDING_ENDS: dict[str, Callable[[Conn, NewNotification], object]] = {
    "cancelled": lambda conn, one: notifications.cancel(conn, one.id, tenant_id="default"),
    "expired": lambda conn, one: (
        conn.execute("UPDATE notifications SET expires_at = now() WHERE id = %s", (one.id,)),
        ask(conn, one),
    ),
    "suppressed": lambda conn, one: (
        conn.execute("UPDATE notifications SET recipient = 'gone@example.org' WHERE id = %s", (one.id,)),
        suppressions.add(conn, tenant_id="default", channel=Channel.EMAIL, recipient="gone@example.org", by="ann"),
        ask(conn, one),
    ),
    "deleted": lambda conn, one: conn.execute("DELETE FROM notifications WHERE id = %s", (one.id,)),
    "refused by Kafka": refuse,
}


@pytest.mark.parametrize("how", ENDS)
def test_the_next_goes_on_however_the_attempt_ended(conn: Conn, new: New, how: str) -> None:
    """A failed one does not hold back those behind it: its retries are not part of the order."""
    first, second = accept(conn, new, 2)
    assert ask(conn, first, second) == ["claimed", "early"]

    ENDS[how](conn, first)

    assert published(conn) == [second.id]
    assert (queue(conn), turns(conn)) == ([second.id], [])
    assert ask(conn, second) == ["claimed"]


@pytest.mark.parametrize("how", PENDING_ENDS)
def test_the_next_goes_on_when_one_ends_without_an_attempt(conn: Conn, new: New, how: str) -> None:
    """Nothing waits for what will never be attempted."""
    first, second = accept(conn, new, 2)
    assert ask(conn, second) == ["early"]

    PENDING_ENDS[how](conn, first)

    assert published(conn) == [second.id]
    assert ask(conn, second) == ["claimed"]


def test_one_that_ends_in_the_middle_publishes_nothing(conn: Conn, new: New) -> None:
    """The one under way still comes first; then the one behind the gap follows."""
    first, second, third = accept(conn, new, 3)
    assert ask(conn, first, second, third) == ["claimed", "early", "early"]

    notifications.cancel(conn, second.id, tenant_id="default")
    assert published(conn) == []
    end(conn, Ticket(first.id, 1), Outcome.ACCEPTED)

    assert published(conn) == [third.id]


def test_a_retry_neither_waits_nor_holds_anything_back(conn: Conn, new: New) -> None:
    """Attempt 2 begins while another's first attempt is under way, and the other way round."""
    first = new(ordering_key="k")
    fail_and_track(conn, first)
    (second,) = accept(conn, new, 1)
    notifications.requeue_due(conn, limit=9)

    assert ask(conn, second) == ["claimed"]
    assert ask(conn, first, attempt=2) == ["claimed"]
    assert turns(conn) == [second.id]


def test_what_is_given_back_keeps_its_place_and_frees_the_turn(conn: Conn, new: New) -> None:
    """Released, it is first again; its successor stays early."""
    first, second = accept(conn, new, 2)
    ask(conn, first)

    notifications.release(conn, [Ticket(first.id, 1)], owner=OWNER, republish=False)

    assert (queue(conn), turns(conn)) == ([first.id, second.id], [])
    assert ask(conn, second, first) == ["early", "claimed"]


def test_one_that_commits_late_waits_for_the_one_under_way(conn: Conn, other: Conn, new: New) -> None:
    """Its number is lower, but the later one began before it was there: one at a time all the same."""
    late, soon = new(ordering_key="k"), new(ordering_key="k")
    with other.transaction():
        accepting.insert(other, late)
        accepting.insert(conn, soon)
        assert ask(conn, soon) == ["claimed"]
    conn.execute("DELETE FROM outbox")

    assert ask(conn, late) == ["early"]
    end(conn, Ticket(soon.id, 1), Outcome.ACCEPTED)

    assert published(conn) == [late.id]
    assert ask(conn, late) == ["claimed"]


def test_two_that_see_different_firsts_do_not_both_begin(conn: Conn, other: Conn, new: New) -> None:
    """The turn is one row per key, whatever each claim could see."""
    late, soon = new(ordering_key="k"), new(ordering_key="k")
    answers: list[list[str]] = []
    with other.transaction():
        accepting.insert(other, late)
        accepting.insert(conn, soon)
    with other.transaction():
        other.execute(
            "INSERT INTO ordering_turns (tenant_id, ordering_key, notification_id) VALUES ('default', 'k', %s)",
            (soon.id,),
        )  # another claim's turn, not committed yet
        thread = threading.Thread(target=lambda: answers.append(ask(conn, late)))
        thread.start()
        thread.join(0.3)
    thread.join()

    assert answers == [["busy"]]
    assert ask(conn, late) == ["early"]


def test_what_comes_while_its_predecessor_is_ending_is_asked_again(conn: Conn, other: Conn, new: New) -> None:
    """Neither claimed too early nor passed over for good: the claim waits for nobody and says busy."""
    first, second = accept(conn, new, 2)
    ask(conn, first)
    with other.transaction():
        end(other, Ticket(first.id, 1), Outcome.ACCEPTED)
        assert ask(conn, second) == ["busy"]

    assert ask(conn, second) == ["claimed"]


def test_whoever_ends_the_predecessor_meanwhile_sees_the_mark(conn: Conn, other: Conn, new: New) -> None:
    """The ending waits for the claim that passes over the successor, and publishes it."""
    first, second = accept(conn, new, 2)
    ask(conn, first)
    with other.transaction():
        assert ask(other, second) == ["early"]
        thread = threading.Thread(target=end, args=(conn, Ticket(first.id, 1), Outcome.ACCEPTED))
        thread.start()
        thread.join(0.2)
        assert thread.is_alive()
    thread.join()

    assert published(conn) == [second.id]


def test_a_sweep_publishes_a_key_in_its_order_and_leaves_what_was_passed_over(conn: Conn, new: New) -> None:
    """Even where ids and order differ; a passed one is its predecessor's to publish."""
    batch = [new(ordering_key="k") for _ in range(4)]
    accepting.insert_many(conn, batch[::-1])
    conn.execute("DELETE FROM outbox")
    assert ask(conn, batch[1]) == ["early"]

    sweeping.publish_again(conn, [one.id for one in batch], dlq_topic=TOPICS.dlq)

    assert published(conn) == [batch[3].id, batch[2].id, batch[0].id]


def test_a_suppressed_one_is_queued_anew_when_it_is_resumed(conn: Conn, new: New) -> None:
    """It takes its place behind those accepted meanwhile."""
    suppression = suppressions.add(
        conn, tenant_id="default", channel=Channel.EMAIL, recipient="a@example.org", by="ann"
    )
    held = accept(conn, new, 2)
    assert ask(conn, held[0]) == ["suppressed"]
    assert ask(conn, held[1]) == ["suppressed"]
    suppressions.lift(conn, suppression.id, tenant_id="default", by="ann")
    (newer,) = accept(conn, new, 1)

    suppressions.resume_held(conn, limit=9)

    assert queue(conn) == [newer.id, held[0].id, held[1].id]
    assert [status_of(conn, one.id) for one in held] == ["pending"] * 2
