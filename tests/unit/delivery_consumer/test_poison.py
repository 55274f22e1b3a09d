"""The producer of undecodable records."""

from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from delivery_consumer import poison
from delivery_consumer.poison import DeadLetterProducer
from delivery_consumer.work import Received


class FakeProducer:
    """Acknowledges everything, unless it is broken for good."""

    broken = 0
    made: list["FakeProducer"] = []  # noqa: RUF012 - the tests' own

    def __init__(self, config: dict[str, Any], *, logger: object) -> None:
        assert logger is not None
        self.made.append(self)
        self._broken = len(self.made) <= self.broken
        self._on_delivery: list[Callable[[None, None], None]] = []

    def produce(self, topic: str, *, on_delivery: Callable[[None, None], None], **_: object) -> None:
        """Take a record, or raise as after a fatal error."""
        if self._broken:
            raise KafkaException(KafkaError(KafkaError._FATAL, "fenced", True))
        self._on_delivery.append(on_delivery)

    def poll(self, timeout_s: float) -> int:
        """Report."""
        while self._on_delivery:
            self._on_delivery.pop()(None, None)
        return 0


async def test_a_producer_that_broke_for_good_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when produce itself raises: no record waits for ever behind it."""
    monkeypatch.setattr(poison, "Producer", FakeProducer)
    monkeypatch.setattr(poison, "_WAIT_S", 0.0)
    monkeypatch.setattr(FakeProducer, "broken", 2)
    monkeypatch.setattr(FakeProducer, "made", [])
    producer = DeadLetterProducer({}, "t.dlq")

    for offset in range(2):
        await producer.set_aside(Received("t", 0, offset, None, b"{", None), "not_json")
    producer.close()

    assert len(FakeProducer.made) == 3
