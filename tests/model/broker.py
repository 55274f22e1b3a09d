"""A Kafka that the model holds in its hand: it stores, forgets, repeats and refuses when it is told to."""

import zlib
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import orjson
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from shared.records import attempt_of, decode_headers
from tests.model.clock import PolledClock

PARTITIONS: Final = 2
TOO_LARGE: Final = b"too large for Kafka"
Answer = Literal["stored", "stored and reported failed", "failed", "refused with others"]
Place = tuple[str, int]
Ticket = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Stored:
    """A record in a partition."""

    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]

    @property
    def ticket(self) -> Ticket | None:
        """The notification and attempt it is about, None for bytes nobody can decode."""
        return ticket_of(self.value, self.headers)


def ticket_of(value: bytes | None, headers: Iterable[tuple[str, bytes | str | None]]) -> Ticket | None:
    """Return the notification and attempt a record is about."""
    try:
        return str(orjson.loads(value or b"")["id"]), attempt_of(decode_headers(list(headers)).get("attempt", ""))
    except ValueError:
        return None


@dataclass(slots=True)
class Partition:
    """One log."""

    records: list[Stored] = field(default_factory=list)
    next_offset: int = 0

    def append(self, key: bytes | None, value: bytes | None, headers: Iterable[tuple[str, Any]]) -> Stored:
        """Store a record at the end."""
        pairs = tuple((name, text.encode() if isinstance(text, str) else text) for name, text in headers)
        stored = Stored(self.next_offset, key, value, pairs)
        self.records.append(stored)
        self.next_offset += 1
        return stored


class Broker:
    """Topics, logs and committed offsets. `lost` is what it has forgotten and nobody had read: the sweeper's part."""

    def __init__(self, clock: PolledClock) -> None:
        self.clock = clock
        self.logs: dict[Place, Partition] = {}
        self.committed: dict[tuple[str, Place], int] = {}
        self.lost: set[tuple[str, Ticket]] = set()
        self.lost_bytes: set[bytes] = set()
        self.acknowledged: set[tuple[str, Ticket]] = set()
        self.ever: dict[tuple[str, int, int], list[bytes | None]] = {}
        self.producers: list[Producer] = []
        self.limbo: list[deque[Message]] = []

    def make_topics(self, names: Sequence[str]) -> None:
        """Create what is missing."""
        for name in names:
            for number in range(PARTITIONS):
                self.logs.setdefault((name, number), Partition())

    def has(self, topic: str) -> bool:
        """Say whether a topic exists."""
        return (topic, 0) in self.logs

    def store(self, topic: str, key: bytes | None, value: bytes | None, headers: Iterable[tuple[str, Any]]) -> Stored:
        """Append to the partition of the key."""
        place = self.place_of(topic, key)
        stored = self.logs[place].append(key, value, headers)
        self.ever.setdefault((*place, stored.offset), []).append(value)
        return stored

    @staticmethod
    def place_of(topic: str, key: bytes | None) -> Place:
        """Return the partition of a key."""
        return topic, zlib.crc32(key or b"") % PARTITIONS

    def group_of(self, topic: str) -> str:
        """Return the group that reads a topic."""
        return "dlq" if topic.endswith(".dlq") else "delivery"

    def safe(self, place: Place) -> int:
        """Return where the readers of a partition would begin."""
        return self.committed.get((self.group_of(place[0]), place), 0)

    def unread(self, topics: Callable[[str], bool]) -> set[Ticket]:
        """Return what is in the logs beyond the committed offsets."""
        found = set()
        for place, log in self.logs.items():
            if topics(place[0]):
                begin = self.safe(place)
                found |= {r.ticket for r in log.records if r.offset >= begin and r.ticket is not None}
        return found

    # Faults

    def forget(self, place: Place, records: Sequence[Stored]) -> None:
        """Lose records, as retention or an unclean election does."""
        log = self.logs[place]
        for record in records:
            self._lose(place, record)
        gone = {record.offset for record in records}
        log.records = [record for record in log.records if record.offset not in gone]

    def _lose(self, place: Place, record: Stored) -> None:
        if record.offset >= self.safe(place):
            if record.ticket is None:
                self.lost_bytes.add(record.value or b"")
            else:
                self.lost.add((place[0], record.ticket))

    def delete_topic(self, topic: str) -> None:
        """Lose a topic with everything in it, and its committed offsets."""
        for place in [place for place in self.logs if place[0] == topic]:
            self.forget(place, self.logs[place].records)
            del self.logs[place]
            self.committed.pop((self.group_of(topic), place), None)

    def forget_offsets(self, group: str) -> None:
        """Lose what a group has committed: it begins at the earliest record again."""
        for key in [key for key in self.committed if key[0] == group]:
            del self.committed[key]

    def jump_to_end(self, place: Place) -> None:
        """Commit the end of a log, as somebody may who resets a group by hand."""
        log = self.logs[place]
        for record in log.records:
            self._lose(place, record)
        self.committed[self.group_of(place[0]), place] = log.next_offset


@dataclass(slots=True)
class Message:
    """A message on its way, and as a report or a consumer hands it over."""

    _topic: str
    _key: bytes | None
    _value: bytes | None
    _headers: Any
    _partition: int = 0
    _offset: int = 0
    report: Callable[[KafkaError | None, Any], None] | None = None

    def topic(self) -> str:
        return self._topic

    def key(self) -> bytes | None:
        return self._key

    def value(self) -> bytes | None:
        return self._value

    def headers(self) -> Any:
        return self._headers

    def partition(self) -> int:
        return self._partition

    def offset(self) -> int:
        return self._offset

    def error(self) -> None:
        return None


