"""The steps of bulk retries against real PostgreSQL: canary, rate, races, and crashes between steps."""

import threading
from collections import Counter
from typing import Any

import psycopg
import pytest

from dlq_consumer.retries import BulkRetries
from shared import db
from shared.db import dlq_actions, dlq_messages, dlq_retries, dlq_retry_steps, notifications
from tests.integration.dlq_consumer.dead_letters import (
    Conn,
    asked,
    end_retrying,
    many_failed,
    pass_time,
    stands,
)
from tests.servers import Database


def step(conn: Conn, retry: Any, *, later_s: float = 1) -> int:
    """Let time pass and take a bulk retry a step further; return how many letters went out."""
    pass_time(conn, later_s)
    dlq_retry_steps.settle(conn, retry.id)
    return dlq_retry_steps.send(conn, retry.id).retried


def values(conn: Conn, query: Any) -> list[Any]:
    """The first column of a query."""
    return [row[0] for row in conn.execute(query)]


def test_a_canary_that_is_sent_lets_the_others_follow(conn: Conn) -> None:
    """Ten go first, nothing goes while one of them is under way, then the rest goes, and it is done."""
    ids = many_failed(conn, 25)
    retry = asked(conn, canary=10)

    assert step(conn, retry) == 10
    assert stands(conn, retry).status == "waiting"
    end_retrying(conn, "sent", limit=9)
    assert (step(conn, retry), stands(conn, retry).status) == (0, "waiting")
    end_retrying(conn, "sent")
    assert (step(conn, retry) + step(conn, retry), stands(conn, retry).status) == (15, "running")
    end_retrying(conn, "sent")
    for _ in range(3):
        step(conn, retry)

    done = stands(conn, retry)
    assert (done.status, done.matched, done.retried, done.sent, done.failed) == ("done", 25, 25, 25, 0)
    assert done.finished_at is not None
    assert values(conn, "SELECT dead_letter_id FROM dlq_actions ORDER BY id")[:10] == ids[:10]
    assert dlq_retry_steps.open_ids(conn) == []


def test_a_canary_that_fails_stops_it(conn: Conn) -> None:
    """None of the others is touched; the failure is named by its cause."""
    ids = many_failed(conn, 25)
    retry = asked(conn, canary=5)
    step(conn, retry)

    end_retrying(conn, "failed", limit=1)
    end_retrying(conn, "sent")
    assert step(conn, retry) == 0

    stopped = stands(conn, retry)
    assert (stopped.status, stopped.stop_reason) == ("stopped", "canary_failed")
    assert (stopped.retried, stopped.sent, stopped.failed) == (5, 4, 1)
    assert dlq_actions.failed_letters(conn, retry.id, groups=10) == [
        {"fingerprint": "transient|https://example.com|http_503", "count": 1, "example_ids": [str(ids[0])]}
    ]
    assert step(conn, retry, later_s=60) == 0
    assert values(conn, "SELECT count(*) FROM outbox") == [5]


def test_what_is_under_way_when_it_stops_is_counted_still(conn: Conn) -> None:
    """The first failure stops it at once; the other canaries end later."""
    many_failed(conn, 25)
    retry = asked(conn, canary=5)
    step(conn, retry)
    end_retrying(conn, "failed", limit=1)
    step(conn, retry)
    assert (stands(conn, retry).status, stands(conn, retry).under_way) == ("stopped", 4)

    end_retrying(conn, "sent")
    step(conn, retry)

    assert (stands(conn, retry).status, stands(conn, retry).sent, stands(conn, retry).under_way) == ("stopped", 4, 0)
    assert dlq_retry_steps.open_ids(conn) == []


def test_a_canary_that_ended_otherwise_proves_nothing_so_another_goes(conn: Conn) -> None:
    """Cancelled or expired on the way: neither a yes nor a no from the receiver."""
    many_failed(conn, 25)
    retry = asked(conn, canary=5)
    step(conn, retry)
    end_retrying(conn, "expired", limit=2)
    end_retrying(conn, "sent")

    assert step(conn, retry) == 2
    assert (stands(conn, retry).status, stands(conn, retry).ended_otherwise) == ("waiting", 2)
    end_retrying(conn, "sent")
    assert step(conn, retry) + step(conn, retry) == 18


def test_fewer_letters_than_canaries_are_all_of_it(conn: Conn) -> None:
    """It is done when they have ended; one that finds none is done at once."""
    many_failed(conn, 3)
    retry, none = asked(conn, canary=10), asked(conn, reason="http_404")
    for _ in range(3):
        step(conn, retry)
        step(conn, none)
    end_retrying(conn, "sent")

    step(conn, retry)
    step(conn, none)

    assert (stands(conn, retry).status, stands(conn, retry).sent) == ("done", 3)
    assert (stands(conn, none).status, stands(conn, none).retried) == ("done", 0)


