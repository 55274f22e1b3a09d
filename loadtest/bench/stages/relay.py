"""Relaying: outbox rows to Kafka, beside the producer alone and other relays; two of them; under a held snapshot."""

import sys
import time
from collections.abc import Sequence
from typing import Any, Final

from psycopg import Connection

from loadtest.bench.cpu import Meter
from loadtest.bench.figures import Promise, Sample
from loadtest.bench.frame import Contender, Plan, Stage
from loadtest.bench.mock import MockBroker
from loadtest.bench.outbox_rows import FILL, parameters
from loadtest.bench.peers import RELAYS, relay_peers
from loadtest.bench.rig import Installation, Rig, Service
from loadtest.bench.waiting import wait_for, wait_for_count
from shared.model import BUCKETS, Channel, Priority

ROWS_PUBLISHED: Final = "outbox_relay_rows_published_total"
PEERS: Final = tuple(RELAYS)
_MOCK_RELAY: Final = "loadtest.bench.inside.relay_on_mock"
_DRAIN_S: Final = 600.0
_SETTLES_S: Final = 3.0  # of a relay that has just started: it goes over the dead rows that a snapshot keeps, once


class Relays:
    """One relay or more, idle until all rows become visible at once, until the last is deleted."""

    def __init__(
        self,
        installation: Installation,
        name: str,
        what: str,
        *,
        rows: int,
        relays: int = 1,
        module: str | None = None,
        keep: bool = False,
    ) -> None:
        self.name, self.what = name, what
        self._installation, self._rows, self._relays, self._module = installation, rows, relays, module
        self._keep = keep

    def setup(self) -> None:
        """Nothing is needed but the installation."""

    def round(self) -> Sample:
        """Fill the table in one transaction, commit, and time until the relays have deleted all of it."""
        if self._keep:
            self._installation.settle()
        else:
            self._installation.empty()
        several = self._installation.running_several("outbox_relay", self._relays, module=self._module)
        with several as relays, self._installation.connect() as conn:
            wait_for(lambda: _held(relays) == BUCKETS and all(_each(relays)), timeout_s=60, what="the buckets")
            if self._keep:
                time.sleep(_SETTLES_S)
            return _drained(self._installation, relays, conn, self._rows)

    def teardown(self) -> None:
        """Nothing is left."""


class RelayUnderSnapshot(Relays):
    """A relay while another session keeps a snapshot open, so that no dead row can be removed.

    The snapshot is taken once, before the first round, and held for `hold_s` with rows passing through all the time;
    then the rounds are measured under it. A snapshot of one database holds back nothing in another, so the relay
    beside it is not touched. No round empties the table: TRUNCATE would remove what the snapshot keeps.
    """

    def __init__(self, installation: Installation, *, rows: int, hold_s: float, passing_per_s: int) -> None:
        what = f"a snapshot held for {hold_s:.0f} s and more, {passing_per_s:,} rows/s passing meanwhile"
        super().__init__(installation, "held snapshot", what, rows=rows, keep=True)
        self._hold_s, self._passing_per_s = hold_s, passing_per_s
        self._holder: Connection[Any] | None = None

    def setup(self) -> None:
        """Take the snapshot, and have rows pass for as long as it is to be held."""
        self._holder = self._installation.connect()
        self._holder.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        self._holder.execute("SELECT count(*) FROM outbox")
        with self._installation.running("outbox_relay"), self._installation.connect() as conn:
            began, passed = time.monotonic(), 0
            while (elapsed := time.monotonic() - began) < self._hold_s:
                if passed < elapsed * self._passing_per_s:
                    conn.execute(FILL, parameters(_topic(self._installation), 500))
                    passed += 500
                else:
                    time.sleep(0.05)
            query = "SELECT NOT EXISTS (SELECT FROM outbox)"
            wait_for(lambda: conn.execute(query).fetchall()[0][0], timeout_s=60, what="the outbox to drain")

    def teardown(self) -> None:
        """Let the snapshot go."""
        if self._holder is not None:
            self._holder.close()


