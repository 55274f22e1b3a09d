"""The whole pipeline as processes on one machine: what it is made of, how it starts, where it listens."""

import base64
import hashlib
import os
import secrets
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import Self

from infra.local import callers
from infra.local.errors import LocalStackError
from infra.local.kafka import Kafka, create_topics, is_reachable
from infra.local.ports import is_free, port_from_environment
from infra.local.postgres import SCHEMA, Postgres
from infra.local.processes import ManagedProcess, Supervisor
from shared.records import Topics
from shared.settings import Environment

REPOSITORY = Path(__file__).resolve().parents[2]
DATABASE = "notifications"
DEFAULT_TOPIC_PREFIX = "notifications"
_READY_TIMEOUT_S = 60.0

# Each service's package, and the variable its port has in every deployment.
SERVICES = {
    "api_service": "API_PORT",
    "outbox_relay": "RELAY_PORT",
    "delivery_consumer": "DELIVERY_PORT",
    "dlq_consumer": "DLQ_PORT",
}


@dataclass(frozen=True, slots=True)
class Ports:
    """Where everything listens on 127.0.0.1; each can be set by the variable in its comment."""

    api: int  # API_PORT
    relay: int  # RELAY_PORT
    delivery: int  # DELIVERY_PORT
    dlq: int  # DLQ_PORT
    postgres: int  # DB_PORT
    kafka: int  # KAFKA_PORT
    smtp: int  # SMTP_PORT
    mail: int  # MAIL_PORT: the sink's page
    receiver: int  # RECEIVER_PORT: the webhook receiver

    @classmethod
    def choose(cls, environ: Mapping[str, str], *, documented: bool = False) -> Self:
        """Take what the environment sets; for the rest free ports, or the `documented` ones that are free.

        Raises LocalStackError for a set port that is none or is taken.
        """
        chosen: dict[str, int] = {}
        for name, (variable, usual) in PORT_VARIABLES.items():
            if documented and not environ.get(variable, "").strip() and is_free(usual):
                chosen[name] = usual
            else:
                chosen[name] = port_from_environment(environ, variable)
        if len(set(chosen.values())) < len(chosen):
            twice = [PORT_VARIABLES[name][0] for name, port in chosen.items() if list(chosen.values()).count(port) > 1]
            raise LocalStackError(f"{' and '.join(twice)} name the same port; give each its own.")
        return cls(**chosen)

    def moved(self, environ: Mapping[str, str]) -> list[str]:
        """Say where each part is that gave way, because its documented port was taken and none was set."""
        return [
            f"{usual} was taken, so {_LISTENERS[name]} is at {getattr(self, name)}."
            for name, (variable, usual) in PORT_VARIABLES.items()
            if getattr(self, name) != usual
            and not environ.get(variable, "").strip()
            and not (name == "kafka" and environ.get("KAFKA_BOOTSTRAP_SERVERS", "").strip())  # none is started
        ]


# Part of Ports -> its variable, and the port that the documentation names.
PORT_VARIABLES = {
    "api": ("API_PORT", 8080),
    "relay": ("RELAY_PORT", 8081),
    "delivery": ("DELIVERY_PORT", 8082),
    "dlq": ("DLQ_PORT", 8083),
    "postgres": ("DB_PORT", 5432),
    "kafka": ("KAFKA_PORT", 9092),
    "smtp": ("SMTP_PORT", 1025),
    "mail": ("MAIL_PORT", 8025),
    "receiver": ("RECEIVER_PORT", 9000),
}
_LISTENERS = {
    "api": "the API",
    "relay": "outbox_relay",
    "delivery": "delivery_consumer",
    "dlq": "dlq_consumer",
    "postgres": "PostgreSQL",
    "kafka": "Kafka",
    "smtp": "the mail sink's SMTP",
    "mail": "the mailbox",
    "receiver": "the webhook receiver",
}
assert set(PORT_VARIABLES) == {field.name for field in fields(Ports)}  # noqa: S101 - checked at import, by every test


