"""The Kafka side: one thread that owns the Consumer, and the engine's loop at the other end of a queue.

All calls of a Consumer are made by that thread, since confluent-kafka runs them one after another and whoever waits
starves. Records go to the loop a batch at a time; commits, pauses and resumptions come back through a queue that is
emptied between two polls.
"""

import asyncio
import contextlib
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Sequence
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from delivery_consumer import metrics
from delivery_consumer.engine import Engine
from delivery_consumer.store import STATEMENT_ROWS
from delivery_consumer.work import PartitionId, Received
from shared.kafka import StallWatch, quiet_logger
from shared.lifecycle import DRAIN_S

log = logging.getLogger(__name__)

POLL_S: Final = 0.2
POLL_WHILE_PAUSED_S: Final = 0.05
FETCH_WAIT_MS: Final = 100
"""A topic that was paused, and goes on, waits for the next poll and for the fetch that is under way to its broker."""
COMMIT_EVERY_S: Final = 1.0
GAUGES_EVERY_S: Final = 5.0
REVOKE_WITHIN_S: Final = 60.0
CUT_AFTER_S: Final = DRAIN_S - 4.5
GIVE_BACK_WITHIN_S: Final = DRAIN_S - 3
LEAVE_WITHIN_S: Final = 2.5
"""For the last commit and the goodbye to the group. librdkafka waits for a coordinator that is away, up to a minute;
by then all that matters is in PostgreSQL."""
ERRORS_EVERY_S: Final = 5.0
STUCK_S: Final = 90.0  # a revocation may take REVOKE_WITHIN_S
SPARE_AFTER_S: Final = 15.0
ANSWER_WITHIN_S: Final = 0.5
_UNASSIGNED: Final = "not assigned yet"
_OUT_OF_REACH: Final = "brokers out of reach"
_Command = Callable[[Consumer], None]


