"""Counting deliveries in bounded memory."""

from dataclasses import dataclass

from infra.local.tally import Recent, Tally


@dataclass(frozen=True)
class Thing:
    name: str
    size_bytes: int = 1


def test_an_id_accepted_twice_is_a_duplicate_and_a_refused_one_is_not() -> None:
    """A receiver that refused asked for another delivery."""
    tally = Tally()

    for notification_id, accepted in [("a", False), ("a", True), ("b", True), ("b", True), ("", True)]:
        tally.count(notification_id, accepted=accepted)
    totals = tally.totals()

    assert (totals.received, totals.accepted, totals.distinct, totals.without_id) == (5, 4, 2, 1)
    assert totals.duplicates == {"b": 2}
    assert tally.ids() == ["a", "b"]


def test_more_ids_than_are_counted_are_admitted() -> None:
    """A count that is not complete says so, so that nobody takes it for proof."""
    tally = Tally(max_ids=2)

    for notification_id in ("a", "b", "c", "a"):
        tally.count(notification_id, accepted=True)
    totals = tally.totals()

    assert (totals.accepted, totals.distinct, totals.complete) == (4, 2, False)
    assert totals.duplicates == {"a": 2}


def test_recent_forgets_the_oldest_when_full() -> None:
    """Newest first, never more than the bound."""
    recent: Recent[Thing] = Recent(max_records=2)

    for name in "abc":
        recent.add(Thing(name))

    assert [thing.name for thing in recent] == ["c", "b"]


def test_recent_is_bounded_in_bytes_too() -> None:
    """A few huge records push out the others; the newest is always kept."""
    recent: Recent[Thing] = Recent(max_bytes=10)

    for name, size in [("a", 6), ("b", 6), ("c", 50)]:
        recent.add(Thing(name, size))

    assert [thing.name for thing in recent] == ["c"]
