"""What the database says of dead letters while the DLQ test runs. System figures apart, these are all its questions."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import psycopg

STANDS = """
    SELECT destination, CASE WHEN status = 'failed' AND retry_at IS NULL THEN 'at rest' ELSE status END, count(*)
      FROM dlq_messages GROUP BY 1, 2
"""
OVERDUE = """
    SELECT coalesce(extract(epoch FROM max(now() - retry_at)), 0)::float8
      FROM dlq_messages WHERE status = 'failed' AND retry_at <= now()
"""
RETRIES = "SELECT destination, count(*) FROM delivery_attempts WHERE attempt > 1 GROUP BY 1"
UNENDED = "SELECT count(*) FROM notifications WHERE status IN ('pending', 'scheduled', 'processing')"
# One that failed for good has to have a dead letter, and so has one that was sent only at a later attempt.
UNTRACKED = """
    SELECT count(*) FROM notifications n
     WHERE (n.status = 'failed' OR n.attempt > 1)
       AND NOT EXISTS (SELECT FROM dlq_messages d WHERE d.notification_id = n.id)
"""
MISCOUNTED = """
    SELECT count(*) FROM dlq_messages d JOIN notifications n ON n.id = d.notification_id
     WHERE d.retry_count <> n.attempt - 1
        OR (SELECT count(*) FROM delivery_attempts a WHERE a.notification_id = n.id) <> n.attempt
"""
ENDS = """
    SELECT d.destination, d.status, coalesce(d.resolution, d.rest_reason), d.failure_class, d.retry_at IS NULL, count(*)
      FROM dlq_messages d GROUP BY 1, 2, 3, 4, 5
"""


@dataclass(frozen=True, slots=True)
class Standing:
    """Where the dead letters stand at an instant, by the name of the receiver that caused them."""

    stands: dict[str, Counter[str]] = field(default_factory=dict)  # failed, retrying, resolved, at rest
    retries: Counter[str] = field(default_factory=Counter)  # attempts after the first so far
    overdue_s: float = 0.0  # how long the oldest retry that is due has been so

    def total(self, state: str) -> int:
        """How many stand so, of all receivers."""
        return sum(counts[state] for counts in self.stands.values())

    def settled(self, name: str) -> bool:
        """Say whether each of a receiver's is resolved or at rest, and there are some."""
        counts = self.stands.get(name, Counter())
        return counts.total() > 0 and not counts["failed"] and not counts["retrying"]


@dataclass(frozen=True, slots=True)
class End:
    """How some dead letters ended."""

    name: str
    status: str
    why: str  # its resolution, or its reason to rest
    failure_class: str
    is_due_never: bool
    count: int


class Letters:
    """Asks; `names` says which receiver a destination is."""

    def __init__(self, url: str, names: Mapping[str, str]) -> None:
        self._conn = psycopg.connect(url, autocommit=True)
        self._names = names

    def close(self) -> None:
        """Close the connection."""
        self._conn.close()

    def standing(self) -> Standing:
        """Where they stand now."""
        stands: dict[str, Counter[str]] = {}
        for destination, state, count in self._rows(STANDS):
            stands.setdefault(self._name(destination), Counter())[state] += count
        retries: Counter[str] = Counter()
        for destination, count in self._rows(RETRIES):
            retries[self._name(destination)] += count
        return Standing(stands, retries, float(self._rows(OVERDUE)[0][0]))

    def unended(self) -> int:
        """How many notifications have not ended."""
        return int(self._rows(UNENDED)[0][0])

    def untracked(self) -> int:
        """How many should have a dead letter and have none."""
        return int(self._rows(UNTRACKED)[0][0])

    def miscounted(self) -> int:
        """How many have a count of retries that is not that of their attempts, or of the attempts that were made."""
        return int(self._rows(MISCOUNTED)[0][0])

    def ends(self) -> list[End]:
        """How they ended."""
        return [End(self._name(row[0]), row[1], str(row[2]), *row[3:]) for row in self._rows(ENDS)]

    def _name(self, destination: str | None) -> str:
        return self._names.get(destination or "", destination or "unknown")

    def _rows(self, query: Any) -> list[Any]:
        return self._conn.execute(query).fetchall()
