"""Records nobody can decode, set aside unchanged on the dead-letter topic: the one road into Kafka past the outbox."""

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, Producer

from delivery_consumer.work import Headers, Received
from shared.kafka import quiet_logger

log = logging.getLogger(__name__)
_WAIT_S: Final = 1.0
_REFUSALS: Final = frozenset({KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_RECORD, KafkaError.INVALID_MSG})


class DeadLetterProducer:
    """A producer of its own, made when it is first needed, on a thread of its own."""

    def __init__(self, config: dict[str, Any], topic: str) -> None:
        self._config, self._topic = config, topic
        self._producer: Producer | None = None
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="poison")
        self._closing = False

    async def set_aside(self, received: Received, reason: str) -> None:
        """Publish key, value and headers as they are, ours added; return once Kafka has acknowledged it.

        An outage is waited out. A crash in between publishes it again; the dead letter is known by topic, partition
        and offset. What Kafka refuses for good stays where it is, in the topic it came from.
        """
        place = {"topic": received.topic, "partition": received.partition, "offset": received.offset}
        loop = asyncio.get_running_loop()
        while True:
            try:
                await loop.run_in_executor(self._executor, self._produce, received, reason)
            except KafkaException as error:
                if error.args[0].code() in _REFUSALS:
                    log.error("poison_refused", extra={**place, "error": error.args[0].name()})
                    return
                log.warning("poison_not_published", extra={**place, "error": error.args[0].name()})
                await asyncio.sleep(_WAIT_S)
            else:
                log.warning("poison_set_aside", extra={**place, "reason": reason})
                return

    def close(self) -> None:
        """Stop; what is not acknowledged by now is read again after the next start."""
        self._closing = True
        self._executor.shutdown()

    def _produce(self, received: Received, reason: str) -> None:
        if self._producer is None:
            self._producer = Producer(self._config, logger=quiet_logger(log))
        try:
            self._produce_with(self._producer, received, reason)
        except KafkaException:
            self._producer = None  # a fatal error never leaves a producer
            raise

    def _produce_with(self, producer: Producer, received: Received, reason: str) -> None:
        reports: list[KafkaError | None] = []
        producer.produce(
            self._topic,
            value=received.value,
            key=received.key,
            headers=poison_headers(received, reason, datetime.now(UTC)),
            on_delivery=lambda error, _message: reports.append(error),
        )
        while not reports:
            if self._closing:
                raise KafkaException(KafkaError(KafkaError._DESTROY))
            producer.poll(0.2)
        if reports[0] is not None:
            raise KafkaException(reports[0])


def poison_headers(received: Received, reason: str, now: datetime) -> Headers:
    """Return a record's own headers and, after them, what went wrong and where it stood."""
    ours = {
        "error-class": "poison",
        "error-reason": reason,
        "error-message": f"no record of this pipeline: {reason.replace('_', ' ')}",
        "original-topic": received.topic,
        "original-partition": str(received.partition),
        "original-offset": str(received.offset),
        "failed-at": now.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
    }
    return [*(received.headers or []), *((name, value.encode()) for name, value in ours.items())]
