"""What each step writes and holds for a notification: WAL, transactions, dead rows, bytes that stay, connections."""

import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Final, LiteralString

import orjson
import uvloop
from psycopg import Connection

from loadtest.bench.bodies import batches, items
from loadtest.bench.feeding import feed, relay_all
from loadtest.bench.figures import Sample
from loadtest.bench.frame import Contender, Plan, Stage
from loadtest.bench.http_client import drive, post
from loadtest.bench.receiving import receivers
from loadtest.bench.rig import Installation, Rig
from loadtest.bench.stages.accept import BATCH_CONNECTIONS, BATCH_ITEMS, CHANNELS, CONNECTIONS, PATH
from loadtest.bench.waiting import wait_for, wait_for_count

_WITHIN_S: Final = 300.0
_SLOTS: Final = "200"
_READ: Final[LiteralString] = """
    SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::float8, (SELECT wal_fpi FROM pg_stat_wal),
           (SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()),
           (SELECT coalesce(sum(n_tup_upd + n_tup_del), 0)::float8 FROM pg_stat_user_tables)
"""
_HELD: Final[LiteralString] = """
    SELECT count(*) FROM pg_stat_activity
     WHERE datname = current_database() AND application_name LIKE %s || '%%'
"""
_OTHERS: Final[LiteralString] = """
    SELECT count(*) FROM pg_stat_activity
     WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()
"""
_STORED: Final[LiteralString] = """
    SELECT sum(pg_total_relation_size(oid))::float8, sum(pg_indexes_size(oid))::float8
      FROM pg_class WHERE oid IN ('notifications'::regclass, 'delivery_attempts'::regclass)
"""


@dataclass(frozen=True, slots=True)
class Counters:
    """What the server has counted so far. A dead row is one that was updated or deleted, whoever cleans up after it."""

    wal_bytes: float
    full_page_images: float
    transactions: float
    dead_rows: float

    def each_since(self, before: "Counters", count: int) -> dict[str, float]:
        """Return what was added since, for each of so many."""
        return {name: (getattr(self, name) - getattr(before, name)) / count for name in self.__slots__}


def read(conn: Connection[Any]) -> Counters:
    """Read the counters once everybody else has gone: a backend tells what it counted when it ends, at the latest."""
    wait_for(lambda: not _number(conn, _OTHERS), timeout_s=30, what="the services' sessions to end")
    return Counters(*conn.execute(_READ).fetchall()[0])


class Step:
    """One step for so many notifications, alone on the server: prepared, then measured from start to end."""

    def __init__(self, installation: Installation, name: str, what: str, *, count: int) -> None:
        self.name, self.what = name, f"{what}; {count:,} notifications of 600 bytes"
        self.installation, self.count = installation, count

    def setup(self) -> None:
        """Nothing is needed but the installation."""

    def round(self) -> Sample:
        """Count what the server counts before and after. Its own vacuum runs as ever, and is in the figures."""
        with ExitStack() as running, self.installation.connect() as conn:
            self.installation.empty()
            self.prepare(running)
            before, began = read(conn), time.perf_counter()
            held = self.act(conn)
            took_s = time.perf_counter() - began
            each = read(conn).each_since(before, self.count)
            return Sample(0, took_s, {}, {**each, **held, **self.left_behind(conn)})

    def prepare(self, running: ExitStack) -> None:
        """Bring about what the step begins with."""

    def act(self, conn: Connection[Any]) -> Mapping[str, float]:
        """Take the step, and return how many sessions its services hold."""
        raise NotImplementedError

    def left_behind(self, conn: Connection[Any]) -> Mapping[str, float]:
        """Return what is there afterwards, for each notification."""
        del conn
        return {}

    def teardown(self) -> None:
        """Nothing is left."""

    def feed(self, url: str | None = None) -> None:
        """Accept half of them for either channel."""
        for channel in CHANNELS:
            feed(
                self.installation,
                count=self.count // len(CHANNELS),
                channel=channel,
                seed=self.installation.rig.plan.seed,
                url=url if channel == "webhook" else None,
            )


