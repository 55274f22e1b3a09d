"""PgQueuer: jobs in PostgreSQL, claimed in batches by several managers; each job publishes its record."""

import asyncio
import contextlib
import logging
import os

import asyncpg
import uvloop
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver
from pgqueuer.models import Job
from pgqueuer.queries import Queries
from pgqueuer.types import QueueExecutionMode

from loadtest.peers.programs.relaying import COUNT, DSN, TOPIC, Clock, Publisher
from loadtest.peers.settings import of

KEY_BYTES = 36


async def main() -> None:
    """Install its schema anew, enqueue, then drain."""
    logging.disable(logging.WARNING)
    settings = of("PgQueuer")
    os.environ["PGQUEUER_DURABILITY"] = settings["durability"]
    await fill()
    publisher = Publisher(linger_ms=settings["linger_ms"])
    await publisher.warm_up()
    done = 0

    async def relay(job: Job) -> None:
        nonlocal done
        await publisher.publish(TOPIC, job.payload[KEY_BYTES:], job.payload[:KEY_BYTES])
        done += 1

    workers = [PgQueuer(AsyncpgDriver(await asyncpg.connect(DSN))) for _ in range(settings["managers"])]
    for worker in workers:
        worker.entrypoint("relay")(relay)
    clock = Clock()
    drain = QueueExecutionMode.drain
    await asyncio.gather(*(worker.qm.run(batch_size=settings["batch_size"], mode=drain) for worker in workers))
    clock.report(done)


async def fill() -> None:
    """Make its tables as its tuning guide says, and a job for each record."""
    connection = await asyncpg.connect(DSN)
    queries = Queries(AsyncpgDriver(connection))
    with contextlib.suppress(asyncpg.PostgresError):  # in the first round nothing is there yet
        await queries.uninstall()
    await queries.install()
    await queries.optimize_autovacuum()  # `pgq autovac`
    rows = await connection.fetch("SELECT key, value FROM bench_source")
    for start in range(0, COUNT, 1000):
        payloads = [row["key"].encode() + row["value"] for row in rows[start : start + 1000]]
        await queries.enqueue(["relay"] * len(payloads), payloads, [0] * len(payloads))
    await connection.execute("VACUUM ANALYZE")
    await connection.close()


if __name__ == "__main__":
    uvloop.run(main())
