"""What librdkafka's clients are given."""

import logging

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from shared.kafka import StallWatch, consumer_config, producer_config, quiet_logger
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
    assert ("group.remote.assignor" in config) is (protocol is GroupProtocol.CONSUMER)


class Partition:
    """A consumer of one partition, and its broker."""

    def __init__(self) -> None:
        self.position_, self.committed_, self.high, self.reachable, self.asked = -1001, -1001, 0, True, 0

    def position(self, places: list[TopicPartition]) -> list[TopicPartition]:
        """Where it stands; -1001 before the first record."""
        return [TopicPartition(place.topic, place.partition, self.position_) for place in places]

    def committed(self, places: list[TopicPartition], timeout: float) -> list[TopicPartition]:
        """What the group has committed."""
        return [TopicPartition(place.topic, place.partition, self.committed_) for place in places]

    def get_watermark_offsets(self, place: TopicPartition, timeout: float) -> tuple[int, int]:
        """Ask the broker."""
        self.asked += 1
        if not self.reachable:
            raise KafkaException(KafkaError(KafkaError._TRANSPORT))
        return 0, self.high


def looks(watch: StallWatch, clock: list[float], partition: Partition, *, seconds: int, reads: bool = False) -> bool:
    """Look each second; say whether it was called stalled."""
    for _ in range(seconds):
        clock[0] += 1
        if reads:
            partition.position_ = partition.high = partition.high + 1
        if watch.stalled(partition, [("t", 0)]) is not None:  # type: ignore[arg-type]
            return True
    return False


def test_a_partition_that_gives_nothing_of_what_it_has_is_stalled() -> None:
    """At two looks in a row, after it has stood still: at its first record, in the middle, or beyond a new end."""
    for position in (-1001, 5, 500):
        clock, partition = [1000.0], Partition()
        watch = StallWatch(lambda clock=clock: clock[0])  # type: ignore[misc]
        partition.position_, partition.high = position, 9

        assert not looks(watch, clock, partition, seconds=19)
        assert looks(watch, clock, partition, seconds=15)


def test_what_is_idle_busy_or_out_of_reach_is_not_stalled() -> None:
    """Nothing to read, nothing left to read, reading, no broker to ask, or a record that came between two looks."""
    idle, done, emptied, busy, away, late = (Partition() for _ in range(6))
    done.committed_ = done.high = 7
    emptied.committed_ = 7  # the topic was made anew
    away.high, away.reachable = 9, False
    clock = [1000.0]
    watches = {one: StallWatch(lambda: clock[0]) for one in (idle, done, emptied, busy, away)}

    assert not looks(watches[idle], clock, idle, seconds=120)
    assert not looks(watches[done], clock, done, seconds=120)
    assert not looks(watches[emptied], clock, emptied, seconds=120)
    assert not looks(watches[busy], clock, busy, seconds=120, reads=True)
    assert not looks(watches[away], clock, away, seconds=120)
    watch = StallWatch(lambda: clock[0])
    for _ in range(5):
        assert not looks(watch, clock, late, seconds=25)
        late.high += 1
        assert not looks(watch, clock, late, seconds=4)
        late.position_ = late.high
