"""What a receiver remembers: the last deliveries in full, and how often each notification was accepted. Bounded."""

from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

MAX_RECENT = 20_000
MAX_RECENT_BYTES = 64 * 1024 * 1024
MAX_IDS = 1_000_000  # about 120 MB of counts; what comes after is counted in total only
_SHOWN_DUPLICATES = 1_000


class Sized(Protocol):
    """Anything that says how much memory it is worth."""

    @property
    def size_bytes(self) -> int:
        """Its size in bytes, roughly."""


R = TypeVar("R", bound=Sized)


class Recent(Generic[R]):
    """The last records, at most MAX_RECENT of them and MAX_RECENT_BYTES in all; the oldest make room."""

    def __init__(self, *, max_records: int = MAX_RECENT, max_bytes: int = MAX_RECENT_BYTES) -> None:
        self._records: deque[R] = deque()
        self._bytes = 0
        self._max_records = max_records
        self._max_bytes = max_bytes

    def add(self, record: R) -> None:
        """Remember a record, forgetting the oldest ones if there is no room."""
        self._records.append(record)
        self._bytes += record.size_bytes
        while len(self._records) > self._max_records or (self._bytes > self._max_bytes and len(self._records) > 1):
            self._bytes -= self._records.popleft().size_bytes

    def __iter__(self) -> Iterator[R]:
        """Newest first."""
        return reversed(self._records)

    def __len__(self) -> int:
        return len(self._records)

    def clear(self) -> None:
        """Forget everything."""
        self._records.clear()
        self._bytes = 0


@dataclass(frozen=True, slots=True)
class Totals:
    """What a tally has seen."""

    received: int  # requests or messages, refused ones included
    accepted: int
    distinct: int  # notification ids among the accepted
    duplicates: dict[str, int]  # id -> times accepted, for those accepted more than once; the first few
    duplicate_count: int  # how many ids were accepted more than once
    without_id: int  # accepted ones that named no notification
    complete: bool  # False: more ids than are counted

    def as_json(self) -> dict[str, Any]:
        """The totals under the names a client reads."""
        return {
            "received": self.received,
            "accepted": self.accepted,
            "refused": self.received - self.accepted,
            "distinct": self.distinct,
            "duplicate_count": self.duplicate_count,
            "duplicates": self.duplicates,
            "without_id": self.without_id,
            "complete": self.complete,
        }


class Tally:
    """Counts deliveries by notification id."""

    def __init__(self, *, max_ids: int = MAX_IDS) -> None:
        self._max_ids = max_ids
        self._times: Counter[str] = Counter()
        self._repeated: dict[str, int] = {}
        self._received = 0
        self._accepted = 0
        self._without_id = 0
        self._complete = True

    def count(self, notification_id: str, *, accepted: bool) -> None:
        """Count one delivery; only accepted ones count towards duplicates, a refused one is meant to come again."""
        self._received += 1
        if not accepted:
            return
        self._accepted += 1
        if not notification_id:
            self._without_id += 1
        elif notification_id in self._times or len(self._times) < self._max_ids:
            self._times[notification_id] += 1
            if self._times[notification_id] > 1:
                self._repeated[notification_id] = self._times[notification_id]
        else:
            self._complete = False

    def ids(self) -> list[str]:
        """The notifications accepted at least once, in the order of their first delivery."""
        return list(self._times)

    def totals(self) -> Totals:
        """What was counted so far."""
        shown = dict(list(self._repeated.items())[:_SHOWN_DUPLICATES])
        return Totals(
            received=self._received,
            accepted=self._accepted,
            distinct=len(self._times),
            duplicates=shown,
            duplicate_count=len(self._repeated),
            without_id=self._without_id,
            complete=self._complete,
        )
