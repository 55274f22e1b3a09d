"""What was seen, look by look, and what it adds up to."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from loadtest.histograms import Histogram
from loadtest.results import Group, Latency, Series
from shared.model import Channel

_COUNTED: Final = ("requests", "asked", "accepted", "late")


class Lines:
    """The lines of all plots, growing."""

    def __init__(self) -> None:
        self._lines: dict[tuple[Group, str], Series] = {}

    def add(self, group: Group, name: str, unit: str, at_s: float, value: float | None) -> None:
        """Add a point to a line; the first one begins it."""
        line = self._lines.setdefault((group, name), Series(name, unit, group, [], []))
        line.at_s.append(round(at_s, 2))
        line.values.append(None if value is None else round(value, 3))

    def all(self) -> list[Series]:
        """The lines, group by group."""
        return [self._lines[key] for key in sorted(self._lines)]

    def points(self, group: Group, name: str) -> list[tuple[float, float]]:
        """The points of a line that were read."""
        line = self._lines.get((group, name))
        pairs = zip(line.at_s, line.values, strict=True) if line else ()
        return [(at_s, value) for at_s, value in pairs if value is not None]

    def names(self, group: Group) -> list[str]:
        """The lines of a group."""
        return [name for of, name in sorted(self._lines) if of == group]


@dataclass(slots=True)
class Look:
    """What happened between the last look and this one; counts are of notifications."""

    at_s: float
    took_s: float
    counts: Counter[str] = field(default_factory=Counter)
    received: Counter[str] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)  # by origin and answer
    under_way: int = 0
    outstanding: int = 0  # asked for, and neither received nor refused
    accept: Histogram = field(default_factory=Histogram)
    receiver: Histogram = field(default_factory=Histogram)

    def per_s(self, name: str) -> float:
        """The rate of a count."""
        return self.counts[name] / self.took_s if self.took_s > 0 else 0.0


class Measured:
    """Everything a run has seen so far."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.refused_by: Counter[str] = Counter()  # status or reason
        self.retries_by: Counter[str] = Counter()  # origin
        self.doubtful: list[tuple[int, int]] = []
        self.begin_window()

    def begin_window(self) -> None:
        """Forget the latencies of an earlier measurement."""
        self._accept, self._lag = Histogram(), Histogram()
        self._receiver = {channel: Histogram() for channel in Channel}
        self._all = Histogram()

    @property
    def backlog(self) -> int:
        """Accepted and not received, as far as is known; what was accepted without an answer makes it too small."""
        return max(0, self.counts["accepted"] - self.counts["received"])

    @property
    def outstanding(self) -> int:
        """Asked for, and neither received nor refused; what arrived without an answer makes it too small."""
        counts = self.counts
        return counts["asked"] - counts["received"] - counts["refused"] - counts["unanswered"]

    def add(self, asked: Sequence[dict[str, Any]], sink: dict[str, Any], *, at_s: float, took_s: float) -> Look:
        """Add what the processes took since the last look, and return it."""
        look = Look(at_s, took_s)
        for one in asked:
            self._add_asked(look, one)
        self._add_received(look, sink)
        self.counts.update(look.counts)
        look.outstanding = self.outstanding
        return look

    def _add_asked(self, look: Look, one: dict[str, Any]) -> None:
        for name in _COUNTED:
            look.counts[name] += one[name]
        look.counts["refused"] += sum(one["refused"].values())
        look.counts["unanswered"] += sum(one["unanswered"].values())
        self.refused_by.update(one["refused"])
        self.refused_by.update(one["unanswered"])
        self.doubtful += [(first, count) for first, count in one["doubtful"]]
        look.under_way += one["under_way"]
        self._accept.add(one["measured"])
        self._lag.add(one["lag"])
        for taken in (one["measured"], one["beside"]):
            look.accept.add(taken)

    def _add_received(self, look: Look, sink: dict[str, Any]) -> None:
        look.received.update(sink["received"])
        look.counts["received"] += sum(sink["received"].values())
        look.counts["received_again"] += sink["again"]
        look.counts["foreign"] += sink["foreign"]
        look.counts["astray"] += sink["astray"]
        look.counts["retries"] += sum(sink["retries"].values())
        self.retries_by.update(sink["retries"])
        look.refusals.update(sink["refused"])
        look.counts["refused_deliveries"] += sum(sink["refused"].values())
        for channel in Channel:
            measured = sink["measured"][channel]
            self._receiver[channel].add(measured)
            self._all.add(measured)
            for taken in (measured, sink["beside"][channel]):
                look.receiver.add(taken)

    def latencies(self) -> list[Latency]:
        """The figures of the measured time; what was never seen has none."""
        named = {"accept": self._accept, "accept_to_receiver": self._all}
        named |= {f"accept_to_receiver_{channel}": histogram for channel, histogram in self._receiver.items()}
        named["generator_lag"] = self._lag
        found = [histogram.latency(name) for name, histogram in named.items()]
        return [one for one in found if one is not None]


def draw(lines: Lines, look: Look, *, backlog: int) -> None:
    """Add a look to the plots."""
    for name in ("asked", "accepted", "received"):
        lines.add("throughput", name, "1/s", look.at_s, look.per_s(name))
    for channel in Channel:
        lines.add("throughput", f"received by {channel}", "1/s", look.at_s, look.received[channel] / look.took_s)
    for name, histogram in (("accept", look.accept), ("accept to receiver", look.receiver)):
        for percentile in (50.0, 99.0):
            lines.add("latency", f"{name} p{percentile:.0f}", "ms", look.at_s, histogram.ms(percentile))
    lines.add("backlog", "accepted, not received", "notifications", look.at_s, backlog)
    lines.add("backlog", "requests without an answer yet", "requests", look.at_s, look.under_way)
    lines.add("retries", "deliveries refused", "1/s", look.at_s, look.per_s("refused_deliveries"))
    lines.add("retries", "second and later attempts", "1/s", look.at_s, look.per_s("retries"))
