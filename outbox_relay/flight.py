"""Batches between produce and delivery report, oldest first."""

import time
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Final

from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka.cimpl import Message

from outbox_relay import metrics
from shared.db.outbox import OutboxRow, Refused

MAX_BATCHES: Final = 4
"""Batches in flight: with 5 ms to the broker four reach 2.6 times the rate of one; more only adds to duplicates."""

_ALONE_S: Final = 5.0
_QUEUE_FULL_S: Final = 2.0
_REFUSED_FOR_GOOD: Final = frozenset(
    {
        KafkaError.MSG_SIZE_TOO_LARGE,
        KafkaError.INVALID_MSG,
        KafkaError.INVALID_MSG_SIZE,
        KafkaError.INVALID_RECORD,
        KafkaError.RECORD_LIST_TOO_LARGE,
        KafkaError.INVALID_TIMESTAMP,
    }
)


_TOPIC_GONE: Final = frozenset(
    {
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError._UNKNOWN_PARTITION,  # it knew the topic, and all its partitions are gone
        KafkaError._UNKNOWN_TOPIC,
    }
)


class ProducerFailedError(Exception):
    """A record could not be published for a reason that is not its own: build a new producer and start over."""

    def __init__(self, error: KafkaError) -> None:
        super().__init__(error.name())
        self.topics_missing = error.code() in _TOPIC_GONE


class Batch:
    """Rows produced together; counts down their delivery reports."""

    def __init__(self, rows: Sequence[OutboxRow]) -> None:
        self.rows = rows
        self.waiting = len(rows)
        self.refused: dict[int, str] = {}
        self.failure: KafkaError | None = None
        self.produced_at = time.monotonic()

    def report(self, error: KafkaError | None, message: Message) -> None:
        """Take one delivery report: librdkafka's callback, called from poll.

        A record without an offset was not acknowledged: librdkafka takes it for stored because one after it was. Where
        a partition has just got its leader, the first records of a producer may be refused while later ones are not;
        the broker takes those, knowing nothing of the producer, and the first would be lost.
        """
        self.waiting -= 1
        if error is None:
            if message.offset() is None:
                self.failure = KafkaError(KafkaError._INCONSISTENT)
            return
        if error.code() in _REFUSED_FOR_GOOD:
            self.refuse(message.key(), message.value(), error)
        else:
            self.failure = error

    def refuse(self, key: bytes | None, value: bytes | None, error: KafkaError) -> None:
        """Mark the row these bytes came from; a report does not say which row it is for."""
        for row in self.rows:
            if row.key == key and row.value == value and row.seq not in self.refused:
                self.refused[row.seq] = error.name()
                return

    @property
    def acknowledged(self) -> list[int]:
        """Return the numbers of the rows Kafka has."""
        if not self.refused:
            return [row.seq for row in self.rows]
        return [row.seq for row in self.rows if row.seq not in self.refused]


class Flight:
    """Up to MAX_BATCHES batches on their way through one producer. For one thread."""

    def __init__(self, producer: Producer) -> None:
        self._producer = producer
        self._batches: deque[Batch] = deque()
        self.used = False  # something was produced, or tried to be: what is abandoned then takes its producer along

    def __len__(self) -> int:
        return len(self._batches)

    @property
    def has_room(self) -> bool:
        """Tell whether another batch may be produced."""
        return len(self._batches) < MAX_BATCHES

    @property
    def row_count(self) -> int:
        """Return how many rows are on their way."""
        return sum(len(batch.rows) for batch in self._batches)

    @property
    def oldest_age_s(self) -> float:
        """Return for how long the oldest batch has been waiting; 0 when there is none."""
        return time.monotonic() - self._batches[0].produced_at if self._batches else 0.0

    def seqs(self) -> Iterator[int]:
        """Return the numbers of all rows on their way."""
        return (row.seq for batch in self._batches for row in batch.rows)

    def produce(self, rows: Sequence[OutboxRow]) -> None:
        """Hand rows to the producer, in order, as one batch."""
        self.used = True
        batch = Batch(rows)
        self._batches.append(batch)
        produce, report = self._producer.produce, batch.report
        for row in rows:
            _, _, topic, key, value, headers = row
            try:
                produce(topic, value, key, on_delivery=report, headers=headers)
            except (BufferError, KafkaException):
                self._produce(row, batch)
        self._producer.poll(0)

    def landed(self, *, wait_s: float) -> Batch | None:
        """Return the oldest batch once all its reports are in, waiting at most `wait_s`; None if it is not there yet.

        Raises ProducerFailedError. Rows the broker refused as part of a larger request are tried once more, each
        alone, since a request is refused whole when one record in it is.
        """
        if not self._batches:
            return None
        batch, deadline = self._batches[0], time.monotonic() + wait_s
        wait = self._producer.poll if len(self._batches) > 1 else self._producer.flush  # alone it need not linger
        while batch.waiting and (left_s := deadline - time.monotonic()) > 0:
            wait(left_s)
        if batch.failure is not None:
            raise ProducerFailedError(batch.failure)
        if batch.waiting:
            return None
        if batch.refused:
            self._try_alone(batch)
        self._batches.popleft()
        metrics.BATCH_SECONDS.observe(time.monotonic() - batch.produced_at)
        return batch

    def abandon(self) -> None:
        """Drop everything not yet acknowledged; its rows are still in the table."""
        self._batches.clear()
        self._producer.purge(in_queue=True, in_flight=True, blocking=False)
        self._producer.poll(0)

    def _produce(self, row: OutboxRow, batch: Batch) -> None:
        deadline = time.monotonic() + _QUEUE_FULL_S
        while True:
            try:
                self._producer.produce(row.topic, row.value, row.key, on_delivery=batch.report, headers=row.headers)
            except BufferError as error:  # the local queue is full: let reports make room
                if time.monotonic() > deadline:
                    raise ProducerFailedError(KafkaError(KafkaError._QUEUE_FULL)) from error
                self._producer.poll(0.05)
            except KafkaException as error:
                cause: KafkaError = error.args[0]
                if cause.code() not in _REFUSED_FOR_GOOD:
                    raise ProducerFailedError(cause) from error
                batch.waiting -= 1
                batch.refused[row.seq] = cause.name()
                return
            else:
                return

    def _try_alone(self, batch: Batch) -> None:
        for row in [row for row in batch.rows if row.seq in batch.refused]:
            alone = Batch([row])
            self._produce(row, alone)
            deadline = time.monotonic() + _ALONE_S
            while alone.waiting and time.monotonic() < deadline:
                self._producer.poll(0.01)
            if alone.failure is not None or alone.waiting:
                raise ProducerFailedError(alone.failure or KafkaError(KafkaError._TIMED_OUT))
            if not alone.refused:
                del batch.refused[row.seq]


def refused_rows(batch: Batch) -> list[Refused]:
    """Return the rows of a landed batch that Kafka refuses for good."""
    return [Refused(seq, error) for seq, error in batch.refused.items()]
