"""txoutbox: claims batches of its outbox table, publishes each message, deletes what was acknowledged."""

import asyncio

import uvloop
from txoutbox import OutboxMessage
from txoutbox.adapters.postgres import PostgresStorage
from txoutbox.relay import Relay, RelayConfig

from loadtest.peers.programs.relaying import COUNT, DSN, TOPIC, Clock, Publisher
from loadtest.peers.settings import of

TABLE = "tx_outbox"


async def main() -> None:
    """Fill the table, then drain it."""
    settings = of("txoutbox")
    storage = await PostgresStorage.connect(
        DSN, table=TABLE, delete_on_ack=settings["delete_on_ack"], strict_ordering=settings["strict_ordering"]
    )
    await storage.pool.execute(f"DROP TABLE IF EXISTS {TABLE}")
    await storage.create_schema()
    await storage.pool.execute(
        f"INSERT INTO {TABLE} (topic, key, payload) SELECT $1, key, value FROM bench_source", TOPIC
    )
    await storage.pool.execute(f"VACUUM ANALYZE {TABLE}")
    publisher = Publisher(linger_ms=settings["linger_ms"])
    await publisher.warm_up()

    async def publish(message: OutboxMessage) -> None:
        await publisher.publish(message.topic, message.payload, message.key)

    config = RelayConfig(batch_size=settings["batch_size"], concurrency=settings["concurrency"])
    clock, published = Clock(), 0

    async def drain() -> None:
        nonlocal published
        relay = Relay(storage, publish, config=config)
        while published < COUNT:
            done = await relay.run_once()  # the sum is read after it: another relay adds to it too
            published += done.published
            if not done.claimed:
                await asyncio.sleep(0.01)  # the other has the last ones; its own loop waits for 0.05 s

    await asyncio.gather(*(drain() for _ in range(settings["relays"])))
    clock.report(published)


if __name__ == "__main__":
    uvloop.run(main())
