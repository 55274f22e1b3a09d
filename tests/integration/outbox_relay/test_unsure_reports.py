"""I9: what librdkafka takes for stored without having been told so is not deleted."""

import ctypes
import time
from collections.abc import Iterator
from pathlib import Path

import confluent_kafka
import pytest
from confluent_kafka import Producer

from outbox_relay.flight import Flight, ProducerFailedError
from shared.db.outbox import OutboxRow
from shared.kafka import producer_config
from shared.settings import GroupProtocol, KafkaSettings

PRODUCE = 0
NOT_LEADER_FOR_PARTITION = 6
TOPIC = b"t"


class MockCluster:
    """librdkafka's mock broker, told what to answer: a real one cannot be."""

    def __init__(self) -> None:
        (library,) = Path(confluent_kafka.__file__).parents[1].glob("confluent_kafka.libs/librdkafka-*.so*")
        self._library = ctypes.CDLL(str(library))
        for function in ("rd_kafka_conf_new", "rd_kafka_new", "rd_kafka_mock_cluster_new"):
            getattr(self._library, function).restype = ctypes.c_void_p
        self._library.rd_kafka_mock_cluster_bootstraps.restype = ctypes.c_char_p
        conf, error = ctypes.c_void_p(self._library.rd_kafka_conf_new()), ctypes.create_string_buffer(512)
        self._client = ctypes.c_void_p(self._library.rd_kafka_new(0, conf, error, 512))
        self._cluster = ctypes.c_void_p(self._library.rd_kafka_mock_cluster_new(self._client, 1))
        self._library.rd_kafka_mock_topic_create(self._cluster, TOPIC, 1, 1)
        self._library.rd_kafka_mock_broker_set_rtt(self._cluster, 1, 300)  # several requests are under way at once

    @property
    def address(self) -> str:
        """Where it listens."""
        return str(self._library.rd_kafka_mock_cluster_bootstraps(self._cluster).decode())

    def refuse_once(self, error: int) -> None:
        """Answer the next produce request with an error."""
        errors = (ctypes.c_int * 1)(error)
        self._library.rd_kafka_mock_push_request_errors_array(self._cluster, PRODUCE, ctypes.c_size_t(1), errors)

    def close(self) -> None:
        """End it."""
        self._library.rd_kafka_mock_cluster_destroy(self._cluster)
        self._library.rd_kafka_destroy(self._client)


@pytest.fixture
def cluster() -> Iterator[MockCluster]:
    """A cluster of one broker that takes 300 ms to answer."""
    made = MockCluster()
    yield made
    made.close()


@pytest.fixture
def flight(cluster: MockCluster) -> Flight:
    """Batches on their way to it."""
    settings = KafkaSettings(cluster.address, "test", GroupProtocol.CLASSIC)
    return Flight(Producer(producer_config(settings, client_id="test")))


def row(number: int) -> OutboxRow:
    return OutboxRow(number, 0, TOPIC.decode(), b"k", str(number).encode(), [])


def test_a_record_that_was_refused_before_a_later_one_was_taken_has_not_landed(
    cluster: MockCluster, flight: Flight
) -> None:
    """A partition that has just got its leader: the first request meets none, the second, sent meanwhile, does."""
    flight.produce([row(0)])
    assert flight.landed(wait_s=10)  # it knows its leader, and has an id
    cluster.refuse_once(NOT_LEADER_FOR_PARTITION)

    flight.produce([row(1)])
    time.sleep(0.1)
    flight.produce([row(2)])

    with pytest.raises(ProducerFailedError, match="_INCONSISTENT"):
        flight.landed(wait_s=10)
    flight.abandon()


def test_what_the_broker_has_acknowledged_has_an_offset(flight: Flight) -> None:
    """Each record of a batch, the first of a producer too."""
    for start in (1, 500):
        flight.produce([row(number) for number in range(start, start + 200)])

    landed = [flight.landed(wait_s=10), flight.landed(wait_s=10)]

    assert [batch and len(batch.acknowledged) for batch in landed] == [200, 200]
