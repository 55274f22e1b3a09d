"""txoutbox: claims batches of its outbox table, publishes each message, deletes what was acknowledged."""

import uvloop
from txoutbox import OutboxMessage
from txoutbox.adapters.postgres import PostgresStorage
from txoutbox.relay import Relay, RelayConfig

from loadtest.peers.programs.relaying import COUNT, DSN, TOPIC, Clock, Publisher
from loadtest.peers.settings import TXOUTBOX

TABLE = "tx_outbox"


async def main() -> None:
    """Fill the table, then drain it."""
    storage = await PostgresStorage.connect(
        DSN, table=TABLE, delete_on_ack=TXOUTBOX["delete_on_ack"], strict_ordering=TXOUTBOX["strict_ordering"]
    )
    await storage.pool.execute(f"DROP TABLE IF EXISTS {TABLE}")
    await storage.create_schema()
    await storage.pool.execute(
        f"INSERT INTO {TABLE} (topic, key, payload) SELECT $1, key, value FROM bench_source", TOPIC
    )
    await storage.pool.execute(f"VACUUM ANALYZE {TABLE}")
    publisher = Publisher()
    await publisher.warm_up()

    async def publish(message: OutboxMessage) -> None:
        await publisher.publish(message.topic, message.payload, message.key)

    config = RelayConfig(batch_size=TXOUTBOX["batch_size"], concurrency=TXOUTBOX["concurrency"])
    relay = Relay(storage, publish, config=config)
    clock, published = Clock(), 0
    while published < COUNT:
        published += (await relay.run_once()).published
    clock.report(published)


if __name__ == "__main__":
    uvloop.run(main())
