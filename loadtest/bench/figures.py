"""The arithmetic of rounds: medians, spreads, ratios, and whether a promise held. Pure."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

PER_S: Final = "per_s"
PER_CPU_S: Final = "per_cpu_s:"
CPU_US: Final = "cpu_us:"


@dataclass(frozen=True, slots=True)
class Sample:
    """What one round of one contender gave: how much work in how long, CPU-seconds by process, and other figures."""

    work: int
    wall_s: float
    cpu_s: Mapping[str, float] = field(default_factory=dict)
    others: Mapping[str, float] = field(default_factory=dict)

    def figure(self, name: str) -> float:
        """Return a figure by name: `per_s`, `per_cpu_s:<process>`, `cpu_us:<process>`, or one of `others`.

        A process may be `all`, the sum. CPU below the clock's resolution makes a rate infinite, never an error.
        """
        if name == PER_S:
            return _divided(self.work, self.wall_s)
        if name.startswith(PER_CPU_S):
            return _divided(self.work, self._cpu_of(name.removeprefix(PER_CPU_S)))
        if name.startswith(CPU_US):
            return _divided(1e6 * self._cpu_of(name.removeprefix(CPU_US)), self.work)
        return self.others[name]

    def _cpu_of(self, process: str) -> float:
        return sum(self.cpu_s.values()) if process == "all" else self.cpu_s[process]


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of several rounds with the lowest and the highest."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Return the spread of one value or more."""
        return cls(statistics.median(values), min(values), max(values))


def spread_of(samples: Sequence[Sample], figure: str) -> Spread:
    """Return the spread of a figure over rounds."""
    return Spread.of([sample.figure(figure) for sample in samples])


@dataclass(frozen=True, slots=True)
class Promise:
    """What a stage promises of one contender: a figure alone, or its ratio to the best of the contenders `beside`.

    Exactly one of `at_least` and `at_most` is given; the median of the rounds is what has to keep it.
    """

    text: str
    of: str
    figure: str = PER_S
    at_least: float | None = None
    at_most: float | None = None
    beside: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Judgement:
    """What was measured of a promise; `beside` is the contender it turned out to be compared with."""

    promise: Promise
    measured: Spread
    held: bool
    beside: str | None = None


Rounds = Mapping[str, Sequence[Sample]]
"""The samples of each contender, in the order of the rounds."""


def judge(promise: Promise, rounds: Rounds) -> Judgement | None:
    """Say whether a promise held; None where a contender it needs has no round.

    A ratio is taken within each round, where both ran one after the other under the same conditions, and its median is
    judged. The best of `beside` is the one whose own median is the best: the highest where at least something is
    promised, the lowest where at most.
    """
    ours = rounds.get(promise.of, ())
    present = [name for name in promise.beside if rounds.get(name)]
    if not ours or (promise.beside and not present):
        return None
    if not present:
        return _judged(promise, Spread.of([sample.figure(promise.figure) for sample in ours]), None)
    best = max if promise.at_least is not None else min
    other = best(present, key=lambda name: spread_of(rounds[name], promise.figure).median)
    return _judged(promise, ratio(ours, rounds[other], promise.figure), other)


def ratio(ours: Sequence[Sample], theirs: Sequence[Sample], figure: str) -> Spread:
    """Return the spread of the ratio of a figure, taken round by round; a last round that only one had is left out."""
    return Spread.of([_divided(a.figure(figure), b.figure(figure)) for a, b in zip(ours, theirs, strict=False)])


def _judged(promise: Promise, measured: Spread, beside: str | None) -> Judgement:
    high_enough = promise.at_least is None or measured.median >= promise.at_least
    low_enough = promise.at_most is None or measured.median <= promise.at_most
    return Judgement(promise, measured, high_enough and low_enough, beside)


def _divided(a: float, b: float) -> float:
    if b == 0:
        return float("inf") if a else 0.0
    return a / b


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that `share` (0 to 1) of all values do not exceed: the nearest rank, no interpolation."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
