"""Finds the capacity by itself: the highest rate that is held with no growing backlog.

Rates grow while they are held; then the gap between the highest that held and the lowest that did not is halved until
it is small; then the highest that held is held for long. One that is not goes down a step and is tried again. Between
two rates everything drains, so that none inherits the backlog of another.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

from loadtest.limits import mean
from loadtest.measuring import Look
from loadtest.profiles import Search, Stage
from loadtest.running import LEAD_S, Running

GROWTH_S: Final = 0.25
"""What is outstanding (due and not received) may differ between begin and end by what arrives in so long."""
ASKED: Final = 0.98
"""A generator that did not ask for this share of a rate has not shown that the rate is held."""
_SETTLE: Final = 0.25  # growth is not looked for in the first quarter of a stretch: queues fill
_DOWN: Final = 0.92
_MOST_STEPS: Final = 40


class Capacity:
    """Which rate to try next, from what became of those before. Pure."""

    def __init__(self, search: Search) -> None:
        self._search = search
        self._held: float | None = None
        self._not_held: float | None = None
        self._rate = search.start_per_s

    @property
    def next_per_s(self) -> float | None:
        """The next rate to try; None when the gap is small enough."""
        if self._not_held is None:
            return self._rate
        held = self._held or 0.0
        if self._not_held - held <= max(1.0, self._search.precision * self._not_held):
            return None
        return self._rate

    @property
    def highest_held(self) -> float | None:
        """The highest rate that was held."""
        return self._held

    def note(self, rate: float, *, held: bool) -> None:
        """Learn what became of a rate."""
        if held:
            self._held = max(rate, self._held or 0.0)
            if self._not_held is not None and self._not_held <= rate:
                self._not_held = None
        else:
            self._not_held = min(rate, self._not_held or rate)
            if self._held is not None and self._held >= rate:
                self._held = None
        if self._not_held is None:
            self._rate = rate * self._search.growth
        elif self._held is None:
            self._rate = self._not_held / self._search.growth
        else:
            self._rate = (self._held + self._not_held) / 2


@dataclass(frozen=True, slots=True)
class Stretch:
    """A rate that was asked for from an instant on, and what was seen of it."""

    rate: float
    from_s: float
    for_s: float
    batch_items: int
    looks: Sequence[Look]
    left_over: int = 0  # what was outstanding when it began; below 0 where what nobody answered arrived all the same

    @property
    def asked_per_s(self) -> float:
        """What was really asked for."""
        return sum(look.counts["asked"] for look in self.looks) / self.for_s

    def fault(self, latency_s: float) -> str:
        """Say why a rate was not held; nothing if it was.

        It was if all of it was asked for, nothing was refused, nothing piled up anywhere on the way, and what waits
        at the end is less than arrives in `latency_s`, which then is the mean latency (Little's law). Outstanding is
        what was *due* and is not received: a generator that is late is a backlog like any other. A whole batch may
        happen to be on its way.
        """
        if any(look.counts["refused"] or look.counts["unanswered"] for look in self.looks):
            return "something was refused or not answered"
        if self.asked_per_s * self.for_s < ASKED * self.rate * self.for_s - self.batch_items:
            return f"the generator came to {self.asked_per_s:,.0f}/s only"
        outstanding = self._outstanding()
        judged = outstanding[int(len(outstanding) * _SETTLE) :]
        if not judged:
            return "nothing was seen"
        third = max(1, len(judged) // 3)
        begin, end = mean(judged[:third]), mean(judged[-third:])
        if end - begin > max(GROWTH_S * self.rate, self.batch_items):
            return f"the backlog grew from {begin:,.0f} to {end:,.0f}"
        if end > max(latency_s * self.rate, 2 * self.batch_items):
            return f"{end:,.0f} were waiting, more than arrive in {latency_s:g} s"
        return ""

    def _outstanding(self) -> list[float]:
        asked = accumulate(look.counts["asked"] for look in self.looks)
        due = (self.rate * min(max(look.at_s - self.from_s, 0.0), self.for_s) for look in self.looks)
        base = min(0, self.left_over)
        late = (max(0.0, one - other) for one, other in zip(due, asked, strict=True))
        return [look.outstanding - base + behind for look, behind in zip(self.looks, late, strict=True)]


def find_capacity(running: Running) -> float | None:
    """Search, then hold; note each step as an event. Return the capacity, None if none was held."""
    search, profile = running.profile.search, running.profile
    running.event(f"warming up at {search.start_per_s / 2:,.0f}/s")
    running.play(Stage(max(2.0, profile.warm_up_s), search.start_per_s / 2, search.start_per_s / 2))
    running.drain(profile.drain_s)
    capacity = Capacity(search)
    for _ in range(_MOST_STEPS):
        rate = capacity.next_per_s
        if rate is None or not _has_time_for(running, search.step_s, search.hold_s):
            break
        held = _tried(running, rate, search.step_s, "trying") is not None
        capacity.note(rate, held=held)
    return _hold(running, capacity.highest_held)


def _hold(running: Running, rate: float | None) -> float | None:
    search = running.profile.search
    while rate is not None and rate >= 1:
        if not _has_time_for(running, search.hold_s):
            running.found.notes.append(f"limit_s left no time to hold {rate:,.0f}/s.")
            return None
        running.found.counts["capacity_per_s"] = 0
        stretch = _tried(running, rate, search.hold_s, "holding")
        if stretch is not None:
            capacity = min(rate, stretch.asked_per_s)
            running.found.counts["capacity_per_s"] = int(capacity)
            p99 = {latency.name: latency.p99 for latency in running.measured.latencies()}.get("accept_to_receiver")
            seen = "" if p99 is None else f", 99 % of it received within {p99:,.0f} ms"
            running.found.notes.append(f"Held for {search.hold_s:g} s: {stretch.asked_per_s:,.1f}/s asked{seen}.")
            return capacity
        rate *= _DOWN
    return None


def _has_time_for(running: Running, *stretches_s: float) -> bool:
    """Whether some stretches with their drains fit into what `limit_s` leaves."""
    needs_s = sum(LEAD_S + stretch_s + running.profile.drain_s for stretch_s in stretches_s)
    return needs_s < running.left_s


def _tried(running: Running, rate: float, for_s: float, word: str) -> Stretch | None:
    """Ask for a rate; return what was seen if it was held."""
    running.event(f"{word} {rate:,.0f}/s for {for_s:g} s")
    left_over = running.measured.outstanding
    looks = running.play(Stage(for_s, rate, rate))
    stretch = Stretch(rate, running.found.load_from_s, for_s, running.profile.mix.batch_items, looks, left_over)
    fault = stretch.fault(running.profile.search.latency_s)
    drained = running.drain(running.profile.drain_s)
    if not fault and not drained:
        fault = f"what it left had not arrived {running.profile.drain_s:g} s later"
    running.event(f"{rate:,.0f}/s was not held: {fault}" if fault else f"{rate:,.0f}/s was held")
    return None if fault else stretch