class Accepting(Step):
    """One process of the API takes them in requests of so many."""

    def __init__(self, installation: Installation, name: str, what: str, *, count: int, size: int) -> None:
        super().__init__(installation, name, what, count=count)
        self._size = size

    def act(self, conn: Connection[Any]) -> Mapping[str, float]:
        """Post all of them."""
        seed, single = self.installation.rig.plan.seed, self._size == 1
        if single:
            bodies = [orjson.dumps(item) for item in items(seed, 500, channels=CHANNELS)]
        else:
            bodies = batches(seed, count=8, size=self._size, channels=CHANNELS)
        path, api_key = PATH if single else f"{PATH}/batch", self.installation.rig.api_key
        requests = [post(path, body, api_key=api_key) for body in bodies]
        connections = CONNECTIONS if single else BATCH_CONNECTIONS
        with self.installation.running("api_service", API_WORKERS="1") as api:
            answers = uvloop.run(drive(api.port, requests, connections=connections, count=self.count // self._size))
            held = _number(conn, _HELD, "api_service")
        answers.expect(202)
        return {"connections": held}


class Relaying(Step):
    """One relay, from the first row to the last deletion."""

    _kafka_bytes_before = 0

    def prepare(self, running: ExitStack) -> None:
        """Accept, while no relay runs."""
        del running
        self.feed()
        self._kafka_bytes_before = self._kafka_bytes()

    def act(self, conn: Connection[Any]) -> Mapping[str, float]:
        """Relay all of them."""
        with self.installation.running("outbox_relay"):
            left: LiteralString = "SELECT count(*) FROM outbox"
            wait_for(lambda: not _number(conn, left), timeout_s=_WITHIN_S, what="the outbox to drain", poll_s=0.2)
            wait_for(lambda: _number(conn, _HELD, "outbox_relay") > 1, timeout_s=10, what="both sessions")
            return {"connections": _number(conn, _HELD, "outbox_relay")}

    def left_behind(self, conn: Connection[Any]) -> Mapping[str, float]:
        """Return by how much the topics' segments have grown."""
        del conn
        return {"kafka_bytes": (self._kafka_bytes() - self._kafka_bytes_before) / self.count}

    def _kafka_bytes(self) -> int:
        log = self.installation.rig.kafka.data_dir / "log"
        return sum(one.stat().st_size for one in log.glob(f"{self.installation.topics.prefix}.*/*.log"))


class Delivering(Step):
    """One delivery consumer and one DLQ consumer, from the first record to the last outcome written back."""

    def __init__(
        self, installation: Installation, name: str, what: str, *, count: int, after_checkpoint: bool = False
    ) -> None:
        super().__init__(installation, name, what, count=count)
        self._after_checkpoint, self._environ = after_checkpoint, dict[str, str]()

    def prepare(self, running: ExitStack) -> None:
        """Accept and relay, to receivers that accept everything."""
        received = running.enter_context(receivers(self.installation.rig))
        slots = {"DELIVERY_CONCURRENCY": _SLOTS, "DESTINATION_CONCURRENCY": _SLOTS}
        self._environ = {"SMTP_PORT": str(received.mail_port), **slots}
        self.feed(received.url)
        relay_all(self.installation)
        if self._after_checkpoint:
            self.installation.execute("CHECKPOINT")

    def act(self, conn: Connection[Any]) -> Mapping[str, float]:
        """Deliver all of them."""
        one = self.installation.running("delivery_consumer", DELIVERY_PROCESSES="1", **self._environ)
        with one as delivery, self.installation.running("dlq_consumer"):
            wait_for_count(
                lambda: delivery.metrics().get("deliveries_total", 0.0),
                self.count,
                timeout_s=_WITHIN_S,
                what="all deliveries",
            )
            query: LiteralString = "SELECT count(*) FROM notifications WHERE status <> 'sent'"
            wait_for(lambda: not _number(conn, query), timeout_s=30, what="the last write-back", poll_s=0.2)
            held = {"connections": _number(conn, _HELD, "delivery_consumer")}
            return held | {"dlq_connections": _number(conn, _HELD, "dlq_consumer")}

    def left_behind(self, conn: Connection[Any]) -> Mapping[str, float]:
        """Return what tables and indexes keep: packed, and as vacuum leaves them, with room for more rows."""
        sizes = []
        for vacuum in ("VACUUM", "VACUUM FULL"):
            for table in ("notifications", "delivery_attempts"):
                conn.execute(f"{vacuum} {table}".encode())
            sizes.append([size / self.count for size in conn.execute(_STORED).fetchall()[0]])
        (loose, _), (stored, indexes) = sizes
        return {"stored_bytes": stored, "stored_in_indexes_bytes": indexes, "stored_loose_bytes": loose}


def _number(conn: Connection[Any], query: LiteralString, *parameters: str) -> float:
    return float(conn.execute(query, parameters).fetchall()[0][0])


def _build(rig: Rig, plan: Plan) -> list[Contender]:
    count, single = plan.pick(50_000, 2_000), plan.pick(10_000, 200)

    def fresh(name: str) -> Installation:
        return rig.installation(f"footprint_{name}")

    return [
        Accepting(fresh("single"), "accept single", f"POST {PATH}", count=single, size=1),
        Accepting(
            fresh("batch"), "accept batch", f"POST {PATH}/batch, {BATCH_ITEMS:,} each", count=count, size=BATCH_ITEMS
        ),
        Relaying(fresh("relay"), "relay", "one relay, Apache Kafka", count=count),
        Delivering(fresh("deliver"), "deliver", "claim, webhook or e-mail, write back", count=count),
        Delivering(
            fresh("checkpoint"),
            "deliver, after a checkpoint",
            "the same, each page of the tables written whole once",
            count=count,
            after_checkpoint=True,
        ),
    ]


STAGE = Stage("footprint", "What each step writes and holds for a notification", _build)
