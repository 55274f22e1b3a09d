"""Partitions that come and go, records nobody can decode, and databases that go away, on real Kafka."""

import asyncio
import time
from collections import Counter

import pytest
from confluent_kafka import Consumer, Message, TopicPartition

from delivery_consumer.work import Headers
from shared.model import Channel
from shared.settings import GroupProtocol, KafkaSettings
from tests.integration.delivery_consumer.parts import (
    OK,
    SILENCE,
    Desk,
    Receiver,
    Running,
    SmtpScript,
    running,
    settings_for,
    threaded,
)


def kafka_of(desk: Desk, protocol: GroupProtocol) -> KafkaSettings:
    """Kafka settings with a group protocol."""
    return KafkaSettings(desk.topics.bootstrap_servers, desk.topics.prefix, protocol)


def committed(desk: Desk, topic: str) -> int:
    """The sum of a topic's committed offsets."""
    consumer = Consumer(
        {"bootstrap.servers": desk.topics.bootstrap_servers, "group.id": f"{desk.topics.prefix}-delivery"}
    )
    places = consumer.committed([TopicPartition(topic, n) for n in range(3)], timeout=10)
    consumer.close()
    return sum(max(place.offset, 0) for place in places)


def headers_of(message: Message) -> Headers:
    """The headers as a list, which they always are when read."""
    pairs = message.headers()
    assert isinstance(pairs, list)
    return pairs


async def slowly(_: dict[str, str]) -> bytes:
    """Answer after a moment."""
    await asyncio.sleep(0.05)
    return OK


@pytest.mark.parametrize("protocol", list(GroupProtocol))
def test_a_rebalance_in_the_middle_delivers_each_once(desk: Desk, hook: Receiver, protocol: GroupProtocol) -> None:
    """A second consumer joins and leaves while records are under way: nothing lost, nothing twice, no unknown."""
    hook.answer = slowly
    settings = settings_for(desk.database, desk.topics, kafka=kafka_of(desk, protocol), concurrency=10)
    news = desk.accept([hook.url] * 1500)

    with running(settings):
        hook.wait_for(50)
        second = Running(settings)
        hook.wait_for(400)
        second.stop()
        desk.wait_for(sent=1500, timeout_s=60)

    assert Counter(hook.ids()) == Counter(str(one.id) for one in news)
    assert desk.attempts() == [("accepted", "accepted", 1500)]
    assert committed(desk, news[0].topic) == 1500


def test_each_consumer_gets_a_part_of_each_topic(desk: Desk) -> None:
    """A second consumer is worth its core whatever lane and channel the load is on."""
    settings = settings_for(desk.database, desk.topics)
    names = desk.topics.names
    lanes = {name for channel in Channel for name in names.lanes(channel)}

    with running(settings) as one, running(settings) as two:
        deadline = time.monotonic() + 30
        while not topics_of(one) == topics_of(two) == lanes:
            assert time.monotonic() < deadline, (topics_of(one), topics_of(two))
            time.sleep(0.1)


def topics_of(consumer: Running) -> set[str]:
    """The topics of which it has partitions."""
    return {topic for topic, _ in list(consumer.service.pump._assigned)} if consumer.service else set()


def test_a_key_keeps_its_order_through_a_rebalance(desk: Desk, hook: Receiver) -> None:
    """Records of an ordering key begin one after another in the order of the log, whoever delivers them."""
    hook.answer = slowly
    settings = settings_for(desk.database, desk.topics, concurrency=20)
    expected = {key: [str(one.id) for one in desk.accept([hook.url] * 60, ordering_key=key)] for key in "abcde"}

    with running(settings):
        hook.wait_for(20)
        with running(settings):
            desk.wait_for(sent=300, timeout_s=60)

    arrived = hook.ids()
    for ids in expected.values():
        assert [id_ for id_ in arrived if id_ in set(ids)] == ids


