"""The clock by which destinations are judged silent."""

from delivery_consumer.destinations import Destination, Limits
from delivery_consumer.listening import ListeningClock
from tests.unit.delivery_consumer.fakes import Clock


def test_time_in_which_the_loop_was_held_up_does_not_count() -> None:
    """Ten seconds of standing still are a tenth of a second to it, before the next tick and after."""
    clock = Clock(1000.0)
    listening = ListeningClock(clock)

    clock.now += 10
    before_the_tick = listening()
    listening.tick()
    clock.now += 0.05

    assert before_the_tick == 1000.1
    assert round(listening(), 3) == 1000.15


def test_a_loop_that_runs_counts_all_time() -> None:
    """Tick by tick it goes as the other clock goes, and never back."""
    clock = Clock(1000.0)
    listening = ListeningClock(clock)
    seen = []

    for _ in range(100):
        clock.now += 0.05
        seen.append(listening())
        listening.tick()

    assert seen == sorted(seen)
    assert round(listening(), 6) == 1005.0


def test_a_process_that_was_held_up_takes_nobody_for_silent() -> None:
    """I18: a call under way while this process stood still for three seconds does not make its destination silent."""
    clock = Clock(1000.0)
    listening = ListeningClock(clock)
    destination = Destination("https://receiver.example", Limits(slots=2, first_slots=2, waiting=10))
    destination.call_began(listening())

    clock.now += 3
    listening.tick()

    assert not destination.silent(listening())
