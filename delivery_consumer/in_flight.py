"""How much of each topic was read and has not ended; a topic of which there is too much is not read on."""

from typing import Final, Protocol

from delivery_consumer import metrics
from delivery_consumer.tenants import GREED, Tenant, Tenants

MAX_BYTES: Final = 32 * 1024 * 1024
"""Of one topic's values; decoded they take a few times that."""


FEW: Final = 16
"""With more than so many tenants that all have a backlog, nobody has more than others: records come as they come."""


class Intake(Protocol):
    """The side of Kafka, as the engine sees it. Calls return at once."""

    def pause(self, topic: str) -> None:
        """Read no more of a topic for now."""
        ...

    def resume(self, topic: str) -> None:
        """Read on."""
        ...


class InFlight:
    """Records and bytes by topic. Pauses a topic that has reached `limit` records, and resumes it at half.

    Where there are several tenants it is resumed sooner: what one of them keeps for itself must not stop all.
    """

    def __init__(self, intake: Intake, limit: int, tenants: Tenants) -> None:
        self._intake, self._limit, self._tenants = intake, limit, tenants
        self._topics: dict[str, tuple[int, int]] = {}
        self._paused: set[str] = set()

    def began(self, topic: str, size_bytes: int) -> None:
        """Count a record; `pause_full` comes after all of its batch."""
        count, total = self._topics.get(topic, (0, 0))
        self._topics[topic] = (count + 1, total + size_bytes)

    def is_over_share(self, topic: str, tenant: Tenant) -> bool:
        """Say whether a tenant has more in hand than its share of what may be read ahead: tenants.py.

        Others' records stand behind its own in the topic. So that they are read, more of its own must not be kept.
        """
        count, total = self._topics.get(topic, (0, 0))
        most = max(GREED * (self._limit - count), self._limit // FEW)
        most_bytes = max(GREED * (MAX_BYTES - total), MAX_BYTES // FEW)
        return tenant.in_hand >= most or tenant.bytes_in_hand >= most_bytes

    def pause_full(self) -> None:
        """Pause what has reached its limit."""
        for topic, (count, total) in self._topics.items():
            if (count >= self._limit or total >= MAX_BYTES) and topic not in self._paused:
                self._paused.add(topic)
                self._intake.pause(topic)

    def ended(self, topic: str, size_bytes: int) -> None:
        """Count a record no more."""
        count, total = self._topics[topic]
        count, total = self._topics[topic] = (count - 1, total - size_bytes)
        if topic in self._paused and self._is_room(count, self._limit) and self._is_room(total, MAX_BYTES):
            self._paused.discard(topic)
            self._intake.resume(topic)

    def _is_room(self, held: int, limit: int) -> bool:
        return held <= (limit - limit // FEW if self._tenants.several else limit // 2)

    def report(self) -> None:
        """Set the gauges."""
        for topic, (count, _) in self._topics.items():
            metrics.IN_FLIGHT.labels(topic).set(count)
