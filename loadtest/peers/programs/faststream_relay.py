"""faststream-outbox: its subscriber claims rows and hands each to FastStream's Kafka publisher, as in its tutorial.

Each record is decoded and encoded again, for that is how a message comes and goes there; it has no key.
"""

import asyncio
import json
import logging
import os

import uvloop
from faststream.confluent import KafkaBroker
from faststream_outbox import OutboxBroker, make_outbox_table, outbox_autovacuum_ddl
from sqlalchemy import MetaData, text
from sqlalchemy.ext.asyncio import create_async_engine

from loadtest.peers.programs.relaying import COUNT, DSN, TOPIC, Clock
from loadtest.peers.settings import PRODUCER, of

TABLE = "fs_outbox"


async def main() -> None:
    """Fill the table, then drain it."""
    logging.disable(logging.CRITICAL)
    settings = of("faststream-outbox")
    linger_ms = settings.pop("linger_ms")
    metadata = MetaData()
    table = make_outbox_table(metadata, table_name=TABLE)
    engine = create_async_engine(
        DSN.replace("postgresql://", "postgresql+asyncpg://"), pool_size=settings["max_workers"] + 8
    )
    outbox = OutboxBroker(engine, outbox_table=table)
    kafka = KafkaBroker(os.environ["BENCH_BROKERS"], config={**PRODUCER, "linger.ms": linger_ms})
    done, relayed = asyncio.Event(), 0

    @kafka.publisher(TOPIC)
    @outbox.subscriber("bench", **settings)
    async def relay(body: dict) -> dict:
        nonlocal relayed
        relayed += 1
        if relayed >= COUNT:
            done.set()
        return body

    async with engine.begin() as conn:
        await conn.execute(text(f"DROP TABLE IF EXISTS {TABLE}"))
        await conn.run_sync(metadata.create_all)
        await conn.execute(text(outbox_autovacuum_ddl(TABLE)))  # its performance.md: once, after the table is made
    async with engine.begin() as conn:
        values = (await conn.execute(text("SELECT convert_from(value, 'UTF8') FROM bench_source"))).scalars().all()
        for start in range(0, COUNT, 1000):
            await outbox.publish_batch(*map(json.loads, values[start : start + 1000]), queue="bench", session=conn)
    async with engine.connect() as conn:
        await (await conn.execution_options(isolation_level="AUTOCOMMIT")).execute(text(f"VACUUM ANALYZE {TABLE}"))
    await kafka.connect()
    clock = Clock()
    await outbox.start()
    await done.wait()
    async with engine.connect() as conn:
        while (await conn.execute(text(f"SELECT EXISTS (SELECT FROM {TABLE})"))).scalar():
            await conn.rollback()
            await asyncio.sleep(0.01)
    clock.report(relayed)
    os._exit(0)  # what it has running in the background is of no interest any more


if __name__ == "__main__":
    uvloop.run(main())
