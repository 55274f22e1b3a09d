"""Typed reading of the environment. A reader gathers every fault, so a bad start names all of them at once."""

import ipaddress
import os
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import NoReturn, TypeVar
from urllib.parse import quote

from dotenv import load_dotenv

from shared.key_rings import NamedKey, has_a_kid_twice, parse_named_key

T = TypeVar("T")
E = TypeVar("E", bound=StrEnum)
EXIT_BAD_CONFIGURATION = 2


@dataclass(frozen=True, slots=True)
class Fault:
    """One setting that cannot be used."""

    variable: str
    value: str | None
    expected: str

    def __str__(self) -> str:
        shown = "not set" if self.value is None else f"{self.value!r}"
        return f"{self.variable}: {shown}; expected {self.expected}"


class SettingsError(Exception):
    """The environment cannot be used; `faults` holds all that is wrong with it."""

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__("; ".join(map(str, faults)))
        self.faults = faults


class Environment:
    """Reads variables by type and remembers each fault; `check()` raises if there was any.

    A reading method returns its default in place of a faulty value, so that reading goes on. `NAME_FILE` names a file
    whose content is the value of `NAME`. `variables` lists every name asked for, which .env.example is compared with.
    """

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = values
        self.faults: list[Fault] = []
        self.variables: dict[str, str] = {}

    def check(self) -> None:
        """Raise SettingsError with every fault found so far."""
        if self.faults:
            raise SettingsError(self.faults)

    def raw(self, name: str) -> str | None:
        """Return the trimmed value of a variable, or of the file that `NAME_FILE` names; None if unset or empty."""
        if path := self._values.get(f"{name}_FILE", "").strip():
            try:
                return Path(path).read_text(encoding="utf-8").strip() or None
            except (OSError, UnicodeDecodeError):
                self.faults.append(Fault(f"{name}_FILE", path, "a readable text file"))
        return self._values.get(name, "").strip() or None

    def text(self, name: str, default: str | None = None, *, secret: bool = False) -> str:
        """Return a string; without a default an unset variable is a fault."""
        if default is None and self.raw(name) is None:
            self.variables.setdefault(name, "")
            self.faults.append(Fault(name, None, "a value"))
        return self._parsed(name, default or "", "a value", str, secret=secret)

    def optional_text(self, name: str) -> str | None:
        """Return a string, or None where the variable is not set."""
        self.variables.setdefault(name, "")
        return self.raw(name)

    def integer(self, name: str, default: int, *, low: int, high: int) -> int:
        """Return a whole number within [low, high]."""

        def parse(value: str) -> int:
            number = int(value)
            if not low <= number <= high:
                raise ValueError
            return number

        return self._parsed(name, default, f"a whole number from {low} to {high}", parse)

    def seconds(self, name: str, default: float, *, low: float, high: float) -> float:
        """Return a number of seconds within [low, high]."""

        def parse(value: str) -> float:
            number = float(value)
            if not low <= number <= high:
                raise ValueError
            return number

        return self._parsed(name, default, f"seconds from {_plain(low)} to {_plain(high)}", parse)

    def choice(self, name: str, default: E, kind: type[E]) -> E:
        """Return a member of an enumeration, whatever the case it is written in."""
        return self._parsed(name, default, "one of " + ", ".join(kind), lambda value: kind(value.lower()))

    def listed(
        self, name: str, default: str, expected: str, parse: Callable[[str], T], *, secret: bool = False
    ) -> tuple[T, ...]:
        """Return the comma-separated items of a variable, each parsed; `parse` raises ValueError for a bad one."""

        def parse_all(value: str) -> tuple[T, ...]:
            return tuple(parse(item.strip()) for item in value.split(",") if item.strip())

        return self._parsed(name, parse_all(default), expected, parse_all, secret=secret, shown_default=default)

    def key_ring(self, name: str, *, low: int, high: int) -> tuple[NamedKey, ...]:
        """Return the keys of a ring written `<kid>:<base64>`, each of `low` to `high` bytes; none by default."""
        size = f"{low}" if low == high else f"{low} to {high}"
        expected = f"<kid>:<base64 of {size} random bytes>, several separated by commas, each kid once"
        keys = self.listed(name, "", expected, lambda item: parse_named_key(item, low=low, high=high), secret=True)
        if has_a_kid_twice(keys):
            self.faults.append(Fault(name, "(hidden)", expected))
            return ()
        return keys

    def networks(self, name: str) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
        """Return comma-separated networks such as 10.0.0.0/8; none by default."""
        return self.listed(name, "", "networks such as 10.0.0.0/8,fd00::/8", ipaddress.ip_network)

    def _parsed(
        self,
        name: str,
        default: T,
        expected: str,
        parse: Callable[[str], T],
        *,
        secret: bool = False,
        shown_default: str | None = None,
    ) -> T:
        self.variables.setdefault(name, str(default) if shown_default is None else shown_default)
        value = self.raw(name)
        if value is None:
            return default
        try:
            return parse(value)
        except ValueError:
            self.faults.append(Fault(name, "(hidden)" if secret else value, expected))
            return default


def _plain(number: float) -> str:
    return f"{number:.0f}" if number == int(number) else f"{number}"


