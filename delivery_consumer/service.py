"""One process that delivers: wired, and run until it is stopped."""

import asyncio
import contextlib
import logging
import threading
from collections.abc import Iterator
from typing import Any, Final
from uuid import uuid4

import uvloop

from delivery_consumer.consumer import Pump
from delivery_consumer.delivery import Deliverer
from delivery_consumer.engine import Engine
from delivery_consumer.lanes import Lanes
from delivery_consumer.listening import ListeningClock
from delivery_consumer.poison import DeadLetterProducer
from delivery_consumer.providers import build_providers
from delivery_consumer.reporting import Changes, Reporter
from delivery_consumer.settings import Settings
from delivery_consumer.store import PostgresStore
from delivery_consumer.tenants import Tenants
from delivery_consumer.tie import SERVICE, Tie
from shared.kafka import consumer_config, producer_config
from shared.lifecycle import end_if_stuck, seek_cycles_seldom, stop_on_signals
from shared.records import Topics
from shared.telemetry import Checks, HealthServer, set_up_logging

log = logging.getLogger(__name__)

TENANTS_EVERY_S: Final = 5.0
_OBJECTS_BEFORE_COLLECTION: Final = 10_000
"""Some dozens of failed attempts, whose errors hold their frames, and those them."""


class Service:
    """The consumer as a whole. Make it inside the event loop."""

    def __init__(self, settings: Settings) -> None:
        topics = Topics(settings.kafka.topic_prefix)
        lanes_of = [topics.lanes(channel) for channel in sorted(settings.channels)]
        client_id = f"{SERVICE}-{uuid4().hex[:8]}"
        self._settings = settings
        owner = uuid4()
        self.store = PostgresStore(
            settings.service.conninfo, owner=owner, lease_s=settings.lease_s, dlq_topic=topics.dlq
        )
        self.pump = Pump(
            consumer_config(settings.kafka, client_id=client_id, group="delivery"),
            [name for lanes in lanes_of for name in lanes],
        )
        self._poison = DeadLetterProducer(producer_config(settings.kafka, client_id=client_id), topics.dlq)
        self._providers = build_providers(settings, self.store.find_receivers, lambda: self._reporter.webhook_consumers)
        in_flight = max(settings.in_flight, 2 * settings.concurrency)
        self._listening = ListeningClock()
        self._tenants = Tenants()
        lanes = Lanes(
            clock=self._listening,
            tenants=self._tenants,
            unproven_slots=max(settings.concurrency // 2, 1),
            waiting=max(in_flight // 2, 1),
        )
        self._deliverer = Deliverer(
            self._providers,
            lanes,
            self._tenants,
            listening=self._listening,
            lease_margin_s=settings.lease_s / 4,  # renewal keeps a third at the least, unless PostgreSQL is away
        )
        changes = Changes(self._deliverer.destinations, self._providers, lanes.waiting_for, clock=self._listening)
        self._reporter = Reporter(settings.service.conninfo, changes, consumer=owner, channels=settings.channels)
        self._engine = Engine(
            store=self.store,
            deliverer=self._deliverer,
            lanes=lanes,
            tenants=self._tenants,
            intake=self.pump,
            poison=self._poison,
            channels=settings.channels,
            high_topics=frozenset(high for _, high in lanes_of),
            lease_s=settings.lease_s,
            in_flight=in_flight,
            claim_ahead=settings.concurrency,
        )

    async def run(self, stop: threading.Event) -> None:
        """Deliver until `stop` is set, then give back and commit. A bug in any part ends all of it."""
        stopped = asyncio.create_task(asyncio.to_thread(stop.wait))
        connected = asyncio.create_task(self.store.connect())
        try:
            if await _first(connected, stopped) is not stopped:
                await self._deliver(stopped)
        finally:
            connected.cancel()
            stop.set()
            self._poison.close()
            await self.store.aclose()
            for provider in self._providers.values():
                await provider.aclose()

    async def _deliver(self, stopped: "asyncio.Task[bool]") -> None:
        engine = asyncio.create_task(self._engine.run(self._settings.concurrency))
        pump = self.pump.start(self._engine)
        commits = asyncio.create_task(self.pump.keep_committing())
        watch = asyncio.create_task(self.store.watch())
        parts = (self._reporter.run(), self._listening.run(), self._watch_tenants())
        beside = [asyncio.create_task(part) for part in parts]
        first = await _first(engine, pump, commits, watch, *beside, stopped)
        self._deliverer.stopping = True
        if not pump.done() and not await self.pump.stop(pump, drain=first is stopped):
            log.warning("left_without_kafka")
        for task in (engine, commits, watch, *beside):
            task.cancel()
        await asyncio.wait([engine, commits, watch, *beside])
        if first is not stopped:
            first.result()
        if pump.done():
            pump.result()

    async def _watch_tenants(self) -> None:
        """See whether there is more than one tenant to be fair to."""
        while True:
            self._tenants.several = await self.store.has_several_tenants()
            await asyncio.sleep(TENANTS_EVERY_S)


async def _first(*futures: "asyncio.Future[Any]") -> "asyncio.Future[Any]":
    """Wait for whichever ends first, and return it."""
    done, _ = await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)
    return next(future for future in futures if future in done)


@contextlib.contextmanager
def _reporting(settings: Settings, checks: Checks, stop: threading.Event, tie: Tie | None) -> Iterator[None]:
    """Answer for this process: on a port of its own, or to its parent."""
    if tie is not None:
        tie.hold(checks, stop)
        yield
        return
    health = HealthServer(SERVICE, settings.service.bind_host, settings.service.port, checks)
    try:
        yield
    finally:
        health.close()


async def _serve(settings: Settings, stop: threading.Event, tie: Tie | None = None) -> None:
    service = Service(settings)
    checks = {"postgres": service.store.fault, "kafka": service.pump.fault}
    with _reporting(settings, checks, stop, tie):
        port = {"port": settings.service.port} if tie is None else {}
        log.info("started", extra={**port, "channels": sorted(settings.channels)})
        guard = asyncio.create_task(end_if_stuck())
        try:
            await service.run(stop)
        finally:
            guard.cancel()


def run(settings: Settings, tie: Tie | None = None) -> None:
    """Deliver until SIGTERM, or until the parent is gone."""
    set_up_logging(SERVICE, settings.service.log_level, process=None if tie is None else tie.number)
    seek_cycles_seldom(_OBJECTS_BEFORE_COLLECTION)
    stop = stop_on_signals()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(settings, stop, tie))
    log.info("stopped")
