"""The loop: read dead letters, record them with triage's verdict, commit; publish again what is due or asked for.

It never produces: a retry is an outbox row, written in the transaction that moves the status, so nothing that came
from the DLQ topic can go back onto it. A crash anywhere repeats reads, which change nothing the second time.
"""

import logging
import random
import threading
import time
from collections.abc import Sequence
from typing import Final

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.cimpl import Message

from dlq_consumer import metrics
from dlq_consumer.backoff import Draws, EvenDraws
from dlq_consumer.letters import UNOWNED_TENANT, Letter, Place, read_letter
from dlq_consumer.retries import BulkRetries
from dlq_consumer.settings import Settings
from dlq_consumer.triage import DeadLetter, Rest, triage
from shared.db import OUTAGE, Session, dlq_messages, notifications
from shared.db.dlq_messages import Tracked
from shared.db.outages import OutageLog
from shared.kafka import StallWatch, consumer_config, quiet_logger
from shared.records import Topics, decode_headers

log = logging.getLogger(__name__)

_POLL_WAIT_S: Final = 0.25
_ASK_EVERY_S: Final = 2.0


class DlqConsumer:
    """Tracks and requeues until asked to stop. Everything in here belongs to one thread."""

    def __init__(self, settings: Settings, stop: threading.Event, *, rng: Draws | None = None) -> None:
        self._settings, self._stop = settings, stop
        self._rng = rng or EvenDraws(random.random())  # noqa: S311 - spreads retries, keeps no secret
        self._session = Session(
            settings.service.conninfo, application_name="dlq_consumer", settings=("SET statement_timeout = '10s'",)
        )
        self._outages = OutageLog(log)
        self._topic = Topics(settings.kafka.topic_prefix).dlq
        self._consumer, self._watch = self._new_consumer(), StallWatch()
        self._brokers_down = False
        self._next_ask = 0.0
        self._untracked: list[Message] = []
        self._next_look = 0.0
        self._bulk_retries = BulkRetries(poll_s=settings.poll_s)
        self._polled_at = time.monotonic()

    def _new_consumer(self) -> Consumer:
        config = consumer_config(self._settings.kafka, client_id="dlq-consumer", group="dlq")
        consumer = Consumer(config | {"error_cb": self._on_error}, logger=quiet_logger(log))
        consumer.subscribe([self._topic])
        return consumer

    def run(self) -> None:
        """Work until asked to stop; an outage is waited out, a bug ends the process."""
        while not self._stop.is_set():
            try:
                self.run_once()
            except OUTAGE as error:
                self._outages.note(error)
                self._session.drop()
                self._stop.wait(self._settings.outage_wait_s)
        self.close()

    def close(self) -> None:
        """Leave the group and end the session; harmless to repeat."""
        self._consumer.close()
        self._session.drop()

    def run_once(self) -> int:
        """Track one batch, requeue what is due, take bulk retries further; return how many dead letters were touched.

        A batch that could not be recorded is kept and recorded by the next call; its offsets are not committed.
        """
        if not self._untracked:
            self._untracked = self._poll()
        tracked = self.track(self._untracked)
        self._untracked = []
        return tracked + self.requeue_due() + self._bulk_retries.run_once(self._session.connection())

    def track(self, messages: Sequence[Message]) -> int:
        """Record dead letters, then commit their offsets; return how many there were."""
        if not messages:
            return 0
        letters = [_letter_of(message) for message in messages]
        conn = self._session.connection()
        ids = [letter.notification_id for letter in letters if letter.notification_id]
        counts = dlq_messages.retry_counts(conn, ids) if ids else {}
        rows = [self._triaged(letter, counts.get(letter.notification_id, 0)) for letter in letters]  # type: ignore[arg-type]
        pruned = set(dlq_messages.track(conn, rows))
        self._commit(messages)
        if pruned:
            metrics.PRUNED.inc(len(pruned))
            log.warning("dead_letters_of_pruned_notifications", extra={"count": len(pruned)})
        for row in rows:
            if row.notification_id in pruned:
                continue
            verdict = "rest" if row.retry_in_s is None else "retry"
            metrics.TRACKED.labels(row.failure_class, verdict).inc()
            log.info("dead_letter_tracked", extra=_log_fields(row))
        return len(rows)

    def requeue_due(self) -> int:
        """Publish again what has come due, at most once per poll interval; return how many were taken up."""
        if time.monotonic() < self._next_look:
            return 0
        requeued = notifications.requeue_due(self._session.connection(), limit=self._settings.batch_rows)
        if requeued < self._settings.batch_rows:
            self._next_look = time.monotonic() + self._settings.poll_s
        if requeued:
            metrics.REQUEUED.inc(requeued)
            log.info("dead_letters_requeued", extra={"count": requeued})
        return requeued

    def postgres_fault(self) -> str | None:
        """Readiness: is there a connection?"""
        return self._session.fault()

    def kafka_fault(self) -> str | None:
        """Readiness: does a broker answer, does the loop still poll?"""
        if self._brokers_down:
            return "brokers out of reach"
        silent_s = time.monotonic() - self._polled_at
        return f"not polled for {silent_s:.0f} s" if silent_s > 30 else None

    def _poll(self) -> list[Message]:
        messages = self._consumer.consume(self._settings.batch_rows, min(_POLL_WAIT_S, self._settings.poll_s))
        self._polled_at = time.monotonic()
        if self._brokers_down:
            self._ask_whether_back()
        for message in messages:
            if (error := message.error()) is not None:
                if error.fatal():
                    raise KafkaException(error)
                log.warning("kafka_error", extra={"error": error.name()})
        if not messages:
            self._replace_stalled()
        return [message for message in messages if message.error() is None]

    def _replace_stalled(self) -> None:
        partitions = [(place.topic, place.partition) for place in self._consumer.assignment()]
        if (stalled := self._watch.stalled(self._consumer, partitions)) is not None:
            metrics.CONSUMERS_STALLED.inc()
            log.warning("partition_stalled", extra={"partition": f"{stalled[0]}/{stalled[1]}"})
            self._consumer.close()
            self._consumer, self._watch = self._new_consumer(), StallWatch()

    def _on_error(self, error: KafkaError) -> None:
        if error.code() == KafkaError._ALL_BROKERS_DOWN:
            self._brokers_down = True

    def _ask_whether_back(self) -> None:
        if time.monotonic() < self._next_ask:
            return
        try:
            self._consumer.list_topics(self._topic, timeout=0.5)
        except KafkaException:
            self._next_ask = time.monotonic() + _ASK_EVERY_S
        else:
            self._brokers_down = False

    def _triaged(self, letter: Letter, retry_count: int) -> Tracked:
        facts = DeadLetter(letter.failure_class, letter.on_unknown, retry_count, letter.retry_after_s)
        verdict = triage(facts, ladder_s=self._settings.retry_ladder_s, rng=self._rng)
        record = letter.record
        return Tracked(
            tenant_id=record.tenant_id if record else UNOWNED_TENANT,
            notification_id=letter.notification_id,
            channel=record.channel if record else None,
            attempt=letter.attempt,
            message_key=letter.key,
            original_payload=letter.value,
            headers=letter.headers,
            topic=letter.place.topic,
            partition=letter.place.partition,
            offset=letter.place.offset,
            failure_class=letter.failure_class,
            reason=letter.reason,
            destination=letter.headers.get("destination"),
            error_message=letter.error_message,
            retry_in_s=None if isinstance(verdict, Rest) else verdict.in_s,
            rest_reason=verdict.reason if isinstance(verdict, Rest) else None,
        )

    def _commit(self, messages: Sequence[Message]) -> None:
        last: dict[tuple[str, int], int] = {}
        for message in messages:
            last[str(message.topic()), int(message.partition() or 0)] = int(message.offset() or 0)
        offsets = [TopicPartition(topic, partition, offset + 1) for (topic, partition), offset in last.items()]
        try:
            self._consumer.commit(offsets=offsets, asynchronous=False)
        except KafkaException as error:  # a rebalance took the partition: its next owner reads them again
            metrics.COMMIT_FAILURES.inc()
            log.warning("offset_commit_failed", extra={"error": error.args[0].name()})


def _letter_of(message: Message) -> Letter:
    here = Place(str(message.topic()), int(message.partition() or 0), int(message.offset() or 0))
    return read_letter(message.key(), message.value(), decode_headers(message.headers()), here)


def _log_fields(row: Tracked) -> dict[str, object]:
    return {
        "notification_id": row.notification_id,
        "attempt": row.attempt,
        "failure_class": row.failure_class,
        "reason": row.reason,
        "retry_in_s": row.retry_in_s and round(row.retry_in_s, 1),
        "rest_reason": row.rest_reason,
    }
