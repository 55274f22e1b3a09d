"""Finds the capacity by itself: the highest rate that is held with no growing backlog.

Rates grow while they are held; then the gap between the highest that held and the lowest that did not is halved until
it is small; then the highest that held is held for long. One that is not goes down a step and is tried again. Between
two rates everything drains, so that none inherits the backlog of another.
"""

from collections.abc import Sequence
from typing import Final

from loadtest.measuring import Look
from loadtest.profiles import Search, Stage
from loadtest.running import Running

KEPT: Final = 0.97
"""A rate is held only if this share of what was asked for was accepted in its time, and received."""
GROWTH_S: Final = 0.5
"""The backlog of a rate that is held may differ between begin and end by what arrives in so long."""
_SETTLE: Final = 0.25  # the first quarter of a stretch is not judged: queues fill
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


def was_held(looks: Sequence[Look], backlogs: Sequence[float], rate: float) -> bool:
    """Say whether a rate was held over these looks: accepted and received as fast as asked for, nothing piling up.

    Beyond its first quarter, the mean backlog of the first third is compared with that of the last.
    """
    begin = int(len(looks) * _SETTLE)
    judged, waiting = looks[begin:], backlogs[begin:]
    took_s = sum(look.took_s for look in judged)
    if not judged or took_s <= 0:
        return False
    if any(look.counts["refused"] or look.counts["unanswered"] for look in judged):
        return False
    asked = sum(look.counts["asked"] for look in judged)
    accepted = sum(look.counts["accepted"] for look in judged)
    received = sum(look.counts["received"] for look in judged)
    if accepted < KEPT * asked or received < KEPT * asked:
        return False
    third = max(1, len(waiting) // 3)
    grown = sum(waiting[-third:]) / third - sum(waiting[:third]) / third
    return grown <= GROWTH_S * rate


def find_capacity(running: Running) -> float | None:
    """Search, then hold; note each step as an event. Return the capacity, None if none was held."""
    search, profile = running.profile.search, running.profile
    running.event(f"warming up at {search.start_per_s / 2:,.0f}/s")
    running.play(Stage(max(2.0, profile.warm_up_s), search.start_per_s / 2, search.start_per_s / 2))
    running.drain(profile.drain_s)
    capacity = Capacity(search)
    for _ in range(_MOST_STEPS):
        rate = capacity.next_per_s
        if rate is None:
            break
        capacity.note(rate, held=_tried(running, rate, search.step_s, "trying"))
    return _hold(running, capacity.highest_held)


def _hold(running: Running, rate: float | None) -> float | None:
    search = running.profile.search
    while rate is not None and rate >= 1:
        running.found.counts["capacity_per_s"] = 0
        if _tried(running, rate, search.hold_s, "holding"):
            running.found.counts["capacity_per_s"] = int(rate)
            return rate
        rate *= _DOWN
    return None


def _tried(running: Running, rate: float, for_s: float, word: str) -> bool:
    running.event(f"{word} {rate:,.0f}/s for {for_s:g} s")
    waiting: list[float] = []
    looks = running.play(Stage(for_s, rate, rate))
    by_time = dict(running.lines.points("backlog", "accepted, not received"))
    under_way = {look.at_s: look.under_way for look in looks}
    waiting = [by_time.get(round(at_s, 2), 0.0) + under for at_s, under in under_way.items()]
    held = was_held(looks, waiting, rate)
    running.event(f"{rate:,.0f}/s was {'held' if held else 'not held'}")
    running.drain(running.profile.drain_s)
    return held
