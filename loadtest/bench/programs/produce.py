"""librdkafka alone: sends records from memory with the relay's own properties, and reports how long that took.

The records are those of the outbox table, over and over; the delivery reports are counted by a callback, as a relay
has to, and memory is bounded by librdkafka's own queue.
"""

import os
import sys
import time

import orjson
import psycopg
from confluent_kafka import KafkaError, Message, Producer

from shared.kafka import producer_config
from shared.settings import Environment, read_kafka


class Reports:
    """Counts delivery reports."""

    def __init__(self) -> None:
        self.count = self.failed = 0

    def take(self, error: KafkaError | None, _message: Message) -> None:
        """Count one."""
        self.count += 1
        self.failed += error is not None


def main() -> None:
    """Send as many as the first argument says."""
    count = int(sys.argv[1])
    with psycopg.connect(os.environ["DATABASE_URL"]) as conn:
        rows = conn.cursor(binary=True).execute("SELECT topic, key, value, headers FROM outbox ORDER BY seq").fetchall()
    producer = Producer(producer_config(read_kafka(Environment(os.environ)), client_id="bench-producer"))
    producer.produce(rows[0][0], rows[0][2])  # connected, and the topic known
    producer.flush(30)
    reports = Reports()
    report, produce, poll = reports.take, producer.produce, producer.poll
    cpu_began, began = time.process_time(), time.perf_counter()
    sent = 0
    while sent < count:
        for topic, key, value, headers in rows[: count - sent]:
            try:
                produce(topic, value, key, headers=headers, on_delivery=report)
            except BufferError:
                poll(0.05)
                produce(topic, value, key, headers=headers, on_delivery=report)
        sent += min(len(rows), count - sent)
        poll(0)
    producer.flush(300)
    wall_s, cpu_s = time.perf_counter() - began, time.process_time() - cpu_began
    if reports.failed or reports.count != count:
        raise SystemExit(f"{reports.failed} of {reports.count} reports failed, {count} were sent")
    print("BENCH " + orjson.dumps({"work": count, "wall_s": wall_s, "cpu_s": cpu_s}).decode(), flush=True)


if __name__ == "__main__":
    main()
