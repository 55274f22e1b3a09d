"""Counts in the memory of one process.

limits.storage.MemoryStorage counts the same, but starts a thread for every hundredth of a second in which it is asked,
which goes through all keys it has: with ten thousand addresses that would be most of the work of an API. A property
test holds that the two decide alike.
"""

import threading
from collections.abc import Sequence
from typing import Final

from api_service.limiting.policies import Policy, Window
from api_service.limiting.windows import Count, Taken, wait_s

Asked = tuple[str, Policy]
MAX_KEYS: Final = 50_000
"""About half a kilobyte each. Whoever can call under more names than this is not held by counting them."""


class _Kept:
    """The count of one window, by the number of the window since 1970."""

    __slots__ = ("current", "number", "previous")

    def __init__(self) -> None:
        self.number, self.previous, self.current = -1, 0, 0

    def move_to(self, number: int) -> None:
        self.previous = self.current if self.number == number - 1 else 0
        self.number, self.current = number, 0


class Memory:
    """Counts requests and what quotas have left. Of one process: several count each by themselves."""

    def __init__(self, *, max_keys: int = MAX_KEYS) -> None:
        self._max_keys = max_keys
        self._lock = threading.Lock()
        self._kept: dict[Asked, list[_Kept]] = {}
        self._spent: dict[str, tuple[int, float]] = {}  # how much, and until when it matters

    def take(self, asked: Sequence[Asked], cost: int, now: float) -> Taken:
        """Count a request against all windows of all that is asked, or, where one refuses it, against none."""
        counted: list[_Kept] = []
        tightest: Window | None = None
        least, resets_in = 0, 0.0
        with self._lock:
            for one in asked:
                kept = self._kept.get(one) or self._begin(one, now)
                for window, count in zip(one[1].windows, kept, strict=True):
                    seconds = window.seconds
                    number = int(now // seconds)
                    if count.number != number:
                        count.move_to(number)
                    left = (number + 1) * seconds - now
                    used = count.current + (int(count.previous * left / seconds) if count.previous else 0)
                    remaining = window.amount - used - cost
                    if remaining < 0:
                        wait = wait_s(window, Count(count.previous, count.current, left), cost)
                        return Taken(False, window, max(0, remaining + cost), wait)
                    if tightest is None or remaining < least:
                        tightest, least, resets_in = window, remaining, left
                    counted.append(count)
            for count in counted:
                count.current += cost
        assert tightest is not None  # noqa: S101 - a policy has a window
        return Taken(True, tightest, least, resets_in)

    def spend(self, key: str, amount: int, cost: int, *, now: float, until: float) -> bool:
        """Take `cost` of what a quota allows until an instant, all or nothing; say whether there was enough."""
        with self._lock:
            spent, ends = self._spent.get(key, (0, 0.0))
            if ends <= now:
                spent = 0
            if spent + cost > amount:
                return False
            if key not in self._spent and len(self._spent) >= self._max_keys:
                self._spent = {name: kept for name, kept in self._spent.items() if kept[1] > now}
            self._spent[key] = (spent + cost, until)
        return True

    def give_back(self, key: str, cost: int) -> None:
        """Return what was taken for nothing."""
        with self._lock:
            if kept := self._spent.get(key):
                self._spent[key] = (max(0, kept[0] - cost), kept[1])

    def _begin(self, one: Asked, now: float) -> list[_Kept]:
        if len(self._kept) >= self._max_keys:
            self._forget(now)
        kept = self._kept[one] = [_Kept() for _ in one[1].windows]
        return kept

    def _forget(self, now: float) -> None:
        """Drop what counts nothing any more, and if that is not enough, what came first."""

        def counts(one: Asked, kept: list[_Kept]) -> bool:
            return any(
                count.number >= now // window.seconds - 1 for window, count in zip(one[1].windows, kept, strict=True)
            )

        alive = [(one, kept) for one, kept in self._kept.items() if counts(one, kept)]
        if len(alive) > self._max_keys // 2:
            alive = alive[len(alive) - self._max_keys // 2 :]
        self._kept = dict(alive)