class Pump:
    """Reads records for an engine and commits what it has ended. `start` it inside the engine's loop."""

    def __init__(self, config: dict[str, Any], topics: Sequence[str]) -> None:
        self._config, self._topics = config, list(topics)
        self._commands: SimpleQueue[_Command] = SimpleQueue()
        self._stopping = threading.Event()
        self._taken = threading.Semaphore()  # by the loop: the last batch
        self._assigned: set[PartitionId] = set()
        self._paused: set[str] = set()
        self._committed: dict[PartitionId, int] = {}
        self._drain = True
        self._fault: str | None = "not started"
        self._errors_at: dict[str, float] = {}
        self._began_at = self._seen_at = time.monotonic()
        self._gauges_at = 0.0

    # For the loop

    def start(self, engine: Engine) -> "asyncio.Future[None]":
        """Begin to read; the future ends with the thread, and fails if that did."""
        self._engine, self._loop, self._given_back = engine, asyncio.get_running_loop(), asyncio.Event()
        ended: asyncio.Future[None] = self._loop.create_future()
        threading.Thread(target=self._thread, args=(ended,), name="pump", daemon=True).start()
        return ended

    async def stop(self, ended: "asyncio.Future[None]", *, drain: bool) -> bool:
        """End the thread; with `drain` it first gives everything back and commits. Says whether it ended in time."""
        self._drain = drain
        self._stopping.set()
        given_back = asyncio.create_task(self._given_back.wait())
        either: list[asyncio.Future[Any]] = [given_back, ended]
        await asyncio.wait(either, timeout=GIVE_BACK_WITHIN_S, return_when=asyncio.FIRST_COMPLETED)
        given_back.cancel()
        await asyncio.wait([ended], timeout=LEAVE_WITHIN_S)
        return ended.done()

    def pause(self, topic: str) -> None:
        """Read no more of a topic for now."""
        self._commands.put(lambda consumer: self._set_paused(consumer, topic, paused=True))

    def resume(self, topic: str) -> None:
        """Read on."""
        self._commands.put(lambda consumer: self._set_paused(consumer, topic, paused=False))

    async def keep_committing(self) -> None:
        """Send safe offsets to the thread once a second."""
        while True:
            await asyncio.sleep(COMMIT_EVERY_S)
            offsets = self._engine.safe_offsets()
            self._commands.put(lambda consumer, offsets=offsets: self._commit(consumer, offsets))  # type: ignore[misc]

    def fault(self) -> str | None:
        """Say what is wrong, as a readiness check does. Safe from any thread."""
        now = time.monotonic()
        if self._fault == _UNASSIGNED and now - self._began_at > SPARE_AFTER_S:
            return None  # more consumers than partitions: a spare one is well
        if self._fault is None and now - self._seen_at > STUCK_S:
            return "no poll for too long"
        return self._fault

    # On the thread

    def _thread(self, ended: "asyncio.Future[None]") -> None:
        error: BaseException | None = None
        try:
            self._run()
        except BaseException as caught:  # noqa: BLE001 - handed to the loop, which ends the process
            error = caught
        self._fault = "stopped"
        self._loop.call_soon_threadsafe(_settle, ended, error)

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._read(self._new_consumer())

    def _new_consumer(self) -> Consumer:
        config = self._config | {"error_cb": self._on_error, "on_commit": self._on_commit}
        consumer = Consumer(config | {"fetch.wait.max.ms": FETCH_WAIT_MS}, logger=quiet_logger(log))
        consumer.subscribe(self._topics, on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost)
        self._fault, self._began_at = _UNASSIGNED, time.monotonic()
        return consumer

    def _read(self, consumer: Consumer) -> None:
        """Read until asked to stop, or until a partition stalls: then everything is given back, and read anew."""
        watch, stalled = StallWatch(), None
        try:
            while stalled is None and not self._stopping.is_set():
                self.poll_once(consumer)
                stalled = watch.stalled(consumer, (one for one in self._assigned if one[0] not in self._paused))
            if stalled is not None:
                metrics.CONSUMERS_STALLED.inc()
                log.warning("partition_stalled", extra={"partition": f"{stalled[0]}/{stalled[1]}"})
                self._let_go(consumer, self._assigned, timeout_s=REVOKE_WITHIN_S)
            elif self._drain:
                self._let_go(consumer, self._assigned, timeout_s=GIVE_BACK_WITHIN_S, cut_after_s=CUT_AFTER_S)
        finally:
            consumer.close()

    def poll_once(self, consumer: Consumer) -> int:
        """Hand over what has arrived, waiting a moment for the first; do what the loop asked for."""
        # It returns with the first record; consume() would wait for more.
        first = consumer.poll(POLL_WHILE_PAUSED_S if self._paused else POLL_S)
        messages = [first, *consumer.consume(STATEMENT_ROWS - 1, 0)] if first is not None else []
        batch = [received for message in messages if (received := _received(message)) is not None]
        if batch:
            self._note_answer()
            for topic, count in Counter(received.topic for received in batch).items():
                metrics.RECORDS_CONSUMED.labels(topic).inc(count)
            self._hand_over(batch)
        self._obey(consumer)
        self._seen_at = time.monotonic()
        if self._seen_at - self._gauges_at > GAUGES_EVERY_S:
            self._gauges_at = self._seen_at
            self._ask_brokers(consumer)
            self._set_gauges(consumer)
        return len(batch)

    def _hand_over(self, batch: list[Received]) -> None:
        """Give the loop a batch once it has taken the last one: what it cannot keep up with stays in Kafka."""
        self._taken.acquire()
        self._loop.call_soon_threadsafe(self._receive, batch)

    def _receive(self, batch: list[Received]) -> None:
        try:
            self._engine.receive(batch)
        finally:
            self._taken.release()

    def _obey(self, consumer: Consumer) -> None:
        try:
            while True:
                self._commands.get_nowait()(consumer)
        except Empty:
            return

    def _set_paused(self, consumer: Consumer, topic: str, *, paused: bool) -> None:
        (self._paused.add if paused else self._paused.discard)(topic)
        partitions = [TopicPartition(*partition) for partition in self._assigned if partition[0] == topic]
        if partitions:
            (consumer.pause if paused else consumer.resume)(partitions)

    def _commit(self, consumer: Consumer, offsets: dict[PartitionId, int], *, wait: bool = False) -> None:
        fresh = {
            partition: offset
            for partition, offset in offsets.items()
            if partition in self._assigned and self._committed.get(partition) != offset
        }
        if not fresh:
            return
        self._committed |= fresh
        places = [TopicPartition(topic, number, offset) for (topic, number), offset in fresh.items()]
        try:
            if wait:
                consumer.commit(offsets=places, asynchronous=False)
            else:
                consumer.commit(offsets=places, asynchronous=True)
        except KafkaException as error:
            self._on_commit(error.args[0], places)

    def _on_commit(self, error: KafkaError | None, places: list[TopicPartition]) -> None:
        failed = [place for place in places if error is not None or place.error is not None]
        for place in failed:
            self._committed.pop((place.topic, place.partition), None)  # the next round sends it again
        if not failed:
            self._note_answer()
        else:
            log.warning("commit_failed", extra={"error": str(error or failed[0].error), "partitions": len(failed)})

    def _on_assign(self, consumer: Consumer, places: list[TopicPartition]) -> None:
        consumer.incremental_assign(places)
        self._assigned |= _ids(places)
        if paused := [place for place in places if place.topic in self._paused]:
            consumer.pause(paused)
        self._note_assignment("partitions_assigned", places)

    def _on_revoke(self, consumer: Consumer, places: list[TopicPartition]) -> None:
        if self._drain:
            self._let_go(consumer, _ids(places), timeout_s=REVOKE_WITHIN_S)
        consumer.incremental_unassign(places)
        self._note_assignment("partitions_revoked", places)

    def _on_lost(self, consumer: Consumer, places: list[TopicPartition]) -> None:
        self._forget(_ids(places))
        self._ask(self._engine.give_back(_ids(places), lost=True, timeout_s=0))
        consumer.incremental_unassign(places)
        self._note_assignment("partitions_lost", places)

    def _let_go(
        self,
        consumer: Consumer,
        partitions: Iterable[PartitionId],
        *,
        timeout_s: float,
        cut_after_s: float | None = None,
    ) -> None:
        partitions = set(partitions)
        self._obey(consumer)
        offsets = self._ask(self._engine.give_back(partitions, timeout_s=timeout_s, cut_after_s=cut_after_s))
        if self._stopping.is_set():
            self._loop.call_soon_threadsafe(self._given_back.set)
        self._commit(consumer, offsets, wait=True)
        self._forget(partitions)

    def _forget(self, partitions: set[PartitionId]) -> None:
        self._assigned -= partitions
        for partition in partitions:
            self._committed.pop(partition, None)
            metrics.forget_lag(*partition)

    def _ask(self, coroutine: Coroutine[Any, Any, dict[PartitionId, int]]) -> dict[PartitionId, int]:
        future: Future[dict[PartitionId, int]] = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        return future.result(timeout=REVOKE_WITHIN_S + 10)

    def _note_assignment(self, event: str, places: list[TopicPartition]) -> None:
        self._fault = None
        metrics.PARTITIONS.set(len(self._assigned))
        log.info(event, extra={"partitions": sorted(f"{place.topic}/{place.partition}" for place in places)})

    def _on_error(self, error: KafkaError) -> None:
        self._note_error(error)
        if error.code() == KafkaError._ALL_BROKERS_DOWN:
            self._fault = _OUT_OF_REACH

    def _ask_brokers(self, consumer: Consumer) -> None:
        """See whether an outage is over: librdkafka says when it began, and answers from its memory meanwhile."""
        if self._fault == _OUT_OF_REACH:
            with contextlib.suppress(KafkaException):
                consumer.list_topics(self._topics[0], timeout=ANSWER_WITHIN_S)
                self._note_answer()

    def _note_answer(self) -> None:
        if self._fault == _OUT_OF_REACH:
            self._fault = None if self._assigned else _UNASSIGNED

    def _note_error(self, error: KafkaError) -> None:
        now = time.monotonic()
        if now - self._errors_at.get(error.name(), 0.0) > ERRORS_EVERY_S:  # an outage repeats itself 40 times a second
            self._errors_at[error.name()] = now
            log.warning("kafka_error", extra={"error": error.name(), "detail": error.str()})

    def _set_gauges(self, consumer: Consumer) -> None:
        if not self._assigned:
            return
        for place in consumer.position([TopicPartition(*partition) for partition in self._assigned]):
            _, high = consumer.get_watermark_offsets(place, cached=True)
            if place.offset >= 0 and high >= 0:
                lag = max(high - place.offset, 0)
                metrics.CONSUMER_LAG.labels(place.topic, place.partition).set(lag)


def _received(message: Message) -> Received | None:
    if (error := message.error()) is not None:
        if error.fatal():
            raise KafkaException(error)
        log.warning("kafka_error", extra={"error": error.name(), "topic": message.topic()})
        return None
    return Received(
        message.topic() or "",
        message.partition() or 0,
        message.offset() or 0,
        _as_bytes(message.key()),
        _as_bytes(message.value()),
        message.headers(),  # type: ignore[arg-type]
    )


def _as_bytes(value: str | bytes | None) -> bytes | None:
    return value.encode() if isinstance(value, str) else value


def _ids(places: Iterable[TopicPartition]) -> set[PartitionId]:
    return {(place.topic, place.partition) for place in places}


def _settle(ended: "asyncio.Future[None]", error: BaseException | None) -> None:
    if ended.done():
        return
    if error is None:
        ended.set_result(None)
    else:
        ended.set_exception(error)
