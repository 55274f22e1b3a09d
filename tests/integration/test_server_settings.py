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
            (list(postgres_settings()),),
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
