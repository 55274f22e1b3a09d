"""Typed reading of the environment. A reader gathers every fault, so a bad start names all of them at once."""

import ipaddress
import os
import re
import ssl
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final, NoReturn, TypeVar

from dotenv import load_dotenv

from shared.conninfo import read_conninfo
from shared.kafka_security import KafkaSecurity, read_kafka_security
from shared.key_rings import NamedKey, has_a_kid_twice, parse_named_key
from shared.weak_secrets import is_guessable, is_public

T = TypeVar("T")
E = TypeVar("E", bound=StrEnum)
EXIT_BAD_CONFIGURATION = 2
_ON, _OFF = ("on", "true", "yes", "1"), ("off", "false", "no", "0")
EXAMPLES_SWITCH: Final = "ALLOW_EXAMPLE_SECRETS"
_OF_YOUR_OWN: Final = (
    f"a secret of your own: everybody knows this one; {EXAMPLES_SWITCH}=on permits it, for trying things out"
)


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
        self._found: dict[str, str | None] = {}
        self.faults: list[Fault] = []
        self.variables: dict[str, str] = {}
        self.public_secrets: list[str] = []  # variables whose secrets everybody knows, and that are permitted
        self._permits_examples = self.switch(EXAMPLES_SWITCH, default=False)

    def check(self) -> None:
        """Raise SettingsError with every fault found so far."""
        if self.faults:
            raise SettingsError(self.faults)

    def refuse(self, name: str, value: str | None, expected: str) -> None:
        """Remember that a setting cannot be used, for a reason that its reader alone knows."""
        self.faults.append(Fault(name, value, expected))

    def raw(self, name: str) -> str | None:
        """Return the trimmed value of a variable, or of the file that `NAME_FILE` names; None if unset or empty.

        The file goes before the variable. One that cannot be read, or holds nothing, is a fault: whoever names a file
        does not mean to go without.
        """
        if name not in self._found:
            self._found[name] = self._find(name)
        return self._found[name]

    def _find(self, name: str) -> str | None:
        if path := self._values.get(f"{name}_FILE", "").strip():
            try:
                if value := Path(path).read_text(encoding="utf-8").strip():
                    return value
            except (OSError, UnicodeDecodeError):
                pass
            self.faults.append(Fault(f"{name}_FILE", path, "a readable text file that is not empty"))
        return self._values.get(name, "").strip() or None

    def text(self, name: str, default: str | None = None) -> str:
        """Return a string; without a default an unset variable is a fault."""
        if default is None and self.raw(name) is None:
            self.variables.setdefault(name, "")
            self.faults.append(Fault(name, None, "a value"))
        return self._parsed(name, default or "", "a value", str)

    def optional_text(self, name: str) -> str | None:
        """Return a string, or None where the variable is not set."""
        self.variables.setdefault(name, "")
        return self.raw(name)

    def secret(self, name: str, *, at_least: int = 0, user: str | None = None) -> str | None:
        """Return the password of `user` or, of `at_least` so many characters, a token of our own; None if unset.

        What everybody knows is a fault, unless the operator permits it. So is a token that is short or guessable.
        """
        if (value := self.optional_text(name)) is None:
            return None
        if not self.refuse_public(name, value, user=user) and (
            len(value) < at_least or (at_least and is_guessable(value.encode()))
        ):
            self.refuse(name, "(hidden)", f"at least {at_least} random characters")
        return value

    def refuse_public(self, name: str, *secrets: str, user: str | None = None) -> bool:
        """Say whether everybody knows one of these secrets; that is a fault, unless the operator permits it."""
        if not any(is_public(one) or one == user for one in secrets):
            return False
        if self._permits_examples:
            self.public_secrets.append(name)
        else:
            self.refuse(name, "(hidden)", _OF_YOUR_OWN)
        return True

    def ca_file(self, name: str) -> str | None:
        """Return the path of a PEM file with certificate authorities, which is read to see whether it is one."""
        path = self.optional_text(name)
        if path is not None:
            try:
                ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=path)
            except (OSError, ssl.SSLError):
                self.refuse(name, path, "a readable PEM file with the certificates of authorities")
        return path

    def switch(self, name: str, *, default: bool) -> bool:
        """Return whether something is on."""
        words = {
            "on": True,
            "true": True,
            "yes": True,
            "1": True,
            "off": False,
            "false": False,
            "no": False,
            "0": False,
        }

        def parse(value: str) -> bool:
            if value.lower() not in words:
                raise ValueError
            return words[value.lower()]

        return self._parsed(name, default, "on or off", parse, shown_default="on" if default else "off")

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

    def optional_choice(self, name: str, kind: type[E]) -> E | None:
        """Return a member of an enumeration, or None where the variable is not set."""
        if self.optional_text(name) is None:
            return None
        return self._parsed(name, None, "one of " + ", ".join(kind), lambda value: kind(value.lower()))

    def listed(
        self, name: str, default: str, expected: str, parse: Callable[[str], T], *, secret: bool = False
    ) -> tuple[T, ...]:
        """Return the comma-separated items of a variable, each parsed; `parse` raises ValueError for a bad one."""

        def items(value: str) -> list[str]:
            return [item.strip() for item in value.split(",") if item.strip()]

        def parse_all(value: str) -> tuple[T, ...]:
            return tuple(map(parse, items(value)))

        if secret:
            self.refuse_public(name, *items(self.raw(name) or ""))
        return self._parsed(name, parse_all(default), expected, parse_all, secret=secret, shown_default=default)

    def key_ring(self, name: str, *, low: int, high: int) -> tuple[NamedKey, ...]:
        """Return the keys of a ring written `<kid>:<base64>`, each of `low` to `high` bytes; none by default."""
        size = f"{low}" if low == high else f"{low} to {high}"
        expected = f"<kid>:<base64 of {size} random bytes>, several separated by commas, each kid once"
        keys = self.listed(name, "", expected, lambda item: parse_named_key(item, low=low, high=high), secret=True)
        if has_a_kid_twice(keys):
            self.refuse(name, "(hidden)", expected)
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
            self.refuse(name, "(hidden)" if secret else value, expected)
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

    conninfo: str  # DATABASE_URL, or DB_HOST, DB_PORT, DB_USER, DB_PASS, DB_NAME, DB_SSLMODE, DB_SSLROOTCERT
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
    security: KafkaSecurity = field(default_factory=KafkaSecurity)  # KAFKA_SECURITY_PROTOCOL and what belongs to it


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
        security=read_kafka_security(env),
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
    if env.public_secrets:
        known = ", ".join(dict.fromkeys(env.public_secrets))
        print(f"{service}: everybody knows the secrets in {known}; {EXAMPLES_SWITCH} permits them", file=sys.stderr)
    return settings


def refuse_to_start(service: str, faults: list[str]) -> NoReturn:
    """Print why a service cannot start, a fault a line, and exit 2."""
    print(f"{service} cannot start, {len(faults)} setting(s) to mend:", *faults, sep="\n  ", file=sys.stderr)
    raise SystemExit(EXIT_BAD_CONFIGURATION)
