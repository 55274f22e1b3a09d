"""The settings that compose gives PostgreSQL and Kafka, tried on the real servers."""

import base64
import re
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import RESOURCE_BROKER, AdminClient, ConfigResource  # type: ignore[attr-defined]

from infra.local.kafka import Kafka
from infra.local.postgres import Postgres
from infra.local.processes import Supervisor
from shared.kafka import MAX_RECORD_BYTES
from tests.servers import Database

REPOSITORY = Path(__file__).resolve().parents[2]
ADDRESSES = {
    "listeners",
    "advertised.listeners",
    "listener.security.protocol.map",
    "inter.broker.listener.name",
    "controller.quorum.voters",
    "log.dirs",
}
"""What only makes sense inside the container; the local broker has its own."""


SAID_ALTHOUGH_DEFAULT = {"log_parameter_max_length_on_error"}
"""What is stated for its weight: without it recipients would be logged."""


def postgres_settings() -> dict[str, str]:
    """The settings of postgresql.conf."""
    text = (REPOSITORY / "infra/postgres/postgresql.conf").read_text()
    return {name: value.strip("'") for name, value in re.findall(r"(?m)^(\w+) = ('[^']*'|\S+)", text)}


def broker_properties() -> dict[str, str]:
    """The properties that the image makes of broker.env: KAFKA_SOME_NAME becomes some.name."""
    text = (REPOSITORY / "infra/kafka/broker.env").read_text()
    pairs = re.findall(r"(?m)^KAFKA_([A-Z_]+)=(.+)$", text)
    return {name.lower().replace("_", "."): value for name, value in pairs if name != "HEAP_OPTS"}


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """A server with the file's settings; the wheel's has no lz4, and keeps to loopback."""
    directory = tmp_path_factory.mktemp("tuned")
    settings = postgres_settings() | {"wal_compression": "pglz", "listen_addresses": "127.0.0.1"}
    with Supervisor(directory / "logs") as supervisor:
        server = Postgres(directory / "data", supervisor, settings=settings)
        server.start()
        yield server


def test_postgresql_takes_every_setting(tuned: Postgres) -> None:
    """No name is misspelt, no value out of range, and each differs from the default for a reason."""
    with psycopg.connect(tuned.dsn()) as conn:
        rows = conn.execute("SELECT lower(name), current_setting(name) FROM pg_settings").fetchall()
        unchanged = conn.execute(
            "SELECT name FROM pg_settings WHERE lower(name) = ANY(%s) AND setting = boot_val",
            (list(postgres_settings().keys() - SAID_ALTHOUGH_DEFAULT),),
        ).fetchall()

    wanted = postgres_settings() | {"wal_compression": "pglz", "listen_addresses": "127.0.0.1"}
    assert {name: value for name, value in rows if name in wanted} == wanted
    assert unchanged == []


def test_durability_is_left_alone(tuned: Postgres) -> None:
    """A 202 says that the notification is on disk."""
    names = ("fsync", "full_page_writes", "synchronous_commit")
    with psycopg.connect(tuned.dsn()) as conn:
        in_force = [conn.execute(f"SHOW {name}").fetchone() for name in names]

    assert in_force == [("on",)] * 3
    assert not set(names) & postgres_settings().keys()


def test_postgresql_logs_no_values(tuned: Postgres) -> None:
    """Neither a slow statement nor one that fails shows what it was given; that it was slow, or failed, is logged."""
    with psycopg.connect(tuned.dsn(), autocommit=True) as conn:
        conn.execute("SET log_min_duration_statement = 0")
        conn.execute("CREATE TEMP TABLE log_test (recipient text PRIMARY KEY, sure int CHECK (sure > 0))")
        conn.execute("INSERT INTO log_test VALUES (%s, 1)", ("ada@private.example",))
        with pytest.raises(psycopg.errors.UniqueViolation, match=r"ada@private\.example"):  # the client is told
            conn.execute("INSERT INTO log_test VALUES (%s, 2)", ("ada@private.example",))
        with pytest.raises(psycopg.errors.CheckViolation, match=r"bob@private\.example"):
            conn.execute("INSERT INTO log_test VALUES (%s, 0)", ("bob@private.example",))

    logged = tuned.process.log_path.read_text()
    assert logged.count("INSERT INTO log_test") >= 3
    assert "duplicate key" in logged
    assert "private.example" not in logged


def test_the_local_server_logs_no_values_either(database: Database) -> None:
    """What keeps them out is set alike."""
    names = ("log_parameter_max_length", "log_parameter_max_length_on_error", "log_error_verbosity")
    with database.connect() as conn:
        in_force = {name: conn.execute("SELECT current_setting(%s)", (name,)).fetchall()[0][0] for name in names}

    assert in_force == {name: postgres_settings()[name] for name in names}


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    """A broker with the file's properties, addresses aside."""
    directory = tmp_path_factory.mktemp("broker")
    settings = {name: value for name, value in broker_properties().items() if name not in ADDRESSES}
    with Supervisor(directory / "logs") as supervisor:
        server = Kafka(directory / "data", supervisor, settings=settings)
        server.start()
        yield server


def test_kafka_takes_every_property(broker: Kafka) -> None:
    """None is misspelt: an unknown one would be accepted in silence, and not be listed."""
    admin = AdminClient({"bootstrap.servers": broker.bootstrap_servers})
    resource = ConfigResource(RESOURCE_BROKER, "1")
    described = admin.describe_configs([resource])[resource].result(10)

    wanted = {name: value for name, value in broker_properties().items() if name not in ADDRESSES}
    assert {name: described[name].value for name in wanted} == wanted


def test_kafka_makes_no_topic_by_itself(broker: Kafka) -> None:
    """A misspelt name is an error."""
    admin = AdminClient({"bootstrap.servers": broker.bootstrap_servers, "allow.auto.create.topics": True})

    found = admin.list_topics("misspelt", timeout=10).topics

    assert found["misspelt"].error is not None
    with pytest.raises(KafkaException):
        raise KafkaException(found["misspelt"].error)


def test_the_largest_record_fits() -> None:
    """The broker's limit is the producer's."""
    assert int(broker_properties()["message.max.bytes"]) == MAX_RECORD_BYTES


def test_listeners_and_cluster_are_named_consistently() -> None:
    """Each listener has an address, a protocol and, for clients, something to advertise."""
    properties = broker_properties()
    listeners = dict(re.findall(r"(\w+)://:(\d+)", properties["listeners"]))
    advertised = dict(re.findall(r"(\w+)://[\w.]+:(\d+)", properties["advertised.listeners"]))
    cluster = re.findall(r"(?m)^CLUSTER_ID=(.+)$", (REPOSITORY / "infra/kafka/broker.env").read_text())

    controller = listeners.pop(properties["controller.listener.names"])
    assert advertised == {"INTERNAL": listeners["INTERNAL"], "EXTERNAL": "9092"}  # where compose publishes it
    assert f"127.0.0.1:9092:{listeners['EXTERNAL']}" in (REPOSITORY / "docker-compose.yml").read_text()
    assert properties["inter.broker.listener.name"] in listeners
    assert set(re.findall(r"(\w+):PLAINTEXT", properties["listener.security.protocol.map"])) == {
        *listeners,
        "CONTROLLER",
    }
    assert properties["controller.quorum.voters"] == f"{properties['node.id']}@kafka:{controller}"
    assert len(base64.urlsafe_b64decode(cluster[0] + "==")) == 16
