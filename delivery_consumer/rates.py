"""How fast an endpoint wants to be called: whose turn has not come waits, and holds nothing meanwhile. No clock.

What is due within SOONEST_S waits here; what is due later is put off, and comes back when PostgreSQL says so.
"""

import heapq
import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING

from delivery_consumer.tenants import SOONEST_S, Line

if TYPE_CHECKING:
    from delivery_consumer.work import Job


class Rate:
    """One endpoint's turns in this process, evenly spaced. The share of a process may change from look to look."""

    __slots__ = ("_last_at", "_line", "per_s")

    def __init__(self, per_s: float) -> None:
        self.per_s = per_s
        self._last_at = float("-inf")  # not the next one: a rate that is raised holds from then on
        self._line = Line()

    def turn(self, now: float) -> float | None:
        """Take the next turn and return when it is; None where that is too far away: see `put_off_s`."""
        at = max(self._last_at + 1 / self.per_s, now)
        if at - now > SOONEST_S:
            return None
        self._last_at = at
        return at

    def put_off_s(self, now: float) -> float:
        """Return for how many seconds to put one off."""
        return self._line.join(now, per_s=self.per_s)


class Turnstile:
    """Jobs until their turn comes, each already has one."""

    def __init__(self) -> None:
        self._held: list[tuple[float, int, Job]] = []
        self._numbers = itertools.count()

    def __bool__(self) -> bool:
        return bool(self._held)

    def hold(self, job: "Job", until: float) -> None:
        """Keep a job until an instant."""
        heapq.heappush(self._held, (until, next(self._numbers), job))

    def opens_in_s(self, now: float) -> float:
        """Return how long the first one waits; there must be one."""
        return max(self._held[0][0] - now, 0.0)

    def let_go(self, now: float) -> "list[Job]":
        """Remove and return those whose turn has come."""
        due = []
        while self._held and self._held[0][0] <= now:
            due.append(heapq.heappop(self._held)[2])
        return due

    def take_out(self, wanted: "Callable[[Job], bool]") -> "list[Job]":
        """Remove and return some."""
        out = [job for _, _, job in self._held if wanted(job)]
        if out:
            self._held = [entry for entry in self._held if not wanted(entry[2])]
            heapq.heapify(self._held)
        return out
