"""procrastinate: jobs in PostgreSQL, claimed one by one; each job publishes its record."""

import asyncio
import logging

import procrastinate
import psycopg
import uvloop

from loadtest.peers.programs.relaying import COUNT, DSN, TOPIC, Clock, Publisher
from loadtest.peers.settings import of

SCHEMA = "procrastinate"


async def main() -> None:
    """Apply its schema anew, defer, then drain."""
    logging.disable(logging.CRITICAL)
    settings = of("procrastinate")
    workers, linger_ms = settings.pop("workers"), settings.pop("linger_ms")
    connections = 4 + 4 * workers  # one listens, of each worker; its default is 4 in all
    connector = procrastinate.PsycopgConnector(
        conninfo=DSN,
        kwargs={"options": f"-c search_path={SCHEMA},public"},
        min_size=connections,
        max_size=connections,
    )
    app = procrastinate.App(connector=connector)
    publisher, done = Publisher(linger_ms=linger_ms), 0

    @app.task(name="relay")
    async def relay(key: str, value: str) -> None:
        nonlocal done
        await publisher.publish(TOPIC, value.encode(), key)
        done += 1

    async with app.open_async():
        await connector.execute_query_async(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE")
        await connector.execute_query_async(f"CREATE SCHEMA {SCHEMA}")
        await app.schema_manager.apply_schema_async()
        rows = await connector.execute_query_all_async(
            "SELECT key, convert_from(value, 'UTF8') AS value FROM bench_source"
        )
        for start in range(0, COUNT, 1000):
            jobs = [{"key": row["key"], "value": row["value"]} for row in rows[start : start + 1000]]
            await relay.batch_defer_async(*jobs)
        async with await psycopg.AsyncConnection.connect(DSN, autocommit=True) as conn:
            await conn.execute("VACUUM ANALYZE")
        await publisher.warm_up()
        clock = Clock()
        options = {"wait": False, "install_signal_handlers": False, **settings}
        await asyncio.gather(*(app.run_worker_async(**options) for _ in range(workers)))
        clock.report(done)


if __name__ == "__main__":
    uvloop.run(main())