class GroupProtocol(StrEnum):
    """How consumer groups are balanced: KIP-848 on the broker (`consumer`), or by the clients (`classic`)."""

    CONSUMER = "consumer"
    CLASSIC = "classic"


class LogLevel(StrEnum):
    """From which level on log lines are written."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class ServiceSettings:
    """What every service reads."""

    conninfo: str  # DATABASE_URL, or DB_HOST, DB_PORT, DB_USER, DB_PASS, DB_NAME
    bind_host: str  # BIND_HOST: address that health, metrics and the API listen on
    port: int  # API_PORT, RELAY_PORT, DELIVERY_PORT, DLQ_PORT
    log_level: LogLevel  # LOG_LEVEL

    def __repr__(self) -> str:
        return f"{type(self).__name__}(port={self.port})"  # conninfo holds a password


@dataclass(frozen=True, slots=True)
class KafkaSettings:
    """Where Kafka is and how this installation names things in it."""

    bootstrap_servers: str  # KAFKA_BOOTSTRAP_SERVERS, or KAFKA_BROKER
    topic_prefix: str  # TOPIC_PREFIX
    group_protocol: GroupProtocol  # KAFKA_GROUP_PROTOCOL


def read_service(env: Environment, *, port_variable: str, port: int) -> ServiceSettings:
    """Read what every service needs, its own port under `port_variable`."""
    return ServiceSettings(
        conninfo=read_conninfo(env),
        bind_host=_address(env),
        port=env.integer(port_variable, port, low=1, high=65535),
        log_level=env.choice("LOG_LEVEL", LogLevel.INFO, LogLevel),
    )


def _address(env: Environment) -> str:
    host = env.text("BIND_HOST", "0.0.0.0")  # noqa: S104 - a container listens on all its addresses
    try:
        ipaddress.ip_address(host)
    except ValueError:
        if host != "localhost":
            env.faults.append(Fault("BIND_HOST", host, "an address of this machine, such as 127.0.0.1 or ::"))
    return host


def read_conninfo(env: Environment) -> str:
    """Return the libpq connection string: DATABASE_URL if set, else put together from DB_*."""
    host = env.text("DB_HOST", "localhost")
    port = env.integer("DB_PORT", 5432, low=1, high=65535)
    user = env.text("DB_USER", "notify")
    password = env.text("DB_PASS", "", secret=True)
    name = env.text("DB_NAME", "notifications")
    if url := env.optional_text("DATABASE_URL"):
        if not re.match(r"postgres(ql)?://|\w+\s*=", url):
            env.faults.append(Fault("DATABASE_URL", "(hidden)", "postgresql://user:password@host:port/name"))
        return url
    secret = f":{quote(password, safe='')}" if password else ""
    return f"postgresql://{quote(user, safe='')}{secret}@{quote(host, safe='')}:{port}/{quote(name, safe='')}"


def read_kafka(env: Environment) -> KafkaSettings:
    """Read where Kafka is; KAFKA_BROKER is the older name of KAFKA_BOOTSTRAP_SERVERS."""
    newer, older = env.optional_text("KAFKA_BOOTSTRAP_SERVERS"), env.optional_text("KAFKA_BROKER")
    servers = newer or older or "localhost:9092"
    if not all(re.fullmatch(r"[^\s:,]+:\d{1,5}", server.strip()) for server in servers.split(",")):
        name = "KAFKA_BOOTSTRAP_SERVERS" if newer else "KAFKA_BROKER"
        env.faults.append(Fault(name, servers, "host:port, several separated by commas"))
    return KafkaSettings(
        bootstrap_servers=servers,
        topic_prefix=read_topic_prefix(env),
        group_protocol=env.choice("KAFKA_GROUP_PROTOCOL", GroupProtocol.CONSUMER, GroupProtocol),
    )


def read_secrets_keys(env: Environment) -> tuple[NamedKey, ...]:
    """Read the ring that secrets at rest are sealed with, for `shared.secrets.Keyring`: AES-256, so 32 bytes each."""
    return env.key_ring("SECRETS_KEYS", low=32, high=32)


def read_topic_prefix(env: Environment) -> str:
    """Read the prefix of every topic's name, which routing needs even where Kafka itself is not touched."""
    prefix = env.text("TOPIC_PREFIX", "notifications")
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,200}", prefix):
        env.faults.append(Fault("TOPIC_PREFIX", prefix, "letters, digits, dots, dashes, underscores; at most 200"))
    return prefix


def settings_or_exit(service: str, read: Callable[[Environment], T]) -> T:
    """Read the settings of a service from the process environment and .env; on any fault list all and exit 2."""
    load_dotenv(Path.cwd() / ".env")
    env = Environment(os.environ)
    settings = read(env)
    try:
        env.check()
    except SettingsError as error:
        refuse_to_start(service, [str(fault) for fault in error.faults])
    return settings


def refuse_to_start(service: str, faults: list[str]) -> NoReturn:
    """Print why a service cannot start, a fault a line, and exit 2."""
    print(f"{service} cannot start, {len(faults)} setting(s) to mend:", *faults, sep="\n  ", file=sys.stderr)
    raise SystemExit(EXIT_BAD_CONFIGURATION)
