"""What librdkafka's clients are given."""

import logging

import pytest

from shared.kafka import consumer_config, producer_config, quiet_logger
from shared.settings import GroupProtocol, KafkaSettings

SETTINGS = KafkaSettings("k:9092", "shop", GroupProtocol.CONSUMER)


def test_an_outage_is_a_few_lines_not_one_per_attempt(caplog: pytest.LogCaptureFixture) -> None:
    """Each kind of line once in half a minute."""
    log = quiet_logger(logging.getLogger("test_kafka_quiet"))

    for number in range(100):
        log.error("FAIL [client] connection %d refused", number)
    log.error("GETPID [client] not yet")

    assert [record.getMessage().split()[0] for record in caplog.records] == ["FAIL", "GETPID"]


def test_producer_never_gives_up_on_a_record_and_loses_none() -> None:
    """docs/decisions/0003: a time limit would invert keys; acks=all and idempotence are what I9 rests on."""
    config = producer_config(SETTINGS, client_id="x")

    assert (config["message.timeout.ms"], config["acks"], config["enable.idempotence"]) == (0, "all", True)


@pytest.mark.parametrize("protocol", GroupProtocol)
def test_consumer_starts_at_the_beginning_and_commits_by_hand(protocol: GroupProtocol) -> None:
    """I11: lost offsets mean reading again, and nothing is committed behind our back."""
    settings = KafkaSettings("k:9092", "shop", protocol)
    config = consumer_config(settings, client_id="x", group="dlq")

    assert (config["group.id"], config["auto.offset.reset"]) == ("shop-dlq", "earliest")
    assert (config["enable.auto.commit"], config["enable.auto.offset.store"]) == (False, False)
    assert ("session.timeout.ms" in config) is (protocol is GroupProtocol.CLASSIC)
