"""Topics made when they are missing."""

import secrets

import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from shared.kafka import ensure_topics
from shared.settings import GroupProtocol, KafkaSettings
from tests.servers import KafkaServer


def test_missing_topics_are_made_once_and_small_limits_are_named(
    kafka: KafkaServer, caplog: pytest.LogCaptureFixture
) -> None:
    """What exists stays as it is; a limit below what the producer sends is a warning with the topic's name."""
    prefix = f"ensure-{secrets.token_hex(4)}"
    settings = KafkaSettings(kafka.bootstrap_servers, prefix, GroupProtocol.CONSUMER)
    small, missing = f"{prefix}.small", f"{prefix}.missing"
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    admin.create_topics([NewTopic(small, 1, 1, config={"max.message.bytes": "1000"})])[small].result(10)

    first = ensure_topics(settings, [small, missing], partitions=2, replication=1)
    second = ensure_topics(settings, [small, missing], partitions=2, replication=1)

    named = {record.__dict__["topic"] for record in caplog.records if record.message == "topic_limit_too_small"}
    kafka.delete_topics([small, missing])
    assert (first, second) == ([missing], [])
    assert named == {small}


def test_brokers_out_of_reach_are_an_error_and_no_noise(capfd: pytest.CaptureFixture[str]) -> None:
    """What failed is in the exception, which the caller logs; nothing goes to stderr beside it."""
    settings = KafkaSettings("127.0.0.1:1", "nowhere", GroupProtocol.CONSUMER)

    with pytest.raises(KafkaException):
        ensure_topics(settings, ["nowhere.webhook"], partitions=1, replication=1, timeout_s=1)

    assert capfd.readouterr().err == ""
