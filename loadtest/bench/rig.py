"""What a stage is measured on: one PostgreSQL, one Kafka, and installations of the product on them."""

import base64
import hashlib
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import orjson
import psycopg

from infra.local import callers
from infra.local.kafka import Kafka
from infra.local.ports import free_port
from infra.local.postgres import Postgres
from infra.local.processes import ManagedProcess, Supervisor
from infra.local.stack import SERVICES
from loadtest.bench.frame import BenchError, Plan
from loadtest.bench.metrics import scrape
from loadtest.bench.waiting import wait_for
from shared.records import Topics

REPOSITORY: Final = Path(__file__).resolve().parents[2]
TEMPLATE: Final = "bench_template"
POSTGRES_SETTINGS: Final = {
    # A server for one application, on a machine of some size; durability is as it always is.
    "shared_buffers": "1GB",
    "max_wal_size": "8GB",
    "min_wal_size": "2GB",
    "autovacuum_naptime": "5s",
}
_WAL_FILES: Final = 128  # of 16 MB: min_wal_size
PARTITIONS: Final = 10
SECRET: Final = "whsec_" + base64.b64encode(hashlib.sha256(b"bench").digest()).decode()
_READY_S: Final = 60.0
REPORT: Final = "BENCH "
"""A program of the bench ends with a line of this and a JSON object."""


class Rig:
    """The servers, started when first asked for, with their data below one directory."""

    def __init__(self, directory: Path, plan: Plan) -> None:
        self.directory, self.plan = directory, plan
        self.supervisor = Supervisor(directory / "logs")
        self._processes = 0
        self._api_key = ""

    @property
    def api_key(self) -> str:
        """A key that the API of any installation takes."""
        assert self.postgres  # noqa: S101 - with it the key is made
        return self._api_key

    @cached_property
    def postgres(self) -> Postgres:
        """A PostgreSQL with the schema in a template."""
        server = Postgres(self.directory / "postgres", self.supervisor, settings=POSTGRES_SETTINGS)
        server.start()
        server.create_database(TEMPLATE)
        server.install_schema(TEMPLATE)
        environ = self.environ(DATABASE_URL=server.dsn(TEMPLATE))
        self._api_key = callers.make_key(environ, self.directory, tenant="default")  # as the rows that stages lay down
        if not self.plan.quick:
            _make_wal_files(server)
        return server

    @cached_property
    def kafka(self) -> Kafka:
        """An Apache Kafka."""
        broker = Kafka(self.directory / "kafka", self.supervisor)
        broker.start()
        return broker

    def installation(self, name: str, *, brokers: str | None = None, database: str | None = None) -> "Installation":
        """Make an empty database and fresh topics, unless `database` or `brokers` name others."""
        return Installation(self, name, brokers=brokers, database=database)

    def start(
        self, name: str, argv: Sequence[str | Path], environ: Mapping[str, str], *, cwd: Path | None = None
    ) -> ManagedProcess:
        """Start a process; its log gets a number of its own."""
        self._processes += 1
        directory = cwd or self.directory  # not the clone: a .env made for containers names their hosts
        return self.supervisor.process(f"{self._processes:04}-{name}", argv, env=environ, cwd=directory).start()

    @staticmethod
    def environ(**others: str) -> dict[str, str]:
        """The environment of a program of ours."""
        return {**os.environ, "PYTHONPATH": str(REPOSITORY), **others}

    def run_program(
        self, name: str, argv: Sequence[str | Path], environ: Mapping[str, str], *, timeout_s: float
    ) -> dict[str, Any]:
        """Run a program of the bench to its end and return its report. Raises BenchError."""
        process = self.start(name, argv, environ)
        try:
            wait_for(lambda: not process.is_running, timeout_s=timeout_s, what=f"{name} to end")
        finally:
            process.kill()
        lines = process.log_path.read_text(errors="replace").splitlines()
        reports = [line.removeprefix(REPORT) for line in lines if line.startswith(REPORT)]
        if process.returncode != 0 or not reports:
            raise BenchError(f"{name} ended with {process.returncode}: {' | '.join(lines[-5:])}")
        return dict(orjson.loads(reports[-1]))

    def close(self) -> None:
        """End everything."""
        self.supervisor.close()


def _make_wal_files(server: Postgres) -> None:
    """Make the WAL files that a server keeps and uses again once it has run for a while: two seconds a gigabyte.

    Whoever writes most would make them while it is measured, which takes a tenth of what PostgreSQL does for a batch.
    """
    with psycopg.connect(server.dsn(), autocommit=True) as conn:
        for _ in range(_WAL_FILES):
            conn.execute("SELECT pg_logical_emit_message(false, 'bench', '')")  # an empty file is not left for another
            conn.execute("SELECT pg_switch_wal()")
        conn.execute("CHECKPOINT")


