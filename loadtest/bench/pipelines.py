"""Whole pipelines, ours and the peers', behind one face: something that accepts by HTTP and posts webhooks."""

import json
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from infra.local.ports import free_port
from infra.local.stack import SERVICES
from loadtest.bench.frame import ContenderUnavailableError
from loadtest.bench.peers import described
from loadtest.bench.rig import SECRET, Installation, Rig
from loadtest.bench.waiting import wait_for
from loadtest.peers import environment, settings

NOTIFICATIONS: Final = "/api/v1/notifications"
TASK_QUEUES: Final = ("dramatiq", "Celery")
_MODULES: Final = {peer: f"loadtest.peers.programs.{peer.lower()}_app" for peer in TASK_QUEUES}
_SLOTS: Final = 200
_MESSAGES: Final = """
    CREATE TABLE IF NOT EXISTS messages (
        id uuid PRIMARY KEY, recipient text NOT NULL, body jsonb NOT NULL, status text NOT NULL DEFAULT 'pending',
        created_at timestamptz NOT NULL DEFAULT now(), updated_at timestamptz NOT NULL DEFAULT now())
"""


@dataclass(frozen=True, slots=True)
class Running:
    """A pipeline that runs: where it takes what, and its processes by name."""

    port: int
    path: str
    batch_path: str
    processes: Mapping[str, list[int]]


class Pipeline(Protocol):
    """Takes notifications by HTTP, stores them durably, posts them signed, and records that they were sent."""

    name: str
    what: str
    installation: Installation

    def setup(self) -> None:
        """Prepare it. Raises ContenderUnavailableError."""
        ...

    @contextmanager
    def running(self) -> Iterator[Running]:
        """Run all of its processes on an empty database."""
        ...

    def all_recorded(self) -> bool:
        """Say whether everything accepted is recorded as sent."""
        ...


class Ours:
    """The four services."""

    name = "ours"

    def __init__(self, installation: Installation, *, keep: bool = False, processes: int = 1) -> None:
        self.what = (
            f"the four services, Kafka and PostgreSQL; {_SLOTS} connections to the receiver, "
            f"delivery processes: {processes}"
        )
        self.installation, self._keep, self._processes = installation, keep, processes

    def setup(self) -> None:
        """Nothing is needed but the installation."""

    @contextmanager
    def running(self) -> Iterator[Running]:
        """Run API, relay, delivery and DLQ consumer."""
        if not self._keep:
            self.installation.empty()
        slots = str(_SLOTS // self._processes)
        environ = {"DELIVERY_PROCESSES": str(self._processes), "DELIVERY_CONCURRENCY": slots, "SMTP_PORT": "25"}
        environ["DESTINATION_CONCURRENCY"] = slots
        with ExitStack() as stack:
            services = {name: stack.enter_context(self.installation.running(name, **environ)) for name in SERVICES}
            rig = self.installation.rig
            processes = {name: [service.pid] for name, service in services.items()}
            servers = {"postgres": [rig.postgres.process.pid], "kafka": [rig.kafka.process.pid]}
            yield Running(services["api_service"].port, NOTIFICATIONS, f"{NOTIFICATIONS}/batch", processes | servers)

    def all_recorded(self) -> bool:
        """Say whether no attempt is open."""
        with self.installation.connect() as conn:
            query = "SELECT NOT EXISTS (SELECT FROM delivery_attempts WHERE outcome = 'begun')"
            return bool(conn.execute(query).fetchall()[0][0])


class TaskQueue:
    """A peer: Flask behind gunicorn, Redis, and workers that read the row, post it, and update it."""

    def __init__(
        self,
        installation: Installation,
        peer: str,
        *,
        name: str | None = None,
        changed: Mapping[str, Any] | None = None,
    ) -> None:
        self._peer, self._changed, self.installation = peer, dict(changed or {}), installation
        self.name, self.what = name or peer, f"Redis, requests; {described(peer, self._changed)}"
        self._redis = Path()

    def setup(self) -> None:
        """Make its table."""
        try:
            self._redis = environment.program("redis-server")
        except environment.NotInstalledError as error:
            raise ContenderUnavailableError(str(error)) from error
        self.installation.execute(_MESSAGES)

    @contextmanager
    def running(self) -> Iterator[Running]:
        """Run Redis, the API and the workers."""
        self.installation.execute("TRUNCATE messages", "CHECKPOINT")
        rig, port, redis_port = self.installation.rig, free_port(), free_port()
        config = {**settings.of(self._peer), **self._changed}
        environ = rig.environ(
            DATABASE_URL=self.installation.dsn,
            BENCH_SECRET=SECRET,
            BENCH_REDIS=f"redis://127.0.0.1:{redis_port}/0",
            BENCH_SETTINGS=json.dumps(self._changed),
            dramatiq_queue_prefetch=str(config["prefetch"]),
        )
        redis: list[str | Path] = [self._redis, "--port", str(redis_port), "--bind", "127.0.0.1", *settings.REDIS]
        gunicorn = ["-b", f"127.0.0.1:{port}", "-k", "gthread", "-w", str(settings.API_WORKERS)]
        gunicorn += ["--threads", str(settings.API_THREADS), "--keep-alive", str(settings.API_KEEPALIVE_S)]
        with ExitStack() as stack:

            def start(name: str, argv: Sequence[str | Path]) -> int:
                process = rig.start(name, argv, environ)
                stack.callback(process.kill)
                return process.pid

            processes = {"redis": [start("redis", redis)], "postgres": [rig.postgres.process.pid]}
            wait_for(lambda: _listens(redis_port), timeout_s=60, what="Redis")
            processes["api"] = [
                start("peer-api", [environment.program("gunicorn"), *gunicorn, f"{_MODULES[self._peer]}:api()"])
            ]
            processes["workers"] = [
                start(f"worker-{number}", [environment.program(argv[0]), *argv[1:]])
                for number, argv in enumerate(_workers(self._peer, config))
            ]
            wait_for(lambda: _listens(port), timeout_s=60, what="the peer's API")
            yield Running(port, "/notifications", "/notifications/batch", processes)

    def all_recorded(self) -> bool:
        """Say whether every row is sent."""
        with self.installation.connect() as conn:
            query = "SELECT NOT EXISTS (SELECT FROM messages WHERE status <> 'sent')"
            return bool(conn.execute(query).fetchall()[0][0])


def peers(rig: Rig) -> list[Pipeline]:
    """Return the task queues."""
    installation = rig.installation("task_queues", brokers="none:0")
    return [TaskQueue(installation, peer) for peer in TASK_QUEUES]


def _workers(peer: str, config: Mapping[str, Any]) -> list[list[str]]:
    """Return the commands of its workers."""
    module = _MODULES[peer]
    if peer == "dramatiq":
        return [["dramatiq", "-p", str(config["processes"]), "-t", str(config["threads"]), module]]
    celery = ["celery", "-A", module, "worker", "-P", config["pool"], *settings.CELERY_OPTIONS]
    if config["pool"] != "solo":  # children of one process
        return [[*celery, "-c", str(config["workers"]), "-n", "worker@bench"]]
    return [[*celery, "-n", f"worker{number}@bench"] for number in range(config["workers"])]


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
