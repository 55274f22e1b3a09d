"""Waiting for a count: looked at seldom, and yet not left late."""

import pytest

from loadtest.bench.frame import BenchError
from loadtest.bench.waiting import wait_for, wait_for_count


class World:
    """A clock that sleep moves, and a count that rises by so many a second after a while."""

    def __init__(self, *, per_s: float, begins_s: float = 0.0) -> None:
        self.now, self.looks = 0.0, 0
        self._per_s, self._begins_s = per_s, begins_s

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def read(self) -> float:
        self.looks += 1
        return max(0.0, self._per_s * (self.now - self._begins_s))

    def wait(self, target: float, *, timeout_s: float = 900.0) -> float:
        """Wait for the count in this world."""
        return wait_for_count(
            self.read, target, timeout_s=timeout_s, what="it", clock=lambda: self.now, sleep=self.sleep
        )


def test_a_count_is_seldom_looked_at_and_its_end_hardly_missed() -> None:
    """Ten seconds of work: a few dozen looks, and a hundredth of a second late at most."""
    world = World(per_s=4_000)

    found = world.wait(40_000)

    assert found >= 40_000
    assert world.now <= 10.02
    assert world.looks < 60


def test_what_begins_late_is_waited_for() -> None:
    """A consumer takes a while to get its partitions; after that the rate looks lower than it is, never higher."""
    world = World(per_s=1_000, begins_s=2.0)

    world.wait(5_000)

    assert 7.0 <= world.now <= 7.6


def test_what_never_comes_is_an_error() -> None:
    """With how far it had come."""
    with pytest.raises(BenchError, match="3 s in vain for it: 0 of 10"):
        World(per_s=0).wait(10, timeout_s=3)
    with pytest.raises(BenchError, match="in vain for nothing"):
        wait_for(lambda: False, timeout_s=-1, what="nothing")