class Stack:
    """PostgreSQL, Kafka, the two receivers and the four services, with their data below one directory.

    `environ` is passed on to the services (so RETRY_LADDER_S and the like work as in a container) except for the
    addresses, which are this stack's own. The data survives; a second start continues where the first one stopped.
    Without receivers somebody else has to listen at their ports.
    """

    def __init__(
        self,
        data_dir: Path,
        ports: Ports,
        *,
        environ: Mapping[str, str] = os.environ,
        say: Callable[[str], None] = print,
        with_receivers: bool = True,
    ) -> None:
        self.data_dir = data_dir.absolute()
        self.data_dir.mkdir(parents=True, exist_ok=True)
        self.ports = ports
        self._environ = dict(environ)
        self._say = say
        self._with_receivers = with_receivers
        self.supervisor = Supervisor(self.data_dir / "logs")
        self.topics = Topics(environ.get("TOPIC_PREFIX") or DEFAULT_TOPIC_PREFIX)
        self.postgres = Postgres(self.data_dir / "postgres", self.supervisor, port=ports.postgres)
        given = environ.get("KAFKA_BOOTSTRAP_SERVERS", "").strip()
        self.kafka = None if given else Kafka(self.data_dir / "kafka", self.supervisor, port=ports.kafka)
        self.bootstrap_servers = self.kafka.bootstrap_servers if self.kafka else given
        self.services: dict[str, ManagedProcess] = {}
        self.receivers: dict[str, ManagedProcess] = {}

    @property
    def urls(self) -> dict[str, str]:
        """Where a person or a test finds what."""
        base = "http://127.0.0.1"
        return {
            "api": f"{base}:{self.ports.api}",
            "relay": f"{base}:{self.ports.relay}",
            "delivery": f"{base}:{self.ports.delivery}",
            "dlq": f"{base}:{self.ports.dlq}",
            "mail": f"{base}:{self.ports.mail}",
            "receiver": f"{base}:{self.ports.receiver}",
            "postgres": self.postgres.dsn(DATABASE),
            "kafka": self.bootstrap_servers,
        }

    @property
    def processes(self) -> list[ManagedProcess]:
        """Every process of a started stack."""
        servers = [self.postgres.process, *([self.kafka.process] if self.kafka else [])]
        return [*servers, *self.receivers.values(), *self.services.values()]

    def start(self) -> None:
        """Start everything and return once every part says it is ready. Raises LocalStackError; nothing stays then."""
        pool = ThreadPoolExecutor(3)
        try:
            receivers = (self._receivers,) if self._with_receivers else ()
            for started in [pool.submit(part) for part in (self._postgres, self._kafka, *receivers)]:
                started.result()
            self._services()
        except BaseException:  # Ctrl-C as well
            self.stop()  # has the other parts fail at once instead of being waited for
            raise
        finally:
            pool.shutdown()

    def stop(self) -> None:
        """End everything in order: services first, so that they can finish what they began; harmless to repeat."""
        for process in self.services.values():
            if process.is_running:
                process.send_signal(process.stop_signal)
        for process in self.services.values():
            process.terminate()
        self.supervisor.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def service_environ(self, service: str | None = None) -> dict[str, str]:
        """The environment of a service, under the names it has in every deployment; of others: with the superuser."""
        own = {
            "PYTHONPATH": os.pathsep.join(filter(None, [str(REPOSITORY), self._environ.get("PYTHONPATH", "")])),
            "DATABASE_URL": self.postgres.dsn(DATABASE, service=service),
            "KAFKA_BOOTSTRAP_SERVERS": self.bootstrap_servers,
            "TOPIC_PREFIX": self.topics.prefix,
            "BIND_HOST": "127.0.0.1",
            "API_PORT": str(self.ports.api),
            "RELAY_PORT": str(self.ports.relay),
            "DELIVERY_PORT": str(self.ports.delivery),
            "DLQ_PORT": str(self.ports.dlq),
            "SMTP_HOST": "127.0.0.1",
            "SMTP_PORT": str(self.ports.smtp),
            "SMTP_TLS": "off",
            "SMTP_USER": "",  # nobody logs in to the sink; and without TLS a service refuses to
            "SMTP_PASS": "",
            "SMTP_FROM": self._environ.get("SMTP_FROM") or "notifications@example.org",
            "WEBHOOK_SECRETS": self._secret("WEBHOOK_SECRETS", "webhook-secret", "whsec_"),
            "SECRETS_KEYS": self._secret("SECRETS_KEYS", "secrets-key", "k1:"),
            "AUTH_MODE": self._environ.get("AUTH_MODE") or "keys",
            "JWT_KEYS": self._secret("JWT_KEYS", "jwt-key", "k1:"),
            "TEST_WEBHOOK": self._environ.get("TEST_WEBHOOK") or "on",
            "WEBHOOK_ALLOWED_NETWORKS": "127.0.0.0/8",  # the receiver; every other private address stays refused
            "NOTIFICATION_WEBHOOK_URL": f"http://127.0.0.1:{self.ports.receiver}/hooks/default",
            **({"KAFKA_SECURITY_PROTOCOL": "plaintext"} if self.kafka else {}),
        }
        # A file goes before a variable in the services: the operator's would lead them elsewhere.
        files = {f"{name}_FILE" for name in own}
        return {name: value for name, value in self._environ.items() if name not in files} | own

    def _secret(self, variable: str, file: str, prefix: str) -> str:
        """The operator's value of a variable, or one made once for this data directory: prefix and 32 random bytes."""
        env = Environment(self._environ)
        if given := env.raw(variable):
            return given
        if env.faults:
            raise LocalStackError(str(env.faults[0]))  # whoever names a file does not mean to go without
        return self._kept(file, lambda: prefix + base64.b64encode(secrets.token_bytes(32)).decode())

    @property
    def api_key(self) -> str:
        """The key that this stack's own clients call with. Raises LocalStackError before the services were started."""
        return self._kept("api-key", _not_made)

    @property
    def secrets_keys_file(self) -> str:
        """The file with the keys that secrets are sealed with here; empty where the operator's environment has them."""
        return "" if Environment(self._environ).raw("SECRETS_KEYS") else str(self.data_dir / "secrets-key")

    def _kept(self, name: str, make: Callable[[], str]) -> str:
        """A secret that was made once for this data directory."""
        kept = self.data_dir / name
        if not kept.exists():
            secret, unfinished = make(), kept.with_suffix(".new")
            unfinished.touch(mode=0o600)
            unfinished.write_text(secret)
            unfinished.replace(kept)
        return kept.read_text()

    def _postgres(self) -> None:
        began = time.monotonic()
        self.postgres.start()
        digest = hashlib.sha256(SCHEMA.read_bytes()).hexdigest()
        applied = self.data_dir / "schema.sha256"
        if not applied.exists():  # first start, or one that was interrupted before the schema was complete
            self.postgres.drop_database(DATABASE)
            self.postgres.create_database(DATABASE)
            self.postgres.install_schema(DATABASE)
            (self.data_dir / "api-key").unlink(missing_ok=True)  # it was of another database
            applied.write_text(digest)
        elif applied.read_text() != digest:
            raise LocalStackError(
                f"The database in {self.data_dir} was made from another version of init.sql; "
                "`python -m infra.local up --fresh` starts over with an empty one."
            )
        self._ready("PostgreSQL", self.ports.postgres, began)

    def _kafka(self) -> None:
        began = time.monotonic()
        if self.kafka is not None:
            self.kafka.start()
        elif not is_reachable(self.bootstrap_servers, timeout_s=10.0):
            raise LocalStackError(f"No Kafka answers at KAFKA_BOOTSTRAP_SERVERS={self.bootstrap_servers}.")
        create_topics(self.bootstrap_servers, self.topics.all(), partitions=topic_partitions(self._environ))
        self._ready("Apache Kafka", self.bootstrap_servers.rpartition(":")[2], began)

    def _receivers(self) -> None:
        began = time.monotonic()
        ports = self.ports
        mail = ["infra.local.smtp_sink", f"--smtp-port={ports.smtp}", f"--http-port={ports.mail}"]
        hooks = ["infra.local.webhook_receiver", f"--port={ports.receiver}"]
        for name, command, port in (("smtp_sink", mail, ports.mail), ("webhook_receiver", hooks, ports.receiver)):
            self.receivers[name] = self._python(name, command).start()
            self.receivers[name].wait_healthy(_ready_url(port), timeout_s=_READY_TIMEOUT_S)
        self._ready("Mail sink and webhook receiver", f"{ports.mail}, {ports.receiver}", began)

    def _services(self) -> None:
        began = time.monotonic()
        environ = self.service_environ()
        for name in SERVICES:
            self.services[name] = self._python(name, [name]).start()
        self._kept("api-key", lambda: callers.make_key(environ, self.data_dir))  # while they start
        for name, variable in SERVICES.items():
            self.services[name].wait_healthy(_ready_url(environ[variable]), timeout_s=_READY_TIMEOUT_S)
            self._ready(name, environ[variable], began)
        if callers.is_refused(self.urls["api"], self.api_key):  # revoked since the start before this one
            (self.data_dir / "api-key").unlink()
            self._kept("api-key", lambda: callers.make_key(environ, self.data_dir))
            self._say("  The key kept from before is refused; another one was made.")

    def _python(self, name: str, module: Sequence[str]) -> ManagedProcess:
        # The working directory is not the clone: a .env made for the containers names their hosts.
        environ = self.service_environ(name if name in SERVICES else None)
        return self.supervisor.process(name, [sys.executable, "-m", *module], env=environ, cwd=self.data_dir)

    def _ready(self, name: str, port: int | str, began: float) -> None:
        self._say(f"  {name:<32} ready after {time.monotonic() - began:4.1f} s   port {port}")


def _not_made() -> str:
    raise LocalStackError("The stack's API key is made when its services start.")


def topic_partitions(environ: Mapping[str, str]) -> int:
    """Return KAFKA_TOPIC_PARTITIONS, 10 if unset. Raises LocalStackError."""
    value = environ.get("KAFKA_TOPIC_PARTITIONS", "").strip() or "10"
    if not value.isascii() or not value.isdigit() or not 1 <= int(value) <= 1_000:
        raise LocalStackError(f"KAFKA_TOPIC_PARTITIONS={value!r} is not a number from 1 to 1000.")
    return int(value)


def _ready_url(port: int | str) -> str:
    return f"http://127.0.0.1:{port}/health/ready"