def test_the_rate_is_kept_and_a_pause_gives_one_second_s_worth_at_most(conn: Conn) -> None:
    """By the database's clock: two per second are two after 0.6 s, and two after an hour's pause."""
    many_failed(conn, 200)
    retry = asked(conn, rate_per_s=2)

    first = dlq_retry_steps.send(conn, retry.id).retried
    at_once = dlq_retry_steps.send(conn, retry.id).retried
    conn.execute("UPDATE dlq_retries SET next_at = now() - interval '0.6 s'")
    two = dlq_retry_steps.send(conn, retry.id).retried
    after_a_pause = step(conn, retry, later_s=3600)
    right_after = dlq_retry_steps.send(conn, retry.id).retried

    assert (first, at_once, two, after_a_pause, right_after) == (1, 0, 2, 2, 0)


def test_a_slow_rate_sends_one_at_a_time(conn: Conn) -> None:
    """A tenth per second is one each ten seconds, after a pause as well."""
    many_failed(conn, 5)
    retry = asked(conn, rate_per_s=0.1)

    sent = [step(conn, retry, later_s=later_s) for later_s in (0, 5, 6, 100, 5, 6)]

    assert sent == [1, 0, 1, 1, 0, 1]


def test_only_what_had_failed_before_is_taken_and_each_once(conn: Conn) -> None:
    """What fails later, or fails again, is not its business; nor is what a person took or discarded meanwhile."""
    ids = many_failed(conn, 6)
    retry = asked(conn, canary=0, rate_per_s=2)
    late = many_failed(conn, 1, ago_s=-5)
    assert dlq_actions.discard(conn, ids[4], tenant_id="default", by="ops", note="gone")
    assert dlq_actions.replay(conn, ids[5], tenant_id="default", by="ops", note=None)

    for _ in range(6):
        step(conn, retry)
        end_retrying(conn, "failed")
    step(conn, retry)

    done = stands(conn, retry)
    assert (done.status, done.matched, done.retried, done.failed) == ("done", 6, 4, 4)
    taken = values(conn, "SELECT dead_letter_id FROM dlq_actions WHERE retry_id IS NOT NULL ORDER BY id")
    assert taken == ids[:4]
    assert set(values(conn, "SELECT id FROM dlq_messages WHERE retry_id IS NOT NULL")) == set(ids[:4])
    assert values(conn, "SELECT retry_id FROM dlq_messages WHERE id = '%s'" % late[0]) == [None]  # noqa: UP031


def test_each_condition_of_the_filter_counts(conn: Conn) -> None:
    """A dead letter is taken that fits all of them."""
    many_failed(conn, 2, reason="http_404", failure_class="permanent", ago_s=7200)
    wanted = many_failed(conn, 2, reason="http_404", failure_class="permanent", ago_s=60)
    many_failed(conn, 2, reason="http_503")
    [hour_ago] = values(conn, "SELECT now() - interval '1 hour'")
    retry = asked(conn, failure_class="permanent", reason="http_404", failed_from=hour_ago, channel="webhook")

    assert step(conn, retry) == 2
    assert values(conn, "SELECT dead_letter_id FROM dlq_actions ORDER BY id") == wanted


def test_bytes_without_a_notification_are_never_taken(conn: Conn) -> None:
    """Poison is counted by a dry run as what cannot be sent."""
    many_failed(conn, 2, failure_class="poison", reason="refused_by_kafka")
    conn.execute("UPDATE dlq_messages SET notification_id = NULL WHERE id = (SELECT id FROM dlq_messages LIMIT 1)")

    found = dlq_retries.preview(conn, dlq_retries.Selection("default", failure_class="poison"), shown=3)
    retry = asked(conn, failure_class="poison")
    for _ in range(3):
        step(conn, retry)

    assert (found.matched, found.cannot_be_sent, len(found.dead_letter_ids)) == (1, 1, 1)
    assert found.groups == [{"fingerprint": "poison|https://example.com|refused_by_kafka", "count": 1}]
    assert (stands(conn, retry).matched, stands(conn, retry).retried) == (1, 1)


def test_a_letter_whose_notification_moved_on_rests_and_holds_nothing_up(conn: Conn) -> None:
    """It would be found again and again; it says why it is not sent."""
    ids = many_failed(conn, 3)
    conn.execute(
        "UPDATE notifications SET status = 'sent' WHERE id IN (SELECT notification_id FROM dlq_messages WHERE id = %s)",
        (ids[0],),
    )
    retry = asked(conn)

    for _ in range(3):
        step(conn, retry)
    end_retrying(conn, "sent")
    step(conn, retry)

    assert (stands(conn, retry).status, stands(conn, retry).retried) == ("done", 2)
    letter = dlq_messages.find(conn, ids[0], tenant_id="default")
    assert letter
    assert (letter.status, letter.rest_reason, letter.retry_id) == ("failed", "notification_moved_on", None)


