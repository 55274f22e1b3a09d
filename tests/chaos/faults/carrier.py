"""Kafka loses what it had promised to keep, tells it twice, or in another order, or tells nonsense.

PostgreSQL is the truth and Kafka a disposable carrier: none of this may lose, double or forge a notification.
"""

import functools
import hashlib
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from random import Random
from typing import TYPE_CHECKING, Any

from confluent_kafka import Consumer, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from infra.local.kafka import admin_client
from infra.local.ports import free_port
from infra.local.stack import REPOSITORY
from tests.chaos.faults import Bites, Kind, Planned

if TYPE_CHECKING:
    from tests.chaos.topology import Topology
    from tests.chaos.world import World

_ADMIN_S = 8.0
_BACK_S = 12.0
_COPIES = 200
_TOPICS, _OFFSETS = "kafka_topics", "kafka_offsets"
_DELIVERIES = ("delivery-1", "delivery-2")


@functools.cache
def _admin(bootstrap_servers: str) -> AdminClient:
    """One client for the whole run: an answer that comes after its client was collected finds freed memory."""
    return admin_client(bootstrap_servers)


class Carrier:
    """The broker from the side: what is in its topics, and how far a group has come."""

    def __init__(self, topology: "Topology") -> None:
        self.topology = topology
        self.admin = _admin(topology.kafka.bootstrap_servers)

    @property
    def group(self) -> str:
        """The group of the delivery consumers."""
        return f"{self.topology.topics.prefix}-delivery"

    def _looking(self, group: str) -> dict[str, Any]:
        return {"bootstrap.servers": self.topology.kafka.bootstrap_servers, "group.id": group, "log_level": 0}

    def partitions(self, topics: Iterable[str]) -> list[TopicPartition]:
        """The partitions of those topics that exist."""
        known = self.admin.list_topics(timeout=_ADMIN_S).topics
        return [TopicPartition(name, number) for name in topics if name in known for number in known[name].partitions]

    def ends(self, places: Sequence[TopicPartition]) -> dict[tuple[str, int], tuple[int, int]]:
        """First and next offset of each partition; one that is not there is left out."""
        consumer = Consumer(self._looking("chaos-looking"))
        found: dict[tuple[str, int], tuple[int, int]] = {}
        try:
            for place in places:
                with suppress(KafkaException):
                    low_high = consumer.get_watermark_offsets(place, timeout=_ADMIN_S)
                    if low_high is not None:
                        found[place.topic, place.partition] = low_high
        finally:
            consumer.close()
        return found

    def committed(self, places: Sequence[TopicPartition]) -> dict[tuple[str, int], int]:
        """How far the delivery consumers have committed."""
        if not places:
            return {}
        # A consumer that never joins may ask, too; the admin client's own call was seen to abort the process when a
        # broker went away under it.
        consumer = Consumer(self._looking(self.group))
        try:
            return {
                (one.topic, one.partition): max(one.offset, 0)
                for one in consumer.committed(list(places), timeout=2 * _ADMIN_S)
            }
        finally:
            consumer.close()

    def unread(self, topics: Iterable[str]) -> int:
        """How many records are there that no delivery consumer has ended yet, or whose end it has not committed."""
        places = self.partitions(topics)
        committed = self.committed(places)
        return sum(max(high - max(low, committed.get(place, 0)), 0) for place, (low, high) in self.ends(places).items())

    def drop_records(self, topics: Iterable[str]) -> int:
        """Delete every record of these topics; return how many were unread."""
        topics = list(topics)
        lost = self.unread(topics)
        places = self.partitions(topics)
        for place in places:
            place.offset = -1  # up to the end
        for future in self.admin.delete_records(places, request_timeout=_ADMIN_S).values():
            future.result(2 * _ADMIN_S)
        return lost

    def delete_topics(self, topics: Sequence[str]) -> int:
        """Delete topics with all they hold; return how many unread records that were."""
        lost = self.unread(topics)
        for future in self.admin.delete_topics(list(topics), operation_timeout=_ADMIN_S).values():
            with suppress(KafkaException):
                future.result(2 * _ADMIN_S)
        return lost

    def reset_offsets(self, to: str) -> bool:
        """Set the group's offsets to the "start" or the "end", or have them "gone". False while it has members."""
        command = [sys.executable, "-m", "tests.chaos.offsets", self.topology.kafka.bootstrap_servers, self.group, to]
        with suppress(subprocess.TimeoutExpired):
            done = subprocess.run(
                [*command, *self.delivery_topics()], cwd=REPOSITORY, check=False, timeout=4 * _ADMIN_S
            )
            return done.returncode == 0
        return False

    def read_back(self, topics: Iterable[str], at_most: int) -> list[Message]:
        """The last records of each partition, read without a group."""
        options = {
            "bootstrap.servers": self.topology.kafka.bootstrap_servers,
            "group.id": "chaos-looking",
            "log_level": 0,
        }
        consumer = Consumer(options | {"enable.auto.commit": False, "auto.offset.reset": "earliest"})
        try:
            ends = self.ends(self.partitions(topics))
            share = max(1, at_most // max(len(ends), 1))
            start = [TopicPartition(*place, max(low, high - share)) for place, (low, high) in ends.items()]
            consumer.assign(start)
            messages: list[Message] = []
            until = time.monotonic() + 3
            while len(messages) < at_most and time.monotonic() < until:
                messages += [one for one in consumer.consume(at_most, 0.3) if one.error() is None]
            return messages
        finally:
            consumer.close()

    def produce(self, records: Iterable[tuple[str, bytes | None, bytes | None, Any]]) -> int:
        """Write records by hand: (topic, key, value, headers); return how many the broker has."""
        producer = Producer(
            {"bootstrap.servers": self.topology.kafka.bootstrap_servers, "message.max.bytes": 2_000_000, "log_level": 0}
        )
        stored: list[int] = []
        for topic, key, value, headers in records:
            producer.produce(
                topic, value, key, headers=headers, on_delivery=lambda error, _: stored.append(1) if not error else None
            )
        producer.flush(_ADMIN_S)
        return len(stored)

    def _read_topics(self) -> list[str]:
        return [name for name in self.topology.topics.all() if name != self.topology.topics.dlq]

    def delivery_topics(self) -> list[str]:
        """The topics that carry notifications."""
        return self._read_topics()


class _Loss:
    """Records that were acknowledged and never read are gone; the sweeper has to notice."""

    def __init__(self, planned: Planned) -> None:
        self.planned = planned
        self.lost = 0

    def heal(self, world: "World") -> None:
        """The relay makes topics anew, the sweeper publishes again."""

    def bites(self, world: "World") -> Bites:
        """Records nobody had ended were among them."""
        return Bites(self.lost, {"unread_records_lost": self.lost})


class RecordsDropped(_Loss):
    """All records of all topics of notifications are deleted, as by a retention that is too short."""

    def inject(self, world: "World") -> None:
        """Drop them."""
        carrier = Carrier(world.topology)
        with suppress(KafkaException):
            self.lost = carrier.drop_records(carrier.delivery_topics())


class TopicDeleted(_Loss):
    """One topic is deleted with all it holds."""

    def inject(self, world: "World") -> None:
        """Delete one."""
        carrier = Carrier(world.topology)
        with suppress(KafkaException):
            self.lost = carrier.delete_topics(self._chosen(carrier, world.topology.topics.all()))

    def _chosen(self, carrier: Carrier, names: Sequence[str]) -> list[str]:
        return [self.planned.rng().choice(sorted(names))]


class TopicsDeleted(TopicDeleted):
    """All topics are deleted, dead letters too."""

    def _chosen(self, carrier: Carrier, names: Sequence[str]) -> list[str]:
        return list(names)


class OffsetsLost:
    """The delivery consumers end, their group's offsets are changed, they come back and read elsewhere.

    A group with members refuses, which is why they have to end first.
    """

    to = "gone"

    def __init__(self, planned: Planned) -> None:
        self.planned = planned
        self.done, self.reread = False, 0

    def inject(self, world: "World") -> None:
        """End both, change the offsets."""
        carrier = Carrier(world.topology)
        places = carrier.partitions(carrier.delivery_topics())
        committed, ends = carrier.committed(places), carrier.ends(places)
        for name in _DELIVERIES:
            if name in world.topology.services and world.keeper.is_up(name):
                world.keeper.expect_death(name, restart_after_s=_BACK_S)
                world.topology.services[name].send_signal(world.topology.services[name].stop_signal)
        until = time.monotonic() + _BACK_S
        while not self.done and time.monotonic() < until:
            self.done = carrier.reset_offsets(self.to)
            time.sleep(0 if self.done else 0.5)
        distance = {"start": 0, "gone": 0, "end": 1}[self.to]
        self.reread = sum(
            abs(committed.get(place, 0) - low_high[distance]) for place, low_high in ends.items() if self.done
        )

    def heal(self, world: "World") -> None:
        """The keeper starts them."""

    def bites(self, world: "World") -> Bites:
        """Records are read once more, or never."""
        return Bites(self.reread, {"records_off": self.reread})


class OffsetsToStart(OffsetsLost):
    """Everything that is still in the topics is read again."""

    to = "start"


class OffsetsToEnd(OffsetsLost):
    """What was waiting is never read."""

    to = "end"


class Rebalance:
    """Another delivery consumer joins in the middle of the work and leaves again."""

    def __init__(self, planned: Planned) -> None:
        self.planned = planned
        self.revoked = 0

    def inject(self, world: "World") -> None:
        """Start one more."""
        topology = world.topology
        self._before = self._revocations(world)
        environ = topology.environ_for("delivery-1") | {"DELIVERY_PORT": str(free_port())}
        process = topology.supervisor.process(
            f"delivery-extra-{self.planned.number}", topology.argv_for("delivery-1"), env=environ, cwd=world.run_dir
        )
        self._process = process.start()

    def heal(self, world: "World") -> None:
        """End it in order."""
        self._process.terminate()
        self.revoked = self._revocations(world) - self._before

    def bites(self, world: "World") -> Bites:
        """Partitions were asked back of those that were there before."""
        return Bites(self.revoked, {"revocations": self.revoked})

    @staticmethod
    def _revocations(world: "World") -> int:
        processes = [world.topology.services[name] for name in _DELIVERIES if name in world.topology.services]
        return sum(one.log_path.read_bytes().count(b"partitions_revoked") for one in processes)


class Copies:
    """Records are told again: the last ones of each topic, in another order."""

    def __init__(self, planned: Planned) -> None:
        self.planned = planned
        self.count = 0

    def inject(self, world: "World") -> None:
        """Read back, shuffle, produce."""
        carrier = Carrier(world.topology)
        with suppress(KafkaException):
            messages = carrier.read_back(world.topology.topics.all(), _COPIES)
            self.planned.rng().shuffle(messages)
            self.count = carrier.produce(
                (m.topic() or "", _raw(m.key()), _raw(m.value()), m.headers()) for m in messages
            )

    def heal(self, world: "World") -> None:
        """They stay."""

    def bites(self, world: "World") -> Bites:
        """The broker took them."""
        return Bites(self.count, {"copies": self.count})


class Garbage:
    """Bytes nobody can decode, and records cut off in the middle; each has to be kept, unchanged, as a dead letter."""

    def __init__(self, planned: Planned) -> None:
        self.planned = planned
        self.values: list[bytes | None] = []

    def inject(self, world: "World") -> None:
        """Produce them."""
        carrier, rng = Carrier(world.topology), self.planned.rng()
        with suppress(KafkaException):
            real = [value for m in carrier.read_back(carrier.delivery_topics(), 8) if (value := _raw(m.value()))]
            values = nonsense(rng, real)
            names = carrier.delivery_topics()
            headers = [("attempt", b"1"), ("content-type", b"application/json")]
            stored = carrier.produce((rng.choice(names), rng.randbytes(8), value, headers) for value in values)
            self.values = values if stored == len(values) else []

    def heal(self, world: "World") -> None:
        """They stay."""

    def bites(self, world: "World") -> Bites:
        """They were read, and are among the dead letters."""
        query = "SELECT encode(sha256(original_payload), 'hex') FROM dlq_messages WHERE notification_id IS NULL"
        kept = {row[0] for row in world.rows(query)}
        wanted = {hashlib.sha256(value).hexdigest() for value in self.values if value}
        if lost := wanted - kept:
            world.note("finding", what="undecodable_bytes_not_kept", kind=self.planned.kind, sha256=sorted(lost))
        return Bites(len(wanted & kept), {"undecodable": len(wanted), "kept_unchanged": len(wanted & kept)})


def nonsense(rng: Random, real: Sequence[bytes]) -> list[bytes | None]:
    """Values that are no record: nothing, bytes, broken JSON, wrong JSON, half a record."""
    made: list[bytes | None] = [
        None, b"", b"\xff\xfe" + rng.randbytes(30), b"{", b"null", b"[]", b"42", b'{"id": 1}',
        b'{"id": "' + rng.randbytes(8).hex().encode() + b'"}', b"[" * 10_000, rng.randbytes(500_000),
    ]  # fmt: skip
    made += [value[: rng.randrange(1, len(value))] for value in real]
    return made


def _raw(value: str | bytes | None) -> bytes | None:
    return value.encode() if isinstance(value, str) else value


_ALL = frozenset(_DELIVERIES)
KINDS = (
    Kind("records_dropped", (_TOPICS,), RecordsDropped, 0.5, (0.1, 0.5), loses_records=True),
    Kind("topic_deleted", (_TOPICS,), TopicDeleted, 0.4, (1.0, 3.0), loses_records=True),
    Kind("topics_deleted", (_TOPICS,), TopicsDeleted, 0.3, (1.0, 3.0), loses_records=True),
    Kind("offsets_gone", (_OFFSETS,), OffsetsLost, 0.3, (8.0, 12.0), _ALL | {"kafka"}),
    Kind("offsets_to_start", (_OFFSETS,), OffsetsToStart, 0.3, (8.0, 12.0), _ALL | {"kafka"}),
    Kind("offsets_to_end", (_OFFSETS,), OffsetsToEnd, 0.3, (8.0, 12.0), _ALL | {"kafka"}, loses_records=True),
    Kind("rebalance", ("delivery-extra",), Rebalance, 1.0, (5.0, 10.0)),
    Kind("copies", (_TOPICS,), Copies, 0.7, (0.1, 0.3)),
    Kind("garbage", (_TOPICS,), Garbage, 0.5, (0.1, 0.3)),
)
