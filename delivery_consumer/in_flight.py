"""How much of each topic was read and has not ended; a topic of which there is too much is not read on."""

from typing import Final, Protocol

from delivery_consumer import metrics

MAX_BYTES: Final = 32 * 1024 * 1024
"""Of one topic's values; decoded they take a few times that."""


class Intake(Protocol):
    """The side of Kafka, as the engine sees it. Calls return at once."""

    def pause(self, topic: str) -> None:
        """Read no more of a topic for now."""
        ...

    def resume(self, topic: str) -> None:
        """Read on."""
        ...


class InFlight:
    """Records and bytes by topic. Pauses a topic that has reached `limit` records, and resumes it at half."""

    def __init__(self, intake: Intake, limit: int) -> None:
        self._intake, self._limit = intake, limit
        self._topics: dict[str, tuple[int, int]] = {}
        self._paused: set[str] = set()

    def began(self, topic: str, size_bytes: int) -> None:
        """Count a record; `pause_full` comes after all of its batch."""
        count, total = self._topics.get(topic, (0, 0))
        self._topics[topic] = (count + 1, total + size_bytes)

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
        if topic in self._paused and count <= self._limit // 2 and total <= MAX_BYTES // 2:
            self._paused.discard(topic)
            self._intake.resume(topic)

    def report(self) -> None:
        """Set the gauges."""
        for topic, (count, _) in self._topics.items():
            metrics.IN_FLIGHT.labels(topic).set(count)
