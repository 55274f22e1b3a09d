"""The arithmetic of a sliding window, as the library `limits` has it: what the last window leaves counts less and less.

Time is cut into windows. What was counted in the one before is taken to have come evenly, so that of it counts the part
that a window ending now would still cover. That is one division and two numbers per limit, not an entry per request.
No more than the amount comes at once, nor in the long run; who used it all up in an instant gets more as that ages,
evenly, where a fixed window would let the next burst through at its seam.
"""

from typing import NamedTuple

from api_service.limiting.policies import Window


class Taken(NamedTuple):
    """What became of a request: `window` refused it, or is the one of all that has least left."""

    admitted: bool
    window: Window
    remaining: int
    reset_s: float  # until that window ends, or, where it was refused, until it would not be


class Count(NamedTuple):
    """How a window stands."""

    previous: int
    current: int
    left_s: float  # until the current one ends


def used(window: Window, count: Count) -> int:
    """Return how much of a window is used up."""
    return int(count.previous * count.left_s / window.seconds) + count.current


def wait_s(window: Window, count: Count, cost: int) -> float:
    """Return after how many seconds without another request one of `cost` would be admitted: 0 for at once."""
    cost = min(cost, window.amount)
    if used(window, count) + cost <= window.amount:
        return 0.0
    room = window.amount - cost - count.current
    if room >= 0:  # enough of what the window before left passes within this one
        return _until_below(count.previous, count.left_s, room, window.seconds)
    return count.left_s + _until_below(count.current, window.seconds, window.amount - cost, window.seconds)


def retry_after(seconds: float) -> int:
    """Return a wait in whole seconds, of which the last one is over when it would do."""
    return int(seconds) + 1


def _until_below(counted: int, left_s: float, room: int, seconds: int) -> float:
    """Return when of what was counted, and loses its weight over `seconds`, no more than `room` is left."""
    return max(0.0, left_s - (room + 1) * seconds / counted) if counted > room else 0.0