def test_undecodable_records_are_set_aside_unchanged(desk: Desk, hook: Receiver) -> None:
    """Bytes that are no record go to the dead-letter topic as they are; their neighbours are delivered."""
    good = desk.accept([hook.url], publish=False)[0]
    bad: list[tuple[bytes | None, Headers]] = [
        (None, [("attempt", b"1")]),
        (b"", [("attempt", b"1")]),
        (b"\xff\xfe{", [("attempt", b"1"), ("x", b"\x00\xff")]),
        (good.record, [("attempt", b"nine")]),
        (good.record.replace(str(good.id).encode(), b"x" * 36), [("attempt", b"1")]),
        (good.record.replace(b'"webhook"', b'"pigeon"'), [("attempt", b"1")]),
    ]
    for value, headers in bad:
        desk.producer.produce(good.topic, value, b"k\x00", headers=headers, partition=0)
    desk.publish([good])

    dead = Consumer(
        {"bootstrap.servers": desk.topics.bootstrap_servers, "group.id": "t", "auto.offset.reset": "earliest"}
    )
    dead.subscribe([desk.topics.names.dlq])
    with running(settings_for(desk.database, desk.topics)):
        desk.wait_for(sent=1)
        messages: list[Message] = []
        while len(messages) < len(bad):
            message = dead.poll(20)
            assert message is not None
            assert message.error() is None
            messages.append(message)
    dead.close()

    assert [message.value() for message in messages] == [value for value, _ in bad]
    for offset, (message, (_, headers)) in enumerate(zip(messages, bad, strict=True)):
        assert message.key() == b"k\x00"
        pairs = headers_of(message)
        assert pairs[: len(headers)] == headers
        added = dict(pairs[len(headers) :])
        assert added["error-class"] == b"poison"
        assert added["original-topic"] == good.topic.encode()
        assert added["original-offset"] == str(offset).encode()
    assert [dict(headers_of(m))["error-reason"] for m in messages] == [
        b"no_value", b"not_json", b"not_json", b"bad_attempt", b"bad_field", b"bad_field",
    ]  # fmt: skip
    assert committed(desk, good.topic) == 7


def test_a_failed_attempt_leaves_a_dead_letter_with_its_place(desk: Desk, hook: Receiver) -> None:
    """A refusal is written back with its reason, and its outbox row names where the record stood."""

    async def refuse(_: dict[str, str]) -> bytes:
        return b"HTTP/1.1 503 X\r\nRetry-After: 120\r\nContent-Length: 0\r\n\r\n"

    hook.answer = refuse
    desk.accept([hook.url])

    with running(settings_for(desk.database, desk.topics)):
        desk.wait_for(failed=1)

    assert len(hook.requests) == 1  # the receiver asked for two minutes; a quick repeat would be too soon
    assert desk.attempts() == [("transient", "http_503", 1)]
    (headers,) = desk.conn.execute("SELECT headers FROM outbox").fetchall()[0]
    assert headers["error-class"] == "transient"
    assert headers["retry-after-s"] == "120"
    assert headers["destination"] == f"http://127.0.0.1:{hook.port}"
    assert headers["original-topic"] == f"{desk.topics.prefix}.webhook"


def test_an_outage_of_postgres_is_waited_out(desk: Desk, hook: Receiver) -> None:
    """Connections that are cut again and again cost time, no notification and no second delivery."""
    news = desk.accept([hook.url] * 2000, publish=False)
    hook.answer = slowly

    with running(settings_for(desk.database, desk.topics)):
        desk.publish(news)
        deadline = time.monotonic() + 60
        while desk.statuses() != {"sent": 2000}:
            assert time.monotonic() < deadline, f"{desk.statuses()} {desk.attempts()}"
            desk.conn.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'delivery_%'"
                "   AND datname = current_database()"
            )
            rows = desk.conn.execute("DELETE FROM outbox RETURNING topic, value, key, headers").fetchall()
            for topic, value, key, headers in rows:  # what was claimed and never heard of comes back this way
                desk.producer.produce(topic, value, key, headers=list(headers.items()))
            desk.producer.poll(0.1)

    assert Counter(hook.ids()) == Counter(str(one.id) for one in news)
    assert desk.attempts() == [("accepted", "accepted", 2000)]


def test_a_hanging_receiver_does_not_hold_up_the_others(desk: Desk, hook: Receiver) -> None:
    """Of three receivers two never answer; the third gets all of its notifications long before their timeouts."""
    silent = SmtpScript(replies={"BANNER": SILENCE})
    with threaded(silent.session) as one, threaded(silent.session) as two:
        urls = [hook.url, f"http://127.0.0.1:{one}/", f"http://127.0.0.1:{two}/"]
        settings = settings_for(desk.database, desk.topics, concurrency=8)
        with running(settings):
            began_at = time.monotonic()
            desk.accept(urls * 300)
            hook.wait_for(300)
            took_s = time.monotonic() - began_at

    assert took_s < settings.webhook.timeout_s
