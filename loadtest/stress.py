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

GROWTH_S: Final = 0.25
"""What is outstanding (asked for and not received) may differ between begin and end by what arrives in so long."""
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


def was_held(looks: Sequence[Look], rate: float, *, batch_items: int) -> bool:
    """Say whether a rate was held over these looks: nothing refused, and nothing piling up anywhere on the way.

    Beyond the first quarter, what is outstanding in the mean of the first third is compared with the last; a whole
    batch may happen to be on its way.
    """
    judged = looks[int(len(looks) * _SETTLE) :]
    if not judged or any(look.counts["refused"] or look.counts["unanswered"] for look in judged):
        return False
    third = max(1, len(judged) // 3)
    begin = sum(look.outstanding for look in judged[:third]) / third
    end = sum(look.outstanding for look in judged[-third:]) / third
    return end - begin <= max(GROWTH_S * rate, batch_items)


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
    looks = running.play(Stage(for_s, rate, rate))
    held = was_held(looks, rate, batch_items=running.profile.mix.batch_items)
    running.event(f"{rate:,.0f}/s was {'held' if held else 'not held'}")
    running.drain(running.profile.drain_s)
    return held
