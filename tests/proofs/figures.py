"""What measured instants and durations amount to. Pure."""

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from uuid import UUID


def percentile(values: Iterable[float], share: float) -> float:
    """Return the smallest value that at least `share` (0 to 1) of all do not exceed. Raises ValueError for none."""
    ordered = sorted(values)
    if not ordered:
        raise ValueError("no values")
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def accepted_at(notification_id: str) -> float:
    """Return the instant inside an id (UUIDv7), Unix seconds: the API's clock when it accepted."""
    return (UUID(notification_id).int >> 80) / 1000


@dataclass(frozen=True, slots=True)
class Spread:
    """How evenly events lie in time."""

    count: int
    window_s: float  # the shortest interval that holds 98 % of the events
    mean_per_s: float  # those 98 % over that interval
    peak_per_s: int  # the fullest of all seconds, wherever the second begins
    ratio: float


def spread(instants: Iterable[float]) -> Spread:
    """Return peak and mean of events per second.

    The mean is taken over the shortest interval that holds 98 % of the events, at least one second: one straggler must
    not stretch it. The peak is over a sliding second, which no choice of bins can hide. Raises ValueError for none.
    """
    ordered = sorted(instants)
    if not ordered:
        raise ValueError("no events")
    held = math.ceil(0.98 * len(ordered))
    shortest_s = min(ordered[first + held - 1] - ordered[first] for first in range(len(ordered) - held + 1))
    window_s = max(shortest_s, 1.0)
    peak = busiest(ordered, 1.0)
    return Spread(len(ordered), window_s, held / window_s, peak, peak / (held / window_s))


def busiest(instants: Sequence[float], within_s: float) -> int:
    """Return how many events the fullest interval of this length holds; its end is outside."""
    ordered = sorted(instants)
    most, first = 0, 0
    for last, instant in enumerate(ordered):
        while instant - ordered[first] >= within_s:
            first += 1
        most = max(most, last - first + 1)
    return most


def longest_gap(instants: Iterable[float], *, begin: float, end: float) -> float:
    """Return the longest stretch of [begin, end] without an event."""
    inside = [begin, *sorted(instant for instant in instants if begin <= instant <= end), end]
    return max(later - earlier for earlier, later in itertools.pairwise(inside))
