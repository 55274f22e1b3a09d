"""`on_unknown: hold`, from the statement that ends a doubtful attempt to the verdict on its dead letter."""

import random
from collections.abc import Callable

import pytest

from dlq_consumer.letters import Place, read_letter
from dlq_consumer.triage import DeadLetter, Rest, RetryAt, triage
from shared.db import accepting, notifications, sweeping
from shared.db.accepting import NewNotification
from shared.db.notifications import Ticket
from shared.model import Channel, OnUnknown, Outcome, uuid7
from shared.records import Record, encode_record
from tests.integration.notifications import TOPICS, new_notification
from tests.integration.shared.conftest import Conn
from tests.integration.shared.steps import OWNER, end, rows

Doubt = Callable[[Conn, NewNotification], object]


def lose_the_dead_letter(conn: Conn, one: NewNotification) -> None:
    """The dead letter never arrived and the attempt's row is pruned: the sweeper publishes it again."""
    end(conn, Ticket(one.id, 1), Outcome.UNKNOWN, reason="no_answer")
    conn.execute("DELETE FROM outbox")
    conn.execute("DELETE FROM delivery_attempts")
    sweeping.publish_again(conn, [one.id], dlq_topic=TOPICS.dlq)


DOUBTS: dict[str, Doubt] = {
    "no answer": lambda conn, one: end(conn, Ticket(one.id, 1), Outcome.UNKNOWN, reason="no_answer"),
    "cut off": lambda conn, one: end(conn, Ticket(one.id, 1), Outcome.UNKNOWN, reason="stopped"),
    "lease over": lambda conn, _: notifications.end_overdue_leases(conn, dlq_topic=TOPICS.dlq, limit=9),
    "swept": lose_the_dead_letter,
}


def accept_and_claim(conn: Conn, on_unknown: OnUnknown) -> NewNotification:
    """Have one whose lease is over at once."""
    id_ = uuid7()
    record = Record(
        str(id_), "default", Channel.EMAIL, "a@example.org", "hi", "2026-01-01T00:00:00Z", on_unknown=on_unknown
    )
    one = new_notification(id=id_, on_unknown=on_unknown, record=encode_record(record))
    accepting.insert(conn, one)
    notifications.claim(conn, [Ticket(one.id, 1)], owner=OWNER, lease_s=-1)
    conn.execute("DELETE FROM outbox")
    return one


@pytest.mark.parametrize("how", DOUBTS)
@pytest.mark.parametrize("on_unknown", OnUnknown)
def test_a_held_notification_rests_whatever_made_it_doubtful(conn: Conn, how: str, on_unknown: OnUnknown) -> None:
    """Nothing sends it again but a person; without `hold` the same doubt is tried again."""
    one = accept_and_claim(conn, on_unknown)

    DOUBTS[how](conn, one)

    ((topic, key, value, headers),) = rows(conn, "SELECT topic, key, value, headers FROM outbox")
    letter = read_letter(key, value, headers, Place(topic, 0, 0))
    facts = DeadLetter(letter.failure_class, letter.on_unknown, 0, letter.retry_after_s)
    verdict = triage(facts, ladder_s=[60], rng=random.Random(1))
    if on_unknown is OnUnknown.HOLD:
        assert verdict == Rest("on_unknown_hold")
    else:
        assert isinstance(verdict, RetryAt)
