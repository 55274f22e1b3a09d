"""Which offset of a partition is safe to commit while its records end out of order. Pure."""

from collections import deque
from collections.abc import Iterable


class PartitionOffsets:
    """The offsets of one partition from reading to their end.

    `safe` is the offset a restart may begin at: everything below it has ended. Logs have gaps (compaction, transaction
    markers), so it goes by the offsets that were read, never by counting up.
    """

    def __init__(self) -> None:
        self._open: deque[int] = deque()
        self._ended: set[int] = set()
        self._next: int | None = None

    @property
    def safe(self) -> int | None:
        """Return the offset to commit, or None as long as nothing was read."""
        return self._open[0] if self._open else self._next

    @property
    def open_count(self) -> int:
        """Return how many offsets are read and hold the safe one back, ended ones behind them included."""
        return len(self._open)

    def begin(self, offsets: Iterable[int]) -> None:
        """Note offsets as read, in the order of the log. What was noted before is passed over."""
        for offset in offsets:
            if self._next is None or offset >= self._next:
                self._open.append(offset)
                self._next = offset + 1

    def done(self, offset: int) -> int | None:
        """Note that a record has ended for good; return the safe offset. A repeat changes nothing."""
        self._ended.add(offset)
        while self._open and self._open[0] in self._ended:
            self._ended.discard(self._open.popleft())
        if not self._open:
            self._ended.clear()
        return self.safe
