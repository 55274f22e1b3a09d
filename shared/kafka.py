"""Our librdkafka properties, each with its reason, and the topics they are used on."""

import logging
import time
from collections.abc import Callable, Iterable
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource  # type: ignore[attr-defined]  # not in its __all__
from confluent_kafka.cimpl import NewTopic

from shared.settings import GroupProtocol, KafkaSettings

log = logging.getLogger(__name__)

DAY_MS: Final = 86_400_000
MAX_RECORD_BYTES: Final = 2 * 1024 * 1024
"""Twice the API's body limit: the record of an accepted notification always fits."""


def producer_config(settings: KafkaSettings, *, client_id: str) -> dict[str, Any]:
    """Return the properties of a producer that loses nothing and keeps the order of a key."""
    return _common(settings, client_id) | {
        "enable.idempotence": True,  # its own retries neither double nor reorder
        "acks": "all",
        # No time limit: a limit fails the first records of a partition while later ones, younger by a moment, still
        # go out, which inverts a key. While Kafka is away the relay's in-flight limit is what bounds memory.
        "message.timeout.ms": 0,
        # How long a topic it has just met may be unknown before its records are handed back: 30 s by default.
        "topic.metadata.propagation.max.ms": 10_000,
        "linger.ms": 2,
        "batch.size": 1_000_000,
        "batch.num.messages": 10_000,
        "compression.type": "lz4",
        "queue.buffering.max.messages": 200_000,
        "queue.buffering.max.kbytes": 65_536,  # twice what four full pages of the relay hold
        "message.max.bytes": MAX_RECORD_BYTES,
    }


def consumer_config(settings: KafkaSettings, *, client_id: str, group: str) -> dict[str, Any]:
    """Return the properties of a consumer whose offsets are committed by hand, after the outcome is in PostgreSQL."""
    config = _common(settings, client_id) | {
        "group.id": f"{settings.topic_prefix}-{group}",
        "group.protocol": settings.group_protocol.value,
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "earliest",  # librdkafka's default, largest, skips what came while offsets were lost
        "fetch.queue.backoff.ms": 10,  # the default stops fetching for a whole second when the local queue is full
        "queued.min.messages": 200,  # of each partition; what was fetched of one that is paused is thrown away
        "max.partition.fetch.bytes": 131_072,
        "queued.max.messages.kbytes": 32_768,  # bounds memory whatever the size of records
        "max.poll.interval.ms": 300_000,
    }
    if settings.group_protocol is GroupProtocol.CONSUMER:
        # A part of each topic for every consumer. The broker's default, uniform, evens out the sum alone: of two
        # consumers one was seen to get both normal lanes whole, and the other one the high lanes, which idle.
        config["group.remote.assignor"] = "range"
    else:
        config |= {
            "session.timeout.ms": 6_000,
            "heartbeat.interval.ms": 1_500,
            "partition.assignment.strategy": "cooperative-sticky",
        }
    return config


def _common(settings: KafkaSettings, client_id: str) -> dict[str, Any]:
    return {
        "bootstrap.servers": settings.bootstrap_servers,
        "client.id": client_id,
        "topic.metadata.refresh.interval.ms": 5_000,  # a topic made anew is found within seconds, not minutes
        "reconnect.backoff.ms": 50,
        "reconnect.backoff.max.ms": 1_000,  # the default of 10 s would add to every outage
        "log.connection.close": False,
        **settings.security.properties(),
    }


