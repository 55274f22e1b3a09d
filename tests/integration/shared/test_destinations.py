"""What consumers report about their destinations: merged, aged out, at little cost."""

from dataclasses import replace
from typing import Any
from uuid import UUID

import psycopg
import pytest

from shared.db import destinations
from shared.db.destinations import Filter, Report
from shared.model import BreakerState, Channel

Conn = psycopg.Connection[Any]
ONE, TWO = UUID(int=1), UUID(int=2)
REST = Report("http://a:80", "webhook", BreakerState.CLOSED, 0, 1, 0, 0, 0, None, None)
BUSY = replace(REST, slots_in_use=3, slots_allowed=4, waiting=5, calls=20, failures=1, last_reason="http_429")
DOWN = replace(REST, breaker=BreakerState.OPEN, calls=10, failures=9, last_reason="http_503", probe_in_s=60.0)


def named(name: str, report: Report = REST) -> Report:
    return replace(report, destination=name)


def age(conn: Conn, consumer: UUID, seconds: int) -> None:
    conn.execute(
        "UPDATE delivery_consumers SET reported_at = now() - %s * interval '1 second' WHERE consumer = %s",
        (seconds, consumer),
    )


def count(conn: Conn) -> int:
    [(rows,)] = conn.execute("SELECT count(*) FROM destination_reports").fetchall()
    return int(rows)


def test_consumers_are_merged_to_the_worst_breaker_and_sums(conn: Conn) -> None:
    """One consumer may have closed what another still leaves alone."""
    destinations.report(conn, ONE, [BUSY])
    destinations.report(conn, TWO, [DOWN])

    [seen] = destinations.list_page(conn, Filter("a"), limit=9)

    assert (seen.breaker, seen.slots_in_use, seen.slots_allowed, seen.waiting) == ("open", 3, 5, 5)
    assert (seen.calls, seen.failures, seen.last_reason, seen.consumer_count) == (30, 10, "http_503", 2)
    assert seen.next_probe_at is not None
    by_consumer = destinations.by_consumer(conn, "http://a:80", tenant_id="a")
    assert [(one.consumer, one.breaker) for one in by_consumer] == [(ONE, "closed"), (TWO, "open")]


def test_a_tenant_sees_its_own_and_those_that_all_share(conn: Conn) -> None:
    """One origin may be down for one tenant and well for another; the mail host is everybody's."""
    mine, theirs = replace(DOWN, tenant_id="a"), replace(REST, tenant_id="b")
    mail = named("mail:25", replace(REST, channel="email"))
    destinations.report(conn, ONE, [mine, theirs, mail])

    seen = {
        tenant: [(one.destination, one.breaker) for one in destinations.list_page(conn, Filter(tenant), limit=9)]
        for tenant in ("a", "b", "c")
    }
    details = {
        tenant: [one.breaker for one in destinations.by_consumer(conn, "http://a:80", tenant_id=tenant)]
        for tenant in ("a", "b", "c")
    }
    open_ones = destinations.list_page(conn, Filter("b", breaker=BreakerState.OPEN), limit=9)
    destinations.report(conn, ONE, [], forgotten=[("a", "http://a:80")])

    assert seen == {
        "a": [("http://a:80", "open"), ("mail:25", "closed")],
        "b": [("http://a:80", "closed"), ("mail:25", "closed")],
        "c": [("mail:25", "closed")],
    }
    assert (details, open_ones) == ({"a": ["open"], "b": ["closed"], "c": []}, [])
    assert count(conn) == 2


def test_a_later_report_replaces_the_earlier_one_and_others_stay(conn: Conn) -> None:
    """Only what has changed is written again; what was dropped is gone."""
    destinations.report(conn, ONE, [DOWN, named("http://b:80"), named("http://c:80")])
    destinations.report(conn, ONE, [REST], forgotten=[("", "http://c:80")])

    seen = destinations.list_page(conn, Filter("a"), limit=9)

    assert [(one.destination, one.breaker) for one in seen] == [("http://a:80", "closed"), ("http://b:80", "closed")]


def test_a_silent_consumer_is_left_out_and_then_swept(conn: Conn) -> None:
    """After 15 seconds; whoever reports next deletes its rows."""
    destinations.report(conn, ONE, [DOWN])
    age(conn, ONE, 16)
    assert destinations.list_page(conn, Filter("a"), limit=9) == []
    assert destinations.by_consumer(conn, "http://a:80", tenant_id="a") == []

    destinations.report(conn, TWO, [])

    assert count(conn) == 0


def test_a_consumer_that_was_swept_learns_that_it_was(conn: Conn) -> None:
    """It froze, others swept its rows: it is told, and reports all of them again."""
    first = destinations.report(conn, ONE, [DOWN])
    second = destinations.report(conn, ONE, [])
    age(conn, ONE, 16)
    destinations.report(conn, TWO, [])

    assert [told.known for told in (first, second, destinations.report(conn, ONE, []))] == [False, True, False]


def test_a_consumer_learns_how_many_send_webhooks(conn: Conn) -> None:
    """Among those that are alive: one that sends mail alone takes no part of an endpoint's rate."""
    destinations.report(conn, ONE, [])
    destinations.report(conn, TWO, [], channels=[Channel.EMAIL])
    destinations.report(conn, UUID(int=3), [], channels=[Channel.WEBHOOK])
    destinations.report(conn, UUID(int=4), [])
    age(conn, UUID(int=4), 16)

    assert destinations.report(conn, ONE, []).webhook_consumers == 2


@pytest.mark.parametrize(
    ("where", "names"),
    [
        (Filter("a"), ["a", "b", "c", "mail:25"]),
        (Filter("a", breaker=BreakerState.OPEN), ["a"]),
        (Filter("a", breaker=BreakerState.HALF_OPEN), ["b"]),
        (Filter("a", breaker=BreakerState.CLOSED), ["c", "mail:25"]),
        (Filter("a", channel="email"), ["mail:25"]),  # type: ignore[arg-type]
        (Filter("a", destination="c"), ["c"]),
        (Filter("a", after="b"), ["c", "mail:25"]),
    ],
)
def test_destinations_are_found_by_what_is_asked(conn: Conn, where: Filter, names: list[str]) -> None:
    """By the worst breaker, channel, name, and page by page."""
    mail = replace(named("mail:25"), channel="email")
    half = replace(named("b", DOWN), breaker=BreakerState.HALF_OPEN)
    destinations.report(conn, ONE, [named("a", DOWN), half, named("c"), mail])
    destinations.report(conn, TWO, [replace(named("a", DOWN), breaker=BreakerState.HALF_OPEN)])

    assert [one.destination for one in destinations.list_page(conn, where, limit=9)] == names


def test_updates_of_numbers_are_heap_only(conn: Conn) -> None:
    """The indexes are left alone while breakers stay as they are: reports cost little."""
    for calls in range(1, 21):
        destinations.report(conn, ONE, [replace(BUSY, calls=calls)])

    conn.execute("SELECT pg_stat_force_next_flush()")
    [(updates, heap_only)] = conn.execute(
        "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'destination_reports'"
    ).fetchall()

    assert (updates, heap_only) == (19, 19)
