"""faststream-outbox: its subscriber claims rows and hands each to FastStream's Kafka publisher, as in its tutorial."""

import asyncio
import json
import logging
import os

import uvloop
from faststream.confluent import KafkaBroker
from faststream_outbox import OutboxBroker, make_outbox_table
from sqlalchemy import MetaData, text
from sqlalchemy.ext.asyncio import create_async_engine

from loadtest.peers.programs.relaying import COUNT, DSN, TOPIC, Clock
from loadtest.peers.settings import FASTSTREAM_OUTBOX, FASTSTREAM_POOL, PRODUCER

TABLE = "fs_outbox"


async def main() -> None:
    """Fill the table, then drain it."""
    logging.disable(logging.CRITICAL)
    metadata = MetaData()
    table = make_outbox_table(metadata, table_name=TABLE)
    engine = create_async_engine(DSN.replace("postgresql://", "postgresql+asyncpg://"), pool_size=FASTSTREAM_POOL)
    outbox = OutboxBroker(engine, outbox_table=table)
    kafka = KafkaBroker(os.environ["BENCH_BROKERS"], config=dict(PRODUCER))
    done, relayed = asyncio.Event(), 0

    @kafka.publisher(TOPIC)
    @outbox.subscriber("bench", **FASTSTREAM_OUTBOX)
    async def relay(body: dict) -> dict:
        nonlocal relayed
        relayed += 1
        if relayed >= COUNT:
            done.set()
        return body

    async with engine.begin() as conn:
        await conn.execute(text(f"DROP TABLE IF EXISTS {TABLE}"))
        await conn.run_sync(metadata.create_all)
    async with engine.begin() as conn:
        values = (await conn.execute(text("SELECT convert_from(value, 'UTF8') FROM bench_source"))).scalars().all()
        for start in range(0, COUNT, 1000):
            await outbox.publish_batch(*map(json.loads, values[start : start + 1000]), queue="bench", session=conn)
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