class StallWatch:
    """Notices a partition that has records for a consumer which does not get them.

    librdkafka 2.16 was seen to fetch nothing for minutes from partitions it was assigned just after their topics had
    been deleted and made anew, while the broker called the group stable. Only a new consumer reads on then.
    """

    LOOK_EVERY_S: Final = 5.0
    _QUIET_S: Final = 20.0
    _ANSWER_WITHIN_S: Final = 0.5
    _ASKED_AT_ONCE: Final = 2

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._next_look = clock, 0.0
        self._since: dict[tuple[str, int], tuple[int, float]] = {}  # where it stands, since when or last asked about
        self._behind: dict[tuple[str, int], int] = {}  # where it stood when the broker had more

    def stalled(self, consumer: Consumer, partitions: Iterable[tuple[str, int]]) -> tuple[str, int] | None:
        """Return a partition that stood still for 20 s and has been behind at two looks, 5 s apart; None if none has.

        `partitions` are those assigned and not paused; they are read when it looks, every 5 s, however often it is
        called. It asks the broker about two partitions at most, half a second each; no answer is no finding.
        """
        if (now := self._clock()) < self._next_look:
            return None
        if not (wanted := [TopicPartition(*partition) for partition in partitions]):
            return None
        self._next_look = now + self.LOOK_EVERY_S
        places = consumer.position(wanted)
        here = {(place.topic, place.partition): place.offset for place in places}
        self._since = {one: self._seen(one, offset, now) for one, offset in here.items()}
        self._behind = {one: offset for one, offset in self._behind.items() if here.get(one) == offset}
        quiet = [one for one in here if one in self._behind or now - self._since[one][1] >= self._QUIET_S]
        quiet.sort(key=lambda one: (one not in self._behind, self._since[one][1]))
        for one in quiet[: self._ASKED_AT_ONCE]:
            if not self._has_more(consumer, one, here[one]):
                self._since[one] = (here[one], now)
                self._behind.pop(one, None)
            elif one in self._behind:
                return one
            else:
                self._behind[one] = here[one]
        return None

    def _seen(self, partition: tuple[str, int], offset: int, now: float) -> tuple[int, float]:
        before = self._since.get(partition)
        return before if before is not None and before[0] == offset else (offset, now)

    def _has_more(self, consumer: Consumer, partition: tuple[str, int], offset: int) -> bool:
        place = TopicPartition(*partition)
        try:
            watermarks = consumer.get_watermark_offsets(place, timeout=self._ANSWER_WITHIN_S)
            if watermarks is None:
                return False
            low, high = watermarks
            if offset < 0:  # nothing was read since it was assigned
                offset = consumer.committed([place], timeout=self._ANSWER_WITHIN_S)[0].offset
        except KafkaException:
            return False
        # Beyond the end counts too: the topic was made anew, and what is in it would have been read from its beginning.
        return bool(high > low and max(offset, low) != high)


class _OncePer(logging.Filter):
    """Lets a kind of line through once in so many seconds, and says how many it held back."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds
        self._seen: dict[str, tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Decide on one line; its kind is librdkafka's facility, such as FAIL."""
        kind = record.getMessage().partition(" ")[0]
        since, held_back = self._seen.get(kind, (-self._seconds, 0))
        if record.created - since < self._seconds:
            self._seen[kind] = (since, held_back + 1)
            return False
        self._seen[kind] = (record.created, 0)
        record.held_back = held_back
        return True


def quiet_logger(log: logging.Logger) -> logging.Logger:
    """Return the logger to hand to a librdkafka client: an outage is a few lines, not one per attempt to connect."""
    quiet = log.getChild("librdkafka")
    if not any(isinstance(one, _OncePer) for one in quiet.filters):
        quiet.addFilter(_OncePer(30.0))
    return quiet


def ensure_topics(
    settings: KafkaSettings, names: Iterable[str], *, partitions: int, replication: int, timeout_s: float = 10
) -> list[str]:
    """Create what is missing of these topics and return the names created; those that exist stay as they are.

    `replication` -1 takes the broker's default. Retention is 7 days, and 30 for dead letters. Raises KafkaException
    when the broker is out of reach or refuses; calling again is safe.
    """
    # Its failures are raised here; what it would write beside that is a line to stderr for each attempt to connect.
    admin = AdminClient(_common(settings, "notification-topics") | {"log_level": 0})
    existing = admin.list_topics(timeout=timeout_s).topics
    wanted = list(names)
    missing = [name for name in wanted if name not in existing]
    _warn_of_small_limits(admin, [name for name in wanted if name in existing], timeout_s)
    if not missing:
        return []
    futures = admin.create_topics(
        [_new_topic(name, partitions, replication) for name in missing],
        operation_timeout=timeout_s,
        request_timeout=timeout_s,
    )
    for name, future in futures.items():
        try:
            future.result()
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise
        log.info("topic_created", extra={"topic": name})
    return missing


def _warn_of_small_limits(admin: AdminClient, names: list[str], timeout_s: float) -> None:
    """A topic that takes less than the producer sends at once refuses whole requests: rows of one key may then swap."""
    if not names:
        return
    resources = [ConfigResource(ConfigResource.Type.TOPIC, name) for name in names]
    for resource, future in admin.describe_configs(resources, request_timeout=timeout_s).items():
        limit = future.result()["max.message.bytes"].value
        if limit is not None and int(limit) < MAX_RECORD_BYTES:
            log.warning("topic_limit_too_small", extra={"topic": resource.name, "max_message_bytes": int(limit)})


def _new_topic(name: str, partitions: int, replication: int) -> NewTopic:
    days = 30 if name.endswith(".dlq") else 7
    return NewTopic(
        name,
        num_partitions=partitions,
        replication_factor=replication,
        config={"retention.ms": str(days * DAY_MS), "max.message.bytes": str(MAX_RECORD_BYTES)},
    )