class Producer:
    """confluent_kafka.Producer as the relay uses it; its answers come when the model gives them."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.queue: deque[Message] = deque()
        self._reports: deque[tuple[Message, KafkaError | None]] = deque()
        self.prompt = False  # answer what comes next by itself: the relay waits inside a call
        broker.producers.append(self)

    def produce(self, topic: str, value: bytes, key: bytes, on_delivery: Any, headers: Any) -> None:
        """Take a message; what is too large is refused at once or by the broker."""
        if TOO_LARGE in value and zlib.crc32(value) % 2:
            raise KafkaException(KafkaError(KafkaError.MSG_SIZE_TOO_LARGE))
        self.queue.append(Message(topic, key, value, headers, report=on_delivery))

    def poll(self, timeout: float = 0) -> int:
        """Call back with the answers there are; without any, time passes."""
        while self.prompt and self.queue:
            self.answer("stored")
        if not self._reports:
            self.broker.clock.polled_s += timeout
            return 0
        count = len(self._reports)
        while self._reports:
            message, error = self._reports.popleft()
            if message.report is not None:
                message.report(error, message)
        return count

    flush = poll

    def purge(self, **_options: bool) -> None:
        """Forget what is not acknowledged; some of it may be on the wire and arrive all the same."""
        if self.queue:
            self.broker.limbo.append(self.queue)
        self.queue = deque()
        self._reports.clear()
        if self in self.broker.producers:
            self.broker.producers.remove(self)

    def answer(self, how: Answer) -> None:
        """Answer the oldest message. One that fails takes along what follows it to the same partition."""
        message = self.queue.popleft()
        if not self.broker.has(message.topic()):
            self._reports.append((message, KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART)))
        elif TOO_LARGE in (message.value() or b""):
            self.prompt = True
            self._reports.append((message, KafkaError(KafkaError.MSG_SIZE_TOO_LARGE)))
        elif how == "refused with others" and not self.prompt:
            self.prompt = True  # each is tried alone next
            self._reports.append((message, KafkaError(KafkaError.MSG_SIZE_TOO_LARGE)))
        elif how == "failed":
            place = self.broker.place_of(message.topic(), message.key())
            behind = [m for m in self.queue if self.broker.place_of(m.topic(), m.key()) == place]
            self.queue = deque(m for m in self.queue if m not in behind)
            for failed in (message, *behind):
                self._reports.append((failed, KafkaError(KafkaError._MSG_TIMED_OUT)))
        else:
            arrive(self.broker, message)
            failed_all_the_same = how == "stored and reported failed"
            if not failed_all_the_same and (ticket := ticket_of(message.value(), message.headers())):
                self.broker.acknowledged.add((message.topic(), ticket))
            self._reports.append((message, KafkaError(KafkaError._MSG_TIMED_OUT) if failed_all_the_same else None))

    def be_patient(self) -> None:
        """Answer only when the model says so, unless a refusal is on its way: each of its batch is tried alone."""
        self.prompt = any(error is not None for _, error in self._reports)

    def vanish(self) -> None:
        """The process is gone; what it had sent may still arrive."""
        self.purge()


def arrive(broker: Broker, message: Message) -> None:
    """Store a message that its producer sent."""
    if broker.has(message.topic()) and TOO_LARGE not in (message.value() or b""):
        broker.store(message.topic(), message.key(), message.value(), message.headers())


class DlqReader:
    """confluent_kafka.Consumer as the DLQ consumer uses it."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self.positions: dict[Place, int] = {}
        self.crash_at: Literal["before commit", "after commit"] | None = None

    def subscribe(self, topics: list[str]) -> None:
        """The model assigns."""

    def assign(self, places: Iterable[Place]) -> None:
        """Own exactly these partitions from now on."""
        places = set(places)
        self.positions = {place: self.positions.get(place, self._broker.safe(place)) for place in places}

    def assignment(self) -> list[TopicPartition]:
        """Nothing to watch: this client never stalls."""
        return []

    def consume(self, count: int, _timeout: float) -> list[Message]:
        """Return what comes next."""
        messages: list[Message] = []
        for place in sorted(self.positions):
            log = self._broker.logs.get(place)
            if log is None:
                continue
            if self.positions[place] > log.next_offset:
                self.positions[place] = 0  # out of range: the earliest
            for record in [r for r in log.records if r.offset >= self.positions[place]][: count - len(messages)]:
                messages.append(
                    Message(place[0], record.key, record.value, list(record.headers), place[1], record.offset)
                )
                self.positions[place] = record.offset + 1
        return messages

    def commit(self, *, offsets: list[TopicPartition], asynchronous: bool) -> None:
        """Commit, unless the partition is somebody else's by now."""
        from tests.model.database import Crash  # noqa: PLC0415

        crash_at, self.crash_at = self.crash_at, None
        if crash_at == "before commit":
            raise Crash
        for entry in offsets:
            place = (entry.topic, entry.partition)
            if place not in self.positions or place not in self._broker.logs:
                raise KafkaException(KafkaError(KafkaError.ILLEGAL_GENERATION))
            self._broker.committed["dlq", place] = entry.offset
        if crash_at == "after commit":
            raise Crash

    def list_topics(self, *_arguments: Any, **_options: Any) -> None:
        """The brokers answer."""

    def close(self) -> None:
        """Leave."""
        self.positions = {}
