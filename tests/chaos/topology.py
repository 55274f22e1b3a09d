"""The pipeline as it is hurt: real PostgreSQL and Kafka, two of each consumer, and hostile receivers of our own."""

import base64
import json
import os
import secrets
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

import psycopg

from api_service import api_keys
from api_service.accept import DEFAULT_TENANT
from infra.local.callers import WITHOUT_LIMITS
from infra.local.kafka import Kafka, create_topics
from infra.local.ports import free_port
from infra.local.postgres import Postgres
from infra.local.processes import ManagedProcess, Supervisor
from shared.db import api_keys as keys_table
from shared.db.api_keys import NewApiKey
from shared.records import Topics
from tests.chaos import watching
from tests.chaos.proxy import Proxy

REPOSITORY = Path(__file__).resolve().parents[2]
DATABASE = "notifications"
PARTITIONS = 6
LADDER_S = (1, 2, 3, 4, 6, 8, 10, 12, 15, 15, 15, 15)
_READY_TIMEOUT_S = 60.0

# Each process of ours: its package, and the variable that names its port.
SERVICES: Mapping[str, tuple[str, str]] = {
    "api": ("api_service", "API_PORT"),
    "relay-1": ("outbox_relay", "RELAY_PORT"),
    "relay-2": ("outbox_relay", "RELAY_PORT"),
    "delivery-1": ("delivery_consumer", "DELIVERY_PORT"),
    "delivery-2": ("delivery_consumer", "DELIVERY_PORT"),
    "dlq-1": ("dlq_consumer", "DLQ_PORT"),
    "dlq-2": ("dlq_consumer", "DLQ_PORT"),
}

# What an operator would set to see in seconds what takes minutes in production. The ladder has rungs enough that the
# outages of a run do not use it up.
HURRIED: Mapping[str, str] = {
    "RETRY_LADDER_S": ",".join(map(str, LADDER_S)),
    "DLQ_POLL_S": "0.3",
    "DELIVERY_LEASE_S": "6",
    "SWEEP_AFTER_S": "12",
    "KAFKA_TOPIC_PARTITIONS": str(PARTITIONS),
    "API_WORKERS": "2",
    "WEBHOOK_TIMEOUT_S": "2",
    "SMTP_TIMEOUT_S": "3",
    "SMTP_CONNECTIONS": "20",
    "LOG_LEVEL": "info",
}