def test_a_locked_letter_is_passed_over_and_taken_later(conn: Conn, database: Database) -> None:
    """Somebody looks at it just now; the walk comes back for it before it is done."""
    ids = many_failed(conn, 3)
    retry = asked(conn)
    holder = database.connect(autocommit=False)
    holder.execute("SELECT FROM dlq_messages WHERE id = %s FOR UPDATE", (ids[0],))

    assert step(conn, retry) == 2
    assert [step(conn, retry) for _ in range(3)] == [0, 0, 0]
    assert stands(conn, retry).status == "running"
    holder.rollback()
    holder.close()

    assert step(conn, retry) == 1


def test_after_a_cancel_nothing_more_goes_out(conn: Conn) -> None:
    """What is under way goes on, and is counted."""
    many_failed(conn, 10)
    retry = asked(conn, rate_per_s=3)
    step(conn, retry)

    assert dlq_retries.cancel(conn, retry.id, tenant_id="default", by="ada", note="too early")
    assert dlq_retries.cancel(conn, retry.id, tenant_id="default", by="bob", note="again")
    assert [step(conn, retry) for _ in range(3)] == [0, 0, 0]
    end_retrying(conn, "sent")
    step(conn, retry)

    cancelled = stands(conn, retry)
    assert (cancelled.status, cancelled.ended_by, cancelled.ended_note) == ("cancelled", "ada", "too early")
    assert cancelled.retried == cancelled.sent > 0


def test_two_executors_share_a_bulk_retry_and_send_each_letter_once(conn: Conn, database: Database) -> None:
    """Whoever locks its row takes the step; the rate and the canary are those of one executor."""
    many_failed(conn, 300)
    retry = asked(conn, canary=10, rate_per_s=1000)
    errors: list[psycopg.Error] = []
    stop = threading.Event()

    def execute() -> None:
        try:
            with db.connect(database.dsn, application_name="test_executor") as mine:
                executor = BulkRetries(poll_s=0.001)
                while not stop.is_set():
                    executor.run_once(mine)
        except psycopg.Error as error:
            errors.append(error)

    threads = [threading.Thread(target=execute) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(600):
        end_retrying(conn, "sent")
        if stands(conn, retry).status == "done" or errors:
            break
        stop.wait(0.05)
    stop.set()
    for thread in threads:
        thread.join()

    done = stands(conn, retry)
    assert errors == []
    assert (done.status, done.retried, done.sent, done.failed) == ("done", 300, 300, 0)
    published = Counter(values(conn, "SELECT notification_id FROM outbox"))
    assert (len(published), set(published.values())) == (300, {1})
    assert set(values(conn, "SELECT attempt FROM notifications")) == {2}
    assert set(values(conn, "SELECT retry_count FROM dlq_messages")) == {1}


@pytest.mark.parametrize("steps", range(1, 7))
def test_an_executor_that_dies_between_two_steps_leaves_a_retry_that_another_ends(
    conn: Conn, database: Database, steps: int
) -> None:
    """Its connection breaks after any step, once within one; each letter goes out once all the same."""
    many_failed(conn, 12)
    retry = asked(conn, canary=3, rate_per_s=4)
    first = db.connect(database.dsn, application_name="test_dying")
    for _ in range(steps):
        step(first, retry)
        end_retrying(conn, "sent")
    with first.transaction(force_rollback=True):  # it dies before its commit
        step(first, retry)
    first.close()

    for _ in range(12):
        step(conn, retry)
        end_retrying(conn, "sent")

    done = stands(conn, retry)
    assert (done.status, done.retried, done.sent) == ("done", 12, 12)
    assert set(Counter(values(conn, "SELECT notification_id FROM outbox")).values()) == {1}


def test_a_due_retry_and_a_bulk_retry_do_not_take_the_same_letter(conn: Conn) -> None:
    """The scheduler was first with some; those are simply not there any more."""
    many_failed(conn, 6)
    retry = asked(conn)
    conn.execute(
        "UPDATE dlq_messages SET retry_at = now(), rest_reason = NULL"
        " WHERE id IN (SELECT id FROM dlq_messages ORDER BY id LIMIT 2)"
    )

    assert notifications.requeue_due(conn, limit=10) == 2
    assert step(conn, retry) == 4
    assert values(conn, "SELECT count(*) FROM outbox") == [6]
