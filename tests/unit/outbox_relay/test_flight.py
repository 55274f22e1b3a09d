"""Batches on their way: what a delivery report does, without a broker."""

from collections.abc import Callable
from typing import Any
from unittest.mock import Mock

import pytest
from confluent_kafka import KafkaError, KafkaException

from outbox_relay.flight import MAX_BATCHES, Flight, ProducerFailedError, refused_rows
from shared.db.outbox import OutboxRow

Report = Callable[[KafkaError | None, Any], None]


class FakeMessage:
    """What a report carries."""

    def __init__(self, key: bytes, value: bytes, offset: int | None) -> None:
        self._key, self._value, self._offset = key, value, offset

    def key(self) -> bytes:
        return self._key

    def value(self) -> bytes:
        return self._value

    def offset(self) -> int | None:
        return self._offset


class FakeProducer:
    """Keeps what is produced; `poll` reports it, each value's error as `errors` has it, in turn."""

    def __init__(self) -> None:
        self.sent: list[tuple[bytes, bytes, Report]] = []
        self.produced: list[bytes] = []
        self.errors: dict[bytes, list[int | None]] = {}
        self.refuses_locally: set[bytes] = set()
        self.taken_for_stored: set[bytes] = set()
        self.fails_with: int | None = None
        self.purged = False

    def produce(self, topic: str, value: bytes, key: bytes, *, on_delivery: Report, headers: Any) -> None:
        if self.fails_with is not None:
            raise KafkaException(KafkaError(self.fails_with))
        if value in self.refuses_locally:
            raise KafkaException(KafkaError(KafkaError.MSG_SIZE_TOO_LARGE))
        self.produced.append(value)
        self.sent.append((key, value, on_delivery))

    def poll(self, timeout: float) -> int:
        reports, self.sent = self.sent, []
        for key, value, report in reports:
            code = self.errors[value].pop(0) if self.errors.get(value) else None
            message = FakeMessage(key, value, None if value in self.taken_for_stored else 7)
            report(None if code is None else KafkaError(code), message)
        return len(reports)

    flush = poll

    def purge(self, **options: bool) -> None:
        self.purged = True


def rows(*numbers: int) -> list[OutboxRow]:
    """Rows whose value is their number."""
    return [OutboxRow(number, 0, "t", b"k", str(number).encode(), [("attempt", "1")]) for number in numbers]


@pytest.fixture
def producer() -> FakeProducer:
    return FakeProducer()


@pytest.fixture
def flight(producer: FakeProducer) -> Flight:
    return Flight(producer)  # type: ignore[arg-type]


def test_what_was_not_acknowledged_itself_has_not_landed(flight: Flight, producer: FakeProducer) -> None:
    """I9: librdkafka reports a record as stored because a later one was; the broker may have refused it."""
    producer.taken_for_stored = {b"1"}
    flight.produce(rows(1, 2))

    with pytest.raises(ProducerFailedError):
        flight.landed(wait_s=0.1)


def test_batch_lands_with_its_last_report_in_order_of_take_off(flight: Flight) -> None:
    """Batches land first in, first out, and name their rows for deletion."""
    flight.produce(rows(1, 2))
    flight.produce(rows(3))

    landed = [flight.landed(wait_s=1), flight.landed(wait_s=1), flight.landed(wait_s=1)]

    assert [batch and batch.acknowledged for batch in landed] == [[1, 2], [3], None]


def test_there_is_room_for_a_few_batches_only(flight: Flight) -> None:
    """What is in flight is bounded: a broker that does not answer holds that much and no more."""
    for number in range(MAX_BATCHES):
        assert flight.has_room
        flight.produce(rows(number + 1))

    assert not flight.has_room
    assert flight.row_count == MAX_BATCHES


def test_row_refused_alone_is_refused_for_good(producer: FakeProducer, flight: Flight) -> None:
    """A row refused with others is tried once by itself; only then is it given up, and its neighbours are not."""
    too_large = KafkaError.MSG_SIZE_TOO_LARGE
    producer.errors = {b"1": [too_large, None], b"2": [too_large, too_large]}
    flight.produce(rows(1, 2, 3))

    batch = flight.landed(wait_s=1)

    assert batch is not None
    assert batch.acknowledged == [1, 3]
    assert [(row.seq, row.error) for row in refused_rows(batch)] == [(2, "MSG_SIZE_TOO_LARGE")]
    assert producer.produced == [b"1", b"2", b"3", b"1", b"2"]


def test_row_the_client_itself_refuses_is_refused_too(producer: FakeProducer, flight: Flight) -> None:
    """librdkafka refuses a record over its limit when it is produced, without a report."""
    producer.refuses_locally = {b"2"}
    flight.produce(rows(1, 2))

    batch = flight.landed(wait_s=1)

    assert batch is not None
    assert batch.acknowledged == [1]


@pytest.mark.parametrize(
    ("code", "topics_missing"),
    [
        (KafkaError.UNKNOWN_TOPIC_OR_PART, True),
        (KafkaError._UNKNOWN_PARTITION, True),
        (KafkaError.TOPIC_AUTHORIZATION_FAILED, False),
    ],
)
def test_any_other_error_ends_the_flight_and_deletes_nothing(
    producer: FakeProducer, flight: Flight, code: int, topics_missing: bool
) -> None:
    """A fault that is not the row's own: no batch lands, so nothing is deleted; the relay starts over."""
    producer.errors = {b"2": [code]}
    flight.produce(rows(1, 2))

    with pytest.raises(ProducerFailedError) as caught:
        flight.landed(wait_s=1)

    assert caught.value.topics_missing is topics_missing


def test_flight_whose_first_row_fails_is_known_as_used(producer: FakeProducer, flight: Flight) -> None:
    """A dead producer refuses the very first row: the relay must see that it has to build another."""
    producer.fails_with = KafkaError._FATAL

    with pytest.raises(ProducerFailedError):
        flight.produce(rows(1))

    assert flight.used


def test_full_queue_is_waited_for_only_so_long(
    producer: FakeProducer, flight: Flight, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise nothing would ever look at the stop event again."""
    monkeypatch.setattr("outbox_relay.flight._QUEUE_FULL_S", 0.0)
    monkeypatch.setattr(producer, "produce", Mock(side_effect=BufferError))

    with pytest.raises(ProducerFailedError, match="_QUEUE_FULL"):
        flight.produce(rows(1))


def test_abandoned_flight_is_purged(producer: FakeProducer, flight: Flight) -> None:
    """After a lost connection nothing more is sent from here: the rows are read again."""
    flight.produce(rows(1))

    flight.abandon()

    assert producer.purged
    assert len(flight) == 0
