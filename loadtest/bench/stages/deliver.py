"""Delivering what waits in Kafka: to a provider that answers at once, by webhook, by mail."""

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Final

from loadtest.bench.cpu import Meter
from loadtest.bench.feeding import feed, relay_all
from loadtest.bench.figures import PER_CPU_S, Promise, Sample
from loadtest.bench.floors import RawMail, RawWebhooks
from loadtest.bench.frame import BenchError, Contender, Plan, Stage
from loadtest.bench.peers import queue_peers
from loadtest.bench.receiving import receivers
from loadtest.bench.rig import Installation, Rig, Service
from loadtest.bench.waiting import wait_for, wait_for_count

DELIVERIES: Final = "deliveries_total"
PARTITIONS: Final = "delivery_partitions"
CONNECTIONS: Final = 200
STOCK_CONNECTIONS: Final = (20, CONNECTIONS)
"""httpx looks through all requests of its pool for each one: per CPU-second it is best with few at once."""
PROCESS: Final = "delivery"
_WITHIN_S: Final = 900.0
_WARM_UP: Final = 10
"""One in so many is delivered before the clock starts: connections are opened, a destination proves itself."""


class Delivery:
    """A delivery consumer that finds all its records waiting, until the last outcome is in PostgreSQL.

    Where `processes` are given there are so many, and their records come once each has its share of the partitions:
    the first to begin would be done with what waits before the others have theirs. The clock starts after the relay.
    """

    def __init__(
        self,
        installation: Installation,
        name: str,
        what: str,
        *,
        count: int,
        channel: str,
        module: str | None = None,
        environ: Mapping[str, str] | None = None,
        item_bytes: int = 600,
        receiving: bool = True,
        keep: bool = False,
        processes: int | None = None,
    ) -> None:
        self.name, self.what = name, f"{what}; {count:,} waiting"
        self._installation, self._count, self._channel, self._module = installation, count, channel, module
        self._environ, self._item_bytes, self._receiving = dict(environ or {}), item_bytes, receiving
        self._keep, self._processes, self._rounds = keep, processes, 0

    def setup(self) -> None:
        """Nothing is needed but the installation."""

    def round(self) -> Sample:
        """Accept and relay, then measure the consumer alone."""
        self._rounds += 1
        installation = self._installation
        if not self._keep:
            installation.empty()
        with ExitStack() as running:
            received = running.enter_context(receivers(installation.rig)) if self._receiving else None
            url = received.url if received and self._channel == "webhook" else None
            feed(
                installation,
                count=self._count,
                channel=self._channel,
                seed=installation.rig.plan.seed + self._rounds,
                url=url,
                item_bytes=self._item_bytes,
            )
            if self._processes is None:
                relay_all(installation)
            installation.settle()
            environ = {"DELIVERY_CHANNELS": self._channel, **self._environ}
            if received:
                environ["SMTP_PORT"] = str(received.mail_port)
            several = installation.running_several(
                "delivery_consumer", self._processes or 1, module=self._module, **environ
            )
            with several as consumers:
                if self._processes is not None:
                    wait_for(lambda: _all_assigned(consumers), timeout_s=60, what="each consumer's share", poll_s=0.2)
                    relay_all(installation)
                sample = self._measured(consumers)
            if received and received.received() != self._count:
                raise BenchError(f"{received.received()} of {self._count} were received")
        return sample

    def teardown(self) -> None:
        """Nothing is left."""

    def _measured(self, consumers: Sequence[Service]) -> Sample:
        rig = self._installation.rig
        warm = self._count // _WARM_UP
        wait_for_count(lambda: _delivered(consumers), warm, timeout_s=_WITHIN_S, what="the first deliveries")
        servers = {"postgres": [rig.postgres.process.pid], "kafka": [rig.kafka.process.pid]}
        meter = Meter({PROCESS: [one.pid for one in consumers], **servers})
        before, began = _delivered(consumers), time.perf_counter()
        wait_for_count(lambda: _delivered(consumers), self._count, timeout_s=_WITHIN_S, what="all deliveries")
        with self._installation.connect() as conn:
            query = "SELECT NOT EXISTS (SELECT FROM delivery_attempts WHERE outcome = 'begun')"
            wait_for(
                lambda: conn.execute(query).fetchall()[0][0], timeout_s=30, what="the last write-back", poll_s=0.01
            )
        took_s, cpu_s = time.perf_counter() - began, meter.read()
        self._check()
        if before >= self._count and not rig.plan.quick:
            raise BenchError("too few were waiting: all were delivered before the clock could start")
        return Sample(self._count - int(before), took_s, cpu_s)

    def _check(self) -> None:
        with self._installation.connect() as conn:
            found = conn.execute("SELECT count(*) FROM delivery_attempts WHERE outcome <> 'accepted'").fetchall()[0][0]
        if found:
            raise BenchError(f"{found} attempts did not end as accepted")