class ProducerAlone:
    """The same records through the same client, a Python program on librdkafka, from memory: no table, no delete."""

    def __init__(self, installation: Installation, *, rows: int) -> None:
        self.name, self.what = (
            "producer alone",
            "a Python program on librdkafka, its records from memory, callbacks counted",
        )
        self._installation, self._rows = installation, rows

    def setup(self) -> None:
        """Nothing is needed but the installation."""

    def round(self) -> Sample:
        """Fill a table for the program to read from, and let it send."""
        sample = min(self._rows, 50_000)
        self._installation.empty()
        with self._installation.connect() as conn:
            conn.execute(FILL, parameters(_topic(self._installation), sample))
        argv = [sys.executable, "-m", "loadtest.bench.programs.produce", str(self._rows)]
        report = self._installation.rig.run_program("produce", argv, self._installation.environ(), timeout_s=_DRAIN_S)
        return Sample(report["work"], report["wall_s"], {"producer": report["cpu_s"]})

    def teardown(self) -> None:
        """Nothing is left."""


def _drained(installation: Installation, relays: Sequence[Service], conn: Connection[Any], rows: int) -> Sample:
    before = _published(relays)
    with conn.transaction():
        conn.execute(FILL, parameters(_topic(installation), rows))
    began = time.perf_counter()
    rig = installation.rig
    brokers = {"kafka": [rig.kafka.process.pid]} if installation.on_kafka else {}
    meter = Meter({"relay": [one.pid for one in relays], "postgres": [rig.postgres.process.pid], **brokers})
    wait_for_count(lambda: _published(relays) - before, rows, timeout_s=_DRAIN_S, what="the outbox to drain")
    return Sample(rows, time.perf_counter() - began, meter.read())


def _topic(installation: Installation) -> str:
    return installation.topics.of(Channel.WEBHOOK, Priority.NORMAL, ordered=False)


def _published(relays: Sequence[Service]) -> float:
    return sum(one.metrics().get(ROWS_PUBLISHED, 0.0) for one in relays)


def _each(relays: Sequence[Service]) -> list[float]:
    return [one.metrics().get("outbox_relay_buckets_held", 0.0) for one in relays]


def _held(relays: Sequence[Service]) -> float:
    return sum(_each(relays))


def _kafka(rig: Rig, plan: Plan) -> list[Contender]:
    installation = rig.installation("relay")
    rows = plan.pick(1_000_000, 2_000)
    return [
        ProducerAlone(installation, rows=rows),
        Relays(installation, "ours", f"{rows:,} rows waiting, Apache Kafka", rows=rows),
        *relay_peers(rig, brokers=None),
    ]


def _on_mock(rig: Rig, plan: Plan) -> list[Contender]:
    broker = MockBroker(rig)
    installation = rig.installation("relay_mock", brokers=broker.start())
    rows = plan.pick(1_000_000, 2_000)
    return [
        ProducerAlone(installation, rows=rows),
        Relays(installation, "ours", f"{rows:,} rows waiting, librdkafka's mock broker", rows=rows, module=_MOCK_RELAY),
        *relay_peers(rig, brokers=broker.address),
    ]


def _two(rig: Rig, plan: Plan) -> list[Contender]:
    rows = plan.pick(1_000_000, 2_000)
    return [
        Relays(rig.installation(f"relays_{count}"), name, f"{rows:,} rows waiting", rows=rows, relays=count)
        for name, count in (("one relay", 1), ("two relays", 2))
    ]


def _snapshot(rig: Rig, plan: Plan) -> list[Contender]:
    rows = plan.pick(200_000, 2_000)
    return [
        Relays(
            rig.installation("relay_free"), "ours", f"{rows:,} rows waiting, no snapshot held", rows=rows, keep=True
        ),
        RelayUnderSnapshot(
            rig.installation("relay_held"), rows=rows, hold_s=plan.pick(600.0, 2.0), passing_per_s=2_000
        ),
    ]


KAFKA = Stage(
    "relay",
    "Relay to Apache Kafka",
    _kafka,
    (
        Promise("relay beside the producer alone", "ours", at_least=0.5, beside=("producer alone",)),
        Promise("relay beside the best Python peer", "ours", at_least=4, beside=PEERS),
    ),
)
MOCK = Stage(
    "relay_mock",
    "Relay to librdkafka's mock broker",
    _on_mock,
    (Promise("relay on the mock broker beside the best Python peer", "ours", at_least=10, beside=PEERS),),
)
TWO = Stage(
    "relay_two",
    "Two relays beside one",
    _two,
    (Promise("two relays beside one", "two relays", at_least=0.95, beside=("one relay",)),),
)
SNAPSHOT = Stage(
    "relay_snapshot",
    "Relay under a held snapshot",
    _snapshot,
    (Promise("relay under a snapshot held for 10 minutes", "held snapshot", at_least=0.9, beside=("ours",)),),
)
