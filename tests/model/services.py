"""Relays with their upkeep, and DLQ consumers, as processes: the real classes on a fake Kafka."""

import itertools
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import pytest
from confluent_kafka import KafkaException

import delivery_consumer.store
import dlq_consumer.consumer
import outbox_relay.flight
import outbox_relay.relay
import outbox_relay.upkeep
import shared.db
import shared.db.dlq_messages
import shared.model
from dlq_consumer.consumer import DlqConsumer
from outbox_relay.flight import ProducerFailedError
from outbox_relay.relay import Relay
from outbox_relay.settings import Settings as RelaySettings
from outbox_relay.upkeep import LEASE_GRACE_S, Sweeper, Upkeep
from shared.db import OUTAGE
from shared.settings import GroupProtocol, KafkaSettings, LogLevel, ServiceSettings
from tests.model.broker import Broker, DlqReader, Producer
from tests.model.clock import Clock, PolledClock
from tests.model.consumer import TOPICS
from tests.model.database import Link, Links

SWEEP_AFTER_S: Final = 3_000.0
LADDER_S: Final = (1_000.0, 4_000.0)
KEEP_KEYS_S: Final = 86_400.0
_SERVICE: Final = ServiceSettings("", "127.0.0.1", 1, LogLevel.INFO)
_KAFKA: Final = KafkaSettings("nowhere:1", TOPICS.prefix, GroupProtocol.CONSUMER)


class Stage:
    """What stands in for the world while an example runs; the product's modules look it up here."""

    def __init__(self, links: Links) -> None:
        self.links = links
        self.clock = Clock()
        self.polled = PolledClock(self.clock)
        self.broker = Broker(self.polled)
        self._tail = itertools.count()

    def urandom(self, count: int) -> bytes:
        """os.urandom of the ids: the same in every run."""
        return next(self._tail).to_bytes(count, "big")

    def begin(self) -> None:
        """Begin an example."""
        self.clock.elapsed_s = self.polled.polled_s = 0.0
        self.broker = Broker(self.polled)
        self.links.sort()
        self._tail = itertools.count()
        shared.model.uuid7._last = 0

    @contextmanager
    def set_up(self) -> Iterator[None]:
        """Put the fakes in the product's modules for as long as the block lasts."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(shared.db, "connect", self.links.connect)
            patch.setattr(shared.model, "time", self.clock)
            patch.setattr(shared.model, "os", self)
            for module in (delivery_consumer.store, dlq_consumer.consumer):
                patch.setattr(module, "time", self.clock)
            for module in (outbox_relay.relay, outbox_relay.flight, outbox_relay.upkeep):
                patch.setattr(module, "time", self.polled)
            for module in (outbox_relay.relay, shared.db.dlq_messages):
                patch.setattr(module, "pipelined", Link.pipelined)
            patch.setattr(outbox_relay.relay, "Producer", lambda *_a, **_k: Producer(self.broker))
            patch.setattr(outbox_relay.relay, "ensure_topics", lambda _s, names, **_k: self.broker.make_topics(names))
            patch.setattr(dlq_consumer.consumer, "Consumer", lambda *_a, **_k: DlqReader(self.broker))
            yield


class RelayNode:
    """One process of outbox_relay: the relay and, beside it, its upkeep."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        settings = RelaySettings(
            service=_SERVICE,
            kafka=_KAFKA,
            batch_rows=4,
            topic_partitions=2,
            topic_replication=1,
            sweep_after_s=SWEEP_AFTER_S,
            idempotency_keep_s=KEEP_KEYS_S,
            outage_wait_s=0,
        )
        self.relay = Relay(settings, threading.Event())
        self.upkeep = Upkeep(
            settings, threading.Event(), passed=lambda: self.relay.passed, front=lambda: self.relay.front
        )
        self.upkeep._sweeper = Sweeper(SWEEP_AFTER_S, TOPICS.dlq, clock=stage.clock.time)
        self.frozen = False

    @property
    def producer(self) -> Producer:
        """The producer of the moment."""
        producer: Any = self.relay._flight._producer
        assert isinstance(producer, Producer)
        return producer

    @property
    def tasks(self) -> dict[str, Any]:
        """The upkeep's tasks by name."""
        return {task.name: task for task in self.upkeep._tasks}

    def run_once(self) -> int:
        """One round of Relay.run."""
        self._stage.polled.polled_s += 1.1  # it looks at its share of the buckets once a second
        self.producer.be_patient()
        try:
            return self.relay.run_once()
        except OUTAGE:
            self.relay._start_over("postgres_unreachable")
        except (ProducerFailedError, KafkaException) as error:
            self.relay._topics_exist &= not getattr(error, "topics_missing", False)
            self.relay._start_over("kafka_unreachable")
        return 0

    def keep_up(self, name: str) -> int:
        """One task of the upkeep, if this one leads. Beyond its turn: any may run anywhere, twice."""
        try:
            if not self.upkeep.lead():
                return 0
            self._stage.polled.polled_s += LEASE_GRACE_S
            return int(self.tasks[name].work(self.upkeep._session.connection()))
        except OUTAGE:
            self.upkeep._session.drop()
            return 0

    def lose_sessions(self) -> None:
        """What idle_session_timeout does to a process that is stopped."""
        for session in (self.relay._session, self.upkeep._session):
            if session._conn is not None:
                session._conn.close()

    def end(self) -> None:
        """The process is gone."""
        self.lose_sessions()
        self.producer.vanish()


class DlqNode:
    """One process of dlq_consumer."""

    def __init__(self, stage: Stage, number: int) -> None:
        from dlq_consumer.settings import Settings  # noqa: PLC0415

        settings = Settings(_SERVICE, _KAFKA, retry_ladder_s=LADDER_S, poll_s=0.0, batch_rows=4, outage_wait_s=0)
        self.consumer = DlqConsumer(settings, threading.Event(), rng=random.Random(number))

    @property
    def reader(self) -> DlqReader:
        """Its consumer."""
        reader: Any = self.consumer._consumer
        assert isinstance(reader, DlqReader)
        return reader

    def run_once(self) -> int:
        """One round of DlqConsumer.run."""
        try:
            return self.consumer.run_once()
        except OUTAGE:
            self.consumer._session.drop()
            return 0

    def end(self) -> None:
        """The process is gone."""
        self.reader.close()
        self.consumer._session.drop()
