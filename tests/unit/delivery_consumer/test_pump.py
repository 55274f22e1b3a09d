"""The Kafka side on a consumer of the tests' own: what readiness says, and which series there are."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from queue import Empty, SimpleQueue
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition
from prometheus_client import REGISTRY

from delivery_consumer import consumer
from delivery_consumer.consumer import Pump
from shared.kafka import StallWatch
from tests.unit.delivery_consumer.fakes import NORMAL, Bench


class FakeConsumer:
    """Does between two polls what a test asks for. Watermarks come from memory; only `list_topics` asks a broker."""

    def __init__(self, config: dict[str, Any], *, logger: logging.Logger) -> None:
        self.config, self.logger = config, logger
        self.asked: SimpleQueue[Callable[[], object]] = SimpleQueue()
        self.reachable = True
        self.questions = 0
        self.high, self.closed = 7, False
        FakeConsumer.last = self

    last: "FakeConsumer"

    def subscribe(self, topics: list[str], **callbacks: Callable[..., None]) -> None:
        """Remember the callbacks."""
        self.callbacks = callbacks

    def poll(self, timeout_s: float) -> None:
        """Do what was asked for."""
        try:
            self.asked.get(timeout=0.005)()
        except Empty:
            return

    def consume(self, count: int, timeout_s: float) -> list[object]:
        """Nothing comes."""
        return []

    def position(self, places: list[TopicPartition]) -> list[TopicPartition]:
        """Everything stands at 7."""
        return [TopicPartition(place.topic, place.partition, 7) for place in places]

    def get_watermark_offsets(
        self, place: TopicPartition, *, cached: bool = False, timeout: float = 0
    ) -> tuple[int, int]:
        """Ten records, as far as is known; `high`, if the broker is asked."""
        return (0, 10) if cached else (0, self.high)

    def close(self) -> None:
        """Leave."""
        self.closed = True

    def list_topics(self, topic: str, *, timeout: float) -> None:
        """Ask a broker."""
        self.questions += 1
        if not self.reachable:
            raise KafkaException(KafkaError(KafkaError._TRANSPORT))

    def ignore(self, *_: object, **__: object) -> None:
        """Whatever else is called."""

    incremental_assign = incremental_unassign = pause = resume = commit = ignore


@asynccontextmanager
async def pumping(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Pump, FakeConsumer]]:
    """Run a pump that was assigned a partition."""
    monkeypatch.setattr(consumer, "Consumer", FakeConsumer)
    monkeypatch.setattr(consumer, "GAUGES_EVERY_S", 0.0)
    bench = Bench()
    pump = Pump({}, [NORMAL])
    ended = pump.start(bench.engine)
    await until(lambda: hasattr(FakeConsumer, "last") and hasattr(FakeConsumer.last, "callbacks"))
    fake = FakeConsumer.last
    fake.asked.put(lambda: fake.callbacks["on_assign"](fake, [TopicPartition(NORMAL, 0)]))
    await until(lambda: pump.fault() is None)
    yield pump, fake
    assert await pump.stop(ended, drain=True)
    del FakeConsumer.last


async def until(what: Callable[[], bool]) -> None:
    """Wait for something to become true."""
    async with asyncio.timeout(5):
        while not what():
            await asyncio.sleep(0.001)


async def test_an_outage_is_over_when_a_broker_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """What librdkafka knows from before proves nothing."""
    async with pumping(monkeypatch) as (pump, fake):
        fake.reachable = False
        fake.asked.put(lambda: fake.config["error_cb"](KafkaError(KafkaError._ALL_BROKERS_DOWN)))
        await until(lambda: fake.questions >= 3)
        assert pump.fault() == "brokers out of reach"

        fake.reachable = True
        await until(lambda: pump.fault() is None)


async def test_the_lag_of_a_partition_that_left_is_no_series_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process reports it now."""

    def lag() -> float | None:
        return REGISTRY.get_sample_value("kafka_consumer_lag", {"topic": NORMAL, "partition": "0"})

    async with pumping(monkeypatch) as (_, fake):
        await until(lambda: lag() == 3)

        fake.asked.put(lambda: fake.callbacks["on_revoke"](fake, [TopicPartition(NORMAL, 0)]))
        await until(lambda: lag() is None)


async def test_librdkafka_logs_as_we_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its lines are events like all others."""
    async with pumping(monkeypatch) as (_, fake):
        assert fake.logger.name.startswith("delivery_consumer.")


async def test_a_client_that_gets_nothing_of_what_there_is_makes_way_for_a_new_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """I10: what a deleted topic left behind in librdkafka must not keep what was published again from being read."""
    monkeypatch.setattr(StallWatch, "LOOK_EVERY_S", 0.01)
    monkeypatch.setattr(StallWatch, "_QUIET_S", 0.02)
    stalled = REGISTRY.get_sample_value("delivery_consumers_stalled_total") or 0

    async with pumping(monkeypatch) as (_, fake):
        fake.high = 9
        await until(lambda: FakeConsumer.last is not fake)
        await until(lambda: fake.closed)

    assert REGISTRY.get_sample_value("delivery_consumers_stalled_total") == stalled + 1
