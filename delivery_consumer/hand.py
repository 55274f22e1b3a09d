"""What is in hand: read from Kafka and not ended, by partition. It says which offsets may be committed. No I/O."""

from collections.abc import Iterable

from delivery_consumer.in_flight import InFlight, Intake
from delivery_consumer.tenants import Tenant, Tenants
from delivery_consumer.work import PartitionId, Received, Source


class Hand:
    """Sources and how much of each is in hand; topics of which there is too much are not read on."""

    def __init__(self, intake: Intake, limit: int, high_topics: frozenset[str], tenants: Tenants) -> None:
        self._high_topics = high_topics
        self._in_flight = InFlight(intake, limit, tenants)
        self._sources: dict[PartitionId, Source] = {}

    def source(self, topic: str, partition: int) -> Source:
        """Return a partition as long as we own it."""
        source = self._sources.get((topic, partition))
        if source is None:
            source = self._sources[topic, partition] = Source(topic, partition, topic in self._high_topics)
        return source

    def take(self, source: Source, received: Received) -> None:
        """Note that a record was read; `pause_full` comes after all of its batch."""
        source.offsets.begin((received.offset,))
        source.in_hand += 1
        self._in_flight.began(received.topic, received.size_bytes)

    def leave(self, source: Source, offset: int, size_bytes: int, *, done: bool) -> None:
        """Note that a record is out of hand; `done`: nobody has to read it again."""
        if done:
            source.offsets.done(offset)
        source.in_hand -= 1
        self._in_flight.ended(source.topic, size_bytes)
        if source.leaving and not source.in_hand:
            source.idle.set()

    def is_over_share(self, topic: str, tenant: Tenant) -> bool:
        """Say whether a tenant has more in hand than its share of what may be."""
        return self._in_flight.is_over_share(topic, tenant)

    def pause_full(self) -> None:
        """Pause the topics of which enough was read."""
        self._in_flight.pause_full()

    def report(self) -> None:
        """Set the gauges."""
        self._in_flight.report()

    def owns(self, source: Source) -> bool:
        """Say whether a source is the one its partition has at present."""
        return self._sources.get((source.topic, source.partition)) is source

    def safe_offsets(self) -> dict[PartitionId, int]:
        """Return the offset of each partition that a restart may begin at."""
        return {
            partition: safe
            for partition, source in self._sources.items()
            if not source.leaving and (safe := source.offsets.safe) is not None
        }

    def let_go(self, partitions: Iterable[PartitionId], *, lost: bool) -> list[Source]:
        """Mark partitions as leaving and return them; one that comes back is another source."""
        leaving = [source for partition in partitions if (source := self._sources.pop(partition, None))]
        for source in leaving:
            source.leaving, source.lost = True, lost
        return leaving
