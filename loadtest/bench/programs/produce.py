"""The producer alone: sends records from memory with the relay's own properties, and reports how long that took.

The records are those of the outbox table, over and over; the delivery reports are counted by a callback, as a relay
has to, and memory is bounded by librdkafka's own queue. As in the relay, records with the same headers share one list,
and reports are taken after each page.
"""

import os
import sys
import time
from collections.abc import Sequence
from typing import Final

import orjson
import psycopg
from confluent_kafka import KafkaError, Message, Producer

from shared.kafka import producer_config
from shared.settings import Environment, read_kafka

PAGE: Final = 1_000  # divides the rows that there are
Row = tuple[str, bytes, bytes, list[tuple[str, str | bytes | None]]]


class Reports:
    """Counts delivery reports."""

    def __init__(self) -> None:
        self.count = self.failed = 0

    def take(self, error: KafkaError | None, _message: Message) -> None:
        """Count one."""
        self.count += 1
        self.failed += error is not None


def send(producer: Producer, page: Sequence[Row], reports: Reports) -> None:
    """Hand a page of records to the producer, waiting where its queue is full, and take the reports that are there."""
    produce, report = producer.produce, reports.take
    for topic, key, value, headers in page:
        while True:
            try:
                produce(topic, value, key, headers=headers, on_delivery=report)
                break
            except BufferError:
                producer.poll(0.05)
    producer.poll(0)


def main() -> None:
    """Send as many as the first argument says."""
    count = int(sys.argv[1])
    with psycopg.connect(os.environ["DATABASE_URL"]) as conn:
        query = "SELECT topic, key, value, headers::text FROM outbox ORDER BY seq"
        found = conn.cursor(binary=True).execute(query).fetchall()
    shared = {text: [(name, value.encode()) for name, value in orjson.loads(text).items()] for *_, text in found}
    rows = [(topic, key, value, shared[text]) for topic, key, value, text in found]
    producer = Producer(producer_config(read_kafka(Environment(os.environ)), client_id="bench-producer"))
    producer.produce(rows[0][0], rows[0][2])  # connected, and the topic known
    producer.flush(30)
    reports = Reports()
    cpu_began, began = time.process_time(), time.perf_counter()
    for sent in range(0, count, PAGE):
        at = sent % len(rows)
        send(producer, rows[at : at + min(PAGE, count - sent)], reports)
    producer.flush(300)
    wall_s, cpu_s = time.perf_counter() - began, time.process_time() - cpu_began
    if reports.failed or reports.count != count:
        raise SystemExit(f"{reports.failed} of {reports.count} reports failed, {count} were sent")
    print("BENCH " + orjson.dumps({"work": count, "wall_s": wall_s, "cpu_s": cpu_s}).decode(), flush=True)


if __name__ == "__main__":
    main()
