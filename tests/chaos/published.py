"""What the relays have published, read from Kafka from the side: which records, how often, in which order."""

import time
from collections.abc import Mapping
from typing import NamedTuple

import orjson
from confluent_kafka import Consumer, TopicPartition

from tests.chaos.faults.carrier import Carrier
from tests.chaos.ledger import Ledger
from tests.chaos.stage import NotSeenError, Stage

_WITHIN_S = 30.0

Places = Mapping[tuple[str, int], int]


class Publication(NamedTuple):
    """A record of a notification: its id, and the attempt it is for."""

    id: str
    attempt: int


def ends(carrier: Carrier) -> Places:
    """Where the topics of notifications end at present."""
    places = carrier.partitions(carrier.delivery_topics())
    return {place: high for place, (_, high) in carrier.ends(places).items()}


def since(carrier: Carrier, begin: Places) -> list[Publication]:
    """What has been published from there on; each partition's records in their order. Raises NotSeenError."""
    end = ends(carrier)
    consumer = Consumer(
        {
            "bootstrap.servers": carrier.topology.kafka.bootstrap_servers, "group.id": "chaos-looking", "log_level": 0,
            "enable.auto.commit": False, "auto.offset.reset": "earliest",
        }
    )  # fmt: skip
    found: dict[tuple[str, int], list[Publication]] = {place: [] for place in end}
    left = {place: high - begin.get(place, 0) for place, high in end.items()}
    until = time.monotonic() + _WITHIN_S
    try:
        consumer.assign([TopicPartition(*place, begin.get(place, 0)) for place in end])
        while any(count > 0 for count in left.values()):
            if time.monotonic() > until:
                raise NotSeenError(f"records of {sum(map(bool, left.values()))} partitions could not be read")
            for message in consumer.consume(1000, 0.3):
                place = message.topic() or "", message.partition() or 0
                if message.error() is None and left[place] > 0:
                    left[place] -= 1
                    found[place].append(_of(message.value(), message.headers()))
    finally:
        consumer.close()
    return [one for place in sorted(found) for one in found[place]]


def _of(value: object, headers: object) -> Publication:
    attempt = dict(headers).get("attempt", b"0") if isinstance(headers, list) else b"0"
    return Publication(orjson.loads(value if isinstance(value, bytes) else b"{}")["id"], int(attempt))


def note(stage: Stage) -> None:
    """Leave in a ledger what is in Kafka now, for the checker."""
    with Ledger(stage.run_dir / "ledgers" / "published.jsonl", buffered=True) as ledger:
        for one in since(stage.carrier, {}):
            ledger.write([one.id, one.attempt])
