"""Breaker, retry budget and slots, on a clock of numbers."""

from delivery_consumer.destinations import (
    BUDGET_CAP,
    COOL_DOWN_S,
    MIN_CALLS,
    Breaker,
    Destination,
    Destinations,
    Limits,
    RetryBudget,
)
from delivery_consumer.tenants import Tenant, Tenants

LIMITS = Limits(slots=8, first_slots=1, waiting=5)


def opened(at: float = 0.0) -> Breaker:
    """A breaker that has just opened."""
    breaker = Breaker()
    for _ in range(MIN_CALLS):
        breaker.note(failed=True, now=at)
    return breaker


def test_a_breaker_opens_at_half_of_the_calls() -> None:
    """Nine failures of nine are too few to judge by; the tenth call opens it."""
    breaker = Breaker()
    for _ in range(MIN_CALLS - 1):
        breaker.note(failed=True, now=0)
    assert breaker.closed

    breaker.note(failed=True, now=0)

    assert not breaker.closed
    assert breaker.blocked_for_s(1) == COOL_DOWN_S - 1


def test_a_breaker_forgets_old_failures() -> None:
    """What failed more than thirty seconds ago counts no more."""
    breaker = Breaker()
    for _ in range(MIN_CALLS - 1):
        breaker.note(failed=True, now=0)

    breaker.note(failed=True, now=31)

    assert breaker.closed


def test_mostly_working_keeps_it_closed() -> None:
    """A third of failures is no outage."""
    breaker = Breaker()
    for number in range(90):
        breaker.note(failed=number % 3 == 0, now=number / 10)

    assert breaker.closed


def test_half_open_lets_one_probe_through() -> None:
    """After the pause one call goes; the next ones wait for its outcome."""
    breaker = opened()

    assert breaker.blocked_for_s(COOL_DOWN_S) is None
    assert breaker.blocked_for_s(COOL_DOWN_S) is not None
    breaker.note(failed=False, now=COOL_DOWN_S)
    assert breaker.closed


def test_each_failed_probe_doubles_the_pause() -> None:
    """10 s, then 20 s."""
    breaker = opened()
    assert breaker.blocked_for_s(COOL_DOWN_S) is None

    breaker.note(failed=True, now=COOL_DOWN_S)

    assert breaker.blocked_for_s(COOL_DOWN_S) == 2 * COOL_DOWN_S
    assert breaker.blocked_for_s(3 * COOL_DOWN_S) is None


def test_a_budget_gives_a_tenth_of_calls_and_one_a_second() -> None:
    """Ten are saved up; then a repeat needs ten first calls or a second."""
    budget = RetryBudget()
    assert [budget.take(0) for _ in range(int(BUDGET_CAP) + 1)] == [True] * int(BUDGET_CAP) + [False]

    for _ in range(10):
        budget.note_first_call()
    assert budget.take(0)
    assert not budget.take(0)
    assert budget.take(1.01)


def test_slots_grow_with_success_and_shrink_with_silence() -> None:
    """A destination begins with one slot, earns more, and loses half of them to a timeout."""
    destination = Destination("x", LIMITS)
    assert destination.allowed == 1

    for _ in range(20):
        destination.note(worked=True, answered=True, now=0)
    assert destination.allowed == LIMITS.slots

    destination.note(worked=False, answered=False, now=0)
    assert destination.allowed == LIMITS.slots // 2


def test_a_silent_destination_gets_nothing_more() -> None:
    """A second without an end of a call, and no further one begins until one has ended."""
    destination = Destination("x", Limits(slots=8, first_slots=8, waiting=5))
    destination.enter()
    destination.call_began(0)
    destination.enter()
    destination.call_began(0.5)

    assert destination.has_room(0.9)
    assert not destination.has_room(1.0)

    destination.call_ended(1.5, began_at=0, answered=True)
    destination.leave()
    assert destination.has_room(1.6)


def test_one_that_hangs_has_to_prove_itself_again() -> None:
    """A call that met only silence is no sign of life: one slot is left, and none while others still wait for it."""
    destination = Destination("x", LIMITS)
    for _ in range(20):
        destination.note(worked=True, answered=True, now=0)
    for began_at in (10.0, 10.5):
        destination.enter()
        destination.call_began(began_at)

    destination.call_ended(25, began_at=10, answered=False)
    destination.note(worked=False, answered=False, now=25)
    destination.leave()

    assert destination.hangs
    assert destination.allowed == 1
    assert not destination.has_room(25)

    destination.call_ended(25.5, began_at=10.5, answered=False)
    destination.leave()
    assert destination.has_room(25.5)


def test_a_timeout_beside_answers_costs_half_of_the_slots_only() -> None:
    """Something was heard while the call lasted, so the destination does not hang."""
    destination = Destination("x", LIMITS)
    for _ in range(20):
        destination.note(worked=True, answered=True, now=0)
    for began_at in (0.0, 1.0):
        destination.enter()
        destination.call_began(began_at)
    destination.call_ended(2, began_at=1, answered=True)

    destination.call_ended(15, began_at=0, answered=False)
    destination.note(worked=False, answered=False, now=15)

    assert not destination.hangs
    assert destination.allowed == LIMITS.slots // 2


def test_three_calls_in_silence_open_the_breaker() -> None:
    """Ten calls would take minutes there; an answer in between starts the count anew."""
    breaker = Breaker()
    for silent in (True, True, False, True, True):
        breaker.note(failed=silent, silent=silent, now=0)
    assert breaker.closed

    breaker.note(failed=True, silent=True, now=15)

    assert breaker.blocked_for_s(15) == COOL_DOWN_S


def test_idle_destinations_are_forgotten_in_time() -> None:
    """What is kept is bounded; one in use stays."""
    destinations, tenant = Destinations(Tenants(), keep=3), Tenant("a")
    used = destinations.get(tenant, "used", LIMITS)
    used.enter()

    for number in range(10):
        destinations.get(tenant, str(number), LIMITS)

    assert destinations.get(tenant, "used", LIMITS) is used
    assert len(destinations.known) == tenant.destinations == 3
    assert destinations.open_breakers() == 0
