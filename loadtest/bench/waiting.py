"""Waiting for what is measured, without being a load on it."""

import time
from collections.abc import Callable
from typing import Final

from loadtest.bench.frame import BenchError

_SHORTEST_S: Final = 0.01
_LONGEST_S: Final = 0.5


def wait_for(done: Callable[[], bool], *, timeout_s: float, what: str, poll_s: float = 0.02) -> None:
    """Wait until something is so. Raises BenchError when it is not in time."""
    deadline = time.monotonic() + timeout_s
    while not done():
        if time.monotonic() > deadline:
            raise BenchError(f"waited {timeout_s:.0f} s in vain for {what}")
        time.sleep(poll_s)


def wait_for_count(
    read: Callable[[], float],
    target: float,
    *,
    timeout_s: float,
    what: str,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> float:
    """Wait until a count has come to `target`; return what it is then. Raises BenchError when it is not in time.

    Whoever is counted has to answer for each look. So it is looked at seldom while much is missing: next when half of
    what is missing should have come, at the rate so far.
    """
    began, first = clock(), read()
    count = first
    while count < target:
        elapsed_s = clock() - began
        if elapsed_s > timeout_s:
            raise BenchError(f"waited {timeout_s:.0f} s in vain for {what}: {count:,.0f} of {target:,.0f}")
        came = count - first
        half_s = (target - count) * elapsed_s / came / 2 if came > 0 else _SHORTEST_S
        sleep(min(_LONGEST_S, max(_SHORTEST_S, half_s)))
        count = read()
    return count