class Topology:
    """Every process of a run, with data and logs below one directory.

    The seams of the injectors: `database_url_for` and `kafka_for` say how a service reaches its servers, `argv_for`
    how it is started, `environ_for` with what. All are asked again at each start of a process.
    """

    def __init__(self, run_dir: Path) -> None:
        # A broker that is started every minute is better off without the optimising compiler: a third less work.
        os.environ.setdefault("JAVA_TOOL_OPTIONS", "-XX:TieredStopAtLevel=1")
        self.run_dir = run_dir.absolute()
        self.run_dir.mkdir(parents=True, exist_ok=True)
        self.supervisor = Supervisor(self.run_dir / "logs")
        self.topics = Topics("chaos")
        self.postgres = Postgres(self.run_dir / "postgres", self.supervisor, settings={"log_lock_waits": "off"})
        self.kafka = Kafka(self.run_dir / "kafka", self.supervisor)
        self.ports = {name: free_port() for name in (*SERVICES, "hooks", "smtp")}
        self.key = api_keys.make()
        self.secret = "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
        self.services: dict[str, ManagedProcess] = {}
        self.receivers: dict[str, ManagedProcess] = {}
        # What injectors put in the way; by service name, or "" for all.
        self.database_port: int | None = None
        self.bootstrap_servers: dict[str, str] = {}
        self.proxies: dict[str, Proxy] = {}
        self.extra_environ: dict[str, dict[str, str]] = {}
        self.launchers: dict[str, Callable[[str, str], list[str]]] = {}  # (service, package) -> arguments of python

    @property
    def api_url(self) -> str:
        """Where the producers post."""
        return f"http://127.0.0.1:{self.ports['api']}"

    def database_url_for(self, service: str) -> str:
        """How a service reaches PostgreSQL: directly, unless something was put in between."""
        return self.postgres.dsn(DATABASE, service=SERVICES[service][0], port=self.database_port)

    def kafka_for(self, service: str) -> str:
        """How a service reaches Kafka."""
        servers = self.bootstrap_servers
        return servers.get(service) or servers.get("") or self.kafka.bootstrap_servers

    def argv_for(self, service: str) -> list[str]:
        """How a service is started: its package, unless a launcher was put in front."""
        package = SERVICES[service][0]
        launcher = self.launchers.get(service) or self.launchers.get("")
        return [sys.executable, *(launcher(service, package) if launcher else ["-m", package])]

    def environ_for(self, service: str) -> dict[str, str]:
        """The environment of a service, under the names it has in every deployment."""
        return {
            **os.environ,
            **HURRIED,
            **WITHOUT_LIMITS,
            "PYTHONPATH": str(REPOSITORY),
            "PYTHONFAULTHANDLER": "1",
            "DATABASE_URL": self.database_url_for(service),
            "KAFKA_BOOTSTRAP_SERVERS": self.kafka_for(service),
            "TOPIC_PREFIX": self.topics.prefix,
            "BIND_HOST": "127.0.0.1",
            SERVICES[service][1]: str(self.ports[service]),
            "SMTP_HOST": "127.0.0.1",
            "SMTP_PORT": str(self.ports["smtp"]),
            "SMTP_TLS": "off",
            "SMTP_FROM": "notifications@example.org",
            "WEBHOOK_SECRETS": self.secret,
            "WEBHOOK_ALLOWED_NETWORKS": "127.0.0.0/8",
            **self.extra_environ.get("", {}),
            **self.extra_environ.get(service, {}),
        }

    def start(self) -> None:
        """Start the servers. Receivers and services follow, once the run's configuration has been written."""
        with ThreadPoolExecutor(2) as pool:
            for started in [pool.submit(self._start_postgres), pool.submit(self._start_kafka)]:
                started.result()

    def start_receivers(self) -> None:
        """Start what answers webhooks and mail; both listen when this returns."""
        for name in ("hooks", "smtp"):
            argv = [sys.executable, "-m", f"tests.chaos.{name}", str(self.run_dir)]
            self.receivers[name] = self.supervisor.process(name, argv, cwd=REPOSITORY).start()
        for name, process in self.receivers.items():
            process.wait_until((self.run_dir / f"{name}.ready").exists, timeout_s=_READY_TIMEOUT_S)

    def start_services(self) -> None:
        """Start the services and return once each says that it is ready."""
        for name in SERVICES:
            self.start_service(name)
        for name in SERVICES:
            self.services[name].wait_healthy(self.ready_url(name), timeout_s=_READY_TIMEOUT_S)

    def start_service(self, name: str) -> ManagedProcess:
        """Start a service that does not run, with the settings of now."""
        process = self.supervisor.process(name, self.argv_for(name), env=self.environ_for(name), cwd=self.run_dir)
        self.services[name] = process
        return process.start()

    def replaced_below(self, name: str) -> list[int]:
        """The exit codes of processes that a service's own parent has replaced, as its log has them."""
        lines = self.services[name].log_path.read_bytes().splitlines()
        said = [json.loads(line) for line in lines if b'"event":"process_ended"' in line]
        return [int(one["exit_code"]) for one in said]

    def ready_url(self, name: str) -> str:
        """Where a service says whether it is ready."""
        return f"http://127.0.0.1:{self.ports[name]}/health/ready"

    def stop(self) -> None:
        """End everything, services first; harmless to repeat."""
        for process in self.services.values():
            process.resume()
            if process.is_running:
                process.send_signal(process.stop_signal)
        deadline = time.monotonic() + 25.0
        for process in self.services.values():
            process.terminate(timeout_s=max(1.0, deadline - time.monotonic()))
        self.supervisor.close(timeout_s=10.0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def make_database(self) -> None:
        """Make the database, with the schema and our triggers in it; one that is there already is dropped."""
        self.postgres.drop_database(DATABASE)
        self.postgres.create_database(DATABASE)
        self.postgres.install_schema(DATABASE)
        with psycopg.connect(self.postgres.dsn(DATABASE), autocommit=True) as conn:
            watching.install(conn)
            scopes = ("send", "read", "admin")
            keys_table.add(conn, NewApiKey(self.key.id, DEFAULT_TENANT, self.key.sha256, "chaos", scopes, "chaos"))

    def make_topics(self) -> None:
        """Make the topics."""
        create_topics(self.kafka.bootstrap_servers, self.topics.all(), partitions=PARTITIONS)

    def _start_postgres(self) -> None:
        self.postgres.start()
        self.make_database()

    def _start_kafka(self) -> None:
        self.kafka.start()
        self.make_topics()
