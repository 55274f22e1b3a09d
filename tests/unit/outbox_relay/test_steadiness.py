"""Jumps of the server's clock are told from slow answers and from time that passed for both."""

from typing import Any, cast

import psycopg
import pytest

from outbox_relay.steadiness import ServerClock


class Clocks:
    """Our monotonic clock, and a connection whose server has a clock of its own and may be slow to answer."""

    def __init__(self) -> None:
        self.ours, self.server, self.answer_takes_s = 1000.0, 5e8, 0.0

    def __call__(self) -> float:
        return self.ours

    def execute(self, _query: str) -> "Clocks":
        self.pass_(self.answer_takes_s)
        return self

    def fetchall(self) -> list[tuple[float]]:
        return [(self.server,)]

    def pass_(self, seconds: float) -> None:
        """Let time pass for both."""
        self.ours += seconds
        self.server += seconds

    @property
    def conn(self) -> psycopg.Connection[Any]:
        return cast("psycopg.Connection[Any]", self)


@pytest.mark.parametrize(
    ("jump_s", "jumped"), [(0, False), (0.5, False), (2, True), (10_800, True), (-2, True), (-3600, True)]
)
def test_a_jump_is_noticed_once(jump_s: float, jumped: bool) -> None:
    """Forwards or backwards; from then on the new time is the right one."""
    clocks = Clocks()
    clock = ServerClock(clocks)

    first = clock.jumped(clocks.conn)
    clocks.pass_(1)
    clocks.server += jump_s
    second = clock.jumped(clocks.conn)
    clocks.pass_(1)

    assert (first, second, clock.jumped(clocks.conn)) == (False, jumped, False)


def test_a_slow_answer_or_a_long_pause_is_no_jump() -> None:
    """Both clocks moved by the same."""
    clocks = Clocks()
    clock = ServerClock(clocks)
    clock.jumped(clocks.conn)

    clocks.pass_(600)
    paused = clock.jumped(clocks.conn)
    clocks.answer_takes_s = 30
    slow = clock.jumped(clocks.conn)

    assert (paused, slow) == (False, False)
