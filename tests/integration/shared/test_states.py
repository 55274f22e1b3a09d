"""The guarded statements: each move happens once, from the right state, with what follows from it."""

import itertools
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from psycopg import errors

from shared.db import (
    accepting,
    attempts,
    dlq_actions,
    dlq_messages,
    idempotency_keys,
    notifications,
    outbox,
    suppressions,
    sweeping,
)
from shared.db.accepting import NewNotification, StoredAnswer
from shared.db.notifications import Ticket
from shared.model import MOVES, FailureClass, Outcome, Status
from tests.integration.notifications import TOPICS
from tests.integration.shared.conftest import Conn
from tests.integration.shared.steps import LEASE_S, OWNER, begin, end, fail_and_track, rows, status_of, tracked

New = Callable[..., NewNotification]


def test_accepting_writes_notification_and_outbox_row_together(conn: Conn, new: New) -> None:
    """I1: one statement, both rows, the outbox row carries the very record."""
    one = new()

    accepting.insert(conn, one)

    assert status_of(conn, one.id) == "pending"
    assert rows(conn, "SELECT notification_id, key, value, headers FROM outbox") == [
        (one.id, one.key, one.record, one.headers)
    ]


def test_scheduled_ones_wait_in_outbox_due(conn: Conn, new: New) -> None:
    """A scheduled notification has no outbox row until it is due."""
    later = new(scheduled_for=datetime.now(UTC) + timedelta(hours=1))
    now = new()

    assert accepting.insert_many(conn, [later, now])

    assert (status_of(conn, later.id), status_of(conn, now.id)) == ("scheduled", "pending")
    assert rows(conn, "SELECT notification_id FROM outbox_due") == [(later.id,)]
    assert rows(conn, "SELECT notification_id, key, value, headers FROM outbox") == [
        (now.id, now.key, now.record, now.headers)
    ]


def test_due_ones_are_promoted_and_cancelled_ones_dropped(conn: Conn, new: New) -> None:
    """I14, I13: promotion by PostgreSQL's clock; what was cancelled while it waited is not published."""
    soon = datetime.now(UTC) + timedelta(milliseconds=1)
    due, cancelled, later = (
        new(scheduled_for=soon),
        new(scheduled_for=soon),
        new(scheduled_for=soon + timedelta(hours=1)),
    )
    accepting.insert_many(conn, [due, cancelled, later])
    notifications.cancel(conn, cancelled.id, tenant_id="default")
    conn.execute("SELECT pg_sleep(0.01)")

    assert outbox.promote_due(conn, limit=10) == 2

    assert rows(conn, "SELECT notification_id, value, headers FROM outbox") == [(due.id, due.record, due.headers)]
    assert [status_of(conn, one.id) for one in (due, cancelled, later)] == ["pending", "cancelled", "scheduled"]
    assert outbox.promote_due(conn, limit=10) == 0


def answer_of(body: bytes = b"{}", sha256: bytes = b"\x01" * 32) -> StoredAnswer:
    """A stored answer under one key."""
    return StoredAnswer("default", "key-1", sha256, 202, body, "/x")


def test_a_key_accepts_once_and_keeps_its_answer(conn: Conn, new: New) -> None:
    """I2: the second request with the key writes nothing, and finds the first one's answer."""
    assert accepting.insert_many(conn, [new()], answer_of(b"first"))
    assert not accepting.insert_many(conn, [new()], answer_of(b"second"))

    stored = idempotency_keys.find(conn, "key-1", tenant_id="default")
    assert stored == answer_of(b"first")
    assert rows(conn, "SELECT count(*) FROM notifications") == [(1,)]
    assert rows(conn, "SELECT count(*) FROM outbox") == [(1,)]
    assert idempotency_keys.find(conn, "key-1", tenant_id="another") is None


def test_a_key_still_being_written_is_waited_for_no_longer_than_lock_timeout(conn: Conn, other: Conn, new: New) -> None:
    """I2: while the first request's transaction is open the second is told so, by an error, and writes nothing."""
    other.execute("SET lock_timeout = '50ms'")
    with conn.transaction():
        accepting.insert_many(conn, [new()], answer_of())
        with pytest.raises(errors.LockNotAvailable):
            accepting.insert_many(other, [new()], answer_of())

    assert rows(conn, "SELECT count(*) FROM notifications") == [(1,)]


