"""What is loaded: the embedded stack, started for this run, or the installation that TARGET_URL names.

TARGET_URL           the API, such as https://notify.test.example.org; without it the embedded stack is started
TARGET_API_KEY       the API key it is called with, of the scope send; none for an API of AUTH_MODE=open
TARGET_RELAY_URL, TARGET_DELIVERY_URL   where their /metrics are, for backlog and lag in the report
TARGET_DATABASE_URL  for the ledger's verdict and the database's figures; the DLQ test needs it
SINK_HOST            under which name the target reaches this machine (127.0.0.1); it must be in the target's
                     WEBHOOK_ALLOWED_NETWORKS
SINK_SMTP_PORT       the port here that the target's SMTP_HOST and SMTP_PORT lead to; without it e-mails cannot be
                     followed, and the profile's mix has to be of webhooks
"""

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from infra.local.callers import WITHOUT_LIMITS
from infra.local.ports import free_port
from infra.local.processes import ManagedProcess, Supervisor
from infra.local.stack import DATABASE, SERVICES, Ports, Stack
from loadtest.elsewhere import API_KEY, faults
from loadtest.errors import RunError
from loadtest.profiles import Profile, ProfileError

_READY_S = 60.0
_OURS = ("DATABASE_URL", "TOPIC_PREFIX", "SMTP_FROM")  # of the environment: not for the embedded stack


@dataclass(slots=True)
class Target:
    """Something to load. Where a part cannot be looked at, its URL is missing."""

    api_url: str
    hook_host: str
    sink_host: str  # what the sink binds
    smtp_port: int
    hook_ports: list[int]
    supervisor: Supervisor
    metrics: dict[str, list[str]] = field(default_factory=dict)  # service -> base URLs
    database_url: str | None = field(default=None, repr=False)
    api_key: str | None = field(default=None, repr=False)
    stack: Stack | None = None
    copies: dict[str, ManagedProcess] = field(default_factory=dict)

    @property
    def hooks(self) -> list[str]:
        """The webhook origins as the target reaches them."""
        return [f"http://{self.hook_host}:{port}" for port in self.hook_ports]

    @property
    def processes(self) -> dict[str, list[int]]:
        """The pids of each part; none of an installation elsewhere."""
        if self.stack is None:
            return {}
        parts: dict[str, list[int]] = {"postgres": [self.stack.postgres.process.pid]}
        if self.stack.kafka:
            parts["kafka"] = [self.stack.kafka.process.pid]
        for name, process in [*self.stack.services.items(), *self.copies.items()]:
            parts.setdefault(name.partition("-")[0], []).append(process.pid)
        return parts

    def check(self) -> None:
        """Raise RunError if a part of it has ended."""
        for process in [*(self.stack.processes if self.stack else ()), *self.copies.values()]:
            if not process.is_running:
                raise RunError(f"{process.name} ended with {process.returncode}; its log is in .local/loadtest/logs")

    def add_copies(self, copies: Mapping[str, int]) -> None:
        """Start more processes of a service, so that there are so many."""
        assert self.stack is not None  # noqa: S101 - nothing can be started elsewhere
        for service, wanted in copies.items():
            for number in range(2, wanted + 1):
                name, port = f"{service}-{number}", free_port()
                environ = self.stack.service_environ() | {SERVICES[service]: str(port)}
                command = [sys.executable, "-m", service]
                process = self.supervisor.process(name, command, env=environ, cwd=self.stack.data_dir)
                self.copies[name] = process.start()
                self.metrics[service].append(f"http://127.0.0.1:{port}")
        for name, process in self.copies.items():
            service, _, which = name.partition("-")
            process.wait_healthy(f"{self.metrics[service][int(which) - 1]}/health/ready", timeout_s=_READY_S)

    def stop(self) -> None:
        """End what was started."""
        for process in self.copies.values():
            process.terminate()
        if self.stack is not None:
            self.stack.stop()
        self.supervisor.close()


def embedded(profile: Profile, directory: Path, *, run: str, say: Callable[[str], None]) -> Target:
    """Describe the embedded stack for a profile."""
    ours = {name: value for name, value in os.environ.items() if name not in _OURS and not name.startswith("DB_")}
    environ = {**ours, **WITHOUT_LIMITS, "TOPIC_PREFIX": f"loadtest-{run}", **profile.target.settings}
    ports = Ports.choose({})
    stack = Stack(directory / "stack", ports, environ=environ, say=say, with_receivers=False)
    metrics = {service: [stack.urls[part]] for part, service in _PARTS.items()}
    return Target(
        api_url=stack.urls["api"],
        hook_host="127.0.0.1",
        sink_host="127.0.0.1",
        smtp_port=ports.smtp,
        hook_ports=[free_port() for _ in range(profile.receivers.origins)],
        supervisor=stack.supervisor,
        metrics=metrics,
        stack=stack,
    )


_PARTS = {"relay": "outbox_relay", "delivery": "delivery_consumer", "dlq": "dlq_consumer"}


Maker = Callable[[Path, str], Target]


def described(environ: Mapping[str, str]) -> str:
    """What a result calls the target."""
    return environ.get("TARGET_URL", "").rstrip("/") or "the embedded stack"


def maker(profile: Profile, environ: Mapping[str, str], *, say: Callable[[str], None]) -> Maker:
    """Return what describes the target in a directory of a run. Raises ProfileError with every fault, first."""
    if not environ.get("TARGET_URL"):
        return lambda directory, run: embedded(profile, directory, run=run, say=say)
    if found := faults(profile, environ):
        raise ProfileError(found)
    return lambda directory, _: elsewhere(profile, directory, environ)


def elsewhere(profile: Profile, directory: Path, environ: Mapping[str, str]) -> Target:
    """Describe the installation of TARGET_URL."""
    host, smtp = environ.get("SINK_HOST") or "127.0.0.1", environ.get("SINK_SMTP_PORT")
    metrics = {
        service: [environ[name].rstrip("/")]
        for name, service in (("TARGET_RELAY_URL", "outbox_relay"), ("TARGET_DELIVERY_URL", "delivery_consumer"))
        if environ.get(name)
    }
    return Target(
        api_url=environ["TARGET_URL"].rstrip("/"),
        hook_host=host,
        sink_host="127.0.0.1" if host == "127.0.0.1" else "0.0.0.0",  # noqa: S104 - that is what it is for
        smtp_port=int(smtp) if smtp else free_port(),
        hook_ports=[free_port() for _ in range(profile.receivers.origins)],
        supervisor=Supervisor(directory / "logs"),
        metrics=metrics,
        database_url=environ.get("TARGET_DATABASE_URL") or None,
        api_key=environ.get(API_KEY) or None,
    )


def start_embedded(target: Target, profile: Profile) -> None:
    """Start the embedded stack with as many of each service as the profile says."""
    assert target.stack is not None  # noqa: S101
    target.stack.start()
    target.database_url = target.stack.postgres.dsn(DATABASE)
    target.api_key = target.stack.api_key
    copies = {"outbox_relay": profile.target.outbox_relays, "delivery_consumer": profile.target.delivery_consumers}
    target.add_copies(copies)
