"""PgQueuer: jobs in PostgreSQL, claimed in batches; each job publishes its record."""

import contextlib
import logging

import asyncpg
import uvloop
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver
from pgqueuer.models import Job
from pgqueuer.queries import Queries
from pgqueuer.types import QueueExecutionMode

from loadtest.peers.programs.relaying import COUNT, DSN, TOPIC, Clock, Publisher
from loadtest.peers.settings import PGQUEUER

KEY_BYTES = 36


async def main() -> None:
    """Install its schema anew, enqueue, then drain."""
    logging.disable(logging.WARNING)
    connection = await asyncpg.connect(DSN)
    driver = AsyncpgDriver(connection)
    queries = Queries(driver)
    with contextlib.suppress(asyncpg.PostgresError):  # in the first round nothing is there yet
        await queries.uninstall()
    await queries.install()
    rows = await connection.fetch("SELECT key, value FROM bench_source")
    for start in range(0, COUNT, 1000):
        payloads = [row["key"].encode() + row["value"] for row in rows[start : start + 1000]]
        await queries.enqueue(["relay"] * len(payloads), payloads, [0] * len(payloads))
    await connection.execute("VACUUM ANALYZE")
    publisher = Publisher()
    await publisher.warm_up()
    worker, done = PgQueuer(driver), 0

    @worker.entrypoint("relay")
    async def relay(job: Job) -> None:
        nonlocal done
        await publisher.publish(TOPIC, job.payload[KEY_BYTES:], job.payload[:KEY_BYTES])
        done += 1

    clock = Clock()
    await worker.qm.run(
        batch_size=PGQUEUER["batch_size"],
        max_concurrent_tasks=PGQUEUER["max_concurrent_tasks"],
        mode=QueueExecutionMode.drain,
    )
    clock.report(done)


if __name__ == "__main__":
    uvloop.run(main())