def _all_assigned(consumers: Sequence[Service]) -> bool:
    return all(one.metrics().get(PARTITIONS, 0.0) for one in consumers)


def _delivered(consumers: Sequence[Service]) -> float:
    return sum(one.metrics().get(DELIVERIES, 0.0) for one in consumers)


def _consume(rig: Rig, plan: Plan) -> list[Contender]:
    count = plan.pick(120_000, 500)
    ours = Delivery(
        rig.installation("consume"),
        "ours",
        "one delivery consumer, its provider answers at once",
        count=count,
        channel="webhook",
        module="loadtest.bench.inside.instant_provider",
        receiving=False,
    )
    return [ours, *queue_peers(rig)]


def _webhook(rig: Rig, plan: Plan) -> list[Contender]:
    installation = rig.installation("webhook")
    slots = {"DELIVERY_CONCURRENCY": str(CONNECTIONS), "DESTINATION_CONCURRENCY": str(CONNECTIONS)}

    def consumer(name: str, what: str, count: int, module: str | None = None, **environ: str) -> Contender:
        return Delivery(
            installation, name, what, count=count, channel="webhook", module=module, environ=slots | environ
        )

    stock = "loadtest.bench.inside.stock_webhook"
    few = plan.pick(4_000, 300)
    return [
        consumer("ours", f"signed, guarded, written back, {CONNECTIONS} connections", plan.pick(40_000, 500)),
        consumer("stock, default limits", "the same consumer with httpx.AsyncClient()", few, stock),
        *(
            consumer(
                f"stock, {connections} connections",
                f"the same consumer with httpx.AsyncClient, limits and concurrency of {connections}",
                few,
                stock,
                BENCH_STOCK_CONNECTIONS=str(connections),
                DELIVERY_CONCURRENCY=str(connections),
                DESTINATION_CONCURRENCY=str(connections),
            )
            for connections in STOCK_CONNECTIONS
        ),
        RawWebhooks(rig, connections=CONNECTIONS, seconds=plan.pick(5.0, 0.5), seed=plan.seed),
    ]


def _email(rig: Rig, plan: Plan) -> list[Contender]:
    installation = rig.installation("email")

    def consumer(name: str, what: str, count: int, module: str | None = None) -> Contender:
        return Delivery(installation, name, what, count=count, channel="email", module=module, item_bytes=2_000)

    return [
        consumer("ours", "2 KB each, kept connections, written back", plan.pick(30_000, 500)),
        consumer(
            "EmailMessage",
            "the same consumer with EmailMessage and a connection for each",
            plan.pick(5_000, 300),
            "loadtest.bench.inside.stock_email",
        ),
        RawMail(rig, connections=20, seconds=plan.pick(5.0, 0.5), seed=plan.seed),
    ]


CONSUME = Stage(
    "consume",
    "Consume, claim and write back",
    _consume,
    (Promise("consume, claim and write back, one process", "ours", at_least=15_000),),
)
WEBHOOK = Stage(
    "webhook",
    f"Webhooks over {CONNECTIONS} connections",
    _webhook,
    (
        Promise("webhooks per CPU-second of the consumer", "ours", PER_CPU_S + PROCESS, at_least=4_000),
        Promise(
            "webhooks beside httpx.AsyncClient in the same consumer",
            "ours",
            PER_CPU_S + PROCESS,
            at_least=5,
            beside=(
                "stock, default limits",
                *(f"stock, {connections} connections" for connections in STOCK_CONNECTIONS),
            ),
        ),
    ),
)
EMAIL = Stage(
    "email",
    "E-mail of 2 KB",
    _email,
    (
        Promise("mails per CPU-second of the consumer", "ours", PER_CPU_S + PROCESS, at_least=3_500),
        Promise(
            "mails beside EmailMessage and a connection for each",
            "ours",
            PER_CPU_S + PROCESS,
            at_least=3,
            beside=("EmailMessage",),
        ),
    ),
)
