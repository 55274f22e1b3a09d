"""What the programs that relay have in common: their task from the environment, Kafka, and their report.

With BENCH_NOOP=1 nothing is sent: then it is the queue alone that is measured.
"""

import asyncio
import json
import os
import time
from typing import Any

from confluent_kafka import Producer

from loadtest.peers.settings import PRODUCER

DSN = os.environ["DATABASE_URL"]
TOPIC = os.environ.get("BENCH_TOPIC", "")
COUNT = int(os.environ["BENCH_COUNT"])
NOOP = os.environ.get("BENCH_NOOP") == "1"


class Publisher:
    """Sends records and waits for each one's delivery report; the callbacks run on the event loop, without a thread."""

    def __init__(self, *, linger_ms: float) -> None:
        properties = {"bootstrap.servers": os.environ["BENCH_BROKERS"], "linger.ms": linger_ms, **PRODUCER}
        self._producer = None if NOOP else Producer(properties)
        self._poller: asyncio.Task[None] | None = None

    async def publish(self, topic: str, value: bytes, key: str | bytes | None) -> None:
        """Return once Kafka has it."""
        if self._producer is None:
            return
        if self._poller is None:
            self._poller = asyncio.get_running_loop().create_task(self._poll())
        done = asyncio.get_running_loop().create_future()

        def report(error: Any, _message: Any) -> None:
            if not done.done():
                done.set_exception(RuntimeError(str(error))) if error else done.set_result(None)

        self._producer.produce(topic, value, key, on_delivery=report)
        await done

    async def warm_up(self) -> None:
        """Connect, and learn the topic."""
        await self.publish(TOPIC, b"{}", b"warm-up")

    async def _poll(self) -> None:
        while True:
            self._producer.poll(0)
            await asyncio.sleep(0.001)


class Clock:
    """Times the work and reports it."""

    def __init__(self) -> None:
        self._cpu_s, self._began = time.process_time(), time.perf_counter()

    def report(self, work: int) -> None:
        """Print what the bench reads."""
        wall_s, cpu_s = time.perf_counter() - self._began, time.process_time() - self._cpu_s
        print("BENCH " + json.dumps({"work": work, "wall_s": wall_s, "cpu_s": cpu_s}), flush=True)