def test_accepting_inside_a_callers_transaction_rolls_back_with_it(conn: Conn, new: New) -> None:
    """An application may enqueue inside its own transaction: its rollback takes the notification along."""
    with pytest.raises(ZeroDivisionError), conn.transaction():
        accepting.insert(conn, new())
        raise ZeroDivisionError

    assert rows(conn, "SELECT count(*) FROM notifications") == [(0,)]
    assert rows(conn, "SELECT count(*) FROM outbox") == [(0,)]


def test_a_record_delivered_twice_is_claimed_once(conn: Conn, new: New) -> None:
    """I7: the second ticket for an attempt gets nothing, in the same batch or a later one."""
    one = new()
    accepting.insert(conn, one)
    ticket = Ticket(one.id, 1)

    first = notifications.claim(conn, [ticket, ticket], owner=OWNER, lease_s=LEASE_S)
    second = notifications.claim(conn, [ticket], owner=uuid4(), lease_s=LEASE_S)

    assert [claimed.id for claimed in first] == [one.id]
    assert second == []
    assert status_of(conn, one.id) == "processing"


def test_two_consumers_racing_for_the_same_records_share_them(conn: Conn, other: Conn, new: New) -> None:
    """I7: however two claims of the same tickets interleave, each notification goes to exactly one."""
    batch = [new() for _ in range(300)]
    accepting.insert_many(conn, batch)
    tickets = [Ticket(one.id, 1) for one in batch]
    got: list[UUID] = []

    def claim(connection: Conn, mine: Sequence[Ticket]) -> None:
        for start in range(0, len(mine), 50):
            claimed = notifications.claim(connection, mine[start : start + 50], owner=uuid4(), lease_s=LEASE_S)
            got.extend(one.id for one in claimed if one.state == "claimed")

    threads = [threading.Thread(target=claim, args=(connection, tickets)) for connection in (conn, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(got) == sorted(one.id for one in batch)


def test_a_claim_of_another_attempt_moves_nothing(conn: Conn, new: New) -> None:
    """A record of an older or a later attempt finds no notification waiting for it."""
    one = new()
    accepting.insert(conn, one)

    assert notifications.claim(conn, [Ticket(one.id, 2)], owner=OWNER, lease_s=LEASE_S) == []
    assert status_of(conn, one.id) == "pending"


def test_what_has_expired_ends_at_the_claim(conn: Conn, new: New) -> None:
    """I14: no attempt begins after expires_at, and the notification ends as expired."""
    past, future = new(expires_in_s=-1.0), new(expires_in_s=60.0)
    accepting.insert_many(conn, [past, future])

    claimed = notifications.claim(conn, [Ticket(past.id, 1), Ticket(future.id, 1)], owner=OWNER, lease_s=LEASE_S)

    assert {(one.id, one.state) for one in claimed} == {(past.id, "expired"), (future.id, "claimed")}
    left_s = next(one.expires_in_s for one in claimed if one.id == future.id)
    assert left_s is not None
    assert 0 < left_s <= 60
    assert rows(conn, "SELECT notification_id FROM delivery_attempts") == [(future.id,)]


def test_cancel_before_the_claim_wins_and_after_it_loses(conn: Conn, new: New) -> None:
    """I13: after a cancel the claim gets nothing; after a claim the cancel is refused."""
    early, late = new(), new()
    accepting.insert_many(conn, [early, late])
    notifications.claim(conn, [Ticket(late.id, 1)], owner=OWNER, lease_s=LEASE_S)

    assert notifications.cancel(conn, early.id, tenant_id="default")
    assert notifications.cancel(conn, early.id, tenant_id="default")  # repeating is harmless
    assert not notifications.cancel(conn, late.id, tenant_id="default")
    assert not notifications.cancel(conn, early.id, tenant_id="another")
    assert notifications.claim(conn, [Ticket(early.id, 1)], owner=OWNER, lease_s=LEASE_S) == []


def test_whoever_cancels_what_another_is_cancelling_gets_a_yes_too(conn: Conn, other: Conn, new: New) -> None:
    """It waits for the other, and looks at what that left."""
    one = new()
    accepting.insert(conn, one)
    answers: list[bool] = []
    thread = threading.Thread(target=lambda: answers.append(notifications.cancel(other, one.id, tenant_id="default")))

    with conn.transaction():
        assert notifications.cancel(conn, one.id, tenant_id="default")
        thread.start()
        deadline = time.monotonic() + 10
        while rows(conn, "SELECT pg_blocking_pids(%s)", other.info.backend_pid) == [([],)]:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    thread.join()

    assert answers == [True]


def test_success_is_written_back_once(conn: Conn, new: New) -> None:
    """I4: attempt and status move together; a repeat of the write-back finds nothing to do."""
    one = new()
    ticket = begin(conn, one)

    assert end(conn, ticket, Outcome.ACCEPTED, reason="http_200", receipt="r-1") == 1
    assert end(conn, ticket, Outcome.ACCEPTED) == 0

    assert status_of(conn, one.id) == "sent"
    assert [(a.outcome, a.receipt) for a in attempts.history(conn, one.id)] == [("accepted", "r-1")]
    assert rows(conn, "SELECT count(*) FROM outbox") == [(0,)]


def test_failure_is_written_back_with_its_dead_letter(conn: Conn, new: New) -> None:
    """I3: failed and the record for the DLQ topic share a transaction; the bytes are the record's own."""
    one = new(traceparent="00-" + "a" * 32 + "-" + "b" * 16 + "-01")
    ticket = begin(conn, one)

    end(conn, ticket, Outcome.TRANSIENT, reason="http_503", detail="busy", destination="http://x", retry_after_s=9.5,
        topic="notifications.email", partition=2, offset=41)  # fmt: skip

    ((id_, topic, key, value, headers),) = rows(conn, "SELECT notification_id, topic, key, value, headers FROM outbox")
    assert (id_, topic, key, value) == (one.id, TOPICS.dlq, one.key, one.record)
    assert headers.pop("failed-at").endswith("Z")
    assert headers == {
        "attempt": "1", "content-type": "application/json", "schema-version": "1", "traceparent": one.traceparent,
        "error-class": "transient", "error-reason": "http_503", "error-message": "busy", "destination": "http://x",
        "retry-after-s": "9.5", "original-topic": "notifications.email", "original-partition": "2",
        "original-offset": "41",
    }  # fmt: skip
    assert status_of(conn, one.id) == "failed"


def test_only_the_owner_writes_back(conn: Conn, new: New) -> None:
    """A consumer whose lease was ended finds its attempt gone: its outcome moves nothing."""
    one = new()
    ticket = begin(conn, one, owner=uuid4())

    assert end(conn, ticket, Outcome.ACCEPTED) == 0
    assert status_of(conn, one.id) == "processing"


def test_overdue_lease_ends_as_unknown(conn: Conn, new: New) -> None:
    """I5: the attempt of a dead consumer ends, and its notification gets a dead letter of class unknown."""
    dead, alive = new(), new()
    begin(conn, dead, lease_s=-1.0)
    begin(conn, alive)

    assert notifications.end_overdue_leases(conn, dlq_topic=TOPICS.dlq, limit=10) == 1

    assert (status_of(conn, dead.id), status_of(conn, alive.id)) == ("failed", "processing")
    assert [(a.outcome, a.reason) for a in attempts.history(conn, dead.id)] == [("unknown", "lease_over")]
    ((headers,),) = rows(conn, "SELECT headers FROM outbox")
    assert (headers["error-class"], headers["error-reason"]) == ("unknown", "lease_over")


def test_renewed_lease_is_not_over(conn: Conn, new: New) -> None:
    """Renewing extends what is still the owner's, and says what is not."""
    mine, lost = new(), new()
    tickets = [begin(conn, mine, lease_s=-1.0), begin(conn, lost, owner=uuid4())]

    assert attempts.renew(conn, tickets, owner=OWNER, lease_s=LEASE_S) == {tickets[0]}
    assert notifications.end_overdue_leases(conn, dlq_topic=TOPICS.dlq, limit=10) == 0


@pytest.mark.parametrize("republish", [True, False])
def test_released_attempt_never_was(conn: Conn, new: New, republish: bool) -> None:
    """Given back before its first byte: pending again under the same number, and claimable."""
    one = new()
    ticket = begin(conn, one)

    assert notifications.release(conn, [ticket], owner=OWNER, republish=republish) == 1

    assert status_of(conn, one.id) == "pending"
    assert attempts.history(conn, one.id) == []
    assert rows(conn, "SELECT value, headers FROM outbox") == ([(one.record, one.headers)] if republish else [])
    assert len(notifications.claim(conn, [ticket], owner=uuid4(), lease_s=LEASE_S)) == 1


def test_due_dead_letter_is_requeued_as_the_next_attempt(conn: Conn, new: New) -> None:
    """failed → pending(n+1), FAILED → RETRYING and the outbox row are one transaction."""
    one = new()
    dead_letter = fail_and_track(conn, one)

    assert notifications.requeue_due(conn, limit=10) == 1
    assert notifications.requeue_due(conn, limit=10) == 0

    ((value, headers),) = rows(conn, "SELECT value, headers FROM outbox")
    assert (value, headers["attempt"]) == (one.record, "2")
    assert rows(conn, "SELECT status, attempt FROM notifications") == [("pending", 2)]
    letter = dlq_messages.find(conn, dead_letter, tenant_id="default")
    assert letter is not None
    assert (letter.status, letter.retry_count, letter.retry_at) == ("retrying", 1, None)


def test_requeue_leaves_what_is_not_due_or_at_rest(conn: Conn, new: New) -> None:
    """A retry in an hour and a dead letter at rest stay where they are."""
    fail_and_track(conn, new(), retry_in_s=3600)
    fail_and_track(conn, new(), retry_in_s=None)

    assert notifications.requeue_due(conn, limit=10) == 0
    assert rows(conn, "SELECT count(*) FROM outbox") == [(0,)]


def test_dead_letter_is_resolved_with_the_success_of_its_retry(conn: Conn, new: New) -> None:
    """RETRYING → RESOLVED shares the transaction that sets sent."""
    one = new()
    dead_letter = fail_and_track(conn, one)
    notifications.requeue_due(conn, limit=10)
    notifications.claim(conn, [Ticket(one.id, 2)], owner=OWNER, lease_s=LEASE_S)

    end(conn, Ticket(one.id, 2), Outcome.ACCEPTED)

    letter = dlq_messages.find(conn, dead_letter, tenant_id="default")
    assert letter is not None
    assert (letter.status, letter.resolution) == ("resolved", "sent")
    assert status_of(conn, one.id) == "sent"


def test_second_failure_updates_the_same_dead_letter(conn: Conn, new: New) -> None:
    """One row per notification; the retry count never falls, the first error stays (I15, I16)."""
    one = new()
    dead_letter = fail_and_track(conn, one)
    notifications.requeue_due(conn, limit=10)
    notifications.claim(conn, [Ticket(one.id, 2)], owner=OWNER, lease_s=LEASE_S)
    end(conn, Ticket(one.id, 2), Outcome.PERMANENT)

    again = tracked(one, attempt=2, retry_in_s=None, failure_class=FailureClass.PERMANENT, error_message="gone")
    dlq_messages.track(conn, [again, again, tracked(one, attempt=1)])

    letter = dlq_messages.find(conn, dead_letter, tenant_id="default")
    assert letter is not None
    assert (letter.status, letter.attempt, letter.retry_count) == ("failed", 2, 1)
    assert (letter.first_error, letter.error_message, letter.rest_reason) == ("busy", "gone", "permanent")
    assert letter.original_payload == one.record


def test_undecodable_bytes_are_tracked_once_and_unchanged(conn: Conn) -> None:
    """I15: known by their place in Kafka; reading them again changes nothing."""
    poison = tracked(None, retry_in_s=None, failure_class=FailureClass.POISON)

    dlq_messages.track(conn, [poison])
    dlq_messages.track(conn, [poison])

    assert rows(conn, "SELECT original_payload, failure_class FROM dlq_messages") == [(b"\xff\x00", "poison")]


def test_replay_and_scheduler_requeue_a_dead_letter_once(conn: Conn, new: New) -> None:
    """A person's replay takes the row: the due retry finds nothing, and neither does a second replay."""
    dead_letter = fail_and_track(conn, new())

    assert not notifications.replay(conn, dead_letter, tenant_id="another")
    assert notifications.replay(conn, dead_letter, tenant_id="default")
    assert not notifications.replay(conn, dead_letter, tenant_id="default")
    assert notifications.requeue_due(conn, limit=10) == 0
    assert rows(conn, "SELECT count(*) FROM outbox") == [(1,)]


def test_discarded_dead_letter_is_not_requeued(conn: Conn, new: New) -> None:
    """Discarding resolves it with who and why; it never comes due."""
    dead_letter = fail_and_track(conn, new())

    assert dlq_actions.discard(conn, dead_letter, tenant_id="default", by="ops", note="customer left")
    assert dlq_actions.discard(conn, dead_letter, tenant_id="default", by="ops", note="again")

    letter = dlq_messages.find(conn, dead_letter, tenant_id="default")
    assert letter is not None
    assert (letter.status, letter.resolution, letter.resolution_note) == ("resolved", "discarded", "customer left")
    assert notifications.requeue_due(conn, limit=10) == 0


def test_retry_that_expires_or_is_cancelled_resolves_its_dead_letter(conn: Conn, new: New) -> None:
    """A requeued notification that ends without an attempt leaves no dead letter in retrying."""
    expiring, cancelled = new(expires_in_s=0.3), new()
    letters = [fail_and_track(conn, one) for one in (expiring, cancelled)]
    notifications.requeue_due(conn, limit=10)
    conn.execute("SELECT pg_sleep(0.35)")

    notifications.claim(conn, [Ticket(expiring.id, 2)], owner=OWNER, lease_s=LEASE_S)
    notifications.cancel(conn, cancelled.id, tenant_id="default")

    found = [dlq_messages.find(conn, letter, tenant_id="default") for letter in letters]
    assert [letter and (letter.status, letter.resolution) for letter in found] == [
        ("resolved", "expired"), ("resolved", "cancelled"),
    ]  # fmt: skip


def test_row_kafka_refuses_fails_its_notification(conn: Conn, new: New) -> None:
    """I3: outbox_dead, failed, and a dead letter of class poison in one statement."""
    one = new()
    accepting.insert(conn, one)
    ((seq,),) = rows(conn, "SELECT seq FROM outbox")

    for _ in range(2):
        outbox.refuse(conn, [outbox.Refused(seq, "MSG_SIZE_TOO_LARGE")])

    assert status_of(conn, one.id) == "failed"
    assert rows(conn, "SELECT seq, error FROM outbox_dead") == [(seq, "MSG_SIZE_TOO_LARGE")]
    assert rows(conn, "SELECT failure_class, rest_reason, original_payload FROM dlq_messages") == [
        ("poison", "refused_by_kafka", one.record)
    ]


def test_dead_letter_kafka_refuses_is_tracked_at_rest(conn: Conn, new: New) -> None:
    """I4: failed always comes with its dead letter, also where Kafka will not carry that."""
    one = new()
    ticket = begin(conn, one)
    end(conn, ticket, Outcome.TRANSIENT, reason="http_503")
    ((seq,),) = rows(conn, "SELECT seq FROM outbox")

    outbox.refuse(conn, [outbox.Refused(seq, "MSG_SIZE_TOO_LARGE")])

    assert rows(conn, "SELECT notification_id, failure_class, reason, retry_at, rest_reason FROM dlq_messages") == [
        (one.id, "transient", "http_503", None, "refused_by_kafka")
    ]


def test_promoted_ones_go_out_in_the_order_they_are_due(conn: Conn, new: New) -> None:
    """I12: scheduled notifications of one key that come due together keep the order of their times."""
    now = datetime.now(UTC)
    made = [new(ordering_key="k", scheduled_for=now - timedelta(milliseconds=n * 37 % 100)) for n in range(1, 50)]
    accepting.insert_many(conn, made)

    outbox.promote_due(conn, limit=100)

    published = [id_ for (id_,) in rows(conn, "SELECT notification_id FROM outbox ORDER BY seq")]
    assert published == [one.id for one in sorted(made, key=lambda one: (one.scheduled_for, one.id))]


def test_what_is_due_at_one_instant_is_promoted_in_the_order_accepted(conn: Conn, new: New) -> None:
    """I12: whatever the chunks, and wherever the rows lie in the table."""
    due = datetime.now(UTC) - timedelta(seconds=1)
    made = [new(ordering_key="k", scheduled_for=due) for _ in range(20)]
    accepting.insert_many(conn, made[10:])
    accepting.insert_many(conn, made[:10])

    while outbox.promote_due(conn, limit=3):
        pass

    published = [id_ for (id_,) in rows(conn, "SELECT notification_id FROM outbox ORDER BY seq")]
    assert published == [one.id for one in made]


def test_other_bytes_at_an_offset_seen_before_are_another_dead_letter(conn: Conn) -> None:
    """A topic made anew begins at offset 0 again: its poison is not taken for the old topic's."""
    dlq_messages.track(conn, [tracked(None, retry_in_s=None, original_payload=b"old")])
    for payload in (b"new", None):
        for _ in range(2):
            dlq_messages.track(conn, [tracked(None, retry_in_s=None, original_payload=payload)])

    assert {row[0] for row in rows(conn, "SELECT original_payload FROM dlq_messages")} == {b"old", b"new", None}
    assert rows(conn, "SELECT count(*) FROM dlq_messages") == [(3,)]


def test_sweep_publishes_again_what_stood_still(conn: Conn, new: New) -> None:
    """I10: pending without an outbox row, and failed without a dead letter, are published again; the rest is not."""
    lost, dead, at_rest, waiting, fresh = (new() for _ in range(5))
    begin(conn, dead)
    end(conn, Ticket(dead.id, 1), Outcome.UNKNOWN, reason="silence")
    fail_and_track(conn, at_rest, retry_in_s=3600)
    for one in (lost, waiting, fresh):
        accepting.insert(conn, one)
    conn.execute("DELETE FROM outbox WHERE notification_id <> %s", (waiting.id,))
    conn.execute("UPDATE notifications SET updated_at = now() - interval '1 hour' WHERE id <> %s", (fresh.id,))

    chunk = sweeping.look(conn, after=UUID(int=0), before=UUID(int=2**128 - 1), limit=100, older_than_s=60)
    published = sweeping.publish_again(conn, chunk.stalled, dlq_topic=TOPICS.dlq)

    assert published == 2
    assert dict(rows(conn, "SELECT notification_id, topic FROM outbox")) == {
        waiting.id: waiting.topic,
        lost.id: lost.topic,
        dead.id: TOPICS.dlq,
    }
    assert sweeping.publish_again(conn, chunk.stalled, dlq_topic=TOPICS.dlq) == 0


@pytest.mark.parametrize("status", Status)
def test_a_move_that_is_not_in_the_table_of_moves_is_made_by_no_statement(conn: Conn, new: New, status: Status) -> None:
    """Whatever the state, each statement either makes a move of the table or leaves the state alone."""
    one = new()
    accepting.insert(conn, one)
    conn.execute("DELETE FROM outbox")
    conn.execute("UPDATE notifications SET status = %s, scheduled_for = now() WHERE id = %s", (status.value, one.id))
    conn.execute(
        """INSERT INTO delivery_attempts (notification_id, attempt, tenant_id, owner, lease_until)
           VALUES (%s, 1, 'default', %s, now() - interval '1 s')""",
        (one.id, OWNER),
    )
    conn.execute("INSERT INTO outbox_due VALUES (%s, 'default', now())", (one.id,))
    dlq_messages.track(conn, [tracked(one)])

    seen = [status]
    for move in (
        lambda: notifications.claim(conn, [Ticket(one.id, 2)], owner=OWNER, lease_s=1),
        lambda: notifications.cancel(conn, one.id, tenant_id="default"),
        lambda: outbox.promote_due(conn, limit=10),
        lambda: end(conn, Ticket(one.id, 1), Outcome.ACCEPTED),
        lambda: notifications.end_overdue_leases(conn, dlq_topic=TOPICS.dlq, limit=10),
        lambda: notifications.requeue_due(conn, limit=10),
        lambda: suppressions.resume_held(conn, limit=10),
    ):
        move()
        seen.append(Status(status_of(conn, one.id)))

    assert all(after is before or after in MOVES[before] for before, after in itertools.pairwise(seen))


def test_old_keys_are_pruned_and_young_ones_kept(conn: Conn, new: New) -> None:
    """I2: a key lives for at least as long as it was promised."""
    accepting.insert_many(conn, [new()], answer_of())
    assert idempotency_keys.prune(conn, older_than_s=60, limit=10) == 0
    conn.execute("UPDATE idempotency_keys SET created_at = now() - interval '2 minutes'")

    assert idempotency_keys.prune(conn, older_than_s=60, limit=10) == 1