class Service:
    """A running process of the product."""

    def __init__(self, process: ManagedProcess, port: int) -> None:
        self.process, self.port = process, port

    @property
    def pid(self) -> int:
        """Its pid."""
        return self.process.pid

    def metrics(self) -> dict[str, float]:
        """Its series, summed over labels."""
        return scrape(f"http://127.0.0.1:{self.port}/metrics")


class Installation:
    """One database and one set of topics, and the services that run on them."""

    def __init__(self, rig: Rig, name: str, *, brokers: str | None, database: str | None) -> None:
        self.rig, self.name = rig, name
        self.topics = Topics(f"bench.{name}")
        self._brokers = brokers
        self.database = database or f"bench_{name}"
        if database is None:
            rig.postgres.create_database(self.database, template=TEMPLATE)
        self.dsn = self.dsn_of(None)

    def dsn_of(self, service: str | None) -> str:
        """The connection URL of a service, in its role, or of the database's owner."""
        return self.rig.postgres.dsn(self.database, service=service)

    @property
    def on_kafka(self) -> bool:
        """Whether it uses our Kafka."""
        return self._brokers is None

    @cached_property
    def brokers(self) -> str:
        """Where its Kafka is."""
        if self._brokers is not None:
            return self._brokers
        self.rig.kafka.create_topics(self.topics.all(), partitions=PARTITIONS)
        return self.rig.kafka.bootstrap_servers

    def connect(self) -> psycopg.Connection[Any]:
        """Open an autocommit connection."""
        return psycopg.connect(self.dsn, autocommit=True)

    def execute(self, *statements: str) -> None:
        """Run statements, each a transaction of its own."""
        with self.connect() as conn:
            for statement in statements:
                conn.execute(statement.encode())

    def empty(self) -> None:
        """Remove all notifications, and begin the next round with clean pages and no checkpoint due."""
        self.execute(
            "TRUNCATE notifications, outbox, outbox_due, outbox_dead, outbox_held, delivery_attempts, dlq_messages, "
            "idempotency_keys, ordering_queue, ordering_turns",
            "CHECKPOINT",
        )

    def remove_since(self, first: UUID) -> None:
        """Remove all that was accepted from this id on, and the whole outbox; what was stored before stays."""
        with self.connect() as conn:
            conn.execute("TRUNCATE outbox")
            conn.execute("DELETE FROM notifications WHERE id >= %s", (first,))

    def settle(self) -> None:
        """Vacuum what the last round left and write a checkpoint, without removing anything."""
        self.execute("VACUUM (ANALYZE) notifications, outbox, delivery_attempts", "CHECKPOINT")

    def environ(self, service: str | None = None, **others: str) -> dict[str, str]:
        """The environment of a service here, or of a program that works as the database's owner."""
        return self.rig.environ() | {
            "DATABASE_URL": self.dsn_of(service),
            "KAFKA_BOOTSTRAP_SERVERS": self.brokers,
            "TOPIC_PREFIX": self.topics.prefix,
            "BIND_HOST": "127.0.0.1",
            "SMTP_HOST": "127.0.0.1",
            "SMTP_TLS": "off",
            "SMTP_FROM": "notifications@example.org",
            "WEBHOOK_SECRETS": SECRET,
            "WEBHOOK_ALLOWED_NETWORKS": "127.0.0.0/8",
            **callers.WITHOUT_LIMITS,
            **others,
        }

    @contextmanager
    def running(self, service: str, *, module: str | None = None, **environ: str) -> Iterator[Service]:
        """Run a service, or the `module` that stands in for it; it is ready when this yields, and gone afterwards."""
        with self.running_several(service, 1, module=module, **environ) as (one,):
            yield one

    @contextmanager
    def running_several(
        self, service: str, count: int, *, module: str | None = None, **environ: str
    ) -> Iterator[list[Service]]:
        """Run several processes of a service, begun at once; all are ready when this yields, and gone afterwards."""
        argv: list[str | Path] = [sys.executable, "-m", module or service]
        started: list[Service] = []
        try:
            for _ in range(count):
                port = free_port()
                listening = {SERVICES[service]: str(port)}
                process = self.rig.start(service, argv, self.environ(service, **environ, **listening))
                started.append(Service(process, port))
            for one in started:
                one.process.wait_healthy(f"http://127.0.0.1:{one.port}/health/ready", timeout_s=_READY_S)
            yield started
        finally:
            for one in started:
                one.process.terminate()
